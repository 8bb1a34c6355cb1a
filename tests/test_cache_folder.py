"""Where the cache folder is, and who could put files into it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeae import cache_folder as module
from edgeae.cache_folder import cache_folder, find_intruder, make_private
from edgeae.errors import UsageError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions of another kind")
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
STRANGER = 12345

# Environment, with HERE for an absolute folder that exists: the folder, or words of the error.
CHOICES: dict[str, tuple[dict[str, str], str]] = {
    "home": ({"HOME": "HERE"}, "HERE/.cache/edgeae"),
    "XDG": ({"HOME": "HERE", "XDG_CACHE_HOME": "HERE/x"}, "HERE/x/edgeae"),
    "own": ({"HOME": "HERE", "XDG_CACHE_HOME": "HERE/x", "EDGEAE_CACHE": "HERE/own"}, "HERE/own"),
    "own in home": ({"HOME": "HERE", "EDGEAE_CACHE": "~/own"}, "HERE/own"),
    "XDG empty": ({"HOME": "HERE", "XDG_CACHE_HOME": ""}, "HERE/.cache/edgeae"),
    "XDG relative": ({"HOME": "HERE", "XDG_CACHE_HOME": "x"}, "HERE/.cache/edgeae"),
    "XDG a dot": ({"HOME": "HERE", "XDG_CACHE_HOME": "."}, "HERE/.cache/edgeae"),
    "XDG unexpanded": ({"HOME": "HERE", "XDG_CACHE_HOME": "~/x"}, "HERE/.cache/edgeae"),
    "XDG with a variable": ({"HOME": "HERE", "XDG_CACHE_HOME": "$HOME/x"}, "HERE/.cache/edgeae"),
    "home empty": ({"HOME": ""}, "HERE/system/.cache/edgeae"),
    "home relative": ({"HOME": "h"}, "HERE/system/.cache/edgeae"),
    "home a tilde": ({"HOME": "~"}, "HERE/system/.cache/edgeae"),
    "no home variable": ({}, "HERE/system/.cache/edgeae"),
    "home missing": ({"HOME": "HERE/missing"}, "the home folder HERE/missing is missing"),
    "home a file": ({"HOME": "HERE/file"}, "the home folder HERE/file is missing"),
    "own relative": ({"HOME": "HERE", "EDGEAE_CACHE": "own"}, "EDGEAE_CACHE=own is a relative path"),
    "own a dot": ({"HOME": "HERE", "EDGEAE_CACHE": "./"}, "EDGEAE_CACHE=./ is a relative path"),
    "own unexpanded": ({"HOME": "HERE", "EDGEAE_CACHE": "~nobody-of-this-name/x"}, "is a relative path"),
    "own in a relative home": ({"HOME": "h", "EDGEAE_CACHE": "~/own"}, "HERE/system/own"),
    "own with a variable": ({"HOME": "HERE", "EDGEAE_CACHE": "$HOME/x"}, "is a relative path"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, expected = CHOICES[name]
    (tmp_path / "system").mkdir()
    (tmp_path / "file").touch()
    entry = type("Entry", (), {"pw_dir": str(tmp_path / "system")})
    monkeypatch.setattr("pwd.getpwuid", lambda user: entry)
    for variable in ("HOME", "XDG_CACHE_HOME", "EDGEAE_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value.replace("HERE", str(tmp_path)))
    expected = expected.replace("HERE", str(tmp_path))
    if expected.startswith("/"):
        assert str(cache_folder()) == expected
    else:
        with pytest.raises(UsageError) as caught:
            cache_folder()
        assert expected in str(caught.value) and str(caught.value).endswith(".")


def test_a_user_that_the_system_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that is started with a random number for its user."""

    def unknown(user: int) -> None:
        raise KeyError(user)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for variable in ("HOME", "XDG_CACHE_HOME", "EDGEAE_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UsageError, match=r"no home folder; set EDGEAE_CACHE to a folder of your own\.$"):
        cache_folder()
    monkeypatch.setenv("EDGEAE_CACHE", "~/x")
    with pytest.raises(UsageError, match="relative path"):
        cache_folder()


def link(path: Path, target: Path | str) -> None:
    path.rmdir()
    path.symlink_to(target)


def sticky(path: Path) -> None:
    path.parent.chmod(0o1777)


def swap(path: Path) -> None:
    """Put a link of a stranger's in the folder's place, as into /tmp."""
    (path.parent / "mine").mkdir()
    link(path, "mine")
    os.lchown(path, STRANGER, STRANGER)
    path.parent.chmod(0o1777)


# What is done to the folder HERE/a/b, which is 0700 and the user's; and the words of the answer.
STATES: dict[str, tuple[Callable[[Path], object], str]] = {
    "private": (lambda path: None, ""),
    "read by others": (lambda path: path.chmod(0o755), ""),
    "not there yet": (lambda path: path.rmdir(), ""),
    "written by all": (lambda path: path.chmod(0o777), "others may write to HERE/a/b; chmod go-w"),
    "written by the group": (lambda path: (os.chown(path, -1, STRANGER), path.chmod(0o770)), "others may write"),
    "written by others only": (lambda path: path.chmod(0o702), "others may write"),
    "sticky itself": (lambda path: path.chmod(0o1777), "chmod 700 HERE/a/b"),
    "its parent written by all": (lambda path: path.parent.chmod(0o777), "others may write to HERE/a; chmod go-w"),
    "in a sticky folder": (sticky, ""),
    "a stranger's": (lambda path: os.chown(path, STRANGER, STRANGER), "HERE/a/b belongs to another user"),
    "in a stranger's": (lambda path: os.chown(path.parent, STRANGER, -1), "HERE/a belongs to another user"),
    "a stranger's in a sticky folder": (lambda path: (sticky(path), os.chown(path, STRANGER, -1)), "another user"),
    "a link of one's own": (lambda path: ((path.parent / "c").mkdir(), link(path, "c")), ""),
    "a link to an absolute path": (lambda path: (path.parent / "c").mkdir() or link(path, path.parent / "c"), ""),
    "a link upwards": (lambda path: link(path, ".."), ""),
    "a link to the root": (lambda path: link(path, "/"), ""),
    "a link to /tmp": (lambda path: link(path, "/tmp"), "others may write to /tmp"),
    "a link to a file": (lambda path: ((path.parent / "f").touch(), link(path, "f")), "HERE/a/f is not a folder"),
    "a link to itself": (lambda path: link(path, "b"), "circle of links"),
    "a link to nothing": (lambda path: link(path, "nothing"), ""),
    "a stranger's link": (swap, "HERE/a/b belongs to another user"),
    "a file": (lambda path: (path.rmdir(), path.touch()), "HERE/a/b is not a folder"),
    "a pipe": (lambda path: (path.rmdir(), os.mkfifo(path)), "HERE/a/b is not a folder"),
}


GIVEN_AWAY = ("stranger", "group")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[as_root] if any(word in name for word in GIVEN_AWAY) else []) for name in STATES],
)
def test_who_could_write(name: str, tmp_path: Path) -> None:
    change, expected = STATES[name]
    folder = tmp_path / "a" / "b"
    make_private(folder)
    change(folder)
    found = find_intruder(folder)
    assert expected.replace("HERE", str(tmp_path)) in found and bool(found) == bool(expected)
    assert found.count("\n") == 0 and not found.endswith(".")


