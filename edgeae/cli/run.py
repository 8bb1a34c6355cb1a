"""`edgeae run`, the main job: the sample pictures, photos, folders, a folder that is watched, or raw video frames."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from edgeae.cli import console
from edgeae.cli.console import emit, note
from edgeae.cli.options import (
    PATH,
    Memory,
    batch_option,
    device_option,
    json_option,
    model_option,
    options,
    output_option,
    seed_option,
    threads_option,
)
from edgeae.errors import DeviceError, ImageError, PartialError, UsageError
from edgeae.files import is_file, is_folder
from edgeae.formatting import duration, table
from edgeae.images.files.array_io import write_image
from edgeae.images.files.formats import WRITE_FORMATS
from edgeae.network.shipped import DEFAULT

if TYPE_CHECKING:
    from edgeae.inference.folder import Outcome, Summary
    from edgeae.inference.photo import Options, Restored
    from edgeae.inference.session import Session

PIPE = Path("-")
_LONGEST_INPUT = 1 << 30  # bytes of a picture on standard input


def load(model: str, device: str | None, batch: int = 16, threads: int | None = None, **settings: Any) -> Session:
    """The model of a command, and a line on stderr that tells where it runs."""
    from edgeae.inference.load import load

    session = load(model, device, batch=batch, threads=threads, **settings)
    note(f"{model} on {session.device}")
    return session


@click.command(cls=console.Command)
@click.argument("inputs", nargs=-1, type=PATH, metavar="[INPUT]...")
@options(
    model_option(DEFAULT),
    device_option,
    output_option(
        "A file, a folder, or - for standard output.  [default: photo.out.jpg beside photo.jpg, photos.out/ "
        "beside photos/; for the samples the folder edgeae-samples]"
    ),
    click.option(
        "--mask",
        type=PATH,
        default=None,
        metavar="MASK",
        help="Image as large as the photo, white where it is damaged: nothing else is changed. Or a folder of "
        "such, named as the photos are.",
    ),
    click.option(
        "--strength",
        type=click.FloatRange(0, 1),
        default=1.0,
        show_default=True,
        help="How much of the result, the rest is the photo.",
    ),
    click.option("--compare", is_flag=True, help="Also write NAME.compare.png, before and after side by side."),
    click.option(
        "--corrupt",
        default=None,
        metavar="SPEC",
        help="Damage the input first; see `edgeae corrupt`.  [default: none; for the samples what the model "
        "learned to undo]",
    ),
    click.option("--overwrite", is_flag=True, help="Replace outputs that exist. [default: skip them]"),
    click.option("--watch", is_flag=True, help="Wait for more pictures in the folder INPUT, until Ctrl-C."),
    click.option(
        "--raw",
        default=None,
        metavar="WxH",
        help="INPUT is raw video frames of this size, rgb24 (or gray for a grey model).",
    ),
    click.option(
        "--max-mem",
        type=Memory(),
        default=None,
        metavar="SIZE",
        help="Memory to work in; images that need more go through in pieces.  [default: 512M, or a quarter of "
        "the machine's]",
    ),
    seed_option,
    batch_option,
    threads_option,
    json_option,
)
def run(
    inputs: tuple[Path, ...],
    model: str,
    device: str | None,
    output: Path | None,
    mask: Path | None,
    strength: float,
    compare: bool,
    corrupt: str | None,
    overwrite: bool,
    watch: bool,
    raw: str | None,
    max_mem: int | None,
    seed: int,
    batch: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Restore photos, whole folders, or video frames. Without INPUT, damage and restore the sample pictures.

    INPUT is a file, a folder, a pattern such as 'scans/**/*.png', or - for standard input. Format, size, rotation,
    colour profile, transparency and EXIF data stay as they are.

    \b
        edgeae run photo.jpg -o restored.jpg
        edgeae run photo.jpg --mask scratches.png --compare
        edgeae run -m faces-conv scans/ -o restored/
        ffmpeg -i in.mp4 -f rawvideo -pix_fmt rgb24 - | edgeae run --raw 640x480 - -o - > frames.rgb
    """
    from edgeae.images.damage.spec import parse
    from edgeae.inference.photo import Options

    damage = parse("none" if corrupt is None else corrupt)
    _check(inputs, output, mask, watch, raw, as_json)
    limits = {} if max_mem is None else {"max_mem": max_mem}
    settings = Options(strength, corrupt=damage, seed=seed, compare=compare, **limits)

    def session() -> Session:
        return load(model, device, batch, threads, max_mem=max_mem)

    if not inputs:
        _samples(session(), model, output or Path("edgeae-samples"), corrupt, seed, as_json)
    elif raw is not None:
        _frames(session, inputs[0], output or PIPE, raw, strength)
    elif inputs == (PIPE,) or output == PIPE:
        _piped(session, model, inputs[0], output or PIPE, settings, mask, as_json)
    elif watch:
        _watched(session(), inputs[0], output, settings, overwrite)
    else:
        from edgeae.inference.folder import collect, with_masks

        items = collect(inputs, output, overwrite)
        items = items if mask is None else with_masks(items, mask)
        _photos(session(), model, items, settings, as_json)


