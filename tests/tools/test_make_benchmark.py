"""The tables of figures in the documentation are what the script makes of docs/benchmark.json."""

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner
from helpers import ROOT


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_benchmark", ROOT / "tools" / "make_benchmark.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_have_the_figures_of_the_last_measurement(script: ModuleType, tmp_path: Path) -> None:
    pages = ("README.md", "docs/benchmark.md")
    (tmp_path / "docs").mkdir()
    for name in (*pages, "docs/benchmark.json"):
        shutil.copy(ROOT / name, tmp_path / name)
    done = CliRunner().invoke(script.main, ["--root", str(tmp_path), "--write-only"])
    assert done.exit_code == 0, done.output
    for name in pages:
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), f"{name}: run tools/make_benchmark.py"


def test_results_read_back_are_the_same(script: ModuleType) -> None:
    document = json.loads((ROOT / "docs" / "benchmark.json").read_text())
    assert script.read(document).as_dict() == document


def test_a_page_without_marks(script: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks")
    with pytest.raises(script.click.ClickException, match="has no place for the table"):
        script.replace_between_marks(page, ["a"])
    assert page.read_text() == "no marks"
