"""Choose the photos that some paths name, and where the result of each goes.

No two photos get one output, no photo is replaced by a result, and results of an earlier run are not taken for photos:
`S.out.E` beside `S.E`, what is in `S.out/` and has its photo in `S/`, and `S.compare.png`. A file that is named alone
is always taken.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeae.errors import EdgeaeError, ImageError, UsageError
from edgeae.files import is_file, is_folder, is_same_file, names_one_file
from edgeae.images.files.formats import WRITE_FORMATS, format_of
from edgeae.images.files.kinds import is_dropping, read_suffixes, why_left_out, why_unlisted
from edgeae.images.files.listing import TWICE, LeftOut, scan, walk

_OUT, _COMPARE = ".out", ".compare.png"
_RESULT = "result of an earlier run"


@dataclass(frozen=True)
class Item:
    """One photo to restore.

    Attributes:
        source, target: paths.
        keep: leave an existing target alone.
        mask: path of the photo's mask, as in `photo.restore`.
        comparison: where the picture of before and after goes, if one is asked for.
    """

    source: Path
    target: Path
    keep: bool = False
    mask: Path | None = None
    comparison: Path | None = None


def collect(
    inputs: Sequence[Path],
    output: Path | None = None,
    overwrite: bool = False,
    *,
    compare: bool = False,
    on_left_out: Callable[[LeftOut], None] = lambda left_out: None,
) -> list[Item]:
    """Return the photos that some paths name, and where their results go.

    Args:
        inputs: files, folders (all image files in them, sub-folders included) and patterns such as `scans/**/*.png`.
        output: for one file, a file or an existing folder; else a folder, which gets the tree of each folder or
            pattern. None writes `photo.out.jpg` beside `photo.jpg`, and `photos.out/` beside `photos/`.
        overwrite: replace outputs that exist. One file alone always replaces.
        compare: pictures of before and after are written too.
        on_left_out: called for each file that is left out.

    Raises:
        UsageError: `output` is no image file, is a file for several photos, or outputs would replace one another or an
            input.
        ImageError: a folder or a pattern gives no image, and no photo in it was missed.
        EdgeaeError: no folder can be made beside the input.
    """
    locate = _Locator()
    if len(inputs) == 1 and not is_folder(inputs[0]) and not is_pattern(inputs[0]):
        items = [Item(inputs[0], _target_of_one(inputs[0], output))]
    else:
        if output is not None and (is_file(output) or output.suffix.lower().removeprefix(".") in WRITE_FORMATS):
            raise UsageError(f"{output} names one file for several inputs; name a folder with `output`.")
        alone = len(inputs) == 1
        items = [item for path in inputs for item in _expand(path, output, alone, on_left_out)]
        items = [replace(item, keep=not overwrite) for item in items]
        items = list(_without_results(_once(items, locate), locate, on_left_out))
    if compare:
        items = _name_comparisons(items)
    _check_targets(items, locate)
    return items


def output_folder(folder: Path) -> Path:
    """Return `photos.out` beside a folder `photos`; a link keeps its own name.

    Raises:
        UsageError: it is the root of the file system.
    """
    named = folder
    if folder.name in ("", ".."):
        resolved = folder.resolve()
        if not resolved.name:
            raise UsageError(f"{folder} has no folder beside it for the results; name one with `output`.")
        named = resolved if folder.is_absolute() else Path(os.path.relpath(resolved.parent), resolved.name)
    return named.with_name(f"{named.name}{_OUT}")


def is_pattern(path: Path) -> bool:
    """Return whether a path is a pattern, with wildcards; a file of that very name is none."""
    return glob.has_magic(str(path)) and not os.path.lexists(path)


def is_result(path: Path, is_photo: Callable[[Path], bool]) -> bool:
    """Return whether a file is by its name the result of a photo.

    Args:
        path: the file, absolute.
        is_photo: whether an absolute path is a photo among those that the file was found with.
    """
    if path.stem.endswith(_OUT) and is_photo(path.with_name(path.stem.removesuffix(_OUT) + path.suffix)):
        return True
    parts = path.parts
    for i, part in enumerate(parts[:-1]):
        photo = Path(*parts[:i], part.removesuffix(_OUT), *parts[i + 1 :])
        if part.endswith(_OUT) and part != _OUT and is_photo(photo):
            return True
    if not path.name.endswith(_COMPARE) or path.name == _COMPARE:
        return False
    named = path.with_name(path.name.removesuffix(_COMPARE))
    suffixes = ["", *read_suffixes(), *map(str.upper, read_suffixes())]
    candidates = [named.with_name(f"{stem}{suffix}") for stem in _stems(named.name) for suffix in suffixes]
    return any(candidate.suffix and (is_photo(candidate) or candidate.exists()) for candidate in candidates)


def _stems(name: str) -> Iterator[str]:
    """Yield what `a.out` may be the stem of: a result and its photo."""
    yield name
    if name.endswith(_OUT):
        yield name.removesuffix(_OUT)


# ---- from paths to photos ----------------------------------------------------------------------------------------


def _expand(path: Path, output: Path | None, alone: bool, on_left_out: Callable[[LeftOut], None]) -> Iterator[Item]:
    """Yield the photos of one input, which is `alone` or one of several."""
    if not alone and is_dropping(path.name, path.parent.name) and os.path.lexists(path):  # of `*` in a shell
        on_left_out(LeftOut(str(path), "leftover of a system, not a photo", False))
    elif is_folder(path):
        yield from _expand_folder(path, output, on_left_out)
    elif is_pattern(path):
        yield from _expand_pattern(path, output, on_left_out)
    else:
        yield Item(path, output / path.name if output else _beside(path))


def _expand_folder(path: Path, output: Path | None, on_left_out: Callable[[LeftOut], None]) -> Iterator[Item]:
    folder = output or output_folder(path)
    listing = scan(path, path, skip=folder)
    for left_out in listing.left_out:
        on_left_out(left_out)
    if listing.files and output is None:
        _check_can_be_made(folder, path)
    if not listing.files and not any(left_out.missed for left_out in listing.left_out):
        raise ImageError(f"{path} holds no images: it takes JPEG, PNG, WebP, TIFF, BMP or GIF files.")
    for file in listing.files:
        yield Item(file.path, folder / file.name)


def _expand_pattern(pattern: Path, output: Path | None, on_left_out: Callable[[LeftOut], None]) -> Iterator[Item]:
    base, unlisted = fixed_part(pattern), list[LeftOut]()
    names_kind = not glob.has_magic(pattern.suffix) and pattern.suffix  # such as *.dat: these very files are meant
    files = sorted(set(_search(base, pattern.relative_to(base).parts, unlisted.append)))
    for left_out in unlisted:
        on_left_out(left_out)
    found, locate = bool(unlisted), _Locator()
    results = None if output is None else Path(os.path.realpath(output))
    if results is not None and Path(os.path.realpath(base)).is_relative_to(results):
        results = None
    for file in files:
        if results is not None and locate(file).is_relative_to(results):
            if not is_folder(file):
                on_left_out(LeftOut(str(file), _RESULT, False))
        elif is_folder(file):
            if "**" not in pattern.parts:
                on_left_out(LeftOut(str(file), "folder: name it, or write ** in the pattern", True))
        elif names_kind or file.suffix.lower() in read_suffixes():
            found = True
            yield Item(file, output / file.relative_to(base) if output else _beside(file))
        else:
            reason = why_left_out(file)
            found |= reason.missed
            on_left_out(LeftOut(str(file), *reason))
    if not found:
        raise ImageError(f"{pattern} matches no file: check the pattern.")


def _search(folder: Path, parts: Sequence[str], on_unlisted: Callable[[LeftOut], None]) -> Iterator[Path]:
    """Yield what the parts of a pattern match under a folder, as `glob.glob` does, which is silent where it is denied.

    Leftovers of systems are passed over, and a loop of links ends.
    """
    part, *rest = parts
    if part == "**":
        for subfolder, content in walk(folder):
            if all(one.reason != TWICE or one.path != str(subfolder) for one in content.left_out):
                yield from _search(subfolder, rest or ["*"], on_unlisted)
        return
    try:
        names = [entry.name for entry in folder.iterdir()] if glob.has_magic(part) else [part]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        on_unlisted(LeftOut(str(folder), *why_unlisted(error)))
        return
    for name in fnmatch.filter(names, part) if glob.has_magic(part) else names:
        path = folder / name
        if is_dropping(name, folder.name) or (name.startswith(".") and not part.startswith(".")):
            continue
        if rest:
            yield from _search(path, rest, on_unlisted) if is_folder(path) else ()
        elif os.path.lexists(path):
            yield path


def fixed_part(pattern: Path) -> Path:
    """Return the folder down to which a pattern has no wildcards; a folder `[1]` that exists has none."""
    base = Path()
    for part in pattern.parent.parts:
        if is_pattern(base / part):
            break
        base /= part
    return base


def _once(items: Iterable[Item], locate: _Locator) -> Iterator[Item]:
    """Yield the photos without those that come again, by another spelling of their path, with the same target."""
    seen = set()
    for item in items:
        key = locate(item.source), locate(item.target)
        if key not in seen:
            seen.add(key)
            yield item


def _without_results(items: Iterable[Item], locate: _Locator, on_left_out: Callable[[LeftOut], None]) -> Iterator[Item]:
    located = [(locate(item.source), item) for item in items]
    sources = {source for source, _ in located}
    for source, item in located:
        if is_result(source, sources.__contains__):
            on_left_out(LeftOut(str(item.source), _RESULT, False))
        else:
            yield item


class _Locator:
    """Gives a path one spelling; a link in the last place stays, as its name says where its result goes."""

    def __init__(self) -> None:
        self._folders: dict[Path, str] = {}

    def __call__(self, path: Path) -> Path:
        if path.parent not in self._folders:
            try:
                self._folders[path.parent] = os.path.realpath(path.parent)
            except FileNotFoundError:  # the working folder is gone
                self._folders[path.parent] = str(path.parent)
        return Path(self._folders[path.parent], path.name)


# ---- from photos to outputs --------------------------------------------------------------------------------------


def _beside(source: Path) -> Path:
    return source.with_name(f"{source.stem}{_OUT}{source.suffix}")


def _target_of_one(source: Path, output: Path | None) -> Path:
    if output is None:
        if not source.name or source.name == "..":
            raise ImageError(f"{source} does not exist: check the path.")
        return _beside(source)
    if output.suffix and not is_folder(output):
        format_of(output, None, WRITE_FORMATS)
        return output
    return output / source.name


def _check_can_be_made(folder: Path, beside: Path) -> None:
    """Raise EdgeaeError if a folder does not exist and cannot be made beside the input."""
    if not os.path.lexists(folder) and not os.access(folder.parent, os.W_OK):
        raise EdgeaeError(
            f"{folder} cannot be made beside {beside}: permission is denied; name another folder with `output`."
        )


def _name_comparisons(items: Sequence[Item]) -> list[Item]:
    """Name the pictures of before and after: `NAME.compare.png`, or with the extension where two photos share NAME."""

    def key(path: Path) -> tuple[Path, str]:
        return path.parent, _fold(path.stem)

    shared = Counter(key(item.target) for item in items)
    return [
        replace(item, comparison=name_comparison(item.source, item.target, alone=shared[key(item.target)] == 1))
        for item in items
    ]


def name_comparison(source: Path, target: Path, alone: bool = True) -> Path:
    """Return `NAME.compare.png` beside a target, or `NAME.EXTENSION.compare.png` where another photo has that NAME.

    Args:
        source, target: the photo and its result.
        alone: False if another photo of the same run is known to have that name.
    """
    alone = alone and not (_has_sibling(source) or _has_sibling(target))
    return target.with_name((target.stem if alone else target.name) + _COMPARE)


def _has_sibling(path: Path) -> bool:
    """Return whether another picture of the same name with another extension lies beside."""
    suffixes = read_suffixes() | {suffix.upper() for suffix in read_suffixes()}
    stem = str(path.with_suffix(""))
    return any(
        os.path.lexists(stem + suffix) and not is_same_file(path, Path(stem + suffix))
        for suffix in suffixes - {path.suffix}
    )


def _check_targets(items: Sequence[Item], locate: _Locator) -> None:
    """Check that no output replaces another one or a photo.

    Raises:
        UsageError: one would.
    """
    sources = {locate(item.source): item.source for item in items}
    taken: dict[str, tuple[Path, Path]] = {}
    for item in items:
        for target in (item.target, item.comparison):
            if target is None:
                continue
            place = locate(target)
            source = sources.get(place)
            if source is None and os.path.lexists(target) and is_same_file(target, item.source):
                source = item.source
            if source is not None:
                raise UsageError(f"{source} would be overwritten by a result; name another place with `output`.")
            other, of = taken.setdefault(_fold(str(place)), (place, item.source))
            if (other != place or of != item.source) and names_one_file(other, place):
                raise UsageError(f"{of} and {item.source} would both become {target}; restore them one by one.")


def _fold(text: str) -> str:
    """Return what is equal for names that are one on a file system that ignores case or accents' coding."""
    return unicodedata.normalize("NFC", text.casefold())
