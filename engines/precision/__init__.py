"""Precision: from an FP32 ONNX master to the file that carries another precision in itself.

TensorRT's weak typing and its calibrators are gone, and that is the better design: precision lives
in the ONNX file (types, explicit Q/DQ), so one file serves every runtime and the accuracy referee.
"""
