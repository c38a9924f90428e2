"""Export for deployment: float32 files with verified LLRs, and int8 files with counted bit errors."""

from receivers.export.c_export import export_c
from receivers.export.float16 import export_float16
from receivers.export.int8 import export_int8, quantise
from receivers.export.litert import export_litert
from receivers.export.onnx import export_onnx
from receivers.export.parity import Parity
from receivers.export.reduced_precision import PrecisionComparison

__all__ = [
    "Parity",
    "PrecisionComparison",
    "export_c",
    "export_float16",
    "export_int8",
    "export_litert",
    "export_onnx",
    "quantise",
]
