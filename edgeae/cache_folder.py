"""Find the user's cache folder, and tell whether somebody else could put files into it.

The folder is `EDGEAE_CACHE`, else `XDG_CACHE_HOME/edgeae`, else `~/.cache/edgeae`. A relative path is never taken: it
would mean the current folder, where an unpacked archive may have put files of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import stat
from pathlib import Path

from edgeae.errors import UsageError
from edgeae.files import is_folder

ELSEWHERE = "set EDGEAE_CACHE to a folder of your own"
_MAX_LINKS = 40  # as Linux


def cache_folder() -> Path:
    """Return the absolute path of the cache folder; it may not exist yet.

    Raises:
        UsageError: EDGEAE_CACHE is a relative path, or there is no home folder.
    """
    home = _home()
    if chosen := os.environ.get("EDGEAE_CACHE"):
        path = _expand(Path(chosen), home)
        if not path.is_absolute():
            raise UsageError(f"EDGEAE_CACHE={chosen} is a relative path; give an absolute one.")
        return path
    # https://specifications.freedesktop.org/basedir-spec: a relative path is invalid and is ignored.
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():
        return base / "edgeae"
    if home is None:
        raise UsageError(f"this user has no home folder; {ELSEWHERE}.")
    if not is_folder(home):
        raise UsageError(f"the home folder {home} is missing; {ELSEWHERE}.")
    return home / ".cache" / "edgeae"


def _home() -> Path | None:
    """Return the home folder that HOME names or, where that is missing, empty or relative, the system; None if none."""
    if os.name != "posix":
        home = _expand(Path("~"), None)
        return home if home.is_absolute() else None
    import pwd

    home = Path(os.environ.get("HOME", ""))
    if not home.is_absolute():
        try:
            home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
        except KeyError:  # a user that only a container knows
            return None
    return home if home.is_absolute() else None


def _expand(path: Path, home: Path | None) -> Path:
    """Return a path with `~` and `~user` replaced, where their folders are known."""
    if home is not None and path.parts[:1] == ("~",):  # not HOME itself, which may be relative
        return home.joinpath(*path.parts[1:])
    with contextlib.suppress(RuntimeError):
        return path.expanduser()
    return path


def make_private(folder: Path) -> None:
    """Make a folder and those above it that are missing, for this user alone whatever the umask is.

    Raises:
        OSError: it cannot be made.
    """
    missing = list(itertools.takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


def find_intruder(folder: Path) -> str:
    """Return who but the user and root could put files at an absolute path, or why it is no folder.

    Each folder on the way to it has to belong to the user or to root, and nobody else may write to it, unless it is
    sticky, as /tmp is; each symbolic link has to belong to the user or to root. The folder itself has to be the user's
    own. What does not exist yet is not looked at.

    Returns:
        A clause with what would mend it; empty if nobody could. Always empty on Windows, which guards home folders with
        rights of another kind.
    """
    if not hasattr(os, "geteuid"):
        return ""
    user = os.geteuid()
    here, links = Path(folder.anchor), 0
    todo = ["", *folder.parts[1:]][::-1]
    while todo:
        name = todo.pop()
        here = here.parent if name == ".." else here / name  # there are no links in it
        try:
            found = here.lstat()
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{here} cannot be looked at ({error.strerror}); {ELSEWHERE}"
        if found.st_uid not in (0, user):
            return f"{here} belongs to another user; {ELSEWHERE} (with sudo: sudo -H)"
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _MAX_LINKS:
                return f"{folder} is a circle of links; {ELSEWHERE}"
            target = here.readlink()
            here = Path(target.anchor) if target.anchor else here.parent
            todo += ["", *(target.parts[1:] if target.anchor else target.parts)][::-1]
        elif not stat.S_ISDIR(found.st_mode):
            return f"{here} is not a folder; remove it, or {ELSEWHERE}"
        elif may_others_write(found) and not found.st_mode & stat.S_ISVTX:
            return f"others may write to {here}; chmod go-w {shlex.quote(str(here))}, or {ELSEWHERE}"
    if found.st_uid != user:
        return f"{here} belongs to another user; {ELSEWHERE} (with sudo: sudo -H)"
    return f"others may write to {here}; chmod 700 {shlex.quote(str(here))}" if may_others_write(found) else ""


def may_others_write(found: os.stat_result) -> bool:
    """Return whether anybody but the owner and root may write, by the permissions of a file or folder."""
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not _is_private_group(found.st_gid, found.st_uid)


def _is_private_group(group: int, user: int) -> bool:
    """Return whether a group is the user's alone: many systems give each user one, and let it write by default."""
    import grp
    import pwd

    try:
        owner, members = pwd.getpwuid(user), grp.getgrgid(group)
    except KeyError:
        return False
    return owner.pw_gid == group and members.gr_name == owner.pw_name and set(members.gr_mem) <= {owner.pw_name}
