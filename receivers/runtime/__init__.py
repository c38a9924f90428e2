"""Inference of exported receivers on numpy arrays, with ONNX Runtime only.

Importing this package loads neither torch nor Sionna nor pandas, so it suits small machines.
"""

from receivers.runtime.onnx_session import OnnxSession

__all__ = ["OnnxSession"]
