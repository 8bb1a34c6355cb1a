"""Restore a folder of photos from Python, as `edgeae run photos/ -o restored/` does: tree, names and formats stay.

    python examples/folder.py photos/ restored/

Started again it goes on where it was stopped. What cannot be restored is told at the end.
"""

import sys
from pathlib import Path

import edgeae
from edgeae.inference import folder as batches


def main(photos: str, restored: str) -> None:
    session = edgeae.load("photos-residual")
    items = batches.collect([Path(photos)], Path(restored))
    found = batches.restore_all(session, items, on_done=lambda outcome: print(outcome.source))
    print(f"{len(found.done)} restored, {len(found.skipped)} were there, {len(found.failed)} failed")
    for failure in found.failed:
        print(failure.reason)


if __name__ == "__main__":
    main(*sys.argv[1:3])
