"""Export of trained models for devices: quantized weight files, ONNX files and compiled libraries.

`weights` writes a weight file, optionally fine-tuned for its quantization (`tune`) or with a whitened code (`whiten`);
`onnx` writes an ONNX file; `library` a shared library with its header, example and Python wrapper. Only `cli` and
`benchmark` import from here.
"""
