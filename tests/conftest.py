"""Shared by all tests: the CPU as the one device, and tiny networks with their weight files."""

import gc
import os
import shutil

# Read when tinygrad is imported. Without it tinygrad opens every backend in turn where a test forgets to name a device.
os.environ.setdefault("DEV", "CPU")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers import ConfigFactory, FileFactory
from helpers.tiers import ALL

from edgeae.config import ARCHS, ModelConfig
from edgeae.network import shipped
from edgeae.runtime import devices


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `exhaustive`, unless `make test-all` asks for it."""
    if ALL:
        return
    left_out = [item for item in items if item.get_closest_marker("exhaustive")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(scope="module", autouse=True)
def few_collections() -> Iterator[None]:
    """Keep Python from looking through all objects of earlier test files, hundreds of thousands, again and again."""
    gc.collect()
    gc.freeze()
    yield


def pytest_unconfigure() -> None:
    """Free what `few_collections` kept before Python itself is taken down, when tinygrad's finalizers fail."""
    gc.unfreeze()
    gc.collect()


_TINY: dict[str, dict[str, Any]] = {
    "conv": {"widths": (8, 16), "code": 4, "context": 1},
    "residual": {"widths": (8, 16), "code": 4, "context": 1},
    "vae": {"widths": (8, 16), "code": 24, "context": 0},
}


@pytest.fixture(scope="session")
def device() -> str:
    """The CPU, open, and with a compiler found for it: also on a machine without clang."""
    return devices.resolve("CPU")


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    """Each architecture in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def tiny_config() -> ConfigFactory:
    """`tiny_config(arch, **changes)`: a network of about 10,000 parameters for 16×16 images."""

    def make(arch: str, **changes: Any) -> ModelConfig:
        return ModelConfig(arch=arch, **{"size": 16, **_TINY[arch], **changes})

    return make


@pytest.fixture(scope="session")
def random_weights(device: str) -> Callable[..., dict[str, npt.NDArray[np.float32]]]:
    """`random_weights(config, seed=0)`: every parameter of a network by name, biases random too."""
    from edgeae.network.models import build
    from edgeae.network.parameters import parameters

    def make(config: ModelConfig, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
        rng = np.random.default_rng(seed)
        tensors = {}
        for name, value, _ in parameters(build(config, device, seed)):
            drawn = value.numpy()
            tensors[name] = drawn if name.endswith("weight") else rng.normal(0, 0.1, drawn.shape).astype(np.float32)
        return tensors

    return make


@pytest.fixture(scope="session")
def tiny_metadata() -> Callable[..., dict[str, str]]:
    """`tiny_metadata(config, scheme)`: everything a weight file says of itself but `golden`."""
    import tinygrad

    from edgeae._version import __version__

    def make(config: ModelConfig, scheme: str = "none") -> dict[str, str]:
        return {
            "format_version": "1",
            "edgeae_version": __version__,
            "tinygrad_version": getattr(tinygrad, "__version__", "0.13.0"),
            "arch": config.arch,
            "config": config.to_json(),
            "quantize": scheme,
            "task": "occlude",
            "train_data": "random numbers",
            "licence": "CC0-1.0",
            "seed": "0",
            "epoch": "1",
            "psnr": "10.000",
            "ssim": "0.1000",
        }

    return make


@pytest.fixture
def tiny_file(
    device: str,
    tiny_config: ConfigFactory,
    random_weights: Callable[..., dict[str, Any]],
    tiny_metadata: Callable[..., dict[str, str]],
    tmp_path: Path,
) -> FileFactory:
    """`tiny_file(arch, scheme="none", golden=False, seed=0, **changes)`: the weight file of a random tiny network.

    `golden` adds the golden input, which runs the network once. `changes` are of the configuration.
    """
    from edgeae.network import quantize
    from edgeae.network import weight_file as weights

    def make(arch: str, scheme: str = "none", *, golden: bool = False, seed: int = 0, **changes: Any) -> Path:
        config = tiny_config(arch, **changes)
        metadata = tiny_metadata(config, scheme)
        tensors: dict[str, Any] = {}
        for name, value in random_weights(config, seed).items():
            tensors |= quantize.pack(name, value, scheme)
        path = tmp_path / f"{arch}-{scheme}-{seed}.safetensors"
        weights.write(path, tensors, metadata)
        if golden:
            from edgeae.inference.golden import make_golden
            from edgeae.inference.load import load

            weights.write(path, tensors, metadata | {"golden": make_golden(load(path, device))})
        return path

    return make


@pytest.fixture(scope="module")
def winograd_for_small_layers() -> Iterator[None]:
    """Winograd's kernels from 64 tiles on, so that the small layers of tests reach them."""
    from edgeae.runtime.kernels import winograd_plans

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd_plans, "_WINOGRAD_TILES", 64)
        winograd_plans.winograd.cache_clear()
        winograd_plans.winograd_gradient.cache_clear()
        yield
    winograd_plans.winograd.cache_clear()
    winograd_plans.winograd_gradient.cache_clear()


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own for a test of the command line, where nothing in the environment changes what it does."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("EDGEAE_DEVICE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def models(
    tmp_path_factory: pytest.TempPathFactory,
    device: str,
    tiny_config: Callable[..., ModelConfig],
    random_weights: Callable[..., Any],
    tiny_metadata: Callable[..., dict[str, str]],
) -> Path:
    """A folder of tiny random networks under the shipped models' names, and `fp16`, `int8` and `int4`."""
    from edgeae.inference.golden import make_golden
    from edgeae.inference.load import load
    from edgeae.network import quantize
    from edgeae.network import weight_file as weights

    folder = tmp_path_factory.mktemp("models")
    for arch in ARCHS:
        path, config = folder / f"faces-{arch}.safetensors", tiny_config(arch)
        weights.write(path, random_weights(config), tiny_metadata(config))
        made = {"golden": make_golden(load(path, device))}
        weights.write(path, random_weights(config), tiny_metadata(config) | made)
    shutil.copy(folder / "faces-residual.safetensors", folder / f"{shipped.DEFAULT}.safetensors")
    for scheme in ("fp16", "int8", "int4"):
        config, packed = tiny_config("conv"), {}
        for name, value in random_weights(config).items():
            packed |= quantize.pack(name, value, scheme)
        weights.write(folder / f"{scheme}.safetensors", packed, tiny_metadata(config, scheme))
    return folder


@pytest.fixture
def shelf(models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny networks take the places of the shipped ones."""
    monkeypatch.setattr(shipped, "folders", lambda: [models])
    return models


@pytest.fixture(scope="session")
def c_compiler() -> None:
    """Skip the tests that need a C compiler where there is none."""
    from helpers.libraries import require_target

    require_target()


@pytest.fixture
def library(c_compiler: None, tiny_file: FileFactory, tmp_path: Path) -> Callable[..., Any]:
    """`library(arch, scheme, **more)`: a tiny network, compiled. `target`, `cpu`, `pixels` (the size), `batch` and
    `threads` are for `compile`, what else there is in `more` changes the configuration."""
    from edgeae.exporting.library import compile

    def make(arch: str, scheme: str = "none", **more: Any) -> Any:
        options = {key: more.pop(key) for key in ("target", "cpu", "pixels", "batch", "threads") if key in more}
        options |= {"size": options.pop("pixels")} if "pixels" in options else {}
        return compile(tiny_file(arch, scheme, **more), tmp_path / "made", name="tiny", **options)

    return make
