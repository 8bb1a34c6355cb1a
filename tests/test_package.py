"""The public names of the package, and what importing it loads."""

import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import typing

import pytest

import edgeae
from edgeae import errors

HEAVY = ("tinygrad", "numpy", "PIL")


def loaded_after(code: str) -> list[str]:
    """Return which heavy packages a new process has loaded after it ran `code`."""
    code = f"{code}\nimport json, sys; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", edgeae.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(edgeae, name) is not None
    assert name in dir(edgeae)


def test_all_is_complete() -> None:
    assert edgeae.__all__ == sorted(set(edgeae.__all__))
    assert set(edgeae._HOMES) | {e for e in dir(errors) if e.endswith("Error")} | {"__version__"} == set(edgeae.__all__)


@pytest.mark.parametrize("name", sorted(edgeae._HOMES))
def test_a_name_is_what_its_module_defines(name: str) -> None:
    value = getattr(edgeae, name)
    assert value is getattr(importlib.import_module(f"edgeae.{edgeae._HOMES[name]}"), name)
    assert value.__module__ == f"edgeae.{edgeae._HOMES[name]}"


def test_star_import() -> None:
    names: dict[str, typing.Any] = {}
    exec("from edgeae import *", names)
    assert set(edgeae.__all__) <= set(names)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="'edgeae' has no attribute 'lode'"):
        edgeae.lode  # noqa: B018


def test_importing_is_light() -> None:
    assert loaded_after("import edgeae; edgeae.EdgeaeError; edgeae.__version__; dir(edgeae)") == []
    assert loaded_after("import edgeae; edgeae.ModelConfig(arch='conv')") == []
    assert loaded_after("import edgeae; edgeae.load") == list(HEAVY)


def test_the_version_is_that_of_the_installed_package() -> None:
    assert edgeae.__version__ == importlib.metadata.version("edgeae")
    assert re.fullmatch(r"\d+\.\d+\.\d+", edgeae.__version__)


def test_the_table_of_errors_is_true() -> None:
    table = dict(re.findall(r"^(?:[├└]── )?(\w+) +(\d)  ", errors.__doc__ or "", re.MULTILINE))
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    assert {name: str(cls.exit_code) for name, cls in classes.items()} == table
    assert all(issubclass(cls, edgeae.EdgeaeError) for cls in classes.values())
