"""Winograd's kernels from 64 tiles on, so that the small layers of these tests reach them."""

from collections.abc import Iterator

import pytest

from edgeae.kernels import plans

CACHED = (plans.winograd, plans.winograd_gradient)


@pytest.fixture(autouse=True, scope="session")
def winograd_for_small_layers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "_WINOGRAD_TILES", 64)
        for function in CACHED:
            function.cache_clear()
        yield
    for function in CACHED:
        function.cache_clear()
