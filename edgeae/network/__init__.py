"""The three autoencoders, and the weight file that holds one.

`models` defines the networks, built of `layers`; `parameters` finds their weights; `tracing` records a network as a
list of steps; `quantize` packs weights into fewer bits; `weight_file` reads and writes files, `describe` describes
them; `shipped` finds the models of the package. It imports from `runtime` only; everything that runs a model imports
from here.
"""
