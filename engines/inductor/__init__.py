"""AOTInductor: a derived ONNX file becomes a torch program, and that a compiled package (.pt2).

The ONNX file stays the single carrier of weights and precision: nothing here loads a framework's
own model, so what the gate judged and what a package's hash covers is what runs.
"""