def test_a_path_with_dots(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b")
    (tmp_path / "a").chmod(0o777)
    assert "others may write" in find_intruder(tmp_path / "c" / ".." / "a" / "b") or not (tmp_path / "c").exists()
    assert "others may write" in find_intruder(tmp_path / "a" / "b" / ".." / "b")


def test_a_group_of_ones_own_may_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Many systems give each user a group, and let it write by default; it is another's group from two members on."""
    folder = tmp_path / "a"
    make_private(folder)
    folder.chmod(0o770)
    group = folder.stat().st_gid
    user = type("User", (), {"pw_name": "ann", "pw_gid": group})
    monkeypatch.setattr("pwd.getpwuid", lambda number: user)
    for name, members, alone in (
        ("ann", [], True),
        ("ann", ["ann"], True),
        ("ann", ["bob"], False),
        ("staff", [], False),
    ):
        monkeypatch.setattr(
            "grp.getgrgid", lambda number, n=name, m=members: type("G", (), {"gr_name": n, "gr_mem": m})
        )
        assert module.may_others_write(folder.stat()) is not alone


def test_where_there_are_no_owners(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Windows guards home folders with rights of another kind."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o777)
    monkeypatch.delattr(os, "geteuid")
    assert find_intruder(tmp_path / "a") == ""
