"""Permissions of outputs: never more readable than the private files that they are made from."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

_ACL = "system.posix_acl_access"  # the extended attribute that holds a file's access list, on Linux
_OWNER = stat.S_IRUSR | stat.S_IWUSR
ALL = 0o666


def narrow(mode: int, fd: int, inputs: Iterable[Path]) -> int:
    """Return the permissions for an output that is open as `fd`: those of `mode` that each input has too.

    The owner may always read and write. Where the output belongs to another group than an input, its group and others
    get only what both the group and others have on the input, as one cannot know who is in which group. A list of
    further users and groups (ACL) on the input counts as no permission for anybody but the owner; on the output it is
    held to what others may do with the input.

    Args:
        mode: permissions without regard to the inputs.
        fd: the output, as a descriptor.
        inputs: files that it is made from; one that is gone counts as private.
    """
    for path in inputs:
        mode &= _OWNER | _allowed(path, fd)
    return mode


def most(inputs: Iterable[Path]) -> int:
    """Return the most permissions that an output of these inputs may have, whatever its group."""
    mode = ALL
    for path in inputs:
        mode &= _OWNER | _mode(path)[0]
    return mode


def _mode(path: Path) -> tuple[int, int]:
    """Return a file's permissions and group."""
    try:
        status = path.stat()
    except OSError:
        return 0, -1
    return stat.S_IMODE(status.st_mode), status.st_gid


def _allowed(path: Path, fd: int) -> int:
    mode, group = _mode(path)
    if _has_acl(path):
        return 0
    if group != os.fstat(fd).st_gid:
        mode &= (mode >> 3 & 0o7) | (mode << 3 & 0o70)
    if _has_acl(fd):  # its group's bits are the most that anybody on its list gets
        mode &= (mode << 3 & 0o70) | 0o7
    return mode


def _has_acl(file: Path | int) -> bool:
    if not hasattr(os, "getxattr"):
        return False
    try:
        os.getxattr(file, _ACL)
    except OSError:
        return False
    return True
