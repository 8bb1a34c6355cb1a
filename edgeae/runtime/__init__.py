"""All that touches tinygrad's internals and the machine: devices, compilers, threads, and our kernels.

`devices` chooses and probes a backend (`backends`, `cpu`), `guard` turns a driver's failures into sentences,
`compilers` finds a C compiler, `kernels/` holds the CPU kernels. Everything that computes imports from here; it
imports no other room.
"""
