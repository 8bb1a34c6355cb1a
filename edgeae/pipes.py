"""Write to named pipes so that an interrupt is answered while nobody reads them."""

from __future__ import annotations

import errno
import io
import os
import select
import time
from pathlib import Path
from typing import Any

from edgeae.interrupts import interrupted

_POLL_S = 0.1


class PipeWriter(io.RawIOBase):
    """A named pipe that is open for writing. It waits for a reader, and for room, as every writer does."""

    def __init__(self, path: Path) -> None:
        """Open a pipe when somebody reads it.

        Raises:
            KeyboardInterrupt: the program was told to stop; `write` raises it too.
        """
        self._fd = -1
        while self._fd < 0:
            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nobody reads it yet
                    raise
                _raise_if_interrupted()
                time.sleep(_POLL_S)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        while True:
            _raise_if_interrupted()
            if select.select([], [self._fd], [], _POLL_S)[1]:
                return os.write(self._fd, data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._fd)


def _raise_if_interrupted() -> None:
    if interrupted.is_set():
        raise KeyboardInterrupt
