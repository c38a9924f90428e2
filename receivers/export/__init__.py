"""Export for deployment: float32 files with verified LLRs, and int8 files with counted bit errors."""

from receivers.export.c_export import export_c
from receivers.export.int8 import Int8Comparison, export_int8, quantise
from receivers.export.litert import export_litert
from receivers.export.onnx import export_onnx
from receivers.export.parity import Parity

__all__ = ["Int8Comparison", "Parity", "export_c", "export_int8", "export_litert", "export_onnx", "quantise"]
