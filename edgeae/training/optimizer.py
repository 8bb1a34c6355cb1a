"""AdamW with clipping of exceptional gradients; on the CPU one kernel updates all parameters."""

from __future__ import annotations

from collections.abc import Mapping

from tinygrad import Tensor, dtypes

from edgeae.runtime.kernels import graph

# β₂ is below the usual 0.999: with it, squared gradients are averaged over so many steps that a growing gradient is
# divided by the small ones before it. Networks without normalization diverged so (photos, learning rate 1e-3, after 8
# to 10 epochs), and had learned more slowly until then.
BETAS, EPSILON = (0.9, 0.95), 1e-8
CLIP = 2.0  # largest norm of a gradient, relative to the running mean of the norms before it
MEMORY = 0.98  # decay of that mean per step


class AdamW:
    """AdamW (Loshchilov and Hutter 2019), with gradients clipped to CLIP times their recent mean norm.

    Networks without normalization have a gradient far longer than usual once in some thousand steps. Following it
    undoes the training so far, and they do not recover.

    Args:
        parameters: float32 tensors by name, realized, on one device or sharded over several.
        weight_decay: decoupled decay of the parameters named `….weight`; biases have none.
    """

    def __init__(self, parameters: Mapping[str, Tensor], weight_decay: float) -> None:
        self._parameters = dict(parameters)
        self._decays = {name: weight_decay if name.endswith("weight") else 0.0 for name in parameters}
        # NOTE: constant zeros would be folded into the first step. As buffers they go through the same kernels in the
        # first step of a run as in the first step of a resumed one, and so give the same bits.
        self._m = {name: value.zeros_like().contiguous().realize() for name, value in parameters.items()}
        self._v = {name: value.zeros_like().contiguous().realize() for name, value in parameters.items()}
        device = next(iter(parameters.values())).device
        # β₁, β₂ and MEMORY to the power of the number of steps, for the bias corrections.
        self._powers = Tensor.ones(3, dtype=dtypes.float32, device=device).contiguous().realize()
        # Running mean of the gradient's norm, without bias correction.
        self._length = Tensor.zeros(1, dtype=dtypes.float32, device=device).contiguous().realize()

    def state(self) -> dict[str, Tensor]:
        """Return all that is carried from step to step: two moments of each parameter, `powers` and `length`."""
        moments = {"m": self._m, "v": self._v}
        return {"powers": self._powers, "length": self._length} | {
            f"{kind}.{name}": value for kind, values in moments.items() for name, value in values.items()
        }

    def zero_grad(self) -> None:
        """Discard all gradients."""
        for value in self._parameters.values():
            value.grad = None

    def schedule_step(self, lr: Tensor) -> list[Tensor]:
        """Build one step from the parameters' gradients.

        Args:
            lr: learning rate, (1,).

        Returns:
            Tensors to realize together: the new parameters and the new state.
        """
        gradients = {
            name: value.grad.contiguous() for name, value in self._parameters.items() if value.grad is not None
        }
        powers = self._powers * Tensor([*BETAS, MEMORY], device=lr.device)
        norm = Tensor.stack(*(gradient.square().sum() for gradient in gradients.values())).sum().sqrt().reshape(1)
        before = self._powers[2:]  # MEMORY^steps: 1 in the first step, which has no norm to compare with
        limit = (before < 1).where(CLIP * self._length / (1 - before).maximum(1e-6), norm)
        clipped = norm.minimum(limit)
        # What all parameters share: learning rate, both bias corrections, and the factor that clips the gradient.
        rate = Tensor.cat(lr, 1 - powers[:2], clipped / norm.maximum(1e-30)).contiguous()
        rows = [
            (self._parameters[name], self._m[name], self._v[name], gradient, self._decays[name])
            for name, gradient in gradients.items()
        ]
        updated = graph.adamw(rows, rate, BETAS, EPSILON)
        if updated is None:
            updated = [tensor for row in rows for tensor in _step(*row, rate)]
        averaged = MEMORY * self._length + (1 - MEMORY) * clipped
        return [*updated, self._length.assign(averaged), self._powers.assign(powers)]


def _step(w: Tensor, m: Tensor, v: Tensor, gradient: Tensor, decay: float, rate: Tensor) -> list[Tensor]:
    """The same update as generated code, for devices without the kernel."""
    beta1, beta2 = BETAS
    gradient = gradient * rate[3]
    m.assign(beta1 * m + (1 - beta1) * gradient)
    v.assign(beta2 * v + (1 - beta2) * gradient.square())
    step = m / rate[1] / ((v / rate[2]).sqrt() + EPSILON) + decay * w.detach()
    return [w.assign(w.detach() - rate[0] * step), m, v]
