"""Augmentation against its formulas and PyTorch, batches that depend on their arguments only, prefetching."""

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edgeae.data.augment import Augment, augment, resample_windows
from edgeae.data.batches import Batch, batches
from edgeae.data.datasets import Split
from edgeae.data.prefetch import prefetch
from edgeae.errors import UsageError
from edgeae.images.damage.spec import parse


def make_split(n: int = 10, size: int = 16, paired: bool = False) -> Split:
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    targets = rng.integers(0, 256, (n, size, size, 1), dtype=np.uint8) if paired else None
    return Split(inputs, targets, [str(i) for i in range(n)])


def rngs(n: int) -> list[np.random.Generator]:
    return [np.random.default_rng(i) for i in range(n)]


def epoch(split: Split, batch: int = 4, **changes: object) -> list[Batch]:
    arguments = {"epoch": 0, "seed": 0, "corrupt": None, "augment": None, **changes}
    return list(batches(split, batch, **arguments))  # type: ignore[arg-type]


def assert_same(a: list[Batch], b: list[Batch]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        for name in ("inputs", "targets", "mask", "index"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)


# --- augment ---------------------------------------------------------------------------------------------------------


def test_windows_are_sampled_as_pytorch_does() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    images = rng.random((6, 12, 20, 3), dtype=np.float32)
    sides = rng.uniform(0.5, 1, 6).astype(np.float32)
    starts = (rng.random((6, 2)) * (1 - sides)[:, None]).astype(np.float32)
    flips = np.array([True, False] * 3)
    # grid_sample's coordinates run from -1 to 1 over the image's edges
    theta = torch.zeros(6, 2, 3)
    for i in range(6):
        sign = -1 if flips[i] else 1
        theta[i, 0] = torch.tensor([sign * sides[i], 0, 2 * starts[i, 1] + sides[i] - 1])
        theta[i, 1] = torch.tensor([0, sides[i], 2 * starts[i, 0] + sides[i] - 1])
    grid = torch.nn.functional.affine_grid(theta, [6, 3, 12, 20], align_corners=False)
    source = torch.from_numpy(images).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.grid_sample(source, grid, padding_mode="border", align_corners=False)
    found = resample_windows(images, starts, sides, flips)
    np.testing.assert_allclose(found, wanted.permute(0, 2, 3, 1).numpy(), atol=2e-6)


def test_flip_is_exact_and_as_frequent_as_asked() -> None:
    images = np.random.default_rng(0).random((200, 8, 8, 3), dtype=np.float32)
    found, _ = augment(images, rngs(200), Augment(flip=0.3, zoom=1, brightness=0, contrast=0))
    flipped = (found == images[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (found == images).all(axis=(1, 2, 3))
    assert (flipped ^ kept).all()
    assert 0.2 < flipped.mean() < 0.4


def test_light_is_the_formula() -> None:
    images = np.random.default_rng(0).random((5, 8, 8, 3), dtype=np.float32)
    found, _ = augment(images, rngs(5), Augment(flip=0, zoom=1, brightness=0.2, contrast=0.5))
    for image, result, rng in zip(images, found, rngs(5), strict=True):
        draws = rng.random(6)
        offset, gain = (2 * draws[4] - 1) * 0.2, 1 + (2 * draws[5] - 1) * 0.5
        np.testing.assert_allclose(
            result, np.clip((image - image.mean()) * gain + image.mean() + offset, 0, 1), atol=1e-6
        )


def test_targets_move_along_and_keep_their_light() -> None:
    images = np.random.default_rng(0).random((8, 16, 16, 1), dtype=np.float32)
    moved, targets = augment(images, rngs(8), Augment(flip=0.5, zoom=0.5, brightness=0.3, contrast=0), images)
    assert targets is not None
    dark = augment(images, rngs(8), Augment(flip=0.5, zoom=0.5, brightness=0, contrast=0))[0]
    np.testing.assert_array_equal(targets, dark)
    inside = (moved > 0) & (moved < 1)
    difference = np.where(inside, moved - targets, np.nan)
    assert np.nanmax(np.nanmax(difference, axis=(1, 2, 3)) - np.nanmin(difference, axis=(1, 2, 3))) < 1e-5


def test_blends_lie_between_an_image_and_the_next() -> None:
    images = np.random.default_rng(0).random((400, 4, 4, 3), dtype=np.float32)
    settings = Augment(flip=0, zoom=1, brightness=0, contrast=0, blend=0.4)
    found, targets = augment(images, rngs(400), settings, 1 - images)
    other = np.roll(images, 1, axis=0)
    shares = ((found - images) * (other - images)).sum((1, 2, 3)) / np.square(other - images).sum((1, 2, 3))
    np.testing.assert_allclose(found, images + shares[:, None, None, None] * (other - images), atol=1e-6)
    np.testing.assert_allclose(targets, 1 - found, atol=1e-6)
    mixed = shares[shares > 0]
    assert 0.3 < len(mixed) / 400 < 0.5
    assert mixed.min() < 0.1 and mixed.max() > 0.9 and abs(mixed.mean() - 0.5) < 0.1


def test_values_stay_in_range_and_given_arrays_stay_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 2, (16, 8, 8, 3)).astype(np.float32)
    before = images.copy()
    found, _ = augment(images, rngs(16), Augment(zoom=0.3, brightness=1, contrast=1))
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_array_equal(images, before)
    same, _ = augment(images, rngs(16), Augment.off())
    assert same is images


@pytest.mark.parametrize("strengths", [{"flip": 1.1}, {"zoom": 0}, {"brightness": -0.1}, {"contrast": float("nan")}])
def test_strengths_out_of_range(strengths: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(strengths))):
        Augment(**strengths)


# --- batches ---------------------------------------------------------------------------------------------------------


def test_plain_batches_are_the_images() -> None:
    split = make_split()
    for batch in epoch(split):
        assert batch.inputs.dtype == np.float32
        np.testing.assert_allclose(batch.inputs, split.inputs[batch.index] / 255, atol=1e-7)
        np.testing.assert_array_equal(batch.targets, batch.inputs)
        assert batch.mask.shape == (4, 16, 16)
        assert not batch.mask.any()
    assert epoch(split)[0].inputs.max() <= 1


def test_every_image_is_seen_and_every_batch_is_full() -> None:
    found = epoch(make_split(10))
    assert [len(batch.index) for batch in found] == [4, 4, 4]
    assert [batch.fresh for batch in found] == [4, 4, 2]
    index = np.concatenate([batch.index for batch in found])
    assert sorted(index[:10]) == list(range(10))
    assert index[10:].tolist() == index[:2].tolist()


def test_a_short_last_batch_for_evaluation() -> None:
    found = epoch(make_split(10), shuffle=False, drop_last=False)
    assert [batch.index.tolist() for batch in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert found[2].inputs.shape == (2, 16, 16, 3)
    assert epoch(make_split(0)) == []


def test_a_split_smaller_than_a_batch_is_repeated_with_other_damage() -> None:
    (found,) = epoch(make_split(3), batch=8, corrupt=parse("noise"), augment=Augment())
    assert sorted(np.bincount(found.index).tolist()) == [2, 3, 3]
    assert found.fresh == 3
    first, again = np.flatnonzero(found.index == found.index[0])[:2]
    assert not np.array_equal(found.targets[first], found.targets[again])


def test_an_epoch_is_the_same_whenever_it_runs() -> None:
    split = make_split(10, paired=True)
    settings = {"corrupt": parse("occlude+noise"), "augment": Augment(), "seed": 5}
    straight = [epoch(split, epoch=e, **settings) for e in range(3)]
    assert_same(straight[2], epoch(split, epoch=2, **settings))
    assert straight[0][0].index.tolist() != straight[1][0].index.tolist()
    partly = batches(split, 4, epoch=1, **settings)  # type: ignore[arg-type]
    next(partly)
    assert_same(straight[1], epoch(split, epoch=1, **settings))
    other = epoch(split, epoch=0, **{**settings, "seed": 6})
    assert not np.array_equal(straight[0][0].inputs, other[0].inputs)


def test_damage_is_of_the_image_not_of_the_batch() -> None:
    """An image is damaged alike whatever the batch size, the order, and whether it is augmented."""

    def masks(**changes: object) -> dict[int, np.ndarray]:
        found = epoch(make_split(8), corrupt=parse("occlude"), **{"epoch": 3, **changes})
        return {int(i): mask for batch in found for i, mask in zip(batch.index, batch.mask, strict=True)}

    plain = masks()
    for other in (masks(batch=8), masks(shuffle=False), masks(augment=Augment())):
        for i, mask in plain.items():
            np.testing.assert_array_equal(mask, other[i])
    assert any(not np.array_equal(mask, plain[i]) for i, mask in masks(epoch=4).items())


def test_damage_and_targets() -> None:
    split = make_split(8)
    (batch,) = epoch(split, batch=8, corrupt=parse("occlude"))
    np.testing.assert_allclose(batch.targets, split.inputs[batch.index] / 255, atol=1e-7)
    assert batch.mask.any(axis=(1, 2)).all()
    assert batch.mask.dtype == np.bool_
    np.testing.assert_array_equal(batch.inputs[~batch.mask], batch.targets[~batch.mask])
    paired = make_split(8, paired=True)
    (batch,) = epoch(paired, batch=8, corrupt=parse("occlude"))
    assert paired.targets is not None
    np.testing.assert_allclose(batch.targets, paired.targets[batch.index] / 255, atol=1e-7)


def test_crops_are_windows_that_move_from_epoch_to_epoch() -> None:
    images = make_split(12, size=16, paired=True)
    corners: dict[int, set[tuple[int, int]]] = {i: set() for i in range(12)}
    for e in range(8):
        for batch in epoch(images, epoch=e, crop=10):
            assert batch.inputs.shape == (4, 10, 10, 3) and batch.targets.shape == (4, 10, 10, 1)
            for row, found, target in zip(batch.index, batch.inputs, batch.targets, strict=True):
                (place,) = (
                    (y, x)
                    for y in range(7)
                    for x in range(7)
                    if np.array_equal(_float(images.inputs[row, y : y + 10, x : x + 10]), found)
                )
                y, x = place
                assert images.targets is not None
                np.testing.assert_array_equal(_float(images.targets[row, y : y + 10, x : x + 10]), target)
                corners[int(row)].add(place)
    assert min(len(places) for places in corners.values()) > 4
    assert {axis for places in corners.values() for place in places for axis in place} == set(range(7))
    assert_same(epoch(images, epoch=3, crop=10), epoch(images, epoch=3, crop=10))
    assert_same(epoch(images, epoch=3, crop=16), epoch(images, epoch=3))


def _float(image: np.ndarray) -> np.ndarray:
    return np.multiply(image, np.float32(1 / 255), dtype=np.float32)


@pytest.mark.parametrize(("batch", "changes"), [(0, {}), (4, {"seed": -1}), (4, {"epoch": -1})])
def test_bad_arguments_are_refused_at_the_call(batch: int, changes: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        batches(make_split(), batch, **{"epoch": 0, "seed": 0, "corrupt": None, "augment": None, **changes})  # type: ignore[arg-type]


def test_importing_needs_no_tinygrad() -> None:
    code = "import sys, edgeae.data; sys.exit('tinygrad' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- prefetch --------------------------------------------------------------------------------------------------------


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "edgeae-prefetch"]


def test_prefetch_changes_nothing() -> None:
    split = make_split(10)
    settings = {"corrupt": parse("noise"), "augment": Augment(), "epoch": 0, "seed": 0}
    assert_same(list(prefetch(batches(split, 4, **settings))), epoch(split, **settings))  # type: ignore[arg-type]
    assert prefetch_threads() == []


def test_prefetch_runs_ahead_by_depth_and_no_further() -> None:
    made: list[int] = []

    def produce() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    ahead = prefetch(produce(), depth=3)
    assert made == []  # nothing runs before the first item is asked for
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert made == [0, 1, 2]
    ahead.close()  # type: ignore[attr-defined]
    assert prefetch_threads() == []


def test_prefetch_raises_what_the_producer_raised_after_its_items() -> None:
    def produce() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    ahead = prefetch(produce())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)
    assert prefetch_threads() == []


@pytest.mark.parametrize("end", ["close", "forget", "interrupt"])
def test_prefetch_stops_its_thread_and_closes_the_producer(end: str) -> None:
    closed = threading.Event()

    def produce() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    ahead = prefetch(produce())
    next(ahead)
    match end:
        case "close":
            ahead.close()  # type: ignore[attr-defined]
        case "forget":
            del ahead
            gc.collect()
        case "interrupt":
            with pytest.raises(KeyboardInterrupt):
                ahead.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert closed.is_set()
    assert prefetch_threads() == []
