"""Tell which sub-folders look like splits or labels and are not taken for them."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

# In order of preference: of a folder with train, val and test, val is the validation split.
TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation", "test", "testing")
_MORE_VAL_WORDS = {"dev", "eval", "evaluation", "holdout", "tests", "validate"}
_LABEL_FOLDERS = {
    *("annotations", "groundtruth", "gt", "gtcoarse", "gtfine", "labels", "masks", "seg", "segmentation"),
    *("segmentationclass", "segmentationobject", "segmentations"),
}


def describe_layout(root: Path, names: Iterable[str]) -> list[str]:
    """Return sentences on the sub-folders of a folder whose images are taken as one set.

    Args:
        root: the folder.
        names: of its images, relative to it.
    """
    children: defaultdict[PurePosixPath, set[str]] = defaultdict(set)
    for folder in {PurePosixPath(name).parent for name in names}:
        for path in (folder, *folder.parents)[:-1]:
            children[path.parent].add(path.name)
    notes = []
    if splits := [(parent, *pair) for parent in sorted(children) if (pair := _find_split(children[parent]))]:
        parent, train, val = splits[0]
        is_known = train.lower() in TRAIN_NAMES and val.lower() in VAL_NAMES
        mend = "call them train and val, side by side in one folder,"
        if is_known and len(splits) == 1:
            mend = f"name {root / parent} as the data"
        notes.append(f"its folders {parent / train} and {parent / val} are taken as one set: {mend} to keep them apart")
    if labels := sorted(
        str(parent / name) for parent, siblings in children.items() for name in siblings if _is_of_labels(name)
    ):
        notes.append(
            f"its folder {labels[0]} seems to hold masks or labels, which count as pictures like the others: "
            "name the folder of the pictures alone as the data"
        )
    return notes


def _find_split(names: set[str]) -> tuple[str, str] | None:
    """Return which of some folders side by side seem to hold training and validation images."""
    words = {name: set(re.findall("[a-z]+", re.sub(r"set(?![a-z])", "", name.lower()))) for name in sorted(names)}
    train = next((name for name in words if words[name] & set(TRAIN_NAMES)), None)
    val = next((name for word in VAL_NAMES for name in words if word in words[name]), None)
    val = val or next((name for name in words if words[name] & _MORE_VAL_WORDS), None)
    return (train, val) if train and val and train != val else None


def _is_of_labels(name: str) -> bool:
    return re.sub("[^a-z]", "", name.lower()) in _LABEL_FOLDERS
