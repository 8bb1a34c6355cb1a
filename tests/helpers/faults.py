"""What the tests of faults share: a case of a table, how it is run, and what must hold however a command fails.

A command that fails says so in one sentence, with the right exit code and no traceback; what it had begun to write is
not there, and what was there before still is.
"""

import contextlib
import functools
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from edgeae.cli.main import main
from edgeae.images.files.formats import WRITE_FORMATS
from edgeae.inference.load import load
from edgeae.network import weight_file as weights
from helpers import ROOT
from helpers.tiers import exhaustive

PROGRAM = [sys.executable, "-m", "edgeae"]
LEFT_OVER = ".edgeae-"  # how the temporary files of a killed process begin
Files = dict[str, bytes]


@dataclass(frozen=True)
class Case:
    """A line of a table.

    name: of the case. line: the arguments, as in a shell; `SHELF` stands for the folder of models. says: words of the
    last line on stderr. code: the exit code; None for 0 or 1, either will do. make: prepares the working folder. stdin:
    what is piped in. leaves: whole outputs may be written although the command fails.
    """

    name: str
    line: str | Sequence[str]
    says: str = ""
    code: int | None = 1
    make: Callable[[], object] = lambda: None
    stdin: bytes = b""
    leaves: bool = False
    environment: dict[str, str] = field(default_factory=dict)


def table(cases: Sequence[Case], short: Callable[[Case], bool] = lambda case: True) -> Any:
    """Parametrize a test with `case`; those that are not `short` belong to `make test-all` alone."""
    assert len({case.name for case in cases}) == len(cases), "two cases of one name"
    marks: dict[bool, list[pytest.MarkDecorator]] = {True: [], False: [exhaustive]}
    return pytest.mark.parametrize("case", [pytest.param(c, id=c.name, marks=marks[short(c)]) for c in cases])


def check(case: Case, shelf: Path) -> None:
    """Run a case in this process, in the working folder."""
    case.make()
    before = files()
    arguments = shlex.split(case.line) if isinstance(case.line, str) else case.line
    result = CliRunner().invoke(
        main, [argument.replace("SHELF", str(shelf)) for argument in arguments], input=case.stdin, env=case.environment
    )
    judge(case, result.exit_code, result.stderr, result.stdout, before)


def judge(case: Case, code: int, stderr: str, stdout: str, before: Files, folder: Path = Path()) -> None:
    """What must hold of a command that ended: its words, and the files in the folder."""
    assert code in ((0, 1) if case.code is None else (case.code,)), f"exit {code}: {stdout}\n{stderr}"
    assert "Traceback" not in stderr + stdout, stderr
    if code:
        said = sentence(stderr, code)
        assert case.says.lower() in said.lower(), said
    after = files(folder)
    new = {name for name in after.keys() - before.keys() if not name.endswith(".lock")}  # of a run folder
    if code and not case.leaves:
        assert not new, f"left: {sorted(new)}"
        assert {name: after.get(name) for name in before} == before, "an old file changed"
    for name in new:
        whole(folder / name)


def sentence(stderr: str, code: int = 1) -> str:
    """The last line on stderr: one plain sentence."""
    last = stderr.splitlines()[-1] if stderr else ""
    if code == 2 and last.startswith("Error: "):  # click's own, after the usage
        return last
    assert last.startswith("edgeae: ") and last.endswith("."), f"no sentence: {stderr!r}"
    assert stderr.endswith(".\n") and last.isprintable(), f"not in one line: {last!r}"
    return last


def files(folder: Path = Path()) -> Files:
    """The content of every regular file under a folder; links are not followed."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if path.is_file() and not path.is_symlink():
                with contextlib.suppress(PermissionError):
                    found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def whole(path: Path) -> None:
    """That a file which bears its final name is complete."""
    assert not path.name.startswith(LEFT_OVER), f"{path} is left over"
    if path.suffix == ".safetensors":
        weights.read(path)
    elif path.suffix.lower().removeprefix(".") in WRITE_FORMATS:
        with Image.open(path) as image:
            image.load()
    elif path.name == "config.json":
        json.loads(path.read_text())
    elif path.name == "metrics.csv":
        header, *rows = path.read_text().splitlines()
        assert all(row.count(",") == header.count(",") for row in rows)
    else:
        raise AssertionError(f"{path} is not known")


@functools.cache
def sharing(folder: Path) -> Callable[..., Any]:
    """`load` that loads each shipped name once for all tests; files, which change, as ever."""
    shared = functools.cache(load)

    def once(model: str, *arguments: Any, threads: int | None = None, **settings: Any) -> Any:
        by_name = threads is None and "/" not in model and "." not in model
        return (shared if by_name else load)(model, *arguments, threads=threads, **settings)

    return once


# ---- children ----------------------------------------------------------------------------------------------------


def child(
    *arguments: object, environment: dict[str, str | None] | None = None, **settings: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a command as a program, in the working folder. None takes a variable away."""
    values = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
    settings = {"stdin": subprocess.DEVNULL, "capture_output": True} | settings
    if "input" in settings:
        del settings["stdin"]
    if "stdout" in settings or "stderr" in settings:
        settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
        del settings["capture_output"]
    done: subprocess.CompletedProcess[Any] = subprocess.run(
        [*settings.pop("before", []), *PROGRAM, *map(str, arguments)],
        timeout=120,
        env={key: value for key, value in values.items() if value is not None},
        **settings,
    )
    return done


