"""Every failure a user can cause or meet, one class a kind, each with the exit code the command line gives it.

EdgeaeError            1  anything that went wrong and has a plain explanation
├── UsageError         2  a flag, an argument or a combination of them makes no sense
├── ImageError         1  an image file or array cannot be used
├── DataError          1  a dataset cannot be used
├── WeightsError       1  a weight file is wrong, truncated or hostile
├── TrainingError      1  a training run cannot start, go on or be resumed
├── PartialError       3  some of several inputs failed; the others were written
├── OutOfMemoryError   1  the device or the host has no memory left
├── GateError          4  a result was out of its tolerance
└── DeviceError        5  the device or its compiler is not available

A message is one plain sentence that names the file or the argument, in backticks (`batch`), and the mend. The command
line prints its flag for an argument (cli/flags.py).
"""


class EdgeaeError(Exception):
    """Base of every error that edgeae raises on purpose; `str(error)` is the sentence to show."""

    exit_code = 1


class UsageError(EdgeaeError):
    """A flag, an argument or a combination of them makes no sense."""

    exit_code = 2


class ImageError(EdgeaeError):
    """An image file or array cannot be used."""


class DataError(EdgeaeError):
    """A dataset cannot be used."""


class WeightsError(EdgeaeError):
    """A weight file is wrong, truncated or hostile."""


class TrainingError(EdgeaeError):
    """A training run cannot start, go on or be resumed."""


class PartialError(EdgeaeError):
    """Some of several inputs failed; the others were written."""

    exit_code = 3


class OutOfMemoryError(EdgeaeError):
    """The device, or the host, has no memory left for what was asked."""


class GateError(EdgeaeError):
    """A result was out of its tolerance."""

    exit_code = 4


class DeviceError(EdgeaeError):
    """The device, or the compiler it needs, is not available."""

    exit_code = 5
