"""The cache of compiled kernels: what is not ours is never used, and whatever fails costs time only."""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT, answer
from helpers.kernel_cases import needs_compiler
from helpers.tiers import exhaustive
from PIL import Image

from edgeae.runtime import compilers, kernel_cache
from edgeae.runtime.kernel_cache import KernelCache

as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
on_posix = pytest.mark.skipif(os.name != "posix", reason="permissions of another kind")
KEY, CODE = "key", b"machine code" * 99


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "edgeae" / "kernels"


@pytest.fixture
def entry(folder: Path) -> Path:
    """The file of an entry, just written."""
    KernelCache(folder).put(KEY, CODE)
    (path,) = folder.iterdir()
    return path


# ---- what is kept ------------------------------------------------------------------------------------------------


def test_a_kernel_comes_back_in_the_next_process(entry: Path, folder: Path) -> None:
    assert KernelCache(folder).get(KEY) == CODE
    assert KernelCache(folder).get(KEY + "x") is None
    assert pickle.dumps(CODE) not in entry.read_bytes() and entry.read_bytes().startswith(kernel_cache.MAGIC)


@on_posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_user_may_read_and_write(umask: int, folder: Path) -> None:
    old = os.umask(umask)
    try:
        KernelCache(folder).put(KEY, CODE)
    finally:
        os.umask(old)
    (entry,) = folder.iterdir()
    modes = [path.stat().st_mode & 0o777 for path in (folder.parent, folder, entry)]
    assert modes == [0o700, 0o700, 0o600]


def test_the_oldest_go_past_the_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_cache, "MAX_BYTES", 10 * 4096)
    cache = KernelCache(folder)
    for i in range(10):
        cache.put(str(i), CODE)
        os.utime(max(folder.iterdir(), key=lambda path: path.stat().st_mtime), (i, i))
    cache.get("0")  # used again: not the oldest any more
    stale, fresh = folder / "a.tmp", folder / "b.tmp"
    stale.touch()
    fresh.touch()
    os.utime(stale, (0, 0))
    KernelCache(folder).put("10", CODE)
    left = [i for i in range(11) if KernelCache(folder).get(str(i))]
    assert 0 in left and 10 in left and 1 not in left and 6 <= len(left) <= 7
    assert fresh.exists() and not stale.exists()


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_cache, "_MEMORY_BYTES", 3 * len(CODE))
    cache = KernelCache(None)
    for i in range(5):
        cache.put(str(i), CODE)
    assert [i for i in range(5) if cache.get(str(i))] == [2, 3, 4]


