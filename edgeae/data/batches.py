"""Batches for training and evaluation: random geometry and light, damage, float32 arrays of one fixed shape.

`open_dataset` (from `datasets`), or `open_run` of a training's settings, gives uint8 images in memory; `batches` turns
one split of them into one epoch:

    dataset = open_dataset("photos/", size=64)
    for batch in prefetch(batches(dataset.train, 64, epoch=0, seed=0, corrupt=parse("occlude"), augment=Augment())):
        loss = step(batch.inputs, batch.targets)

Nothing random depends on how far an iterator has run. Each image has its own Philox stream, keyed by (seed, epoch)
and counted by (image, repeat, purpose), so epoch 7 is the same bit for bit whether or not epochs 0 to 6 ran before it.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.augment import Augment, Images, _as_float, _cut, augment
from edgeae.data.datasets import Dataset, Report, Split, open_dataset
from edgeae.errors import UsageError

__all__ = ["Augment", "Batch", "Dataset", "Report", "Split", "augment", "batches", "open_dataset", "prefetch"]

Corrupt = Callable[[Images, np.random.Generator], tuple[NDArray[Any], NDArray[Any]]]
T = TypeVar("T")

# The purpose word of a Philox counter: switching augmentation on must not change the damage an image gets.
_ORDER, _AUGMENT, _CORRUPT, _CROP = range(4)


def open_run(model: ModelConfig, settings: TrainConfig, report: Callable[[Report], None] | None = None) -> Dataset:
    """The data of a training run, fitted as it wants them. Arguments, result and errors are those of `open_dataset`."""
    return open_dataset(
        settings.data,
        size=settings.crop_from or model.size,
        channels=model.in_channels,
        targets=settings.targets,
        limit=settings.limit,
        seed=settings.seed,
        report=report,
    )


@dataclass(frozen=True)
class Batch:
    """One training step's arrays.

    inputs: float32 (B, H, W, C) in [0, 1], damaged.
    targets: float32 (B, H, W, C_out) in [0, 1], clean; may share memory with `inputs` when nothing was damaged.
    mask: bool (B, H, W), True where the damage is.
    index: int64 (B,), the rows of the split.
    fresh: how many leading rows show their image for the first time this epoch; the others fill the batch up.
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
    """One epoch of a split, in batches.

    batch: images a batch. corrupt: `(image float32 (H, W, C), rng) -> (damaged, mask (H, W))`, drawn afresh for each
    image and epoch, or None. augment: None leaves the images as they are. crop: side in pixels of a square that is cut
    from each image, somewhere else each time, before all of that; None takes whole images. shuffle: a new order each
    epoch.
    drop_last: no batch is ever short, because a training step is compiled for one shape. The last batch is filled up
    from the start of the order rather than thrown away, so that every image is seen at least once; a split smaller
    than one batch is repeated in it, each repeat varied and damaged differently. With False the last batch is short
    and every image comes exactly once.

    The result depends only on the arguments, never on what was iterated before. Raises UsageError for batch < 1, a
    negative seed or epoch, or a crop larger than the images, at the call; yields nothing for an empty split.
    """
    if batch < 1:
        raise UsageError(f"`batch` {batch} is too small: give 1 or more.")
    if seed < 0 or epoch < 0:
        raise UsageError(f"seed {seed} and epoch {epoch} must be 0 or more.")
    if crop is not None and not 1 <= crop <= min(split.inputs.shape[1:3]):
        raise UsageError(f"`crop` {crop} does not fit images of {split.inputs.shape[1]} pixels a side.")
    return _epoch(split, batch, epoch, seed, corrupt, augment, crop, shuffle, drop_last)


def _epoch(
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
        places = np.arange(start, start + batch if fill else min(start + batch, n))
        index = order[places % n].astype(np.int64)
        marks = list(zip(index.tolist(), (places // n).tolist(), strict=True))
        corners = [stream(_CROP, *mark).random(2) for mark in marks] if crop else []
        inputs = _as_float(_cut(split.inputs, index, corners, crop))
        targets = None if split.targets is None else _as_float(_cut(split.targets, index, corners, crop))
        if settings is not None and settings.changes:
            inputs, targets = augment(inputs, [stream(_AUGMENT, *mark) for mark in marks], settings, targets)
        clean = inputs if targets is None else targets
        mask = np.zeros(inputs.shape[:3], dtype=np.bool_)
        if corrupt is not None:
            damaged = np.empty_like(inputs)
            for row, mark in enumerate(marks):
                damaged[row], mask[row] = corrupt(inputs[row], stream(_CORRUPT, *mark))
            inputs = damaged
        yield Batch(inputs, clean, mask, index, fresh=min(batch, n - start))


def prefetch(iterator: Iterator[T], depth: int = 2) -> Generator[T, None, None]:
    """Yield the same items, made in a thread of its own; at most `depth` exist at a time, the one in use included.

    An exception in the producer is raised here, after the items made before it. Closing this generator (an error or
    Ctrl-C in the loop that consumes it does) lets the producer end the item in hand, closes `iterator` if it is a
    generator, and joins the thread. The thread starts with the first item asked for.
    """
    items: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    room = threading.Semaphore(max(1, depth))
    stop = threading.Event()

    def produce() -> None:
        try:
            while room.acquire() and not stop.is_set():
                items.put(("item", next(iterator)))
        except StopIteration:
            items.put(("end", None))
        except BaseException as error:
            items.put(("error", error))
        finally:
            if stop.is_set() and hasattr(iterator, "close"):
                iterator.close()

    thread = threading.Thread(target=produce, name="edgeae-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = items.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
            room.release()
    finally:
        stop.set()
        room.release()
        thread.join()
