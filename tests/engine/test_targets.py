"""Compilers: every target builds, and a missing or failing compiler is one sentence."""

from pathlib import Path

import pytest
from helpers.libraries import LibraryFactory, require_target
from helpers.tiers import exhaustive

from edgeae.engine import targets
from edgeae.errors import DeviceError


@exhaustive  # zig makes a C library for each target first
@pytest.mark.parametrize("target", sorted({*targets.TARGETS, *targets.ALIASES}))
def test_it_compiles_for_other_machines(target: str, library: LibraryFactory) -> None:
    require_target(target)
    report = library("residual", "int8", target=target)
    assert report.largest_difference is None and report.size_bytes > 10_000
    magic = Path(report.library).read_bytes()[:4]
    assert magic == (b"\xcf\xfa\xed\xfe" if "macos" in target else b"\x7fELF")


def test_without_a_compiler(library: LibraryFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "_native_commands", list)
    monkeypatch.setattr(targets, "_zig", lambda: None)
    for target in ("native", "aarch64-linux"):
        with pytest.raises(DeviceError, match=r"edgeae\[compiler\]"):
            library("conv", target=target)


def test_a_compiler_that_fails(library: LibraryFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(targets, "_FLAGS", ("-there-is-no-such-flag",))
    with pytest.raises(DeviceError, match="failed"):
        library("conv")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("environment", "own"),
    [
        ({"HOME": "HERE"}, False),
        ({"HOME": "HERE", "XDG_CACHE_HOME": "HERE/x"}, False),
        ({"HOME": "HERE", "XDG_CACHE_HOME": ""}, False),
        ({"HOME": "HERE", "XDG_CACHE_HOME": "x"}, True),
        ({"HOME": "h"}, True),
        ({}, True),
        ({"HOME": "HERE", "XDG_CACHE_HOME": "HERE/open"}, True),
        ({"HOME": "HERE", "ZIG_GLOBAL_CACHE_DIR": "z"}, True),
        ({"HOME": "HERE", "ZIG_LOCAL_CACHE_DIR": "z"}, True),
    ],
)
def test_zig_takes_no_cache_that_others_could_fill(
    environment: dict[str, str], own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path means the current folder, and an unpacked archive may have put a C library there."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name in ("HOME", "XDG_CACHE_HOME", "ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.replace("HERE", str(tmp_path)))
    chosen = targets._choose_zig_cache.__wrapped__()
    assert bool(chosen) == own
    assert all(Path(folder).is_absolute() and not list(Path(folder).iterdir()) for folder in chosen.values())