# ---- what is damaged ---------------------------------------------------------------------------------------------

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut in half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "only the head": lambda data: data[:48],
    "one bit of code": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "one bit of the digest": lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    "another version": lambda data: b"edgeae kernel 2\n" + data[16:],
    "bytes behind": lambda data: data + b"\0",
    "zeros after a power cut": lambda data: bytes(len(data)),
    "a pickle": lambda data: pickle.dumps(CODE),
    "no code": lambda data: kernel_cache.MAGIC + kernel_cache._digest("", b""),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_kernel_is_compiled_anew(
    name: str, entry: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry.write_bytes(DAMAGE[name](entry.read_bytes()))
    cache = KernelCache(folder)
    assert cache.get(KEY) is None and cache.get(KEY) is None
    assert [record.getMessage() for record in caplog.records] == [
        f"Compiling kernels anew whose files in {folder} are damaged or not this user's own."
    ]
    cache.put(KEY, CODE)
    assert KernelCache(folder).get(KEY) == CODE


def test_the_entry_of_another_key_is_not_believed(entry: Path, folder: Path) -> None:
    """As after a file was renamed, or where a shared home folder has an entry of another processor in its place."""
    entry.rename(folder / kernel_cache._hash("other"))
    assert KernelCache(folder).get("other") is None


def place_folder(path: Path) -> None:
    path.mkdir()
    (path / "file").touch()


IN_ITS_PLACE: dict[str, Callable[[Path], None]] = {
    "a folder": place_folder,
    "a link to the same bytes": lambda path: path.symlink_to(path.with_name("moved")),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a pipe": lambda path: os.mkfifo(path),
    "a file for others to write": lambda path: (shutil.copy(path.with_name("moved"), path), path.chmod(0o666)),  # type: ignore[dict-item]
    "a huge sparse file": lambda path: (path.touch(), os.truncate(path, 1 << 40)),  # type: ignore[dict-item]
}


@on_posix
@pytest.mark.parametrize("name", IN_ITS_PLACE)
def test_what_lies_in_the_place_of_an_entry(name: str, entry: Path, folder: Path) -> None:
    entry.rename(entry.with_name("moved"))
    IN_ITS_PLACE[name](entry)
    cache = KernelCache(folder)
    assert cache.get(KEY) is None
    cache.put(KEY, CODE)
    assert KernelCache(folder).get(KEY) == CODE


# ---- what fails --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_disk_that_fails_costs_one_note(
    number: int, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any, **named: Any) -> Any:
        raise OSError(number, os.strerror(number))

    folder.mkdir(parents=True, mode=0o700)
    cache = KernelCache(folder)
    monkeypatch.setattr(os, "open", fail)
    for key in ("a", "b"):
        cache.get(key)
        cache.put(key, CODE)
        assert cache.get(key) == CODE  # kept in memory
    monkeypatch.undo()
    assert any(os.strerror(number) in record.getMessage() for record in caplog.records)
    assert len(caplog.records) <= 2 and not list(folder.iterdir())


def test_a_full_disk_leaves_no_part_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(Path, "replace", fail)
    KernelCache(folder).put(KEY, CODE)
    assert not list(folder.iterdir())


