"""All that depends on the machine or on tinygrad's internals: devices, compilers, threads, and our kernels.

`devices` chooses and probes a device (`backends` and `cpu` know the particulars); `guard` turns errors of tinygrad and
of drivers into sentences; `compilers` finds a C compiler; `convolution` is the convolution for devices without kernels
of our own, and `kernels/` holds the CPU's, which `kernel_cache` keeps on disk. Threads get tinygrad in turn (`turns`,
`tinygrad_lock`) and free its objects in turn (`finalizers`), and models go on after a fork (`forking`, `workers`).
`tinygrad_internals` lists what may break with a new tinygrad. It imports no other room; everything that computes
imports from here.
"""
