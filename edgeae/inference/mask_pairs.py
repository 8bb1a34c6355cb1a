"""Find the mask of each photo in a folder of masks, by exact names: a photo that none or several fit gets none.

A mask belongs to a photo if it has the photo's path relative to the folder, but for the extension. Else, if it has the
name of one photo only, in whatever sub-folder, and is the only one of that name. A mask that has path and extension of
one photo is not that of another.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edgeae.errors import ImageError

_MOST_COMPARED = 2000  # masks whose names are compared letter by letter


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
        if same_stem and self._photos_by_stem[photo.stem] > 1:
            return f"{same_stem[0]} fits several photos, give each one its own at its path and with its extension"
        stem = _normalize(photo.stem)
        close = sorted(other for other in self._by_stem if stem in _normalize(other) and len(stem) > 1)
        if not close and len(self._by_stem) <= _MOST_COMPARED:
            close = difflib.get_close_matches(photo.stem, self._by_stem, 1, 0.75)
        if close:
            return f"rename {self._by_stem[close[0]][0]} if that is its mask"
        return "add one"


def _normalize(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
