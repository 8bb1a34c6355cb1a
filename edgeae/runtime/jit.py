"""Free the memory that tinygrad keeps after a function has been captured as a graph."""

from __future__ import annotations

from tinygrad import Device, TinyJit


def was_just_captured(graph: TinyJit) -> bool:
    """Return whether the graph's last call captured it.

    The first call of a TinyJit runs the function as it is, the second captures its kernels. What these two allocated is
    not used again.
    """
    return int(graph.cnt) == 2


def free_cached_buffers(device: str) -> None:
    """Give back the buffers that tinygrad keeps for later arrays of the same size."""
    free_cache = getattr(Device[device].allocator, "free_cache", None)  # only allocators that cache have it
    if free_cache is not None:
        free_cache()
