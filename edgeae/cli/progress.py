"""Show how far a command is: one line on stderr that is written over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from edgeae.cli.console import is_quiet, is_terminal, note, printable
from edgeae.formatting import duration

if TYPE_CHECKING:
    from edgeae.data.report import Report
    from edgeae.inference.folder import Outcome
    from edgeae.training.loop import Progress

_WIDTH = 24  # characters of the bar
_ERASE = "\r\033[2K"  # back to the start of the line, and erase it (ECMA-48)


class ProgressBar:
    """A bar and a text; silent when stderr is no terminal, or with -q."""

    def __init__(self) -> None:
        self._is_shown = is_terminal() and not is_quiet()

    def show(self, done: int, total: int, text: str) -> None:
        """Draw a bar of `done` out of `total`, and a text."""
        if self._is_shown:
            filled = _WIDTH * done // max(1, total)
            click.echo(f"{_ERASE}{'█' * filled}{'░' * (_WIDTH - filled)} {printable(text)}", nl=False, err=True)

    def clear(self) -> None:
        """Erase the bar, so that another line can take its place."""
        if self._is_shown:
            click.echo(_ERASE, nl=False, err=True)


class RunProgress:
    """Progress of `edgeae run`: photos done, speed, and the time left.

    Attributes:
        restored: photos that were restored, which leaves out those that failed or existed already.
    """

    def __init__(self, total: int) -> None:
        self._bar, self._total, self._done, self._started = ProgressBar(), total, 0, time.perf_counter()
        self.restored = 0

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._started

    def show(self, outcome: Outcome) -> None:
        """Count a photo, and draw the bar."""
        self._done += 1
        self.restored += hasattr(outcome, "ms")
        speed = self.restored / self.seconds
        seconds_left = (self._total - self._done) / speed if speed else 0.0
        text = f"{speed:.1f} images/s  {duration(seconds_left)} left  {outcome.source}"
        self._bar.show(self._done, self._total, f"{self._done}/{self._total}  {text}")

    def clear(self) -> None:
        """Erase the bar."""
        self._bar.clear()


class TrainingProgress:
    """Progress of `edgeae train`: the table of the data, a bar within each epoch, and a line after it.

    Attributes:
        epochs: how many were completed.
    """

    def __init__(self) -> None:
        self._bar, self.epochs = ProgressBar(), 0

    def report(self, report: Report) -> None:
        """Print what the check of the data found."""
        note(report.table())

    def show(self, progress: Progress) -> None:
        """Draw the bar after a step, or print a line after an epoch."""
        epoch, left = f"epoch {progress.epoch}/{progress.epochs}", f"{duration(progress.seconds_left)} left"
        row = progress.row
        if row is None:
            text = f"{epoch}  loss {progress.loss:.5f}  {progress.images_per_s:.0f} images/s  {left}"
            self._bar.show(progress.step, progress.steps, text)
            return
        self._bar.clear()
        self.epochs += 1
        kl = f"  kl {row['kl']:.1f}" if row["kl"] == row["kl"] else ""  # NaN where there is no code to weigh
        note(
            f"{epoch}  recon {row['recon']:.5f}{kl}  PSNR {row['val_psnr']:.2f} dB  "
            f"SSIM {row['val_ssim']:.3f}  {row['images_per_s']:.0f} images/s  {left}"
        )

    def clear(self) -> None:
        """Erase the bar."""
        self._bar.clear()
