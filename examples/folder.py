"""Restore a folder of photos from Python, as `edgeae run photos/ -o restored/` does: tree, names and formats stay.

    python examples/folder.py photos/ restored/

Run it again after an interruption: photos whose result exists are skipped. Failures are listed at the end.
"""

import sys
from pathlib import Path

import edgeae
from edgeae.inference.collect import collect
from edgeae.inference.folder import restore_all


def main(photos: str, restored: str) -> None:
    session = edgeae.load("photos-residual")
    items = collect([Path(photos)], Path(restored), on_left_out=print)
    summary = restore_all(session, items, on_done=lambda outcome: print(outcome.source))
    print(f"{len(summary.done)} restored, {len(summary.skipped)} existed already, {len(summary.failed)} failed")
    for failure in summary.failed:
        print(failure.reason)


if __name__ == "__main__":
    main(*sys.argv[1:3])
