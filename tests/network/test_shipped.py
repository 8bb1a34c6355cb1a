"""Finding shipped models by name."""

from pathlib import Path

import pytest

from edgeae.errors import WeightsError
from edgeae.network import shipped


@pytest.fixture
def shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two folders of shipped models: b is in both, a only in the first, c only in the second."""
    folders = tmp_path / "first", tmp_path / "second"
    for folder, names in zip(folders, ("ab", "bc"), strict=True):
        folder.mkdir()
        for name in names:
            (folder / f"{name}.safetensors").touch()
    (folders[0] / "README.md").touch()
    (folders[0] / "d.safetensors").mkdir()
    monkeypatch.setattr(shipped, "folders", lambda: list(folders))
    return folders


def test_names(shelves: tuple[Path, Path]) -> None:
    assert shipped.names() == ["a", "b", "c"]


def test_a_name_is_looked_for_in_each_folder(shelves: tuple[Path, Path]) -> None:
    first, second = shelves
    assert shipped.find_model("a") == first / "a.safetensors"
    assert shipped.find_model("b") == first / "b.safetensors"
    assert shipped.find_model("c") == second / "c.safetensors"


@pytest.mark.parametrize("model", ["./a", "models/a", "a.safetensors", "../x.safetensors", Path("a")])
def test_a_path_is_taken_as_it_is(model: str | Path, shelves: tuple[Path, Path]) -> None:
    assert shipped.find_model(model) == Path(model)


@pytest.mark.parametrize("name", ["d", "e", "", "A.safetensor", "README.md"])
def test_an_unknown_name(name: str, shelves: tuple[Path, Path]) -> None:
    with pytest.raises(WeightsError, match=r"no shipped model '.*' \(shipped: a, b, c\); for a file give its path\.$"):
        shipped.find_model(name)


def test_nothing_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "folders", lambda: [tmp_path, tmp_path / "missing"])
    assert shipped.names() == []
    with pytest.raises(WeightsError, match="shipped: none"):
        shipped.find_model("faces-conv")


def test_the_folders_lie_in_and_beside_the_package() -> None:
    package = Path(shipped.__file__).parents[1]
    assert shipped.folders() == [package / "shipped", package.parent / "models"]
