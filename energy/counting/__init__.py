"""Counting MACs, FLOPs and bytes: of torch networks, of ONNX files, and of classical receivers by formula."""
