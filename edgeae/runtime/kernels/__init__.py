"""Convolution kernels for the CPU, in C: written for one shape and one instruction set, compiled when first used.

    convolution.c         convolution and transposed convolution; lanes are output channels     narrow.c
the same to four channels or fewer; lanes are pixels     weight_gradient.c     gradients of weights and bias
winograd.c            3×3 and 4×4 convolutions with about half the multiplications, where preparing them pays
winograd_gradient.c   their weights' gradients     winograd_weights.c    what these two multiply with and give, from
and to weights     swap.c                weights as the input's gradient wants them     adamw.c               the
optimizer's step for all parameters     vectors.h weights.h tile.h outer.h transpose.h winograd.h
what they share: vectors of floats; weights of 32, 16, 8 or 4 bits; the two tiles, which are
where the time is spent; Winograd's transformations      shapes.py             a convolution's shape, and the shapes
of its gradients     plans.py              the tile, and how the work is cut, for a shape and an instruction set
programs.py           the C text of a plan, compiled and cached     graph.py              the kernels as nodes of
tinygrad's graph, with their gradients: what layers.py calls  To read one, begin with tile.h, then convolution.c. The
input's gradient needs no kernel of its own: that of a convolution is a transposed convolution, and the other way
round. Results do not depend on the number of threads.  `EDGEAE_KERNELS=off` leaves everything to tinygrad's generated
code; avx512, avx2, neon or plain chooses the instruction set.
"""
