"""The plan of a compiled network: which weights are stored in 16 bits."""

import math

from helpers import ConfigFactory

from edgeae.engine import plan
from edgeae.network.models import build
from edgeae.runtime.kernels import winograd_plans
from edgeae.runtime.kernels.plans import INSTRUCTION_SETS


def test_factors_of_large_networks_are_in_16_bits(tiny_config: ConfigFactory) -> None:
    network = build(tiny_config("conv", widths=(32, 64, 128), code=32, context=1, size=64), "PYTHON")
    image, machine = (1, 64, 64, 3), INSTRUCTION_SETS["avx512"]
    made = [plan.make_plan(network, image, machine, 2, whole_weights=whole).operations for whole in (False, True)]
    floats, narrowed = ([operation for operation in operations if operation.factors] for operations in made)
    assert {operation.constants["FACTOR_BITS"] for operation in floats} == {32}
    sizes = {
        bits: [
            (operation.shape.flop / (size := math.prod(winograd_plans.factors(operation.constants))), size)
            for operation in narrowed
            if operation.constants["FACTOR_BITS"] == bits
        ]
        for bits in (16, 32)
    }
    assert sum(size for _, size in sizes[16]) / 2 + sum(size for _, size in sizes[32]) <= plan.MAX_FACTOR_FLOATS
    assert sum(size for _, size in sizes[16] + sizes[32]) > plan.MAX_FACTOR_FLOATS
    assert max(sizes[16])[0] <= min(sizes[32])[0]
