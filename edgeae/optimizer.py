"""AdamW, which updates all parameters of a network; on the CPU as one kernel of our own."""

from __future__ import annotations

from collections.abc import Mapping

from tinygrad import Tensor, dtypes

from edgeae.kernels import graph

BETAS, EPSILON = (0.9, 0.999), 1e-8


class AdamW:
    """AdamW (Loshchilov and Hutter 2019): Adam with a weight decay beside the gradient's step.

    Args:
        parameters: float32 tensors by name, realized, on one device or divided among several.
        weight_decay: of those named `….weight`; the others have none.
    """

    def __init__(self, parameters: Mapping[str, Tensor], weight_decay: float) -> None:
        self._parameters = dict(parameters)
        self._decays = {name: weight_decay if name.endswith("weight") else 0.0 for name in parameters}
        # NOTE: zeros as a constant the compiler would fold into the first step. As buffers they go through the same
        # kernels in the first step as in one that is resumed.
        self._m = {name: value.zeros_like().contiguous().realize() for name, value in parameters.items()}
        self._v = {name: value.zeros_like().contiguous().realize() for name, value in parameters.items()}
        device = next(iter(parameters.values())).device
        self._powers = Tensor.ones(2, dtype=dtypes.float32, device=device).contiguous().realize()  # of β₁ and β₂

    def state(self) -> dict[str, Tensor]:
        """What it remembers from step to step: both moments of each parameter, and the powers of β₁ and β₂."""
        moments = {"m": self._m, "v": self._v}
        return {"powers": self._powers} | {
            f"{kind}.{name}": value for kind, values in moments.items() for name, value in values.items()}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for value in self._parameters.values():
            value.grad = None

    def schedule_step(self, lr: Tensor) -> list[Tensor]:
        """One step with the learning rate `lr` (1,) and the parameters' gradients: what is to be realized for it."""
        powers = self._powers * Tensor(list(BETAS), device=lr.device)
        rate = Tensor.cat(lr, 1 - powers)
        gradients = {name: value.grad for name, value in self._parameters.items() if value.grad is not None}
        rows = [(self._parameters[name], self._m[name], self._v[name], gradient, self._decays[name])
                for name, gradient in gradients.items()]
        updated = graph.adamw(rows, rate, BETAS, EPSILON)
        if updated is None:
            updated = [tensor for row in rows for tensor in _step(*row, rate)]
        return [*updated, self._powers.assign(powers)]


def _step(w: Tensor, m: Tensor, v: Tensor, gradient: Tensor, decay: float, rate: Tensor) -> list[Tensor]:
    beta1, beta2 = BETAS
    m.assign(beta1 * m + (1 - beta1) * gradient)
    v.assign(beta2 * v + (1 - beta2) * gradient.square())
    step = m / rate[1] / ((v / rate[2]).sqrt() + EPSILON) + decay * w.detach()
    return [w.assign(w.detach() - rate[0] * step), m, v]
