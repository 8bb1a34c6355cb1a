"""Convolution kernels for the CPU, in C: written for one shape and one instruction set, compiled when first used.

    convolution.c       convolution and transposed convolution; lanes are output channels
    narrow.c            the same to four channels or fewer; lanes are pixels
    weight_gradient.c   gradients of weights and bias
    vectors.h weights.h what they share: vectors of floats, and weights in 32, 16, 8 or 4 bits

    shapes.py           a convolution's shape, and the shapes of its gradients
    plans.py            the tile, and how the work is cut, for a shape and an instruction set
    programs.py         the C text of a plan, compiled and cached
    graph.py            the kernels as nodes of tinygrad's graph, with their gradients: what layers.py calls

The input's gradient needs no kernel of its own: that of a convolution is a transposed convolution, and the other way
round. `EDGEAE_KERNELS=off` leaves everything to tinygrad's generated code, `EDGEAE_KERNELS=avx2` (avx512, neon, plain)
chooses the instruction set.
"""
