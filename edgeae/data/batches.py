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
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.datasets import Dataset, Report, Split, open_dataset
from edgeae.errors import UsageError

__all__ = ["Augment", "Batch", "Dataset", "Report", "Split", "augment", "batches", "open_dataset", "prefetch"]

Images = NDArray[np.float32]
Corrupt = Callable[[Images, np.random.Generator], tuple[NDArray[Any], NDArray[Any]]]
T = TypeVar("T")

# The purpose word of a Philox counter: switching augmentation on must not change the damage an image gets.
_ORDER, _AUGMENT, _CORRUPT, _CROP = range(4)


@dataclass(frozen=True)
class Augment:
    """How far training images are varied. The defaults suit photographs; set `flip=0` for text and digits.

    flip: probability of mirroring left to right, 0 to 1.
    zoom: smallest side of the random crop as a fraction of the image, above 0 to 1; the crop lies anywhere inside the
        image and is resized back to its full size, which is zoom and translation in one.
    brightness: largest offset added to every pixel, either way, 0 to 1.
    contrast: largest relative change of the distance from the image's mean, either way, 0 to 1.
    blend: probability of mixing an image with the next of its batch, from none of it to all (Zhang et al., mixup,
        2018), 0 to 1. Of aligned images, such as faces, a mixture is one more: a few hundred become many.

    Raises UsageError when a strength is out of its range.
    """

    flip: float = 0.5
    zoom: float = 0.85
    brightness: float = 0.1
    contrast: float = 0.1
    blend: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "zoom", "brightness", "contrast", "blend"):
            value = getattr(self, name)
            if not 0 <= value <= 1 or (name == "zoom" and value == 0):
                least = "above 0" if name == "zoom" else "0"
                raise UsageError(f"augmentation {name}={value!r} is out of range: give a number from {least} to 1.")

    @classmethod
    def off(cls) -> "Augment":
        """The settings that leave every image as it is."""
        return cls(flip=0.0, zoom=1.0, brightness=0.0, contrast=0.0)

    @property
    def moves(self) -> bool:
        """Whether the geometry changes."""
        return self.flip > 0 or self.zoom < 1

    @property
    def changes(self) -> bool:
        """Whether anything does."""
        return self.moves or self.lights or self.blend > 0

    @property
    def lights(self) -> bool:
        """Whether brightness or contrast changes."""
        return self.brightness > 0 or self.contrast > 0


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


def _sample(images: Images, starts: Images, sides: Images, flips: NDArray[np.bool_]) -> Images:
    """Bilinear samples of one window an image, resized to the full size.

    starts: (N, 2) top and left edge of the window as fractions of the image; sides: (N,) its side, likewise.
    Pixel centres lie at half-integers, as in `torch.nn.functional.interpolate(align_corners=False)`. The transform is
    separable, so whole rows are blended first and columns second, which is faster than four corners a pixel.
    """
    n, height, width, channels = images.shape

    def taps(length: int, start: Images) -> tuple[NDArray[np.intp], NDArray[np.intp], Images]:
        centres = (np.arange(length, dtype=np.float32) + np.float32(0.5)) * sides[:, None]
        place = np.clip(centres + start[:, None] * length - np.float32(0.5), 0, length - 1)
        low = place.astype(np.intp)
        return low, np.minimum(low + 1, length - 1), place - low.astype(np.float32)

    rows = images.reshape(n * height, width * channels)
    low, high, weight = taps(height, starts[:, 0])
    base = (np.arange(n) * height)[:, None]
    out = rows.take((base + low).ravel(), axis=0).reshape(n, height, width * channels)
    other = rows.take((base + high).ravel(), axis=0).reshape(out.shape)
    other -= out
    other *= weight[:, :, None]
    out += other

    pixels = out.reshape(n * height * width, channels)
    low, high, weight = taps(width, starts[:, 1])
    for columns in (low, high, weight):
        columns[flips] = columns[flips, ::-1]
    base = (np.arange(n * height) * width).reshape(n, height, 1)
    left: Images = pixels.take((base + low[:, None]).ravel(), axis=0).reshape(images.shape)
    right = pixels.take((base + high[:, None]).ravel(), axis=0).reshape(images.shape)
    right -= left
    right *= weight[:, None, :, None]
    left += right
    np.minimum(left, 1, out=left)  # a blend of two ones can round up past 1
    return left


def augment(
    images: Images,
    rngs: Sequence[np.random.Generator],
    settings: Augment,
    targets: Images | None = None,
) -> tuple[Images, Images | None]:
    """Vary each image with its own generator: flip, crop and resize back, then brightness and contrast.

    images: float32 (N, H, W, C) in [0, 1]; rngs: N generators, each advanced by eight draws whatever the settings.
    targets: float32 (N, H, W, C_out) or None; they get the same geometry, and keep their brightness and contrast.
    Returns new arrays (or the given ones where nothing changes), values in [0, 1].
    """
    draws = np.array([rng.random(8) for rng in rngs], dtype=np.float32).reshape(-1, 8)
    if settings.moves:
        sides = 1 - draws[:, 0] * np.float32(1 - settings.zoom)
        starts = draws[:, 1:3] * (1 - sides)[:, None]
        flips = draws[:, 3] < settings.flip
        images = _sample(images, starts, sides, flips)
        if targets is not None:
            targets = _sample(targets, starts, sides, flips)
    if settings.lights:
        offset = (draws[:, 4] * 2 - 1) * np.float32(settings.brightness)
        gain = 1 + (draws[:, 5] * 2 - 1) * np.float32(settings.contrast)
        # gain·(x − mean) + mean + offset, as one multiplication and one addition a pixel
        offset += images.mean(axis=(1, 2, 3)) * (1 - gain)
        images = images * gain[:, None, None, None]
        images += offset[:, None, None, None]
        np.clip(images, 0, 1, out=images)
    if settings.blend > 0:
        shares = np.where(draws[:, 6] < settings.blend, draws[:, 7], 0)[:, None, None, None]
        images = images + shares * (np.roll(images, 1, axis=0) - images)
        targets = None if targets is None else targets + shares * (np.roll(targets, 1, axis=0) - targets)
    return images, targets


def _cut(
    images: NDArray[np.uint8], index: NDArray[np.int64], corners: Sequence[NDArray[np.float64]], crop: int | None
) -> NDArray[np.uint8]:
    """The images of these rows, or from each a square of `crop` pixels; `corners`: where, as shares of the room."""
    if crop is None:
        return images[index]
    room = np.array(images.shape[1:3]) - crop + 1
    starts = (np.stack(corners) * room).astype(int)
    return np.stack([images[row, y : y + crop, x : x + crop] for row, (y, x) in zip(index, starts, strict=True)])


def _as_float(images: NDArray[np.uint8]) -> Images:
    scaled: Images = np.multiply(images, np.float32(1 / 255), dtype=np.float32)
    return scaled


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
        raise UsageError(f"--batch {batch} is too small: give 1 or more.")
    if seed < 0 or epoch < 0:
        raise UsageError(f"seed {seed} and epoch {epoch} must be 0 or more.")
    if crop is not None and not 1 <= crop <= min(split.inputs.shape[1:3]):
        raise UsageError(f"--crop {crop} does not fit images of {split.inputs.shape[1]} pixels a side.")
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
