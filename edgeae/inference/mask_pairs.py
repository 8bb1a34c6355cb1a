"""Find the mask of each photo in a folder of masks, by exact names: a photo that none or several fit gets none.

A mask belongs to a photo if it has the photo's path relative to the folder, but for the extension. Else, if it has the
name of one photo only, in whatever sub-folder, and is the only one of that name. A mask that has path and extension of
one photo is not that of another.
"""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgeae.errors import ImageError, UsageError
from edgeae.files import is_folder
from edgeae.images.files.listing import scan
from edgeae.inference.collect import Item, fixed_part, is_pattern
from edgeae.inference.folder import Failed
from edgeae.inference.masks import require_marks

_MOST_COMPARED = 20_000  # names that are compared letter by letter: a second


def add_masks(items: Sequence[Item], mask: Path, inputs: Sequence[Path] = ()) -> tuple[list[Item], list[Failed]]:
    """Return the photos with their masks, and those for which none or several masks fit.

    Masks are not taken for photos: those of them that are among the items are left out.

    Args:
        items: the photos.
        mask: one file for all of them, or a folder with a file for each, found by `mask_pairs`.
        inputs: what `collect` got; paths in the folder of masks are relative to these folders and patterns.

    Raises:
        ImageError: there is no such file or folder, or the one mask cannot be read or marks nothing.
        UsageError: the photos lie in the folder of masks, or a result would lie there or replace a mask.
    """
    if not is_folder(mask):
        if not os.path.lexists(mask):
            raise ImageError(f"{mask} does not exist: check the name of the mask.")
        require_marks(mask)
        others = [item for item in items if not _is_same(item.source, mask)] or items
        _check_targets(others, mask)
        return [replace(item, mask=mask) for item in others], []
    inside = Path(os.path.realpath(mask))
    photos = [item for item in items if not _is_in(item.source, inside)]
    # A shell's `scans/*` also names scans/masks; but photos in a folder below the masks would be lost.
    below = [path for path in inputs if is_folder(path) and _is_in(path, inside) and not path.samefile(mask)]
    if items and (below or not photos):
        raise UsageError(f"{mask} is the folder of the photos, or above it: name a folder of masks alone with `mask`.")
    _check_targets(photos, mask)
    masks = [file.path for file in scan(mask, mask).files]
    roots = [path if is_folder(path) else fixed_part(path) for path in inputs if is_folder(path) or is_pattern(path)]
    folder = MaskFolder(mask, masks, {item.source: _names_of_mask(item.source, roots) for item in photos})
    masked, failed = list[Item](), list[Failed]()
    for item in photos:
        try:
            masked.append(replace(item, mask=folder.find(item.source)))
        except ImageError as error:
            failed.append(Failed(str(item.source), str(error)))
    return masked, failed


def _names_of_mask(source: Path, roots: Sequence[Path]) -> list[Path]:
    """Return the relative paths that a photo's mask may have: of a photo that is named itself, a/b/c.png, b/c.png, …"""
    for root in roots:
        if source.is_relative_to(root):
            return [source.relative_to(root)]
    return [Path(*source.parts[i:]) for i in range(bool(source.anchor), len(source.parts))]


def _check_targets(items: Iterable[Item], mask: Path) -> None:
    """Check that no result replaces the mask, or lies in the folder of masks, where it would be taken for one."""
    place = Path(os.path.realpath(mask))
    for item in items:
        for target in (item.target, item.comparison):
            if target is not None and _is_in(target, place):
                what = "lie among the masks" if is_folder(mask) else "replace the mask"
                raise UsageError(f"{target} would {what}: name another place with `output`.")


def _is_in(path: Path, place: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(place)


def _is_same(a: Path, b: Path) -> bool:
    return os.path.realpath(a) == os.path.realpath(b)


class MaskFolder:
    """The masks in a folder, and the photos that they are for.

    Args:
        folder: where the masks are.
        masks: their paths.
        photos: for each photo the relative paths that its mask may have but for the extension, best first.
    """

    def __init__(self, folder: Path, masks: Iterable[Path], photos: Mapping[Path, Sequence[Path]]) -> None:
        self._folder, self._photos = folder, photos
        self._by_path: dict[Path, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for mask in masks:
            name = mask.relative_to(folder)
            self._by_path[name.with_suffix("")].append(name)
            self._by_stem[name.stem].append(name)
        self._compared = 0
        self._photos_by_stem: dict[str, int] = defaultdict(int)
        self._owners: dict[Path, set[Path]] = defaultdict(set)  # of a mask: the photos of its path and extension
        self._folders: dict[Path, set[Path]] = defaultdict(set)  # by a mask's path: those in which there are photos
        for photo in photos:
            self._photos_by_stem[photo.stem] += 1
            if (match := self._match_path(photo)) is not None:
                self._owners[match].add(photo)
                self._folders[match.with_suffix("")].add(photo.parent)

    def find(self, photo: Path) -> Path:
        """Return the mask of a photo.

        Raises:
            ImageError: none fits, or several do.
        """
        name = self._match_path(photo)
        fitting: list[Path] = []
        if name is not None and len(self._folders[name.with_suffix("")]) == 1:
            fitting = self._list_free(self._by_path[name.with_suffix("")], photo)
        if not fitting and self._photos_by_stem[photo.stem] == 1:
            fitting = self._list_free(self._by_stem.get(photo.stem, []), photo)
        if len(fitting) > 1:
            listed = " and ".join(map(str, sorted(fitting)[:2])) + (" and others" if len(fitting) > 2 else "")
            raise ImageError(f"{photo} has several masks in {self._folder}, {listed}: keep one of them.")
        if not fitting:
            raise ImageError(f"{photo} has no mask of its name in {self._folder}: {self._mend(photo)}.")
        return self._folder / fitting[0]

    def _match_path(self, photo: Path) -> Path | None:
        """Return the best of a photo's names that a mask has."""
        return next((name for name in self._photos[photo] if name.with_suffix("") in self._by_path), None)

    def _list_free(self, masks: list[Path], photo: Path) -> list[Path]:
        """Return the masks that do not have path and extension of another photo."""
        return [mask for mask in masks if self._owners.get(mask, {photo}) == {photo}]

    def _mend(self, photo: Path) -> str:
        """Say what to do, and name a mask that may be meant."""
        same_stem = self._by_stem.get(photo.stem, [])
        own = f", such as {self._photos[photo][0].with_suffix('.png')}" if len(self._photos[photo]) == 1 else ""
        if same_stem and all(mask.with_suffix("") in self._folders for mask in same_stem):
            return f"{same_stem[0]} is that of another photo, add one at its own path{own}"
        if same_stem and self._photos_by_stem[photo.stem] > 1:
            return f"{same_stem[0]} fits several photos, add one for each at its own path{own}"
        close = self._find_close(photo.stem)
        return f"rename {self._by_stem[close][0]} if that is its mask" if close else "add one"

    def _find_close(self, stem: str) -> str | None:
        """Return the name of a mask that is nearly a photo's and no other's, if there are not too many to compare."""
        self._compared += len(self._by_stem)
        if self._compared > _MOST_COMPARED:
            return None
        normal, free = _normalize(stem), sorted(self._by_stem.keys() - self._photos_by_stem.keys())
        for other in free:
            if _normalize(other) == normal or (len(stem) > 1 and normal in _normalize(other)):
                return other
        return next(iter(difflib.get_close_matches(stem, free, 1, 0.75)), None)


def _normalize(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
