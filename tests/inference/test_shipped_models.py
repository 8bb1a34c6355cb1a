"""The files in models/: complete, right on every device at hand, and better than doing nothing."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.tiers import exhaustive
from helpers.weight_files import KEYS

from edgeae.data import generated_faces as faces
from edgeae.images import arrays as imaging
from edgeae.images import metrics
from edgeae.images.damage.spec import parse
from edgeae.inference import golden
from edgeae.inference.demo import restore_masked
from edgeae.inference.load import load
from edgeae.inference.sample_photos import samples
from edgeae.inference.session import Session
from edgeae.network import shipped as zoo
from edgeae.network import weight_file as weights
from edgeae.runtime import devices

NAMES = zoo.names()
RESTORERS = [name for name in NAMES if "vae" not in name]
VAES = [name for name in NAMES if "vae" in name]


@functools.cache
def session(name: str, device: str = "CPU") -> Session:
    """Each model is loaded, and its graphs compiled, once."""
    return load(name, device)


@pytest.fixture(scope="module", autouse=True)
def free_sessions() -> Iterator[None]:
    """Free them before Python itself is taken down, when tinygrad's finalizers fail."""
    yield
    for cached in (session, photos, drawn):
        cached.cache_clear()


@functools.cache
def photos(name: str) -> np.ndarray:
    """The sample pictures that `edgeae run` shows, float32 (5, side, side, channels), as this model takes them."""
    config = session(name).config
    side = 128 if config.takes_any_size else config.size
    return imaging.to_float(np.stack([sample.image for sample in samples(side, config.in_channels)]))


@functools.cache
def drawn() -> np.ndarray:
    """Generated faces, float32 (8, 128, 128, 3)."""
    return imaging.to_float(faces.generate(8, 128, seed=99)[0])


def test_all_are_shipped() -> None:
    assert {"faces-conv", "faces-residual", "faces-vae", "photos-conv", "photos-residual", "digits-vae"} == set(NAMES)
    assert {zoo.DEFAULT, zoo.DEFAULT_VAE} <= set(NAMES)


def test_they_are_small() -> None:
    assert sum(zoo.find_model(name).stat().st_size for name in NAMES) < 8e6


@pytest.mark.parametrize("name", NAMES)
def test_metadata_is_complete(name: str) -> None:
    file = weights.read(zoo.find_model(name))
    for key in (*KEYS, "golden"):
        assert file.metadata[key], key
    assert re.search("CC BY|CC0|public domain|MIT", file.metadata["licence"])
    assert re.search("doi|MNIST", file.metadata["train_data"])
    assert 18 < float(file.metadata["psnr"]) < 50 and 0.5 < float(file.metadata["ssim"]) < 1
    assert not any(tensor.startswith(weights.OPTIMIZER) for tensor in file.tensors)


@pytest.mark.parametrize("name", NAMES)
def test_the_table_of_models_names_it(name: str) -> None:
    readme = Path(zoo.find_model(name)).parent / "README.md"
    assert f"`{name}`" in readme.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_input_on_the_cpu(name: str) -> None:
    result = golden.verify(session(name))
    assert result.passed and result.largest_error < 1e-3


