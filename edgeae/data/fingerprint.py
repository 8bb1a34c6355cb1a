"""Tell datasets apart by their content: digests, what changed between two sessions, the split by file, duplicates."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_DIGITS = 32  # of a digest: 128 bits, far more than chance needs
_EXAMPLES = 3  # names in a sentence


class Member(NamedTuple):
    """One image of a dataset.

    Attributes:
        part: `train` or `val`.
        name: relative to the folder, or the row of an array.
        digest: of its content, and of its target's after a hyphen.
    """

    part: str
    name: str
    digest: str


def digest_file(path: Path) -> str:
    """Return the digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def digest_images(images: NDArray[np.uint8]) -> list[str]:
    """Return the digest of each image's pixels; (N, H, W, C)."""
    return [hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()[:_DIGITS] for image in images]


def combine(members: Sequence[Member], named: bool = True) -> str:
    """Return one digest of a whole dataset.

    Args:
        members: in any order.
        named: whether the names count; without them a dataset with renamed files has the same digest.
    """
    rows = sorted((m.part, m.name if named else "", m.digest) for m in members)
    return hashlib.sha256(repr(rows).encode(errors="surrogatepass")).hexdigest()[:_DIGITS]


def choose_validation(
    digests: Sequence[str], share: float, seed: int, known: Mapping[str, bool] | None = None
) -> NDArray[np.bool_]:
    """Decide by the content of each file whether it validates.

    Neither names nor places count, so that a file that comes, goes or is renamed does not move another one to the other
    side, and copies of a file stay together. Of few files, chance alone would pick too few or too many: below the
    share, or above twice the share, those nearest to the limit change their side.

    Args:
        digests: one a file.
        share: of all files that validate, on average.
        seed: another seed gives another split.
        known: for digests that a run has split already, whether they validate; these stay where they are.

    Returns:
        bool (N,).
    """
    n, known = len(digests), known or {}
    places = np.array([_place(digest.partition("-")[0], seed) for digest in digests])
    chosen: NDArray[np.bool_] = np.array(
        [known.get(digest, place < share) for digest, place in zip(digests, places, strict=True)], dtype=np.bool_
    )
    least, most = (1, n - 1) if known else (max(1, int(share * n)), min(n - 1, math.ceil(2 * share * n) + 1))
    count = int(np.clip(chosen.sum(), least, most)) if n > 1 else int(chosen.sum())
    if count != chosen.sum():
        order = np.lexsort((places, ~chosen))  # those that validate first
        chosen[order[:count]], chosen[order[count:]] = True, False
    return chosen


def draw(names: Sequence[str], most: int, seed: int) -> NDArray[np.intp]:
    """Return the rows of `most` names, in order, chosen by each name alone: one more file displaces at most one."""
    places = np.array([_place(name, seed) for name in names])
    return np.sort(np.argsort(places, kind="stable")[:most])


def _place(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on a text and the seed."""
    digest = hashlib.sha256(f"{seed} {text}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def describe_changes(before: Sequence[Member], after: Sequence[Member]) -> str:
    """Return in words what changed between two states of a dataset; empty if nothing did.

    Such as "1 added (a.png), 2 removed (b.png, c.png)".
    """
    old, new = {m.name: m for m in before}, {m.name: m for m in after}
    gone, come = old.keys() - new.keys(), new.keys() - old.keys()
    places = {old[name].digest: name for name in sorted(gone)}
    moved = []
    for name in sorted(come):
        if former := places.pop(new[name].digest, None):
            moved.append(f"{former} to {name}")
            gone, come = gone - {former}, come - {name}
    both = old.keys() & new.keys()
    groups = {
        "added": come,
        "removed": gone,
        "changed": {name for name in both if old[name].digest != new[name].digest},
        "renamed": moved,
        "moved between train and val": {
            name for name in both if old[name].part != new[name].part and old[name].digest == new[name].digest
        },
    }
    return ", ".join(f"{len(names):,} {what} ({_list(sorted(names))})" for what, names in groups.items() if names)


def describe_duplicates(
    train: Sequence[str], val: Sequence[str], train_pixels: Sequence[str], val_pixels: Sequence[str]
) -> list[str]:
    """Return a sentence each on images that are in both parts, and on those that occur several times in one.

    Args:
        train, val: names.
        train_pixels, val_pixels: digests of the pixels.
    """
    first: dict[str, str] = {}
    again: list[str] = []
    for name, digest in zip(train, train_pixels, strict=True):
        if digest in first:
            again.append(f"{name} = {first[digest]}")
        else:
            first[digest] = name
    shared = [f"{name} = {first[digest]}" for name, digest in zip(val, val_pixels, strict=True) if digest in first]
    notes = []
    if shared:
        notes.append(
            f"{_count(len(shared), 'validation image is a duplicate', 'validation images are duplicates')} of training "
            f"images ({_list(shared)}), so the scores are too good: remove them from one of the two"
        )
    seen: dict[str, str] = {}
    for name, digest in zip(val, val_pixels, strict=True):
        if digest in seen:
            again.append(f"{name} = {seen[digest]}")
        seen.setdefault(digest, name)
    if again:
        notes.append(
            f"{_count(len(again), 'image is a duplicate', 'images are duplicates')} of others ({_list(again)})"
        )
    return notes


def _count(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:_EXAMPLES]) + (", …" if len(names) > _EXAMPLES else "")