def test_a_folder_that_can_only_be_read_is_read(
    entry: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a cache that came with a container's image; only a missing kernel is worth a word."""

    def fail(*arguments: Any) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    cache = KernelCache(folder)
    monkeypatch.setattr(Path, "replace", fail)
    assert cache.get(KEY) == CODE and not caplog.records
    cache.put("another", CODE)
    assert cache.get("another") == CODE and cache.get(KEY) == CODE
    assert len(caplog.records) == 1


def test_the_folder_is_deleted_meanwhile(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = KernelCache(folder)
    cache.put("a", CODE)
    shutil.rmtree(folder.parent)
    assert cache.get("a") is None
    cache.put("b", CODE)
    assert cache.get("b") == CODE and not cache.memory and not caplog.records


def test_a_file_in_the_folders_place_is_moved_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.parent.mkdir()
    folder.write_bytes(b"SQLite format 3\0")
    cache = KernelCache(folder)
    assert cache.get(KEY) is None
    cache.put(KEY, CODE)
    assert KernelCache(folder).get(KEY) == CODE
    assert folder.with_name("kernels.damaged").read_bytes() == b"SQLite format 3\0"
    assert len(caplog.records) == 1


@on_posix
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_a_folder_that_others_write_to_is_not_used(
    mode: int, entry: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.chmod(mode)
    cache = KernelCache(folder)
    assert cache.get(KEY) is None
    cache.put(KEY, CODE)
    assert cache.get(KEY) == CODE and list(folder.iterdir()) == [entry]
    (record,) = caplog.records
    assert f"others may write to {folder}; chmod " in record.getMessage() and record.levelno == logging.WARNING


@as_root
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_belongs_to_another_user_is_not_used(what: str, entry: Path, folder: Path) -> None:
    os.chown(entry if what == "file" else folder, 12345, 12345)
    assert KernelCache(folder).get(KEY) is None


def test_switched_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("EDGEAE_CACHE", str(tmp_path))
    for name in ("CCACHE", "CACHELEVEL"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "0")
            assert kernel_cache.open_cache.__wrapped__().folder is None
    assert kernel_cache.open_cache.__wrapped__().folder == tmp_path / "kernels"
    assert not caplog.records
    monkeypatch.setenv("EDGEAE_CACHE", "cache")
    assert kernel_cache.open_cache.__wrapped__().folder is None
    assert "EDGEAE_CACHE=cache is a relative path" in caplog.records[0].getMessage()


def test_two_writers_of_one_entry(folder: Path) -> None:
    caches = [KernelCache(folder) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda cache: [cache.put(str(i), CODE) for i in range(20)], caches))
    assert all(KernelCache(folder).get(str(i)) == CODE for i in range(20))
    assert len(list(folder.iterdir())) == 20 and not any(cache.memory for cache in caches)


# ---- the processor -----------------------------------------------------------------------------------------------

CLANG = ' "clang" -cc1 -triple x86_64 -target-cpu {cpu} -target-feature +avx2 -target-feature {more} -o {name}.o'
GCC = " /usr/lib/gcc/cc1 -quiet -v - -march={cpu} -mavx2 {more} --param l1-cache-size=32 -mtune={cpu} -o {name}.s"


@pytest.mark.parametrize(("line", "more"), [(CLANG, "+avx512f"), (GCC, "-mavx512f")], ids=["clang", "gcc"])
def test_another_processor_is_another_key(line: str, more: str) -> None:
    def identify(cpu: str, more: str, name: str = "a") -> str:
        return compilers._identify_processor(f"version 1\n{line.format(cpu=cpu, more=more, name=name)}\n")

    less = more.replace("+", "-").replace("-mavx", "-mno-avx")
    assert identify("znver3", more) == identify("znver3", more, "b")
    assert len({identify("znver3", more), identify("znver3", less), identify("skylake", more)}) == 3


def test_a_compiler_that_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = compilers._identify_processor("")
    monkeypatch.setattr(compilers, "_describe_processor", lambda: ["another"])
    assert compilers._identify_processor("") != seen


@needs_compiler
def test_compilers_tell_the_processor() -> None:
    compiler = compilers.find_compiler()
    assert compiler is not None and len(compiler.processor) == 16
    assert compiler.processor != compilers._identify_processor("")


# ---- whole runs --------------------------------------------------------------------------------------------------


class Planted:
    """An object that makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


@pytest.fixture(scope="module")
def compiled() -> list[list[str]]:
    """What tinygrad asks its cache for when it opens the CPU: the names of tables, and keys."""
    code = (
        "import tinygrad; from tinygrad.device import Compiler; asked = []\n"
        "from edgeae.runtime import kernel_cache; found = kernel_cache._compile_cached\n"
        "spy = lambda compiler, text: (asked.append([compiler.cachekey, text]), found(compiler, text))[1]\n"
        "kernel_cache._compile_cached = spy; devices.resolve('CPU'); print(json.dumps(asked))"
    )
    asked = answer(code)
    assert isinstance(asked, list) and asked
    return asked


def plant(path: Path, marker: Path, compiled: list[list[str]]) -> None:
    """Make a database as tinygrad's, where what opening the CPU asks for is a pickle that runs code."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as base:
        for table, text in compiled:
            for name in (table, table.rpartition("_")[0]):  # that of 0.1.0 had no processor in its name
                base.execute(f"CREATE TABLE IF NOT EXISTS '{name}_22' (key text, val blob, PRIMARY KEY (key))")
                row = (text, pickle.dumps(Planted(marker)))
                base.execute(f"REPLACE INTO '{name}_22' VALUES (?, ?)", row)
    base.close()


def start(folder: Path, model: Path, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Restore a small picture in a folder; None takes a variable away."""
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(folder / "a.png")
    values = {**os.environ, "PYTHONPATH": str(ROOT), "EDGEAE_CACHE": None, **environment}
    return subprocess.run(
        [sys.executable, "-m", "edgeae", "run", "a.png", "-m", str(model), "-o", "x.png", "--overwrite", "-d", "CPU"],
        cwd=folder,
        env={key: value for key, value in values.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=120,
    )


PLACES: dict[str, tuple[str, dict[str, str | None]]] = {
    "XDG_CACHE_HOME empty": ("tinygrad/cache.db", {"XDG_CACHE_HOME": ""}),
    "XDG_CACHE_HOME relative": ("here/tinygrad/cache.db", {"XDG_CACHE_HOME": "here"}),
    "XDG_CACHE_HOME a dot": ("tinygrad/cache.db", {"XDG_CACHE_HOME": "."}),
    "XDG_CACHE_HOME unexpanded": ("~/c/tinygrad/cache.db", {"XDG_CACHE_HOME": "~/c"}),
    "HOME relative": ("h/.cache/tinygrad/cache.db", {"HOME": "h", "XDG_CACHE_HOME": None}),
    "HOME a tilde": ("~/.cache/tinygrad/cache.db", {"HOME": "~", "XDG_CACHE_HOME": None}),
    "HOME empty": (".cache/tinygrad/cache.db", {"HOME": "", "XDG_CACHE_HOME": None}),
    "CACHEDB relative": ("c/cache.db", {"CACHEDB": "c/cache.db"}),
    "CACHEDB absolute": ("cache.db", {"CACHEDB": "HERE/cache.db"}),
    "the user's own": ("c/tinygrad/cache.db", {"XDG_CACHE_HOME": "HERE/c"}),
    "EDGEAE_CACHE relative": ("c/cache.db", {"EDGEAE_CACHE": "c"}),
    "EDGEAE_CACHE unexpanded": ("~nobody-of-this-name/cache.db", {"EDGEAE_CACHE": "~nobody-of-this-name"}),
}
FEW_PLACES = ("XDG_CACHE_HOME empty",)


@needs_compiler
@pytest.mark.parametrize("name", [n if n in FEW_PLACES else pytest.param(n, marks=exhaustive) for n in PLACES])
def test_a_planted_cache_runs_no_code(name: str, models: Path, tmp_path: Path, compiled: list[list[str]]) -> None:
    place, environment = PLACES[name]
    marker = tmp_path / "ran"
    plant(tmp_path / place, marker, compiled)
    before = {path for path in tmp_path.rglob("*") if "edgeae" not in path.parts[len(tmp_path.parts) :]}
    values = {key: value and value.replace("HERE", str(tmp_path)) for key, value in environment.items()}
    done = start(tmp_path, models / "faces-conv.safetensors", **values)
    assert done.returncode == 0, done.stderr
    assert not marker.exists()
    made = {path for path in tmp_path.rglob("*") if "edgeae" not in path.parts[len(tmp_path.parts) :]} - before
    assert {path.name for path in made} == {"a.png", "x.png"}


def lock(path: Path) -> sqlite3.Connection:
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("CREATE TABLE t (x)")
    base.execute("BEGIN EXCLUSIVE")
    return base


# What 0.1.0 did not start with, or only after a minute: states of a database that is not opened any more.
DATABASES: dict[str, Callable[[Path], object]] = {
    "locked": lock,
    "malformed": lambda path: path.write_bytes(b"SQLite format 3\0" + b"\xff" * 9999),
    "no database": lambda path: path.write_bytes(b"garbage" * 99),
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a log left over": lambda path: path.with_name("cache.db-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(99)),
}


@needs_compiler
@exhaustive
@pytest.mark.parametrize("name", DATABASES)
def test_tinygrads_database_does_not_matter(name: str, models: Path, tmp_path: Path) -> None:
    (tmp_path / "c" / "tinygrad").mkdir(parents=True)
    held = DATABASES[name](tmp_path / "c" / "tinygrad" / "cache.db")
    done = start(tmp_path, models / "faces-conv.safetensors", XDG_CACHE_HOME=str(tmp_path / "c"))
    assert done.returncode == 0 and "anew" not in done.stderr, done.stderr
    if isinstance(held, sqlite3.Connection):
        held.close()


@needs_compiler
@exhaustive
def test_a_cache_that_others_may_write_to_is_told_once(models: Path, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(0o777)
    done = start(tmp_path, models / "faces-conv.safetensors", EDGEAE_CACHE=str(tmp_path / "c"))
    assert done.returncode == 0
    assert done.stderr.count("others may write") == 1 and f"chmod go-w {tmp_path / 'c'}" in done.stderr


@needs_compiler
@exhaustive
def test_damaged_kernels_run_as_sound_ones(models: Path, tmp_path: Path) -> None:
    """Every entry cut in half, which 0.1.0 ran into an illegal instruction; and a forged one of another processor."""
    model, cache = models / "faces-conv.safetensors", str(tmp_path / "c")
    assert start(tmp_path, model, EDGEAE_CACHE=cache).returncode == 0
    sound = (tmp_path / "x.png").read_bytes()
    entries = list((tmp_path / "c" / "kernels").iterdir())
    whole = entries[0].read_bytes()
    for path in entries:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    entries[0].write_bytes(whole[:48] + b"\x0f\x0b" * 99)  # ud2: an instruction that no processor has
    done = start(tmp_path, model, EDGEAE_CACHE=cache)
    assert done.returncode == 0 and done.stderr.count("are damaged") == 1
    assert (tmp_path / "x.png").read_bytes() == sound
    again = start(tmp_path, model, EDGEAE_CACHE=cache)
    assert again.returncode == 0 and "damaged" not in again.stderr


@needs_compiler
@exhaustive
def test_two_processes_on_a_cold_cache(models: Path, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    with ThreadPoolExecutor(2) as pool:
        runs = list(
            pool.map(
                lambda name: start(
                    tmp_path / name, models / "faces-conv.safetensors", EDGEAE_CACHE=str(tmp_path / "c")
                ),
                "ab",
            )
        )
    assert [done.returncode for done in runs] == [0, 0] and "anew" not in runs[0].stderr + runs[1].stderr
    assert (tmp_path / "a" / "x.png").read_bytes() == (tmp_path / "b" / "x.png").read_bytes()
    assert not list((tmp_path / "c" / "kernels").glob("*.tmp"))


@needs_compiler
@exhaustive
def test_a_killed_process_leaves_sound_entries(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from edgeae.runtime.kernel_cache import KernelCache\n"
        f"cache = KernelCache(Path({str(tmp_path / 'k')!r}))\n"
        "for i in range(10**6): cache.put(str(i), b'code' * 9999)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not (tmp_path / "k").is_dir() or len(list((tmp_path / "k").iterdir())) < 5:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    cache = KernelCache(tmp_path / "k")
    assert {cache.get(str(i)) for i in range(5)} == {b"code" * 9999}


# ---- tinygrad's settings -----------------------------------------------------------------------------------------


def test_tinygrad_writes_no_pickles(tmp_path: Path) -> None:
    """It would, of fixed names, into a folder that everybody may write to, and into its cache."""
    code = (
        "import json; from edgeae.runtime import devices; devices.resolve('CPU')\n"
        "from tinygrad import helpers; import os\n"
        "print(json.dumps([helpers.PROFILE.value, helpers.VIZ.value, os.environ['PROFILE'], helpers.cache_dir]))"
    )
    settings = {"PROFILE": "1", "TRACK_MATCH_STATS": "2", "CAPTURE_PROCESS_REPLAY": "1", "VIZ": "0"}
    values = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": "x", **settings}
    done = subprocess.run([sys.executable, "-c", code], env=values, cwd=tmp_path, capture_output=True, text=True)
    profile, viz, kept, cache_dir = json.loads(done.stdout.splitlines()[-1])
    assert (profile, viz, kept) == (0, 0, "1") and Path(cache_dir).is_absolute()
    assert not list(tmp_path.iterdir())


def test_threads_put_into_the_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_cache, "_MEMORY_BYTES", 1000)
    cache = KernelCache(None)

    def put(thread: int) -> None:
        for i in range(300):
            cache.put(f"{thread} {i}", bytes(100))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(8)))
    cache.put("last", bytes(100))
    assert len(cache.memory) == 10 and cache.get("last")


def test_a_time_limit_of_the_caller_is_not_the_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> bytes:
        raise TimeoutError("too slow")

    monkeypatch.setattr(kernel_cache, "_read", read)
    with pytest.raises(TimeoutError):
        KernelCache(tmp_path / "kernels").get("key")
