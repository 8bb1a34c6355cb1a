"""What leaves for a device: quantized weight files, ONNX files, and compiled libraries.

`weights` writes a weight file, with `tune` and `whiten` where they are asked for; `onnx` an ONNX file; `library` a
shared library with its header, example and Python file. Only `cli` and `benchmark` import from here.
"""
