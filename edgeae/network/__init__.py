"""The three autoencoders, and the file that holds one.

`models` is all three, built of `layers`; `tracing` writes one down as a list of steps; `quantize` packs weights into
fewer bits; `weight_file` reads and writes files; `shipped` finds those of the package. Everything that runs a model
imports from here.
"""
