"""Inference of exported receivers on numpy arrays: ONNX files in ONNX Runtime, and compiled C files.

Importing this package loads neither torch nor Sionna nor pandas, so it suits small machines.
"""

from receivers.runtime.c_library import CLibrary
from receivers.runtime.onnx_session import OnnxSession

__all__ = ["CLibrary", "OnnxSession"]
