"""Matching inputs with targets: by name alone, never by a guess, and each file that is left out says why."""

import unicodedata
from pathlib import Path

import pytest

from edgeae.data.pairs import pair
from edgeae.images.files.listing import ImageFile, Listing


def listing(root: str, names: list[str]) -> Listing:
    return Listing([ImageFile(name, Path(root, name)) for name in sorted(names)])


@pytest.mark.parametrize(
    "inputs, targets, pairs, said",
    [
        pytest.param("a.jpg", "a.png", {"a.jpg": "a.png"}, {}, id="another suffix"),
        pytest.param("a.png", "a.png a.tif", {"a.png": "a.png"}, {}, id="the exact name comes first"),
        pytest.param("s/a.png t/a.png", "s/a.png t/a.png", {"s/a.png": "s/a.png", "t/a.png": "t/a.png"}, {}, id="tree"),
        pytest.param("é.png", unicodedata.normalize("NFD", "é.png"), {"é.png": "é.png"}, {}, id="NFC and NFD"),
        pytest.param("a.v2.jpg a.jpg", "a.v2.png a.png", {"a.v2.jpg": "a.v2.png", "a.jpg": "a.png"}, {}, id="two dots"),
        pytest.param("a.jpg", "a.png a.tif", {}, {"a.jpg": "several targets fit: a.png, a.tif"}, id="several"),
        pytest.param("a.jpg a.tif", "a.png", {}, {"a.jpg": "its target a.png fits a.tif too"}, id="one target for two"),
        pytest.param(
            "a.jpg a.png", "a.png", {"a.png": "a.png"}, {"a.jpg": "that of an input of exactly that name"}, id="taken"
        ),
        pytest.param("x.jpg", "x_mask.png", {}, {"x.jpg": "x_mask.png has another name"}, id="an affix"),
        pytest.param("x.jpg", "mask_x.png", {}, {"x.jpg": "mask_x.png has another name"}, id="a prefix"),
        pytest.param("1.jpg", "10.png", {}, {"1.jpg": "has no target of that name"}, id="a longer number is not near"),
        pytest.param("a.png", "deep/a.png", {}, {"a.png": "deep/a.png lies in another folder"}, id="deeper"),
        pytest.param("A.png", "a.png", {}, {"A.png": "a.png differs in case"}, id="case"),
    ],
)
def test_names_are_never_guessed(inputs: str, targets: str, pairs: dict[str, str], said: dict[str, str]) -> None:
    result = pair(listing("in", inputs.split()), listing("out", targets.split()))
    found = {file.name: unicodedata.normalize("NFC", str(file.target)) for file in result.files}
    assert found == {name: str(Path("out", target)) for name, target in pairs.items()}
    reasons = {problem.name: problem.reason for problem in result.problems}
    for name, reason in said.items():
        assert reason in reasons[name]
    assert set(reasons) & set(found) <= set(targets.split())
