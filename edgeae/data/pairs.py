"""Match input images with their targets by name. A name is never guessed: what does not fit exactly is listed."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from edgeae.images.files.listing import ImageFile, Listing, Problem

_SEARCHED = 100  # inputs whose near misses are looked for among all targets: more than a report shows


def pair(inputs: Listing, targets: Listing) -> Listing:
    """Match inputs with targets.

    An input's target has the same relative path, or else the same but for the suffix, if no other target and no other
    input claims it. The two ways in which Unicode writes one name are the same name.

    Returns:
        The pairs. Files without a partner, and those that several would fit, are among the problems.
    """
    by_name = {_normalize(file.name): file for file in targets.files}
    exact = {file.name: by_name[_normalize(file.name)] for file in inputs.files if _normalize(file.name) in by_name}
    taken = {target.path for target in exact.values()}
    candidates = _group(targets.files)
    rivals = _group(file for file in inputs.files if file.name not in exact)

    paired: list[ImageFile] = []
    problems = inputs.problems + targets.problems
    claimed = set(taken)  # targets that fit some input, although it may be unclear which
    near = _NearMisses(targets.files)
    for file in inputs.files:
        key = _stem(file.name)
        fitting = [target for target in candidates[key] if target.path not in taken]
        claimed.update(target.path for target in fitting)
        if file.name in exact:
            paired.append(file._replace(target=exact[file.name].path))
        elif len(fitting) == 1 and len(rivals[key]) == 1:
            paired.append(file._replace(target=fitting[0].path))
        elif len(fitting) > 1:
            problems.append(Problem("unmatched", file.name, f"several targets fit: {_names(fitting)}"))
        elif fitting:
            others = [rival for rival in rivals[key] if rival != file]
            reason = f"its target {fitting[0].name} fits {_names(others)} too"
            problems.append(Problem("unmatched", file.name, reason))
        elif candidates[key]:
            reason = f"its target {_names(candidates[key])} is that of an input of exactly that name"
            problems.append(Problem("unmatched", file.name, reason))
        else:
            problems.append(Problem("unmatched", file.name, f"has no target of that name{near.describe(file.name)}"))
    problems += [
        Problem("unmatched", file.name, "is a target without an input of that name")
        for file in targets.files
        if file.path not in claimed
    ]
    return Listing(paired, problems, inputs.ignored + targets.ignored)


def _normalize(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _stem(name: str) -> str:
    return str(PurePosixPath(_normalize(name)).with_suffix(""))


def _group(files: Iterable[ImageFile]) -> defaultdict[str, list[ImageFile]]:
    groups: defaultdict[str, list[ImageFile]] = defaultdict(list)
    for file in files:
        groups[_stem(file.name)].append(file)
    return groups


def _names(files: list[ImageFile]) -> str:
    return ", ".join(file.name for file in files[:3]) + (", …" if len(files) > 3 else "")


class _NearMisses:
    """Targets whose names are almost those of an input, for the sentence that says it has none."""

    def __init__(self, targets: list[ImageFile]) -> None:
        self._targets, self._searches = targets, 0

    def describe(self, name: str) -> str:
        """Return `; NAME is near` for the nearest target, or nothing."""
        self._searches += 1
        if self._searches > _SEARCHED:
            return ""
        stem = _stem(name)
        folder, short = PurePosixPath(stem).parent, PurePosixPath(stem).name

        def differs_in_case(target: str) -> bool:
            return target.casefold() == stem.casefold()

        def is_elsewhere(target: str) -> bool:
            return PurePosixPath(target).name.casefold() == short.casefold()

        def has_an_affix(target: str) -> bool:
            path = PurePosixPath(target)
            rest = path.name.casefold().replace(short.casefold(), "", 1)
            return path.parent == folder and rest != path.name.casefold() and not rest[:1].isdigit()

        for what, fits in (
            ("differs in case", differs_in_case),
            ("lies in another folder", is_elsewhere),
            ("has another name", has_an_affix),
        ):
            if found := next((target.name for target in self._targets if fits(_stem(target.name))), None):
                return f"; {found} {what}"
        return ""
