"""`edgeae run` without an INPUT: damage and restore the sample pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeae.cli.console import emit
from edgeae.errors import UsageError
from edgeae.formatting import decibels, table

if TYPE_CHECKING:
    from edgeae.inference.session import Session


def restore_samples(session: Session, model: str, folder: Path, corrupt: str | None, seed: int, as_json: bool) -> None:
    """Damage and restore the sample pictures, write them into `folder`, and print their scores."""
    from edgeae.config import IMAGE_TO_IMAGE, task_of
    from edgeae.inference.demo import demonstrate

    task = task_of(session.metadata)
    if task == IMAGE_TO_IMAGE:
        raise UsageError(f"{model} was trained on pairs of images, not on damage: give an INPUT.")
    corrupt = corrupt if corrupt is not None else "occlude" if task == "none" else task
    samples = demonstrate(session, folder, corrupt, seed)
    rows = [
        [
            s.name,
            s.corrupt + " --mask" * s.masked,
            f"{s.psnr_before:.1f}",
            f"{s.psnr_after:.1f}",
            decibels(s.hole_psnr_before),
            decibels(s.hole_psnr_after),
            f"{s.ms:.1f}",
            s.picture,
        ]
        for s in samples
    ]
    header = ["sample", "damage", "PSNR before", "after, dB", "hole before", "after, dB", "ms", "picture"]
    document = {
        "model": model,
        "device": session.device,
        "corrupt": corrupt,
        "samples": samples,
        "picture": str(folder / "samples.png"),
    }
    emit(
        document,
        [f"device {session.device}", *table(header, rows, right=range(2, 7)), f"all of them: {folder / 'samples.png'}"],
        as_json,
    )
