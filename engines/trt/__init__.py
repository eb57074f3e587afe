"""TensorRT, in two flavours: TensorRT 11 for data centres and TensorRT-RTX for RTX cards.

Importing this package needs neither library, nor a driver, nor onnx: each is imported by the
function that uses it, and its absence is an `EngineError` that says what to install.
"""
