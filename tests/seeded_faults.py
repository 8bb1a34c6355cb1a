"""Seed faults into a copy of the package, one at a time, and see whether the tests of `make test` find each.

    python tests/seeded_faults.py            # all; minutes
    python tests/seeded_faults.py "lost tag"

By hand, when tests are moved or deleted. For each fault the tests of the rooms around it run, until one fails.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Fault:
    """A line that is replaced, and the folders of tests that run then."""

    name: str
    file: str
    line: str
    wrong: str
    tests: str


FAULTS = [
    Fault(
        "swapped channel",
        "images/colours.py",
        "colour = _from_unit(_with_channels(np.clip(result, 0, 1), CHANNELS[target]), rows.dtype)",
        "colour = _from_unit(_with_channels(np.clip(result, 0, 1)[..., ::-1], CHANNELS[target]), rows.dtype)",
        "images inference",
    ),
    Fault(
        "off by one in a tile",
        "inference/tiles.py",
        "return _up_to(config.stride, 2 * reach(config))",
        "return _up_to(config.stride, 2 * reach(config)) - config.stride",
        "inference",
    ),
    Fault("lost tag", "images/files/exif.py", "0 < size <= left:", "4 < size <= left:", "images"),
    Fault(
        "wrong scale in int4",
        "network/quantize.py",
        "expand(groups, GROUP, out).reshape(groups * GROUP, out)[:rows]",
        "expand(groups, GROUP, out).reshape(groups * GROUP, out).flip(0)[:rows]",
        "network",
    ),
    Fault(
        "decay of biases",
        "training/optimizer.py",
        'weight_decay if name.endswith("weight") else 0.0',
        "weight_decay",
        "training",
    ),
    Fault(
        "every epoch the same",
        "data/batches.py",
        "SeedSequence((seed, epoch))",
        "SeedSequence((seed, 0))",
        "data training",
    ),
    Fault(
        "soft edges of a mask forgotten",
        "inference/restoration.py",
        "share = strength if mask is None else strength * mask",
        "share = strength",
        "inference cli",
    ),
    Fault(
        "kernel reads a column too far",
        "runtime/kernels/convolution.c",
        "y0 * STRIDE - PADDING, x0 * STRIDE - PADDING, ROWS_IN",
        "y0 * STRIDE - PADDING, x0 * STRIDE - PADDING + (x0 > 0), ROWS_IN",
        "runtime",
    ),
    Fault("NaN accepted", "network/weight_file.py", "not np.isfinite(stored).all()", "False", "network faults"),
    Fault(
        "broken photos forgotten",
        "errors.py",
        "    exit_code = 3\n",
        "    exit_code = 0\n",
        "cli faults",
    ),
    Fault(
        "a clip lost in the trace",
        "network/tracing.py",
        "replace(step, clipped=True)",
        "replace(step, clipped=False)",
        "network exporting engine",
    ),
    Fault(
        "arc walked backwards",
        "inference/walk.py",
        "(np.sin((1 - t) * angle) * a + np.sin(t * angle) * b)",
        "(np.sin(t * angle) * a + np.sin((1 - t) * angle) * b)",
        "inference",
    ),
    Fault(
        "kernel of any content",
        "runtime/kernel_cache.py",
        "entry[:start] != MAGIC + _digest(path.name, code)",
        "entry[: len(MAGIC)] != MAGIC",
        "runtime",
    ),
    Fault("private photo for all", "permissions.py", "mode &= _OWNER | _allowed(path, fd)", "pass", "inference cli"),
    Fault("thumbnail kept", "images/files/jpeg_segments.py", "JFXX\\0", "JFYY\\0", "images"),
    Fault(
        "lock forgotten in a forked child",
        "runtime/forking.py",
        "workers.renew()",
        "pass",
        "runtime",
    ),
]


def first_failure(fault: Fault, copy: Path) -> str | None:
    """Run the tests on the copy with the fault in it, and return the name of the first that fails."""
    path = copy / "edgeae" / fault.file
    text = path.read_text(encoding="utf-8")
    assert text.count(fault.line) >= 1, f"{fault.file} has changed: {fault.line}"
    path.write_text(text.replace(fault.line, fault.wrong), encoding="utf-8")
    try:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-n",
            "2",
            "--dist",
            "loadfile",
            "-p",
            "no:cacheprovider",
        ]
        folders = [f"tests/{name}" for name in fault.tests.split()]
        done = subprocess.run(
            [*command, *folders], cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True
        )
    finally:
        path.write_text(text, encoding="utf-8")
    assert done.returncode in (0, 1, 2), done.stdout + done.stderr
    failures = [line.split(" ", 2)[1] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failures[0] if failures else None


def main() -> int:
    """Print a line for each fault; the exit code is the number of faults that no test finds."""
    wanted = sys.argv[1:]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv*", ".git", "__pycache__", "out", "runs"))
        for fault in FAULTS:
            if wanted and fault.name not in wanted:
                continue
            found = first_failure(fault, copy)
            missed += found is None
            print(f"{fault.name:32} {'MISSED' if found is None else found}", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main())
