"""Inference of exported receivers on numpy arrays: in ONNX Runtime, in LiteRT, and as compiled C files.

Importing this package loads neither torch nor Sionna nor pandas, so it suits small machines. A runtime is loaded when a
file is opened, so none but that of the file need be installed.
"""

from receivers.runtime.c_library import CLibrary
from receivers.runtime.litert_session import LiteRtSession
from receivers.runtime.onnx_session import OnnxSession
from receivers.runtime.receiver_session import ReceiverSession

__all__ = ["CLibrary", "LiteRtSession", "OnnxSession", "ReceiverSession"]