@exhaustive  # minutes of compiling; test_golden.py runs a tiny network on each
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("device", ["CL", "WEBGPU"])
def test_other_devices_give_what_the_cpu_gives(device: str, name: str) -> None:
    """Not only floats that are close: the same picture, but for the last bit of rounding."""
    status = devices.probe(device)
    if not status.usable:
        pytest.skip(f"{device} is not usable: {status.reason}")
    assert golden.verify(session(name, device)).passed
    on_cpu, there = (session(name, where).run_floats(photos(name)) for where in ("CPU", device))
    assert np.abs(on_cpu - there).max() <= 1e-3
    pictures = [imaging.to_uint8(images).astype(int) for images in (on_cpu, there)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def fill_with_mean(images: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """The least that a model must beat: every hole in the mean colour of the rest of its image."""
    filled = images.copy()
    for image, hole in zip(filled, holes, strict=True):
        image[hole] = image[~hole].mean(axis=0)
    return filled


@pytest.mark.parametrize("name", RESTORERS)
@pytest.mark.parametrize("kind", ["photos", "drawn"])
def test_holes_are_restored(name: str, kind: str) -> None:
    clean = photos(name) if kind == "photos" else drawn()
    damage = parse("occlude")
    pairs = [damage(image, np.random.default_rng((7, i))) for i, image in enumerate(clean)]
    damaged, holes = (np.stack(part) for part in zip(*pairs, strict=True))
    restored = session(name).run_floats(damaged)

    def psnr(images: np.ndarray) -> float:
        return float(-10 * np.log10(np.mean(np.square(images[holes] - clean[holes]))))

    assert psnr(restored) > max(psnr(damaged), psnr(fill_with_mean(damaged, holes))) + 1


@pytest.mark.parametrize("name", RESTORERS)
@pytest.mark.parametrize(("damage", "gain"), [("occlude", -1), ("occlude:0.3", -1), ("scratch", 0), ("pixels:0.3", 0)])
def test_masks_beside_inpainting_without_learning(name: str, damage: str, gain: float) -> None:
    """With the damage known: against OpenCV's Navier-Stokes inpainting, in the holes, at least so many dB.

    Drawn faces are flat, which smooth filling suits, and none that these models have learned: real ones are in
    models/README.md.
    """
    cv2 = pytest.importorskip("cv2")
    pairs = [parse(damage)(image, np.random.default_rng((3, i))) for i, image in enumerate(drawn())]
    holes = np.stack([hole for _, hole in pairs])
    restored = np.stack([restore_masked(session(name), damaged, hole) for damaged, hole in pairs])
    inpainted = np.stack(
        [cv2.inpaint(imaging.to_uint8(damaged), np.uint8(hole), 3, cv2.INPAINT_NS) for damaged, hole in pairs]
    )

    def psnr(images: np.ndarray) -> float:
        return float(-10 * np.log10(np.mean(np.square(images[holes] - drawn()[holes]))))

    assert psnr(restored) > psnr(imaging.to_float(inpainted)) + gain


@pytest.mark.parametrize("kind", sorted({name.split("-")[0] for name in RESTORERS}))
def test_residual_is_sharper_than_conv(kind: str) -> None:
    clean = photos(f"{kind}-conv")
    sharp = {
        arch: metrics.sharpness(session(f"{kind}-{arch}").run_floats(clean), clean) for arch in ("conv", "residual")
    }
    assert (sharp["residual"] > sharp["conv"] + 0.1).all()
    assert sharp["residual"].min() > 0.8


@pytest.mark.parametrize(("damage", "least"), [("noise:0.1", 5), ("jpeg:10", 0.5)])
def test_photos_are_cleaned(damage: str, least: float) -> None:
    """How many dB the residual gains on whole sample photos."""
    clean = photos("photos-residual")
    damaged = np.stack([parse(damage)(image, np.random.default_rng(i))[0] for i, image in enumerate(clean)])
    restored = session("photos-residual").run_floats(damaged)
    assert metrics.pooled_psnr(restored, clean) > metrics.pooled_psnr(damaged, clean) + least


@pytest.mark.parametrize("name", VAES)
def test_a_vae_is_a_function(name: str) -> None:
    vae, shown = session(name), photos(name)
    codes = [vae.encode(shown[0]) for _ in range(3)]
    assert np.array_equal(codes[0], codes[1]) and np.array_equal(codes[0], codes[2])
    assert codes[0].shape == (vae.config.code,) and vae.config.code >= 20
    assert np.abs(vae.encode(shown)[0] - codes[0]).max() < 1e-3
    assert np.abs(vae.encode(shown[1]) - codes[0]).max() > 0.1


@pytest.mark.parametrize("path", ["linear", "slerp"])
@pytest.mark.parametrize("name", NAMES)
def test_interpolation_ends_in_the_reconstructions(name: str, path: str) -> None:
    shown = photos(name)
    frames = session(name).interpolate(shown[0], shown[1], steps=5, path=path)
    for frame, image in zip((frames[0], frames[-1]), shown, strict=False):
        assert np.abs(frame - session(name).reconstruct(image)).max() < 1e-3
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    assert steps.min() > 0.2 * steps.max()  # it walks evenly


@pytest.mark.parametrize("name", VAES)
def test_samples_differ_and_look_like_images(name: str) -> None:
    config, found = session(name).config, session(name).sample(8, seed=1, dtype=np.float32)
    assert found.shape == (8, config.size, config.size, config.out_channels) and np.isfinite(found).all()
    assert found.std(axis=0).mean() > 0.05 and found.std(axis=(1, 2, 3)).min() > 0.05
