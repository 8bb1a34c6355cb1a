"""Load the model that a command runs, and say on stderr where it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeae.cli.console import note

if TYPE_CHECKING:
    from edgeae.inference.session import Session


def open_session(
    model: str, device: str | None, batch: int = 16, threads: int | None = None, **settings: Any
) -> Session:
    """Load a model as `edgeae.load` does, and print its name and device."""
    from edgeae.inference.load import load

    session = load(model, device, batch=batch, threads=threads, **settings)
    note(f"{model} on {session.device}")
    return session


def note_fixed_size(session: Session) -> None:
    """Print that a vae changes the size of what it is given."""
    if session.config.arch == "vae":
        note(f"a vae has one size: images are fitted to {session.config.size}×{session.config.size}.")
