"""Compact receivers for deployment, proven equal to what was tested."""

from receivers.export.onnx import export_onnx
from receivers.export.parity import Parity

__all__ = ["Parity", "export_onnx"]