_NURSERY = """
import json, os, select, signal, sys
import edgeae.cli.main, edgeae.inference.folder, edgeae.training.loop, edgeae.exporting.weights
import edgeae.inference.demo, edgeae.inference.golden

signal.signal(signal.SIGINT, signal.default_int_handler)
woken, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)
signal.signal(signal.SIGCHLD, lambda number, frame: None)

def tell(**document):
    os.write(1, (json.dumps(document) + chr(10)).encode())

def become(task):
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(task["folder"])
    os.environ.update(task["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(task[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["edgeae", *task["arguments"]]
    edgeae.cli.main.main(task["arguments"])

tell(ready=True)
pending = b""
while True:
    ready, _, _ = select.select([0, woken], [], [])
    if woken in ready:
        os.read(woken, 4096)
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            tell(ended=pid, code=os.waitstatus_to_exitcode(status))
    if 0 in ready:
        data = os.read(0, 65536)
        if not data:
            break
        *lines, pending = (pending + data).split(b"\\n")
        for line in lines:
            pid = os.fork()
            if not pid:
                become(json.loads(line))
                sys.exit()
            tell(started=pid)
"""


@dataclass
class Ended:
    """A child that has ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float


class Nursery:
    """Commands in children of a process that has everything imported, so that one starts in milliseconds.

    `prefix` runs the process itself under another program. No device is open in it, and no thread runs, so that it can
    be forked.
    """

    patience = 60.0  # seconds without news after which a child hangs

    def __init__(self, scratch: Path, prefix: Sequence[str] = ()) -> None:
        self._scratch, self._count, self._pending = scratch, 0, b""
        scratch.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-c", _NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert next(self._told(60)) == {"ready": True}

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def run(self, arguments: Sequence[object], folder: Path | None = None, **environment: str) -> Ended:
        """Run one command to its end."""
        return self.run_all([(arguments, None)], folder, 1, **environment)[0]

    def run_all(
        self,
        tasks: Sequence[tuple[Sequence[object], float | None]],
        folder: Path | None = None,
        at_once: int = 1,
        **environment: str,
    ) -> list[Ended]:
        """Run commands, each with SIGINT after so many seconds, or none; as many at once as told."""
        running: dict[int, tuple[int, float, float | None]] = {}  # by process: which, when it began, when to interrupt
        try:
            return self._run_all(list(enumerate(tasks))[::-1], running, folder, at_once, environment)
        finally:
            for process in running:
                os.kill(process, signal.SIGKILL)

    def _run_all(
        self,
        todo: list[tuple[int, tuple[Sequence[object], float | None]]],
        running: dict[int, tuple[int, float, float | None]],
        folder: Path | None,
        at_once: int,
        environment: dict[str, str],
    ) -> list[Ended]:
        ended: dict[int, Ended] = {}
        while todo or running:
            while todo and len(running) < at_once:
                number, (arguments, delay) = todo.pop()
                process = self._start(number, arguments, folder or Path.cwd(), environment)
                started = time.monotonic()
                running[process] = number, started, None if delay is None else started + delay
            soonest = min([moment for _, _, moment in running.values() if moment is not None], default=None)
            patience = self.patience if soonest is None else max(0.0, soonest - time.monotonic())
            for told in self._told(patience, soonest is not None):
                number, started, _ = running.pop(told["ended"])
                paths = [self._path(number, name) for name in ("stdout", "stderr")]
                out, err = (path.read_text(errors="surrogateescape") for path in paths)
                ended[number] = Ended(told["code"], out, err, time.monotonic() - started)
            for process, (number, started, moment) in running.items():
                if moment is not None and moment <= time.monotonic():
                    os.kill(process, signal.SIGINT)
                    running[process] = number, started, None
        return [ended[number] for number in sorted(ended)]

    def _path(self, number: int, name: str) -> Path:
        return self._scratch / f"{number}.{name}"

    def _start(self, number: int, arguments: Sequence[object], folder: Path, environment: dict[str, str]) -> int:
        task = {
            "arguments": [str(argument) for argument in arguments],
            "folder": str(folder),
            "environment": environment,
            **{name: str(self._path(number, name)) for name in ("stdout", "stderr")},
        }
        assert self._process.stdin
        self._process.stdin.write(json.dumps(task).encode() + b"\n")
        self._process.stdin.flush()
        held: list[bytes] = []
        while True:
            for told in self._told(60):
                if "started" in told:
                    self._pending = b"".join(held) + self._pending
                    return int(told["started"])
                held.append(json.dumps(told).encode() + b"\n")

    def _told(self, patience: float, may_be_nothing: bool = False) -> Iterator[dict[str, Any]]:
        """The next thing that the process tells, if it does so in time."""
        assert self._process.stdout
        deadline = time.monotonic() + patience
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                assert may_be_nothing, "a child hangs"
                return
            data = os.read(self._process.stdout.fileno(), 65536)
            assert data, "the process that starts children has ended"
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        yield json.loads(line)
