"""Batches: complete, reproducible, and damaged independently of how they are grouped."""

import subprocess
import sys

import numpy as np
import pytest

from edgeae.data.augment import Augment
from edgeae.data.batches import Batch, batches
from edgeae.data.datasets import Split
from edgeae.errors import UsageError
from edgeae.images.damage.spec import parse


def make_split(n: int = 10, size: int = 16, paired: bool = False) -> Split:
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    targets = rng.integers(0, 256, (n, size, size, 1), dtype=np.uint8) if paired else None
    return Split(inputs, targets, [str(i) for i in range(n)])


def epoch(split: Split, batch: int = 4, **changes: object) -> list[Batch]:
    arguments = {"epoch": 0, "seed": 0, "corrupt": None, "augment": None, **changes}
    return list(batches(split, batch, **arguments))  # type: ignore[arg-type]


def assert_same(a: list[Batch], b: list[Batch]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        for name in ("inputs", "targets", "mask", "index"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)


def test_without_options_batches_are_the_images() -> None:
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


def test_the_last_batch_may_be_short_for_evaluation() -> None:
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


def test_damage_depends_on_the_image_and_not_on_the_batch() -> None:
    """An image is damaged alike whatever the batch size, the order, and whether it is augmented."""

    def masks(**changes: object) -> dict[int, np.ndarray]:
        found = epoch(make_split(8), corrupt=parse("occlude"), **{"epoch": 3, **changes})
        return {int(i): mask for batch in found for i, mask in zip(batch.index, batch.mask, strict=True)}

    plain = masks()
    for other in (masks(batch=8), masks(shuffle=False), masks(augment=Augment())):
        for i, mask in plain.items():
            np.testing.assert_array_equal(mask, other[i])
    assert any(not np.array_equal(mask, plain[i]) for i, mask in masks(epoch=4).items())


def test_targets_are_clean_and_differ_from_inputs_in_the_mask() -> None:
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


def test_crops_are_squares_that_move_from_epoch_to_epoch() -> None:
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
