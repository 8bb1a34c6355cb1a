"""Coverage-guided fuzzing of what reads files from elsewhere: weight files, IDX files, PNG files.

    pip install atheris
    python tests/fuzz/fuzz.py weights -max_total_time=600      # or idx, png; further options are libFuzzer's

An EdgeaeError is the right answer to a hostile file; anything else that is raised, a hang or too much memory is a find.
Finds go, as small as they can be made, into `tests/fuzz/finds`, which test_fuzz_finds.py reads.
"""

import io
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("DEV", "CPU")

from edgeae.errors import EdgeaeError
from edgeae.network.parameters import parameters

FINDS = Path(__file__).parent / "finds"
MAX_PIXELS = 1 << 22


def weights(data: bytes) -> None:
    """A weight file; after a byte 1 the header's length is put right, so that what is behind it is reached."""
    from edgeae.network.describe import describe

    if data[:1] == b"\1":
        header, _, body = data[1:].partition(b"\n\n")
        data = len(header).to_bytes(8, "little") + header + body
    with _File(data, ".safetensors") as path:
        describe(path)


def idx(data: bytes) -> None:
    """An IDX file, gzipped after a byte 1."""
    import gzip

    from edgeae.data import array_files

    suffix = ""
    if data[:1] == b"\1":
        data, suffix = gzip.compress(data[1:], 1), ".gz"
    with _File(data, f"-idx3-ubyte{suffix}") as path:
        array = array_files.read_idx(path)
        assert array.nbytes <= 2000 * len(data)  # gzip packs a thousandfold at most


def png(data: bytes) -> None:
    """A PNG file; after a byte 1 the checksums of its chunks are put right."""
    from edgeae.images.files.png_reader import PngReader

    reader = PngReader(io.BytesIO(_with_checksums(data[1:]) if data[:1] == b"\1" else data))
    done = 0
    while not reader.interlaced and done * reader.width < MAX_PIXELS:
        rows = reader.read(64)
        assert rows.dtype == reader.dtype and rows.shape[1:] == (reader.width, len(reader.mode))
        done += len(rows)
        if not len(rows):
            assert done == reader.height
            break


def _with_checksums(data: bytes) -> bytes:
    import zlib

    parts, place = [data[:8]], 8
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunk = data[place + 4 : place + 8 + length]
        parts += [data[place : place + 4], chunk, zlib.crc32(chunk).to_bytes(4, "big")]
        place += 12 + length
    return b"".join(parts)


class _File:
    """A file in memory where the system has such."""

    def __init__(self, data: bytes, suffix: str) -> None:
        folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
        number, name = tempfile.mkstemp(suffix, dir=folder)
        self.path = Path(name)
        with os.fdopen(number, "wb") as file:
            file.write(data)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *error: object) -> None:
        self.path.unlink()


TARGETS: dict[str, Callable[[bytes], None]] = {"weights": weights, "idx": idx, "png": png}


def check(target: str, data: bytes) -> None:
    """Raises what is no EdgeaeError."""
    try:
        TARGETS[target](data)
    except EdgeaeError as error:
        sentence = str(error)
        assert "\n" not in sentence and sentence.endswith("."), sentence


def seeds(target: str, folder: Path) -> None:
    """Sound files to begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    if target == "weights":
        from edgeae.config import ModelConfig
        from edgeae.network import quantize
        from edgeae.network import weight_file as weights
        from edgeae.network.models import build

        for arch, code in (("conv", 2), ("residual", 2), ("vae", 21)):
            config = ModelConfig(arch=arch, size=8, widths=(2, 2), code=code, context=0)
            tensors = {name: value.numpy() for name, value, _ in parameters(build(config, "CPU", 0))}
            for scheme in quantize.SCHEMES:
                packed: dict[str, object] = {}
                for name, value in tensors.items():
                    packed |= quantize.pack(name, value, scheme)
                path = folder / f"{arch}-{scheme}"
                weights.write(
                    path,
                    packed,
                    {
                        "format_version": "1",
                        "arch": arch,
                        "config": config.to_json(),  # type: ignore[arg-type]
                        "quantize": scheme,
                    },
                )
                data = path.read_bytes()
                length = int.from_bytes(data[:8], "little")
                (folder / f"{arch}-{scheme}-1").write_bytes(b"\1" + data[8 : 8 + length] + b"\n\n" + data[8 + length :])
    elif target == "idx":
        for shape in ((2, 3, 4), (1, 28, 28), (5,), (1, 2, 2, 3)):
            header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
            body = header + bytes(i % 251 for i in range(math.prod(shape)))
            (folder / "x".join(map(str, shape))).write_bytes(body)
            (folder / ("x".join(map(str, shape)) + "-1")).write_bytes(b"\1" + body)
    else:
        from PIL import Image

        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
            picture = io.BytesIO()
            Image.linear_gradient("L").resize((9, 7)).convert("L" if mode == "I;16" else mode).save(picture, "PNG")
            (folder / mode.replace(";", "")).write_bytes(picture.getvalue())
            (folder / (mode.replace(";", "") + "-1")).write_bytes(b"\1" + picture.getvalue())


def main() -> None:
    """Fuzz one target."""
    target, options = sys.argv[1], sys.argv[2:]
    folder = Path(tempfile.gettempdir()) / f"edgeae-fuzz-{target}"
    seeds(target, folder)
    import atheris

    with atheris.instrument_imports(include=["edgeae", "json", "gzip"]):
        for name in [name for name in sys.modules if name.startswith("edgeae.") and name != "edgeae.errors"]:
            del sys.modules[name]
        import edgeae.data.array_files
        import edgeae.images.files.png_reader
        import edgeae.network.weight_file  # noqa: F401
    FINDS.mkdir(exist_ok=True)
    atheris.Setup(
        [
            sys.argv[0],
            str(folder),
            f"-artifact_prefix={FINDS}/{target}-",
            "-rss_limit_mb=2048",
            "-timeout=20",
            "-max_len=16384",
            *options,
        ],
        lambda data: check(target, data),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
