"""AdamW, which updates all parameters of a network; on the CPU as one kernel of our own."""

from __future__ import annotations

from collections.abc import Mapping

from tinygrad import Tensor, dtypes

from edgeae.runtime.kernels import graph

# A short memory of squares: with the usual 0.999 a gradient that grows meets steps measured for the small ones before
# it, and networks without normalization blow up (photos, learning rate 1e-3, after 8 to 10 epochs; they learned slower
# until then, too).
BETAS, EPSILON = (0.9, 0.95), 1e-8
CLIP, MEMORY = 2.0, 0.98  # a gradient is at most so many times as long as they were of late, and how late is late


class AdamW:
    """AdamW (Loshchilov and Hutter 2019): Adam with a weight decay beside the gradient's step.

    A gradient that is far longer than those before it, as networks without normalization give one in thousands of
    steps, is shortened: once they had followed it, they would not come back.

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
        self._powers = Tensor.ones(3, dtype=dtypes.float32, device=device).contiguous().realize()  # β₁, β₂, MEMORY
        self._length = Tensor.zeros(1, dtype=dtypes.float32, device=device).contiguous().realize()  # of gradients

    def state(self) -> dict[str, Tensor]:
        """What it remembers from step to step: both moments of each parameter, powers, and the gradients' length."""
        moments = {"m": self._m, "v": self._v}
        return {"powers": self._powers, "length": self._length} | {
            f"{kind}.{name}": value for kind, values in moments.items() for name, value in values.items()
        }

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for value in self._parameters.values():
            value.grad = None

    def schedule_step(self, lr: Tensor) -> list[Tensor]:
        """One step with the learning rate `lr` (1,) and the parameters' gradients: what is to be realized for it."""
        gradients = {
            name: value.grad.contiguous() for name, value in self._parameters.items() if value.grad is not None
        }
        powers = self._powers * Tensor([*BETAS, MEMORY], device=lr.device)
        length = Tensor.stack(*(gradient.square().sum() for gradient in gradients.values())).sum().sqrt().reshape(1)
        before = self._powers[2:]  # 1 in the first step, which has nothing to compare with
        limit = (before < 1).where(CLIP * self._length / (1 - before).maximum(1e-6), length)
        followed = length.minimum(limit)
        rate = Tensor.cat(lr, 1 - powers[:2], followed / length.maximum(1e-30)).contiguous()
        rows = [
            (self._parameters[name], self._m[name], self._v[name], gradient, self._decays[name])
            for name, gradient in gradients.items()
        ]
        updated = graph.adamw(rows, rate, BETAS, EPSILON)
        if updated is None:
            updated = [tensor for row in rows for tensor in _step(*row, rate)]
        averaged = MEMORY * self._length + (1 - MEMORY) * followed
        return [*updated, self._length.assign(averaged), self._powers.assign(powers)]


def _step(w: Tensor, m: Tensor, v: Tensor, gradient: Tensor, decay: float, rate: Tensor) -> list[Tensor]:
    beta1, beta2 = BETAS
    gradient = gradient * rate[3]
    m.assign(beta1 * m + (1 - beta1) * gradient)
    v.assign(beta2 * v + (1 - beta2) * gradient.square())
    step = m / rate[1] / ((v / rate[2]).sqrt() + EPSILON) + decay * w.detach()
    return [w.assign(w.detach() - rate[0] * step), m, v]
