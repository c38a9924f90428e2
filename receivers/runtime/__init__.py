"""Inference of exported receivers on numpy arrays: in ONNX Runtime, in LiteRT, and as compiled C files.

Importing this package loads neither torch nor Sionna nor pandas, so it suits small machines. A runtime is loaded when a
file is opened, so none but that of the file need be installed.

Noise-plus-interference powers are finite numbers above 0: at least 1.2e-38, the smallest normal float32 number, and
below 1e30. Other powers are refused, never raised to a floor: the runtimes raise a
:class:`~leanrx_core.errors.UserError`, and a C function returns a code. Receivers in torch refuse them in the same
words. An ONNX or LiteRT graph by itself has no check, so these classes check for it.
"""

from receivers.runtime.c_library import CLibrary
from receivers.runtime.litert_session import LiteRtSession
from receivers.runtime.onnx_session import OnnxSession
from receivers.runtime.receiver_session import ReceiverSession

__all__ = ["CLibrary", "LiteRtSession", "OnnxSession", "ReceiverSession"]
