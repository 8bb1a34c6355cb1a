"""Batches for training and evaluation: augmented, damaged float32 arrays of one fixed shape.

`datasets.open_dataset` loads uint8 images into memory; `batches` turns one split of them into one epoch:

    dataset = open_dataset("photos/", size=64)
    for batch in prefetch(batches(dataset.train, 64, epoch=0, seed=0, corrupt=parse("occlude"), augment=Augment())):
        loss = step(batch.inputs, batch.targets)

No random number depends on how far an iterator has run. Each image has its own Philox stream, keyed by (seed, epoch)
and counted by (image, repeat, purpose), so epoch 7 has the same bits whether or not epochs 0 to 6 ran before it. That
is what makes a resumed training equal to one that was never stopped.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae.data.augment import Augment, Images, augment, crop_squares
from edgeae.data.datasets import Split
from edgeae.errors import UsageError

Corrupt = Callable[[Images, np.random.Generator], tuple[NDArray[Any], NDArray[Any]]]

# The purpose word of a Philox counter: switching augmentation on must not change the damage an image gets.
_ORDER, _AUGMENT, _CORRUPT, _CROP = range(4)


@dataclass(frozen=True)
class Batch:
    """The arrays of one training step.

    Attributes:
        inputs: float32 (B, H, W, C) in [0, 1], damaged.
        targets: float32 (B, H, W, C_out) in [0, 1], clean; may share memory with `inputs` when nothing was damaged.
        mask: bool (B, H, W), True where the damage is.
        index: int64 (B,), the rows of the split.
        fresh: how many leading rows show their image for the first time in this epoch; the others are repeats that
            fill the batch.
    """

    inputs: Images
    targets: Images
    mask: NDArray[np.bool_]
    index: NDArray[np.int64]
    fresh: int


def batches(
    split: Split,
    batch: int,
    *,
    epoch: int,
    seed: int,
    corrupt: Corrupt | None,
    augment: Augment | None,
    crop: int | None = None,
    shuffle: bool = True,
    drop_last: bool = True,
) -> Iterator[Batch]:
    """Yield one epoch of a split in batches, which depend on the arguments only.

    Args:
        split: the images. An empty split yields nothing.
        batch: images in a batch, at least 1.
        epoch: number of the epoch, from 0.
        seed: of everything random, at least 0.
        corrupt: `(image float32 (H, W, C), rng) -> (damaged, mask (H, W))`, drawn afresh for each image and epoch, or
            None.
        augment: how images are varied before they are damaged; None leaves them as they are.
        crop: side in pixels of a square cut from each image before all else, somewhere else in each epoch; None takes
            whole images.
        shuffle: whether each epoch has a new order.
        drop_last: True makes every batch full, since a training step is compiled for one shape: the last batch is
            filled up from the start of the order, so that every image is seen at least once. A split smaller than a
            batch is repeated in it, each repeat varied and damaged differently. False makes the last batch short, and
            every image comes exactly once.

    Raises:
        UsageError: `batch`, `seed` or `epoch` is out of range, or `crop` larger than the images. Raised by the call,
            not by the first item.
    """
    if batch < 1:
        raise UsageError(f"`batch` {batch} is too small: give 1 or more.")
    if seed < 0 or epoch < 0:
        raise UsageError(f"seed {seed} and epoch {epoch} must be 0 or more.")
    if crop is not None and not 1 <= crop <= min(split.inputs.shape[1:3]):
        raise UsageError(f"`crop` {crop} does not fit images of {split.inputs.shape[1]} pixels a side.")
    return _generate(split, batch, epoch, seed, corrupt, augment, crop, shuffle, drop_last)


def _generate(
    split: Split,
    batch: int,
    epoch: int,
    seed: int,
    corrupt: Corrupt | None,
    settings: Augment | None,
    crop: int | None,
    shuffle: bool,
    fill: bool,
) -> Iterator[Batch]:
    key = np.random.SeedSequence((seed, epoch)).generate_state(2, np.uint64)

    def stream(purpose: int, image: int = 0, repeat: int = 0) -> np.random.Generator:
        # The counter's lowest word is left to the stream itself: 2^64 blocks of four numbers.
        return np.random.Generator(np.random.Philox(key=key, counter=(0, image, repeat, purpose)))

    n = len(split.inputs)
    order = stream(_ORDER).permutation(n) if shuffle else np.arange(n)
    for start in range(0, n, batch):
        # Places past n wrap around to the start of the order: the image of place p comes for the (p // n)-th time.
        places = np.arange(start, start + batch if fill else min(start + batch, n))
        index = order[places % n].astype(np.int64)
        repeats = list(zip(index.tolist(), (places // n).tolist(), strict=True))
        positions = np.array([stream(_CROP, *repeat).random(2) for repeat in repeats]) if crop else None
        images = _select(split.inputs, index, positions, crop)
        clean = None if split.targets is None else _select(split.targets, index, positions, crop)
        if settings is not None and settings.changes_anything:
            images, clean = augment(images, [stream(_AUGMENT, *repeat) for repeat in repeats], settings, clean)
        if clean is None:
            clean = images
        mask = np.zeros(images.shape[:3], dtype=np.bool_)
        if corrupt is not None:
            damaged = np.empty_like(images)
            for row, repeat in enumerate(repeats):
                damaged[row], mask[row] = corrupt(images[row], stream(_CORRUPT, *repeat))
            images = damaged
        yield Batch(images, clean, mask, index, fresh=min(batch, n - start))


def _select(
    images: NDArray[np.uint8], index: NDArray[np.int64], positions: NDArray[np.float64] | None, crop: int | None
) -> Images:
    """The images of these rows, or squares of them, as float32."""
    selected = images[index] if crop is None or positions is None else crop_squares(images, index, positions, crop)
    scaled: Images = np.multiply(selected, np.float32(1 / 255), dtype=np.float32)
    return scaled
