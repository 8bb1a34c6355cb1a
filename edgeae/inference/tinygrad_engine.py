"""Run a network with tinygrad: one jitted graph for each method and shape, in a limited amount of memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor, TinyJit

from edgeae.config import ModelConfig
from edgeae.errors import UsageError
from edgeae.inference import tiles
from edgeae.network.models import Autoencoder
from edgeae.runtime.input_buffers import Inputs
from edgeae.runtime.jit import free_cached_buffers, was_just_captured
from edgeae.runtime.kernels.programs import compiled_together
from edgeae.runtime.tinygrad_lock import refuse_nested, tinygrad_on
from edgeae.runtime.turns import TINYGRAD

Floats: TypeAlias = npt.NDArray[np.float32]

MAX_GRAPHS = 8  # kept for a model; the least recently used one is dropped first
_GRAPH_SHARE = 0.6  # of the memory, for all kept graphs together
_CHUNK_SHARE = 0.5  # of the memory, for the images of one call


@dataclass
class Graph:
    """One method of the network, compiled for one set of input shapes.

    Attributes:
        jit: the function from input tensors to realized results.
        inputs: its input tensors, filled again for each call.
        size_bytes: estimate of what its layers' outputs take.
    """

    jit: TinyJit
    inputs: Inputs
    size_bytes: float = 0.0


class TinygradEngine:
    """A network on a tinygrad device: an `Engine` of inference/engine_protocol.py. Safe to use from several threads.

    Attributes:
        model: the network.
        config: its sizes.
        device: the tinygrad device.
        batch: most images in one call of a graph.
        max_mem: bytes for the layers' outputs.
        graphs: compiled graphs by method and input shapes, the least recently used first.
    """

    methods = frozenset({"reconstruct", "encode", "decode", "features", "posterior"})

    def __init__(
        self, model: Autoencoder, config: ModelConfig, device: str, batch: int = 16, max_mem: int | None = None
    ) -> None:
        """
        Args:
            model: a network whose weights are on `device`.
            config: its sizes.
            device: a resolved tinygrad device name.
            batch: most images in one call of a graph.
            max_mem: bytes for the layers' outputs; None is `tiles.default_memory()`.

        Raises:
            UsageError: `batch` is below 1.
        """
        if batch < 1:
            raise UsageError(f"batch must be 1 or more, not {batch}.")
        self.model, self.config, self.device, self.batch = model, config, device, batch
        self.max_mem = tiles.default_memory() if max_mem is None else max_mem
        self.graphs: OrderedDict[tuple[object, ...], Graph] = OrderedDict()

    def __str__(self) -> str:
        return f"{self.config.size}×{self.config.size} on {self.device}"

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of a `vae`'s images; None for the networks that take any size."""
        return None if self.config.takes_any_size else (self.config.size, self.config.size)

    def run(self, method: str, *arrays: Floats) -> list[Floats]:
        """Run a method of the network on arrays of N rows each.

        The rows go through in chunks whose size is a power of two, or `batch`: few sizes, so few graphs to compile.
        """
        count = len(arrays[0])
        chunk = min(self.batch, 1 << (count - 1).bit_length(), self._rows_in_memory(method, *arrays))
        chunks = []
        for start in range(0, count, chunk):
            rows = [array[start : start + chunk] for array in arrays]
            missing = chunk - len(rows[0])  # the last chunk is filled up with copies of its last row
            filled = [np.concatenate([row, np.repeat(row[-1:], missing, axis=0)]) if missing else row for row in rows]
            chunks.append([result[: chunk - missing] for result in self._run_graph(method, *filled)])
        return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]

    def _run_graph(self, method: str, *arrays: Floats) -> list[Floats]:
        key = (method, *(array.shape for array in arrays))
        refuse_nested()
        with TINYGRAD.turn, tinygrad_on(self.device), Tensor.train(False):
            # Taken out while it runs, so that a graph that failed is not kept; put back last, as the newest.
            graph = self.graphs.pop(key, None) or self._compile(getattr(self.model, method), arrays)
            results: list[Floats] = [tensor.numpy() for tensor in graph.jit(*graph.inputs(*arrays))]
            graph.size_bytes = self._estimate_bytes(*arrays, *results)
            self.graphs[key] = graph
            if was_just_captured(graph.jit):  # captured just now: the buffers of its first two calls are not used again
                free_cached_buffers(self.device)
            self._drop_graphs()
            return results

    def _compile(self, function: Callable[..., Tensor | Sequence[Tensor]], arrays: Sequence[Floats]) -> Graph:
        with compiled_together():
            function(*(Tensor.empty(*array.shape, device=self.device) for array in arrays))
        return Graph(TinyJit(_realize_results(function)), Inputs([self.device]))

    def _rows_in_memory(self, method: str, *arrays: Floats) -> int:
        """Return how many rows of these arrays fit into the memory at once, rounded down to a power of two."""
        needed = self._estimate_bytes(*(array[:1] for array in arrays))
        if method == "decode" and arrays[0].ndim == 4:  # a code has one pixel for stride² of the image
            needed = max(needed, self._estimate_bytes(arrays[0][:1]) * self.config.stride**2)
        rows = int(_CHUNK_SHARE * self.max_mem / needed)
        return 1 << (max(1, rows).bit_length() - 1)

    def _estimate_bytes(self, *arrays: Floats) -> float:
        """Estimate what the layers take from the largest image array; codes alone count as one pixel."""
        pixels = max((np.prod(array.shape[:3]) for array in arrays if array.ndim == 4), default=1)
        return float(pixels) * tiles.bytes_per_pixel(self.config)

    def _drop_graphs(self) -> None:
        """Drop the least recently used graphs past the limits, and the buffers that tinygrad caches for reuse."""
        count = len(self.graphs)
        while len(self.graphs) > 1 and (
            len(self.graphs) > MAX_GRAPHS
            or sum(graph.size_bytes for graph in self.graphs.values()) > _GRAPH_SHARE * self.max_mem
        ):
            self.graphs.popitem(last=False)
        if len(self.graphs) < count:
            free_cached_buffers(self.device)


def _realize_results(function: Callable[..., Tensor | Sequence[Tensor]]) -> Callable[..., list[Tensor]]:
    """Wrap a method of a network so that it returns a list of realized tensors, as TinyJit needs."""

    def run(*inputs: Tensor) -> list[Tensor]:
        result = function(*inputs)
        results = [result] if isinstance(result, Tensor) else list(result)
        Tensor.realize(*results)
        return results

    return run
