"""`edgeae run`: restore photos, folders, a folder that is watched, or standard input.

The sample pictures are in `run_samples`, raw video frames in `run_frames`, watched folders in `run_watch`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from edgeae.cli.console import binary, complain, emit, note
from edgeae.cli.flags import name_flags
from edgeae.cli.options import (
    PIPE,
    PIPED_PATH,
    Size,
    batch_option,
    device_option,
    json_option,
    memory_option,
    model_option,
    options,
    output_option,
    seed_option,
    threads_option,
)
from edgeae.cli.program import command
from edgeae.cli.progress import RunProgress
from edgeae.cli.run_frames import restore_frames
from edgeae.cli.run_left_out import tell_left_out
from edgeae.cli.run_samples import restore_samples
from edgeae.cli.run_watch import describe, watch_folder
from edgeae.cli.session import note_fixed_size, open_session
from edgeae.errors import DeviceError, ImageError, PartialError, UsageError
from edgeae.files import is_folder
from edgeae.network.shipped import DEFAULT

if TYPE_CHECKING:
    from edgeae.images.files.listing import LeftOut
    from edgeae.inference.collect import Item
    from edgeae.inference.folder import Failed, Summary
    from edgeae.inference.photo import Options
    from edgeae.inference.session import Session

_MOST_BYTES = 1 << 30  # of a picture on standard input


@command()
@click.argument("inputs", nargs=-1, type=PIPED_PATH, metavar="[INPUT]...")
@options(
    model_option(DEFAULT),
    device_option,
    output_option(
        "File or folder to write, or - for standard output.  [default: photo.out.jpg beside photo.jpg, photos.out/ "
        "beside photos/; for the samples the folder edgeae-samples]",
        type=PIPED_PATH,
    ),
    click.option(
        "--mask",
        type=PIPED_PATH,
        default=None,
        metavar="MASK",
        help="Image of the photo's size, white where the photo is damaged: nothing else is changed. Gray is replaced "
        "in part; strokes on a transparent layer are damage. For several photos a folder of masks with the photos' "
        "names.",
    ),
    click.option(
        "--strength",
        type=click.FloatRange(0, 1),
        default=1.0,
        show_default=True,
        help="How much of the model's result to blend in; 0 is the photo itself.",
    ),
    click.option("--compare", is_flag=True, help="Also write NAME.compare.png: before and after, side by side."),
    click.option(
        "--corrupt",
        default=None,
        metavar="SPEC",
        help="Damage the input first, see `edgeae corrupt`.  [default: none; for the samples the damage that the "
        "model was trained on]",
    ),
    click.option("--overwrite", is_flag=True, help="Replace outputs that exist.  [default: skip them]"),
    click.option("--watch", is_flag=True, help="Restore each new picture in the folder INPUT, until Ctrl-C."),
    click.option(
        "--raw",
        type=Size(1, 16_384),
        default=None,
        metavar="WxH",
        help="INPUT is raw video frames of this size: rgb24, or gray for a gray model.",
    ),
    memory_option,
    click.option(
        "--allow-loss",
        is_flag=True,
        help="Write a result even where not all of a file can be kept, such as the first of several pages.  [default: "
        "refuse such files]",
    ),
    click.option("--keep-date", is_flag=True, help="Give each result its photo's date of modification."),
    seed_option,
    batch_option(),
    threads_option(),
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
    raw: tuple[int, int] | None,
    max_mem: int | None,
    allow_loss: bool,
    keep_date: bool,
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
    if keep_date and (PIPE in inputs or output == PIPE or raw is not None):
        raise UsageError("--keep-date needs files: give INPUT and -o by their names.")
    limits = {} if max_mem is None else {"max_mem": max_mem}
    settings = Options(
        strength, corrupt=damage, seed=seed, compare=compare, allow_loss=allow_loss, keep_date=keep_date, **limits
    )

    def session() -> Session:
        return open_session(model, device, batch, threads, max_mem=max_mem)

    if not inputs:
        restore_samples(session(), model, output or Path("edgeae-samples"), corrupt, seed, as_json)
    elif raw is not None:
        restore_frames(session, inputs[0], output or PIPE, raw, strength)
    elif inputs == (PIPE,) or output == PIPE:
        _restore_pipe(session, model, inputs[0], output or PIPE, settings, mask, as_json)
    elif watch:
        watch_folder(session(), inputs[0], output, settings, overwrite)
    else:
        from edgeae.inference.collect import collect
        from edgeae.inference.mask_pairs import add_masks

        left_out, unmasked = list["LeftOut"](), list["Failed"]()
        items = collect(inputs, output, overwrite, compare=compare, on_left_out=left_out.append)
        if mask is not None:
            items, unmasked = add_masks(items, mask, inputs)
        _restore_photos(session(), model, items, unmasked, left_out, settings, as_json)


def _check(
    inputs: Sequence[Path],
    output: Path | None,
    mask: Path | None,
    watch: bool,
    raw: tuple[int, int] | None,
    as_json: bool,
) -> None:
    """Reject flags that contradict each other or the inputs."""
    if not inputs and (mask or watch or raw):
        raise UsageError("--mask, --watch and --raw need an INPUT.")
    if mask == PIPE:
        raise UsageError("--mask takes a file or a folder, not standard input.")
    if PIPE in inputs and len(inputs) > 1:
        raise UsageError("- reads one picture from standard input; give it alone.")
    if raw is not None and (len(inputs) > 1 or mask or watch or as_json):
        raise UsageError("--raw takes one INPUT and neither --mask, --watch nor --json.")
    if watch and (len(inputs) > 1 or mask or as_json or output == PIPE):
        raise UsageError("--watch takes one folder and neither --mask, --json nor -o -.")
    if watch and not is_folder(inputs[0]):
        raise UsageError(f"--watch {inputs[0]} is not a folder: name the one into which pictures come.")
    if output == PIPE and (len(inputs) != 1 or is_folder(inputs[0]) or as_json):
        raise UsageError("-o - writes one picture to standard output: give one INPUT, and no --json.")


class _AllFailed(PartialError):
    """Not one of the inputs could be restored."""

    exit_code = 1


def _restore_photos(
    session: Session,
    model: str,
    items: Sequence[Item],
    unmasked: Sequence[Failed],
    left_out: list[LeftOut],
    settings: Options,
    as_json: bool,
) -> None:
    from edgeae.inference.folder import restore_all

    note_fixed_size(session)
    progress = RunProgress(len(items))
    try:
        summary = restore_all(session, items, settings, progress.show)
    except DeviceError:
        progress.clear()
        note(f"{progress.restored} of {len(items)} images were restored before.")
        raise
    progress.clear()
    seconds = progress.seconds
    summary.failed += unmasked
    summary.left_out = left_out
    _emit(session, model, summary, as_json)
    if not items and len(left_out) == 1 and left_out[0].missed:
        raise _AllFailed(f"{left_out[0].path} is left out: {left_out[0].reason}.")
    tell_left_out(left_out)
    done, failed, skipped = len(summary.done), len(summary.failed), len(summary.skipped)
    count = len(items) + len(unmasked)
    missed = sum(one.missed for one in left_out)
    if count != 1 or left_out or skipped:
        for failure in summary.failed:
            complain(failure.reason)
        existed = f", {skipped} existed already (--overwrite replaces them)" if skipped else ""
        note(f"{done} restored{existed}, {failed} failed, in {seconds:.1f} s ({done / seconds:.1f} images/s)")
    if failed or missed:
        sentences = [f"{failed} of {count} images could not be restored"] if failed else []
        sentences += (
            [f"{missed} {'photo or folder was' if missed == 1 else 'photos or folders were'} left out"]
            if missed
            else []
        )
        sentence = f"{', and '.join(sentences)}."
        if done or skipped:
            raise PartialError(sentence)
        raise _AllFailed(sentence if count != 1 or missed else summary.failed[0].reason)


def _restore_pipe(
    session: Callable[[], Session],
    model: str,
    source: Path,
    target: Path,
    settings: Options,
    mask: Path | None,
    as_json: bool,
) -> None:
    """Restore one picture from standard input, or to standard output, or both."""
    from edgeae.inference.folder import Summary
    from edgeae.inference.masks import require_marks
    from edgeae.inference.photo import restore

    picture: Path | bytes = source
    if source == PIPE:
        picture = binary(sys.stdin, "input").read(_MOST_BYTES + 1)
        if not picture:
            raise ImageError("Standard input is empty: pipe an image file into it.")
        if len(picture) > _MOST_BYTES:
            raise ImageError(f"Standard input has more than {_MOST_BYTES >> 30} GB: give the file by its name.")
    if mask is not None:
        require_marks(mask)
    network = session()
    note_fixed_size(network)
    name = "Standard input" if source == PIPE else None
    output: Path | BinaryIO = binary(sys.stdout, "output") if target == PIPE else target
    result = restore(picture, output, network, settings, name=name, mask=mask)
    if target == PIPE:
        note(describe(result))
    else:
        _emit(network, model, Summary([result]), as_json)


def _emit(session: Session, model: str, summary: Summary, as_json: bool) -> None:
    document = {
        "model": model,
        "device": session.device,
        "done": summary.done,
        "failed": [replace(failure, reason=name_flags(failure.reason)) for failure in summary.failed],
        "skipped": summary.skipped,
        "left_out": summary.left_out,
    }
    emit(document, [describe(result) for result in summary.done], as_json)
