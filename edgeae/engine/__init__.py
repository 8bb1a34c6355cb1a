"""A network as compiled code, which runs on the CPU without tinygrad.

`plan` orders a trace's layers and lays out their memory, `source` and `kernel_text` write the C code around
`runtime.c`, `targets` knows the compilers, `session` runs what they made. `inference` and `exporting` import from
here.
"""
