"""A network as compiled code, which runs on the CPU without tinygrad.

`plan` orders a trace's layers and lays out their memory; `source`, `kernel_text` and `weight_text` write the C code
around `runtime.c`; `targets` finds compilers; `library` calls what they made, after `library_file` and `shared_object`
have checked the file. `inference` and `exporting` import from here, and nothing here imports from them.
"""