def _check(
    inputs: Sequence[Path], output: Path | None, mask: Path | None, watch: bool, raw: str | None, as_json: bool
) -> None:
    """What cannot be meant."""
    if not inputs and (mask or watch or raw):
        raise UsageError("--mask, --watch and --raw need an INPUT.")
    if PIPE in inputs and len(inputs) > 1:
        raise UsageError("- reads one picture from standard input; give it alone.")
    if raw is not None and (len(inputs) > 1 or mask or watch or as_json):
        raise UsageError("--raw takes one INPUT and neither --mask, --watch nor --json.")
    if watch and (len(inputs) > 1 or mask or as_json or output == PIPE):
        raise UsageError("--watch takes one folder and neither --mask, --json nor -o -.")
    if output == PIPE and (len(inputs) != 1 or is_folder(inputs[0]) or as_json):
        raise UsageError("-o - writes one picture to standard output: give one INPUT, and no --json.")


# ---- samples -----------------------------------------------------------------------------------------------------


def _samples(session: Session, model: str, folder: Path, corrupt: str | None, seed: int, as_json: bool) -> None:
    from edgeae.inference.demo import demonstrate

    task = session.metadata.get("task", "none")
    if task == "image-to-image":
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


def decibels(value: float | None) -> str:
    """A PSNR for a table."""
    return "-" if value is None else f"{value:.1f}"


# ---- photos ------------------------------------------------------------------------------------------------------


class _Failed(PartialError):
    """Not one of the inputs could be restored."""

    exit_code = 1


def _photos(session: Session, model: str, items: Sequence[Any], settings: Options, as_json: bool) -> None:
    from edgeae.inference.folder import restore_all

    _tell_of_size(session)
    status, started, counts = console.StatusLine(), time.perf_counter(), {"all": 0, "worked": 0}

    def on_done(outcome: Outcome) -> None:
        counts["all"] += 1
        counts["worked"] += hasattr(outcome, "ms")
        speed = counts["worked"] / (time.perf_counter() - started)
        left = (len(items) - counts["all"]) / speed if speed else 0.0
        text = f"{counts['all']}/{len(items)}  {speed:.1f} images/s  {duration(left)} left  {outcome.source}"
        status.show(counts["all"], len(items), text)

    try:
        found = restore_all(session, items, settings, on_done)
    except DeviceError:
        status.clear()
        note(f"{counts['worked']} of {len(items)} images were restored before.")
        raise
    status.clear()
    seconds = time.perf_counter() - started
    _emit(session, model, found, as_json)
    if len(items) > 1:
        for failure in found.failed:
            console.complain(failure.reason)
        skipped = f", {len(found.skipped)} existed already (--overwrite replaces them)" if found.skipped else ""
        note(
            f"{len(found.done)} restored{skipped}, {len(found.failed)} failed, in {seconds:.1f} s "
            f"({len(found.done) / seconds:.1f} images/s)"
        )
    if found.failed:
        summary = f"{len(found.failed)} of {len(items)} images could not be restored."
        if found.done or found.skipped:
            raise PartialError(summary)
        raise _Failed(summary if len(items) > 1 else found.failed[0].reason)


