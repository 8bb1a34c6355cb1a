"""The errors of this package, and the exit code of each on the command line.

EdgeaeError            1  anything that went wrong and has a plain explanation
├── UsageError         2  an option or argument is wrong, or does not go with another
├── ImageError         1  an image file or array cannot be used
├── DataError          1  a dataset cannot be used
├── WeightsError       1  a weight file is wrong, truncated or hostile
├── TrainingError      1  a training run cannot start, continue or be resumed
├── PartialError       3  some of several inputs failed; the others were written
├── OutOfMemoryError   1  the device or the host has no memory left
├── GateError          4  a result is outside its tolerance
└── DeviceError        5  the device or its compiler is not available

A message is one plain sentence that names the file or the argument, in backticks (`batch`), and says what to do. The
command line prints its flag for an argument (cli/flags.py).
"""

NO_THREADS = "the system gives this process no more threads: end other programs, or raise the limit (ulimit -u)."
NO_FILES = "this process has too many files open: close some, or raise the limit (ulimit -n)."


class EdgeaeError(Exception):
    """Base of all errors that edgeae raises on purpose; `str(error)` is the sentence to show.

    Attributes:
        exit_code: of the command line.
    """

    exit_code = 1


class UsageError(EdgeaeError):
    """An option or argument is wrong, or does not go with another."""

    exit_code = 2


class ImageError(EdgeaeError):
    """An image file or array cannot be used."""


class DataError(EdgeaeError):
    """A dataset cannot be used."""


class WeightsError(EdgeaeError):
    """A weight file is wrong, truncated or hostile."""


class TrainingError(EdgeaeError):
    """A training run cannot start, continue or be resumed."""


class PartialError(EdgeaeError):
    """Some of several inputs failed; the others were written."""

    exit_code = 3


class OutOfMemoryError(EdgeaeError):
    """The device or the host has no memory left.

    Attributes:
        what: what ran out of memory, the beginning of the sentence.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what}: {advise_on_memory({name: f'`{name}`' for name in ('batch', 'max_mem')})}.")


# Arguments that decide how much memory a call takes, with the adjective that makes it less.
MEMORY_ARGUMENTS = {
    "batch": "a smaller",
    "max_mem": "a lower",
    "steps": "fewer",
    "count": "a smaller",
    "limit": "a lower",
}


def advise_on_memory(arguments: dict[str, str]) -> str:
    """Return the mend for too little memory.

    Args:
        arguments: names of `MEMORY_ARGUMENTS`, and what to call them.
    """
    mends = ["smaller images", *(f"{MEMORY_ARGUMENTS[name]} {shown}" for name, shown in arguments.items())]
    return f"close other programs, or use {' or '.join(mends)}"


class GateError(EdgeaeError):
    """A result is outside its tolerance."""

    exit_code = 4


class DeviceError(EdgeaeError):
    """The device, or the compiler it needs, is not available."""

    exit_code = 5
