"""`edgeae run --watch`: restore what comes into a folder until Ctrl-C."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from edgeae.cli.console import complain, emit, note
from edgeae.cli.session import note_fixed_size
from edgeae.errors import PartialError

if TYPE_CHECKING:
    from edgeae.inference.photo import Options, Restored
    from edgeae.inference.session import Session

_MOST_LINES = 5  # about photos that are left out for one reason


def watch_folder(session: Session, folder: Path, output: Path | None, settings: Options, overwrite: bool) -> None:
    """Restore what comes into a folder until Ctrl-C, which ends the command well."""
    from edgeae.images.files.kinds import UNFINISHED
    from edgeae.images.files.listing import LeftOut
    from edgeae.inference.folder import Failed, Skipped, restore_each
    from edgeae.inference.photo import Restored
    from edgeae.inference.watch import Notice, watch

    note_fixed_size(session)
    counts: Counter[type] = Counter()
    failed: set[str] = set()  # a photo that was read too early, and comes again whole, is none of them
    missed: Counter[str] = Counter()
    left_out: set[LeftOut] = set()
    note(f"watching {folder}; Ctrl-C ends it")
    try:
        with closing(
            restore_each(session, lambda stop: watch(folder, output, stop, overwrite, settings.compare), settings)
        ) as outcomes:
            for outcome in outcomes:
                counts[type(outcome)] += 1
                match outcome:
                    case Notice():
                        note(f"{outcome.source} {outcome.reason}")
                    case LeftOut():
                        left_out.add(outcome)
                        if outcome.reason == UNFINISHED:  # it comes again by its own name; told at the end if not
                            continue
                        missed[outcome.reason] += 1
                        if missed[outcome.reason] <= _MOST_LINES:
                            complain(f"{outcome.path} is left out: {outcome.reason}")
                        elif missed[outcome.reason] == _MOST_LINES + 1:
                            note(f"more are left out for this reason, and counted: {outcome.reason}")
                    case Failed():
                        if os.path.lexists(outcome.source):  # else somebody has taken it away, who knows
                            failed.add(outcome.source)
                            complain(outcome.reason)
                    case Restored():
                        failed.discard(outcome.source)
                        emit(None, describe(outcome), False)
    except KeyboardInterrupt:
        note(f"{counts[Restored]} restored, {counts[Skipped]} existed already, {len(failed)} failed")
    left_out = {one for one in left_out if os.path.lexists(one.path)}  # others have been renamed, or taken away
    for one in sorted(left_out)[:_MOST_LINES]:
        if one.reason == UNFINISHED:
            complain(f"{one.path} is left out: {one.reason}")
    sentences = [f"{len(failed)} images could not be restored"] if failed else []
    sentences += [f"{len(left_out)} photos or folders were left out"] if left_out else []
    if sentences:
        raise PartialError(f"{', and '.join(sentences)}.")


def describe(result: Restored) -> str:
    """Return a line about a photo that was restored."""
    pieces = f"  in {result.pieces} pieces" if result.pieces > 1 else ""
    compare = f"  {result.compare}" if result.compare else ""
    comment = f"  ({result.note})" if result.note else ""
    return f"{result.output}  {result.width}×{result.height}  {result.ms:.0f} ms{pieces}{compare}{comment}"