def _emit(session: Session, model: str, found: Summary, as_json: bool) -> None:
    document = {
        "model": model,
        "device": session.device,
        "done": found.done,
        "failed": found.failed,
        "skipped": found.skipped,
    }
    emit(document, [_line(result) for result in found.done], as_json)


def _line(result: Restored) -> str:
    pieces = f"  in {result.pieces} pieces" if result.pieces > 1 else ""
    told = f"  ({result.note})" if result.note else ""
    compare = f"  {result.compare}" if result.compare else ""
    return f"{result.output}  {result.width}×{result.height}  {result.ms:.0f} ms{pieces}{compare}{told}"


def _tell_of_size(session: Session) -> None:
    if not session.config.takes_any_size:
        note(f"a vae has one size: images are fitted to {session.config.size}×{session.config.size}.")


def _piped(
    session: Callable[[], Session],
    model: str,
    source: Path,
    target: Path,
    settings: Options,
    mask: Path | None,
    as_json: bool,
) -> None:
    """One picture from standard input, or to standard output, or both."""
    from edgeae.inference.folder import Summary
    from edgeae.inference.photo import restore

    given: Path | bytes = source
    if source == PIPE:
        given = console.binary(sys.stdin, "input").read(_LONGEST_INPUT + 1)
        if not given:
            raise ImageError("Standard input is empty: pipe an image file into it.")
        if len(given) > _LONGEST_INPUT:
            raise ImageError(f"Standard input has more than {_LONGEST_INPUT >> 30} GB: give the file by its name.")
    network = session()
    _tell_of_size(network)
    name = "Standard input" if source == PIPE else None
    output: Path | BinaryIO = console.binary(sys.stdout, "output") if target == PIPE else target
    result = restore(given, output, network, settings, name=name, mask=mask)
    if target == PIPE:
        note(_line(result))
    else:
        _emit(network, model, Summary([result]), as_json)


def _watched(session: Session, folder: Path, output: Path | None, settings: Options, overwrite: bool) -> None:
    """Until Ctrl-C, which is how this ends well."""
    from edgeae.inference.folder import Failed, Skipped, outcomes, watched
    from edgeae.inference.photo import Restored

    _tell_of_size(session)
    counts: dict[type, int] = {Restored: 0, Failed: 0, Skipped: 0}
    if not is_folder(folder):
        raise UsageError(f"--watch {folder} is not a folder: name the one into which pictures come.")
    note(f"watching {folder}; Ctrl-C ends it")
    try:
        with closing(outcomes(session, lambda stop: watched(folder, output, stop, overwrite), settings)) as found:
            for outcome in found:
                counts[type(outcome)] += 1
                if isinstance(outcome, Failed):
                    console.complain(outcome.reason)
                elif isinstance(outcome, Restored):
                    emit(None, _line(outcome), False)
    except KeyboardInterrupt:
        note(f"{counts[Restored]} restored, {counts[Skipped]} existed already, {counts[Failed]} failed")
    if counts[Failed]:
        raise PartialError(f"{counts[Failed]} images could not be restored.")


# ---- frames ------------------------------------------------------------------------------------------------------


def _frames(session: Callable[[], Session], source: Path, target: Path, raw: str, strength: float) -> None:
    from edgeae.images.files.decoding import why_unreadable
    from edgeae.inference import video as frames

    size = frames.parse_size(raw)
    if target.suffix.lower().removeprefix(".") in WRITE_FORMATS or is_file(target):
        raise UsageError(f"-o {target} is one picture; for frames give a folder, or - for raw ones.")
    count, started = 0, time.perf_counter()

    def write(frame: Any) -> None:
        nonlocal count
        count += 1
        if target == PIPE:
            stream = console.binary(sys.stdout, "output")
            stream.write(frame.tobytes())
            stream.flush()
        else:
            write_image(frame, target / f"{count:06}.png")

    try:
        given = console.binary(sys.stdin, "input") if source == PIPE else source.open("rb")
    except OSError as error:
        raise ImageError(f"{source} {why_unreadable(error)}") from error
    with given:
        network = session()
        _tell_of_size(network)
        frames.restore_frames(network, given, size, write, strength)
    seconds = time.perf_counter() - started
    note(f"{count} frames in {seconds:.1f} s ({count / seconds:.1f} frames/s)")
