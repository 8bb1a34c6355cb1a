"""Parse a SPEC, the text that names a damage to images, and apply it. Training, `run` and `corrupt` share it.

A SPEC is one or more steps `name` or `name:strength`, joined with `+` and applied from left to right: `occlude`,
`occlude:0.2+noise:0.1`. Several of these joined with `,` are choices, of which one is drawn for each image. A strength
`low..high` is a range that one is drawn from: `none,occlude:0.05..0.3,noise:0..0.1+jpeg:5..50`.

name      strength                                                                      range    default
none      takes none
occlude   share of the area under 1 to 3 rectangles; past 0.25 at most 2, past 0.5 one  0..0.9   0.125
scratch   share of the area under thin curved lines                                     0..0.5   0.05
pixels    share of single pixels missing                                                0..0.99  0.25
smear     how far the holes that the steps before it made are filled from their edges   0..1     1
noise     standard deviation of Gaussian noise, where 1 is black to white               0..1     0.1
blur      standard deviation in pixels of an image whose short side is 64               0..8     1.5
jpeg      quality, a whole number                                                       1..95    15
gray      how far colours go to their BT.601 luma                                       0..1     1
shift     largest translation, as a share of the side; the largest rotation in radians  0..0.5   0.1
          is twice that, which moves the middle of a square's side as far

occlude, scratch and pixels make holes, filled with middle gray; those after smear change every pixel.
"""

from dataclasses import dataclass

import numpy as np

from edgeae.errors import ImageError, UsageError
from edgeae.images.arrays import Bools, Floats
from edgeae.images.damage.kinds import KINDS, Kind

MOST = 16  # choices, and steps of a choice; a SPEC may come from a hostile weight file, so there is a limit
NAMES: tuple[str, ...] = ("none", *KINDS)


@dataclass(frozen=True)
class Step:
    """One kind of damage and its strength.

    Attributes:
        name: one of KINDS.
        strength: in the unit and range that the module's table gives.
        most: None for a fixed strength; else the strength is drawn evenly from `strength` to this, a whole number if
            the kind needs one.

    Raises:
        UsageError: an unknown name, or a strength out of range.
    """

    name: str
    strength: float
    most: float | None = None

    def __post_init__(self) -> None:
        kind = _kind(self.name)
        for strength in (self.strength, self.strength if self.most is None else self.most):
            in_range = kind.low <= strength <= kind.high  # False for NaN
            if not in_range or (kind.whole and strength != int(strength)):
                raise UsageError(_bad_strength(self.name, str(strength)))
        if self.most is not None and self.most < self.strength:
            raise UsageError(
                f"Corruption {self.name!r} cannot have strength '{self.strength}..{self.most}': "
                "give the smaller number first."
            )

    def __str__(self) -> str:
        numbers = [self.strength] if self.most is None else [self.strength, self.most]
        return f"{self.name}:" + "..".join(repr(float(number)).removesuffix(".0") for number in numbers)

    def draw(self, rng: np.random.Generator) -> float:
        """Draw a strength; a fixed one takes nothing from `rng`."""
        if self.most is None:
            return self.strength
        if _kind(self.name).whole:
            return float(rng.integers(int(self.strength), int(self.most) + 1))
        return float(rng.uniform(self.strength, self.most))


@dataclass(frozen=True)
class Corruption:
    """Damage that is drawn anew at each call. `str()` gives its SPEC with every strength spelled out.

    Attributes:
        choices: the steps of each choice. One choice is drawn for each image, all with equal probability; a choice
            without steps is `none`.
    """

    choices: tuple[tuple[Step, ...], ...] = ((),)

    def __str__(self) -> str:
        return ",".join("+".join(map(str, steps)) or "none" for steps in self.choices)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of all choices."""
        return tuple(step for steps in self.choices for step in steps)

    def __call__(self, image: Floats, rng: np.random.Generator) -> tuple[Floats, Bools]:
        """Damage one image, which itself stays unchanged. Equal images and generator states give equal results.

        Args:
            image: float32 (H, W, C) in [0, 1] with C = 1 or 3.
            rng: source of all randomness.

        Returns:
            The damaged image, of the same shape and range, and a mask, bool (H, W), True where content is lost:

            - with steps that make holes, the union of their holes. A later `shift` moves them along. Steps that
              change every pixel do not widen the mask, or holes in a noisy image could not be told apart; a later
              `blur` or `jpeg` smears a hole's colour a little past its edge.
            - with other steps only, all True; without any step, all False.

        Raises:
            ImageError: any other array.
        """
        if image.dtype != np.float32 or image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
            raise ImageError(
                f"Cannot corrupt an array of {image.dtype} {image.shape}: give float32 (H, W, C) with 1 or 3 channels."
            )
        steps = self.choices[int(rng.integers(len(self.choices))) if len(self.choices) > 1 else 0]
        damaged, holes = image, np.zeros(image.shape[:2], dtype=np.bool_)
        for step in steps:
            damaged, holes = KINDS[step.name].damage(damaged, holes, step.draw(rng), rng)
        has_holes = any(KINDS[step.name].makes_holes for step in steps)
        mask = holes if has_holes or not steps else ~holes
        return np.clip(damaged, 0, 1), mask  # clip also copies, so that the result never shares memory with the input


def parse(spec: str) -> Corruption:
    """Parse a SPEC (see the module's docstring). Names may be in any case, with spaces around `,`, `+`, `:` and `..`.

    Raises:
        UsageError: an unknown or missing name, with a list of all; a bad strength, with its range; or too many parts.
    """
    corruption = Corruption(tuple(_parse_steps(choice, spec) for choice in spec.split(",")))
    if (most := max(len(corruption.choices), *map(len, corruption.choices))) > MOST:
        raise UsageError(f"Corruption {spec[:40]!r}… has {most} parts: {MOST} choices of {MOST} steps are the most.")
    return corruption


def _parse_steps(choice: str, spec: str) -> tuple[Step, ...]:
    steps = []
    for part in choice.split("+"):
        name, colon, text = (piece.strip() for piece in part.partition(":"))
        name = name.lower()
        if not name:
            raise UsageError(f"Corruption {spec!r} has a part without a name: use one of {', '.join(NAMES)}.")
        if name == "none":
            if colon:
                raise UsageError(f"Corruption 'none' takes no strength: write 'none', not {part.strip()!r}.")
            continue
        numbers = [_kind(name).default]
        if colon:
            try:
                numbers = [float(number) + 0.0 for number in text.split("..", 1)]  # + 0.0 turns -0 into 0
            except ValueError:
                raise UsageError(_bad_strength(name, text)) from None
        steps.append(Step(name, *numbers))
    return tuple(steps)


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise UsageError(f"Unknown corruption {name!r}: use one of {', '.join(NAMES)}.")
    return KINDS[name]


def _bad_strength(name: str, text: str) -> str:
    kind = KINDS[name]
    number = "a whole number" if kind.whole else "a number"
    return (
        f"Corruption {name!r} cannot have strength {text!r}: give {number} from {kind.low:g} to {kind.high:g} "
        f"({kind.unit}), for example {name}:{kind.default:g}."
    )
