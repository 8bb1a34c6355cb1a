"""The wheel, built from a copy of the tree and run from a folder that has neither the source nor `models/` near it."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from helpers import ROOT

from edgeae import __version__

pytestmark = pytest.mark.skipif(
    not {"pip", "setuptools"} <= {found.name for found in importlib.metadata.distributions()},
    reason="needs pip and setuptools, which build the wheel without a download",
)

PACKAGE_FILES = (".py", ".c", ".h", ".txt", ".typed")


def python(*arguments: object, program: Path | None = None, folder: Path) -> str:
    """Run a program (this Python by default) in a folder, without the source tree on its path; return its output."""
    done = subprocess.run(
        [str(program or sys.executable), *map(str, arguments)],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree; built in a copy, since a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("edgeae", "models"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    python("-c", "from setuptools.build_meta import build_wheel; build_wheel('dist')", folder=folder)  # as pip does
    (path,) = (folder / "dist").glob("edgeae-*.whl")
    return path


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment with the wheel, which takes edgeae's dependencies from this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    programs = folder / "bin"
    install = ("install", "-q", "--no-deps", "--no-compile", "--disable-pip-version-check", wheel)
    python("-m", "pip", "--python", programs / "python", *install, folder=folder)
    here = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", here))
    # Comes after the environment's own packages. An editable install of edgeae is not seen: it needs a .pth of its own.
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(dependencies)) + "\n")
    return programs


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    sources = {path for path in (ROOT / "edgeae").rglob("*") if path.suffix in PACKAGE_FILES}
    expected = {path.relative_to(ROOT).as_posix() for path in sources}
    expected |= {f"edgeae/shipped/{path.name}" for path in (ROOT / "models").glob("*.safetensors")}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == expected
    assert "edgeae/py.typed" in packed


def test_what_the_wheel_says_of_itself(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
        entry_points = archive.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nProject-URL: Changelog, https://" in metadata and "\nAuthor: The edgeae authors\n" in metadata
    assert "\nClassifier: Typing :: Typed\n" in metadata and "\n# edgeae\n" in metadata
    assert "edgeae = edgeae.__main__:main" in entry_points


def test_the_installed_package_works(programs: Path, tmp_path: Path) -> None:
    """The commands and the library find the shipped models and the C files of the kernels inside the package."""
    edgeae = programs / "edgeae"
    assert python("--version", program=edgeae, folder=tmp_path).split()[-1] == __version__
    assert "faces-vae" in python("info", "faces-vae", program=edgeae, folder=tmp_path)
    python("run", "-d", "CPU", "-o", "out", "-q", program=edgeae, folder=tmp_path)
    assert (tmp_path / "out" / "samples.png").stat().st_size > 1000
    shape = python("-c", LOAD, programs.parent, program=programs / "python", folder=tmp_path)
    assert shape.split() == ["2", "64", "64", "3"]


LOAD = """
import sys
from pathlib import Path
import edgeae
assert Path(edgeae.__file__).is_relative_to(sys.argv[1]), edgeae.__file__
vae = edgeae.load("faces-vae", device="CPU")
print(*vae.sample(2, seed=0).shape)
"""
