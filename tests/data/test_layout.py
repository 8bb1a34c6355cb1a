"""Sub-folders that look like splits or labels and are not taken for them."""

from pathlib import Path

import pytest
from PIL import Image

from edgeae.data.datasets import open_dataset
from edgeae.data.layout import describe_layout


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        pytest.param("images/train images/val", "name photos/images as the data", id="yolo"),
        pytest.param("Data/CLS/train/n01 Data/CLS/val/n01", "name photos/Data/CLS as the data", id="imagenet"),
        pytest.param("train2017 val2017", "call them train and val", id="coco"),
        pytest.param("DIV2K_train_HR DIV2K_valid_HR", "call them train and val", id="div2k"),
        pytest.param("trainset testset", "call them train and val", id="names-with-set"),
        pytest.param("TRAIN dev", "call them train and val", id="dev"),
        pytest.param("cat/train cat/test dog/train dog/test", "call them train and val", id="split-in-each-class"),
        pytest.param("JPEGImages SegmentationClass", "SegmentationClass seems to hold masks", id="voc"),
        pytest.param("images masks", "masks seems to hold masks", id="masks-beside-images"),
        pytest.param("images Ground_Truth", "Ground_Truth seems to hold masks", id="ground-truth"),
        pytest.param("cat dog", "", id="classes"),
        pytest.param("train bus", "", id="a-class-called-train"),
        pytest.param("with_mask without_mask", "", id="classes-called-mask"),
        pytest.param("latest strainer", "", id="words-within-words"),
    ],
)
def test_layout(folders: str, expected: str) -> None:
    notes = describe_layout(Path("photos"), [f"{folder}/1.png" for folder in folders.split()] + ["1.png"])
    assert len(notes) == bool(expected)
    assert expected in "".join(notes)


def test_report_has_the_note(tmp_path: Path) -> None:
    for name in ("images/train", "images/val"):
        (tmp_path / name).mkdir(parents=True)
        for value in range(2):
            Image.new("RGB", (16, 16), (value, len(name), 0)).save(tmp_path / name / f"{value}.png")
    (note,) = open_dataset(tmp_path, size=16).report.notes
    assert f"name {tmp_path / 'images'} as the data" in note
    assert open_dataset(tmp_path / "images", size=16).report.notes == ()
