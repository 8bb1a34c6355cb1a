"""The report on a dataset: how many images it has, and what of it is not used."""

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Report:
    """What a dataset holds, and what of it is not used.

    Attributes:
        name: of the dataset.
        size: side in pixels that images are fitted to.
        train, val: number of usable images.
        enlarged: how many of them are smaller than `size`.
        ignored: number of files that are not images.
        widths, heights: smallest, median and largest of the usable images before fitting, in pixels.
        too_small, unreadable, unmatched: (name, reason) of each image that was left out.
        notes: further sentences for the user.
    """

    name: str
    size: int
    train: int
    val: int
    enlarged: int = 0
    ignored: int = 0
    widths: tuple[int, int, int] = (0, 0, 0)
    heights: tuple[int, int, int] = (0, 0, 0)
    too_small: tuple[tuple[str, str], ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    unmatched: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> int:
        return self.train + self.val

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {"usable": self.usable, **dataclasses.asdict(self)}

    def table(self, examples: int = 5) -> str:
        """Return a compact table without empty rows, with at most `examples` files of each kind of problem."""
        low, middle, high = (f"{w}×{h}" for w, h in zip(self.widths, self.heights, strict=True))
        sizes = low if low == high else f"{low} to {high}, median {middle}"
        rows = [("usable", f"{self.usable:,} (train {self.train:,}, val {self.val:,})")]
        if self.usable:
            rows.append(("image size", f"{sizes}; fitted to {self.size}×{self.size}"))
        if self.enlarged:
            rows.append(("enlarged", f"{self.enlarged:,}, smaller than that"))
        for label, left_out in (
            ("too small", self.too_small),
            ("unreadable", self.unreadable),
            ("unmatched", self.unmatched),
        ):
            if left_out:
                rows.append((label, f"{len(left_out):,}, left out"))
                rows += [("", f"{name}: {reason}") for name, reason in left_out[:examples]]
                if len(left_out) > examples:
                    rows.append(("", f"… and {len(left_out) - examples:,} more"))
        if self.ignored:
            rows.append(("ignored", f"{self.ignored:,} files that are no images"))
        rows += [("note", note) for note in self.notes]
        return "\n".join([f"dataset {self.name}", *(f"  {label:<12}{text}".rstrip() for label, text in rows)])
