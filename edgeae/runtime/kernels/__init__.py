"""Convolution kernels for the CPU in C, written for one shape and one instruction set and compiled when first used.

The kernels, one file each:

    convolution.c           convolution and transposed convolution; lanes are output channels
    narrow.c                the same for at most four output channels; lanes are pixels
    weight_gradient.c       gradients of weights and bias
    winograd.c              3×3 and 4×4 convolutions with about half of the multiplications, where that pays
    winograd_gradient.c     gradients of their weights
    winograd_weights.c      weights to the factors that these two need, and gradients of factors back to weights
    swap.c                  weights in the order that the input's gradient needs
    adamw.c                 the optimizer's step for all parameters

What they share: vectors.h (vectors of floats), weights.h (weights of 32, 16, 8 or 4 bits), tile.h and outer.h (the two
inner loops, where the time is spent), transpose.h, winograd.h (Winograd's transformations).

Around them, in the order in which a layer passes through:

    graph.py                what layers.py calls: a kernel as a node of tinygrad's graph, with its gradient
    shapes.py               the shape of a convolution, and the shapes of its gradients
    plans.py                the tile and the cutting of the work for a shape; winograd_plans.py for Winograd's
    programs.py             the C text of a plan, compiled and cached
    operands.py             the types of a layer's weight and activation

To read one kernel, begin with tile.h, then convolution.c. The input's gradient needs no kernel of its own: that of a
convolution is a transposed convolution, and the other way round. Results do not depend on the number of threads.

`EDGEAE_KERNELS=off` leaves everything to tinygrad's generated code; avx512, avx2, neon or plain chooses the set.
"""
