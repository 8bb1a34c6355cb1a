"""Generated faces: portraits drawn from known factors, a dataset without downloads and without photographs.

The head is an ellipsoid with features at (longitude, height) on it, so that a turned head foreshortens them. Shapes are
drawn with Pillow at three times the size and scaled down; light is soft, so its shading is computed on a coarse grid
and scaled up. The file is long because a portrait has many parts, each a function, in the order of drawing.

Picture coordinates: x to the right, y down, both -1..1. Head coordinates: longitude in degrees, 0 at the nose and
positive to the picture's right; v down the face, -1 at the crown and 1 at the chin.
"""

import colorsys
import math
from dataclasses import astuple, dataclass, fields

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from edgeae.errors import UsageError

Floats = npt.NDArray[np.float64]
Colour = tuple[int, ...]
Points = tuple[Floats, Floats]  # x and y, each (n,), or (lines, n)

GRID = 32  # side of the coarse grid for shading
MIN_SIZE, MAX_SIZE = 16, 1024

SKIN = ((244, 214, 194), (234, 192, 160), (214, 160, 116), (160, 106, 70), (98, 62, 42))
HAIR = ((26, 22, 24), (64, 42, 32), (112, 66, 38), (158, 74, 36), (214, 168, 98), (206, 202, 198))
IRIS = ((62, 38, 24), (104, 72, 36), (84, 112, 62), (74, 122, 168), (110, 130, 144))

CENTRE_Y, HALF_HEIGHT, PIVOT_Y = -0.07, 0.60, 0.42  # of the head; it rolls about the pivot in the neck
EYE_LONGITUDE, EYE_V, MOUTH_V = 25.0, 0.07, 0.60
QUARTER = math.pi / 2


@dataclass(frozen=True)
class Face:
    """The factors of a portrait, all floats and independent of each other."""

    yaw: float = 0.0
    """-1..1: head turned to the picture's left .. right, by up to 28 degrees."""
    pitch: float = 0.0
    """-1..1: head raised .. lowered, by up to 14 degrees."""
    roll: float = 0.0
    """-1..1: head tilted to the picture's left .. right, by up to 12 degrees."""
    width: float = 0.5
    """0..1: narrow .. wide head."""
    jaw: float = 0.5
    """0..1: pointed .. square jaw."""
    skin: float = 0.3
    """0..1: light .. dark skin."""
    hair_tone: float = 0.25
    """0..1: black, brown, auburn, copper, blond, silver hair."""
    hair_length: float = 0.3
    """0..1: cropped .. falling past the shoulders."""
    fringe: float = 0.3
    """0..1: high hairline .. hair down to the brows."""
    part: float = 0.3
    """-1..1: where the hair parts, at the picture's left .. right."""
    wave: float = 0.3
    """0..1: straight .. wavy hair."""
    beard: float = 0.0
    """0..1: none .. full."""
    smile: float = 0.2
    """-1..1: corners of the mouth down .. up."""
    mouth_open: float = 0.0
    """0..1: closed .. wide open."""
    eye_open: float = 0.7
    """0..1: nearly closed .. wide open."""
    brow: float = 0.0
    """-1..1: frowning .. raised brows."""
    gaze: float = 0.0
    """-1..1: eyes looking to the picture's left .. right."""
    eye_tone: float = 0.2
    """0..1: dark brown, brown, green, blue, gray eyes."""
    glasses: float = 0.0
    """0 or 1: without or with."""
    light: float = -0.5
    """-1..1: light from the picture's left .. right."""
    contrast: float = 0.5
    """0..1: flat light .. deep shadows."""
    background_hue: float = 0.6
    """0..1: once around the colour circle."""
    background_brightness: float = 0.6
    """0..1: dark .. bright background."""
    clothes_hue: float = 0.05
    """0..1: once around the colour circle."""


FACTORS: tuple[str, ...] = tuple(field.name for field in fields(Face))
_SIGNED = ("yaw", "pitch", "roll", "part", "smile", "brow", "gaze", "light")


def random_face(rng: np.random.Generator) -> Face:
    """Draw every factor uniformly over its range, with three exceptions.

    Eyes tend to be open, one face in four wears glasses, and one in four has a beard.
    """
    values = dict(zip(FACTORS, rng.random(len(FACTORS)).tolist(), strict=True))
    values |= {name: 2 * values[name] - 1 for name in _SIGNED}
    values["eye_open"] = math.sqrt(values["eye_open"])
    values["glasses"] = float(values["glasses"] < 0.25)
    values["beard"] = max(0.0, 4 * values["beard"] - 3)
    return Face(**values)


def generate(count: int, size: int = 64, seed: int = 0) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Draw random faces. Face i depends on (seed, i) only, so a larger set starts with the smaller one.

    Args:
        count: number of faces, at least 0.
        size: side in pixels, 16 to 1024.
        seed: at least 0.

    Returns:
        Images, uint8 (count, size, size, 3) in sRGB, and their factors, float32 (count, len(FACTORS)).

    Raises:
        UsageError: an argument is out of range.
    """
    if count < 0 or seed < 0:
        raise UsageError(f"Cannot generate {count} faces from seed {seed}: give numbers that are not negative.")
    _check_size(size)
    images = np.empty((count, size, size, 3), dtype=np.uint8)
    factors = np.empty((count, len(FACTORS)), dtype=np.float32)
    for i in range(count):
        face = random_face(np.random.default_rng((seed, i)))
        images[i] = render(face, size)
        factors[i] = astuple(face)
    return images, factors


def render(face: Face, size: int = 64) -> npt.NDArray[np.uint8]:
    """Draw a face.

    Equal factors give equal bytes with the same NumPy and Pillow. On another kind of processor, sines may differ in
    their last bit, and with them a few pixels.

    Args:
        face: its factors.
        size: side in pixels, 16 to 1024.

    Returns:
        uint8 (size, size, 3) in sRGB.

    Raises:
        UsageError: the size is out of range.
    """
    _check_size(size)
    canvas = _Canvas(face, 3 * size)
    _draw_background(canvas)
    _draw_back_hair(canvas)
    _draw_body(canvas)
    _draw_head(canvas)
    for side in (-1, 1):
        _draw_eye(canvas, side)
    _draw_nose(canvas)
    _draw_mouth(canvas)
    _draw_front_hair(canvas)
    for side in (-1, 1):
        _draw_brow(canvas, side)
    if face.glasses >= 0.5:
        _draw_glasses(canvas)
    return np.asarray(canvas.image.resize((size, size), Image.Resampling.LANCZOS))


def _check_size(size: int) -> None:
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UsageError(f"Cannot draw faces of {size} pixels: give a size from {MIN_SIZE} to {MAX_SIZE}.")


class _Canvas:
    """A portrait being drawn: the image, the head's geometry, its light, and its colours."""

    def __init__(self, face: Face, pixels: int) -> None:
        self.face = face
        self.pixels = pixels
        self.image = Image.new("RGB", (pixels, pixels))
        self.pen = ImageDraw.Draw(self.image, "RGBA")  # colours with an alpha blend
        self.yaw = math.radians(28 * face.yaw)
        self.sin_yaw, self.sin_pitch = math.sin(self.yaw), math.sin(math.radians(14 * face.pitch))
        self.cos_roll, self.sin_roll = math.cos(math.radians(12 * face.roll)), math.sin(math.radians(12 * face.roll))
        self.half_width = 0.405 + 0.085 * face.width
        self.jaw_squareness = -0.55 + 1.25 * face.jaw
        self.skin = _ramp(SKIN, face.skin)
        self.hair = _ramp(HAIR, face.hair_tone)
        self.shadow_side = -1.0 if face.light > 0 else 1.0
        self.depth = 0.3 + 0.5 * face.contrast  # of shadows

        # The coarse grid in head coordinates: u is -1..1 across the silhouette at height v.
        axis = (np.arange(GRID) + 0.5) / GRID * 2 - 1
        self.x, self.y = axis[None, :], axis[:, None]
        across = self.cos_roll * self.x + self.sin_roll * (self.y - PIVOT_Y)
        down = self.cos_roll * (self.y - PIVOT_Y) - self.sin_roll * self.x + PIVOT_Y
        self.v = (down - CENTRE_Y) / HALF_HEIGHT
        self.u = (across - self.lean(self.v)) / self.half_width_at(np.minimum(np.maximum(self.v, -0.96), 0.93))
        # Light from one side, a little from above and from the front, on an ellipsoid flattened towards the viewer.
        facing = np.sqrt(np.maximum(1 - self.u**2 - 0.7 * self.v**2, 0)) + 0.4
        cosine = self.u * face.light - 0.75 * self.v * 0.45 + facing * 0.9
        cosine /= np.sqrt((self.u**2 + 0.6 * self.v**2 + facing**2) * (face.light**2 + 0.45**2 + 0.9**2))
        self.lit = np.minimum(np.maximum(cosine, 0), 1)

    def half_width_at(self, v: Floats) -> Floats:
        """Half the head's width at heights v: an ellipse, which the jaw factor makes narrower or squarer below."""
        v2 = np.minimum(v * v, 1)
        half: Floats = self.half_width * np.sqrt((1 - v2) * (1 + np.where(v < 0, 0.15, self.jaw_squareness) * v2))
        return half

    def lean(self, v: Floats) -> Floats:
        """How far the turn moves the head's middle sideways at heights v: most at the chin, in front of the neck."""
        return 0.12 * self.sin_yaw * np.minimum(np.maximum(v + 0.5, 0), 1.5)

    def on_head(self, longitude: Floats, v: Floats, out: Floats | float = 0.0) -> Points:
        """Place points on the head, raised by `out` of its half width, before its roll.

        Points that the turn hides are moved to the silhouette.
        """
        turned = np.minimum(np.maximum(longitude * (math.pi / 180) + self.yaw, -QUARTER), QUARTER)
        forward = np.cos(turned) * np.sqrt(np.maximum(1 - 0.8 * v**2, 0)) * (1 + out)
        x = (self.half_width_at(v) + out * self.half_width) * np.sin(turned) + self.lean(v)
        return x, CENTRE_Y + HALF_HEIGHT * (v + 0.75 * self.sin_pitch * forward)

    def tilt(self, points: Points) -> Points:
        """Roll the head about the pivot in the neck."""
        x, y = points[0], points[1] - PIVOT_Y
        return self.cos_roll * x - self.sin_roll * y, self.cos_roll * y + self.sin_roll * x + PIVOT_Y

    def features(self, longitude: Floats, v: Floats, out: Floats | float = 0.0) -> Points:
        return self.tilt(self.on_head(longitude, v, out))

    def to_pixels(self, points: Points) -> Floats:
        """Picture coordinates to (..., 2 n) pixel coordinates x, y, x, y, ... as Pillow takes them."""
        x, y = points
        pixels = np.empty((*x.shape, 2))
        pixels[..., 0], pixels[..., 1] = x, y
        return ((pixels + 1) * (self.pixels / 2)).reshape(*x.shape[:-1], -1)

    def fill(self, points: Points, colour: Colour) -> None:
        self.pen.polygon(self.to_pixels(points).tolist(), fill=colour)

    def stroke(self, points: Points, colour: Colour, width: float) -> None:
        """Draw a line; its width is a share of the picture's side."""
        self.pen.line(self.to_pixels(points).tolist(), fill=colour, width=max(1, round(width * self.pixels)))

    def fill_soft(self, points: Points, colours: Floats) -> None:
        """Fill an outline with a coarse picture, (GRID, GRID, 3) in 0..255, scaled up."""
        outline = self.to_pixels(points)
        left, right = max(int(outline[::2].min()), 0), min(int(outline[::2].max()) + 2, self.pixels)
        top, bottom = max(int(outline[1::2].min()), 0), min(int(outline[1::2].max()) + 2, self.pixels)
        outline[::2] -= left
        outline[1::2] -= top
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).polygon(outline.tolist(), fill=255)
        self.image.paste(self.scaled_up(colours, (left, top, right, bottom)), (left, top), mask)

    def scaled_up(self, colours: Floats, box: tuple[int, int, int, int]) -> Image.Image:
        """The part of a coarse picture that covers the box of pixels."""
        left, top, right, bottom = box
        coarse = Image.fromarray(np.minimum(np.maximum(colours, 0), 255).astype(np.uint8))
        share = GRID / self.pixels
        source = (left * share, top * share, right * share, bottom * share)
        return coarse.resize((right - left, bottom - top), Image.Resampling.BILINEAR, source)

    def shaded(self, colour: Floats, softness: float = 1.0) -> Floats:
        """The coarse picture of a coloured head in the light. Shadows keep more red than blue, as in skin and hair."""
        dark = (1 - self.lit) * self.depth * softness
        return colour * (1.05 - dark[..., None] * (0.92, 1.04, 1.08))

    def spots(self, *spots: tuple[float, ...]) -> Floats:
        """Sum soft spots on the head on the coarse grid: each is (weight, longitude, v, x radius, y radius, out)."""
        weight, longitude, v, radius_x, radius_y, out = np.array(spots).T
        x, y = self.features(longitude, v, out)
        columns = np.exp(-(((self.x - x[:, None]) / radius_x[:, None]) ** 2))
        rows = np.exp(-(((self.y - y) / radius_y) ** 2)) * weight
        summed: Floats = rows @ columns
        return summed


def _ramp(stops: tuple[Colour, ...], position: float) -> Floats:
    places = np.linspace(0, 1, len(stops))
    return np.array([np.interp(position, places, channel) for channel in zip(*stops, strict=True)])


def _hsv(hue: float, saturation: float, value: float) -> Floats:
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _rgba(colour: Floats, alpha: float = 1.0) -> Colour:
    red, green, blue = colour.tolist()
    return min(int(red), 255), min(int(green), 255), min(int(blue), 255), int(255 * alpha)


def _span(count: int) -> Floats:
    return np.linspace(-1, 1, count)


def _turn(count: int) -> Points:
    angles = 2 * math.pi / count * np.arange(count + 1)
    return np.cos(angles), np.sin(angles)


def _loop(forth: Floats, back: Floats) -> Floats:
    """A closed outline: along one edge of a shape and back along the other."""
    return np.concatenate([forth, back[::-1]])


def _draw_background(canvas: _Canvas) -> None:
    face = canvas.face
    value = 0.22 + 0.70 * face.background_brightness
    colour = _hsv(face.background_hue, 0.42 - 0.22 * face.background_brightness, value)
    glow = np.exp(-((canvas.x - 0.4 * face.light) ** 2 + (canvas.y + 0.1) ** 2) / 0.9)
    colours = colour * (0.88 + 0.2 * glow - 0.06 * canvas.y)[..., None]
    canvas.image.paste(canvas.scaled_up(colours, (0, 0, canvas.pixels, canvas.pixels)))


def _draw_strands(canvas: _Canvas, strands: Points) -> None:
    tones = _rgba(canvas.hair * 0.5, 0.22), _rgba(canvas.hair * 1.12 + 12, 0.22)
    width = max(1, round(0.007 * canvas.pixels))
    for i, strand in enumerate(canvas.to_pixels(strands).tolist()):
        canvas.pen.line(strand, fill=tones[i % 2], width=width)


def _draw_back_hair(canvas: _Canvas) -> None:
    """The hair behind the neck: it widens and falls with its length, and its edge waves."""
    face = canvas.face
    t = np.linspace(0, 1, 24)
    y = -0.3 + (0.55 + 0.75 * face.hair_length) * t
    swing = face.wave * 0.05 * np.sin(t * 20) * t
    spread = canvas.half_width * (1.05 + 0.18 * face.hair_length * np.sin(np.minimum(t * 1.25, 1) * QUARTER))
    spread = spread * np.sqrt(np.maximum(1 - (t * (1.12 - 0.3 * face.hair_length)) ** 6, 0.02))
    lean = canvas.lean(np.zeros(1))
    left, right = lean - spread + swing, lean + spread + 0.8 * swing[::-1]
    colours = canvas.hair * (0.72 + 0.25 * canvas.depth * canvas.x * face.light)[..., None]
    canvas.fill_soft(canvas.tilt((_loop(left, right), _loop(y, y))), np.broadcast_to(colours, (GRID, GRID, 3)))
    if face.hair_length > 0.2:
        share = np.linspace(0.04, 0.96, 16)[:, None]
        _draw_strands(canvas, canvas.tilt((left + (right - left) * share, y + 0 * share)))


def _draw_body(canvas: _Canvas) -> None:
    face = canvas.face
    t = _span(25)
    sideways = np.broadcast_to(canvas.x * face.light * face.contrast, (GRID, GRID))
    cloth = _hsv(face.clothes_hue, 0.48, 0.64)
    shoulders = np.append(0.94 * t, (0.98, -0.98)), np.append(0.64 + 0.34 * np.abs(t) ** 2.4, (1.1, 1.1))
    canvas.fill_soft(shoulders, cloth * (0.92 + 0.25 * sideways - 0.25 * np.abs(canvas.x) ** 3)[..., None])

    under_chin = np.exp(-(((canvas.y - 0.50) / 0.16) ** 2)) * np.exp(-((canvas.x / 0.4) ** 2))
    dark = (0.45 + 0.75 * under_chin) * canvas.depth - 0.20 * sideways
    neck = canvas.skin * (1.05 - dark[..., None] * (0.80, 1.0, 1.06))
    y = np.linspace(0.25, 0.66, 9)
    half = 0.56 * canvas.half_width * (1 + 0.45 * np.maximum((y - 0.50) / 0.16, 0) ** 2)
    lean = (0.05 * canvas.sin_yaw - 0.12 * canvas.sin_roll) * np.minimum((0.7 - y) / 0.45, 1)
    collar = 0.335 * t, 0.655 + 0.13 * np.sqrt(1 - t**2)
    outline = np.concatenate([lean - half, collar[0], (lean + half)[::-1]])
    canvas.fill_soft((outline, np.concatenate([y, collar[1], y[::-1]])), neck)
    canvas.stroke((collar[0], collar[1] + 0.008), _rgba(cloth * 0.62, 0.9), 0.014)


def _draw_head(canvas: _Canvas) -> None:
    face = canvas.face
    colours = canvas.shaded(canvas.skin)
    near, far = -canvas.shadow_side, canvas.shadow_side
    blush = canvas.spots((1, 34, 0.36, 0.13, 0.10, 0), (1, -34, 0.36, 0.13, 0.10, 0))
    bright = canvas.spots(
        (0.7, 6 * near, -0.40, 0.18, 0.12, 0),  # forehead
        (0.5, 30 * near, 0.24, 0.08, 0.06, 0),  # cheekbone
        (1.0, 0, 0.20, 0.035, 0.18, 0.12),  # ridge of the nose
        (0.5, 0, 0.88, 0.08, 0.05, 0),  # chin
    )
    dark = canvas.spots(
        (abs(face.light), 9 * far, 0.24, 0.05, 0.14, 0.05),  # side of the nose
        (0.6, 22, EYE_V - 0.08, 0.13, 0.06, 0),  # sockets of the eyes
        (0.6, -22, EYE_V - 0.08, 0.13, 0.06, 0),
        (0.9, 0, 0.78, 0.11, 0.035, 0),  # below the lips
    )
    light = 0.10 * bright * canvas.lit - 0.28 * dark * canvas.depth
    colours += canvas.skin * (light[..., None] - blush[..., None] * (0.0, 0.10, 0.09))
    if face.beard:
        reach = 1 / (1 + np.exp(14 * (0.46 - canvas.v - 0.28 * np.minimum(np.abs(canvas.u), 1) ** 2)))
        mouth, moustache = (0.95, 0, MOUTH_V, 0.13, 0.05, 0), (1, 0, 0.475, 0.13, 0.03, 0)
        reach = np.maximum(reach - canvas.spots(mouth), 0) + canvas.spots(moustache)
        share = (0.85 * face.beard * np.minimum(reach, 1))[..., None]
        colours += share * (canvas.shaded(canvas.hair) - colours)

    cos, sin = _turn(16)
    for side in (-1, 1):  # the head covers the ear that it turns away from the viewer
        middle = side * canvas.half_width * (1.02 - 0.25 * max(side * canvas.sin_yaw, 0)) - 0.06 * canvas.sin_yaw
        level = CENTRE_Y + HALF_HEIGHT * (0.16 - 0.25 * canvas.sin_pitch)
        cheek = colours[GRID // 2, int((middle + 1) / 2 * GRID) - side * 2]
        canvas.fill(canvas.tilt((middle + 0.055 * cos, level + 0.115 * sin)), _rgba(cheek * 0.9))
    v = np.sin(_span(29) * QUARTER)
    half, lean, y = canvas.half_width_at(v), canvas.lean(v), CENTRE_Y + HALF_HEIGHT * v
    canvas.fill_soft(canvas.tilt((_loop(lean - half, lean + half), _loop(y, y))), colours)


def _draw_eye(canvas: _Canvas, side: int) -> None:
    face = canvas.face
    s = _span(13)
    longitude = EYE_LONGITUDE * side + 13 * s
    slant = -0.010 * s * side
    upper = EYE_V + 0.03 + slant - (0.012 + 0.12 * face.eye_open) * (1 - np.abs(s) ** 2.2)
    lower = EYE_V + 0.03 + slant + 0.044 * (1 - s**2)
    x, y = canvas.features(_loop(longitude, longitude), _loop(upper, lower))

    # The iris is cut off by the lids, so the eye is drawn apart and pasted through its outline.
    box = [int(edge) for edge in canvas.to_pixels((np.array([x.min(), x.max()]), np.array([y.min(), y.max()])))]
    left, top, right, bottom = box[0] - 1, box[1] - 1, box[2] + 2, box[3] + 2
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).polygon((canvas.to_pixels((x, y)) - [left, top] * x.size).tolist(), fill=255)
    eye = Image.new("RGB", mask.size, _rgba(np.array([240.0, 236, 232]) * (1 - 0.1 * canvas.depth))[:3])
    pen = ImageDraw.Draw(eye, "RGBA")
    iris = _ramp(IRIS, face.eye_tone)
    centre = EYE_LONGITUDE * side + 5.2 * face.gaze
    cos, sin = _turn(20)
    radius, offset = np.array([[1.0, 0], [0.8, 0], [0.42, 0], [0.28, 0.35]]).T[..., None]
    discs = canvas.features(
        centre + 6.2 * (radius * cos - offset * canvas.shadow_side), EYE_V + 0.005 + 0.075 * (radius * sin - offset)
    )
    colours = _rgba(iris * 0.5), _rgba(iris * 1.15 + 8), (12, 10, 12, 255), (255, 255, 255, 235)
    for disc, colour in zip(canvas.to_pixels(discs) - [left, top] * cos.size, colours, strict=True):
        pen.polygon(disc.tolist(), fill=colour)
    canvas.image.paste(eye, (left, top), mask)

    lines = np.stack([upper + 0.018, lower, upper, upper - 0.05 + 0.012 * s**2])
    x, y = canvas.features(longitude, lines)
    canvas.stroke((x[0], y[0]), (50, 36, 36, 70), 0.012)  # the lid's shadow
    canvas.stroke((x[1], y[1]), _rgba(canvas.skin * 0.5, 0.4), 0.006)
    canvas.stroke((x[2], y[2]), _rgba(canvas.skin * 0.12, 0.95), 0.013)  # lashes
    canvas.stroke((x[3], y[3]), _rgba(canvas.skin * 0.55, 0.45), 0.006)  # the lid's crease


def _draw_brow(canvas: _Canvas, side: int) -> None:
    """A tapered arch; a frown lowers its inner end."""
    brow = canvas.face.brow
    s = np.linspace(0, 1, 11)  # from the nose outwards
    v = -0.185 - 0.05 * brow - 0.04 * np.sin(s * math.pi * 0.8) + 0.075 * max(-brow, 0) * (1 - s) ** 1.5
    thick = 0.024 * (1 - 0.75 * s**1.5)
    longitude = side * (11 + 29 * s)
    canvas.fill(
        canvas.features(_loop(longitude, longitude), _loop(v - thick, v + thick)),
        _rgba(0.6 * canvas.hair + 0.12 * canvas.skin, 0.88),
    )


def _draw_nose(canvas: _Canvas) -> None:
    shade = canvas.skin * (0.62, 0.50, 0.48)
    s, t = _span(9), np.linspace(0, 1, 8)
    canvas.stroke(canvas.features(7 * s, 0.335 + 0.02 * (1 - s**2) - 0.014 * np.abs(s), 0.10), _rgba(shade, 0.5), 0.010)
    cos, sin = _turn(12)
    for side in (-1, 1):
        canvas.fill(canvas.features(4.4 * side + 1.9 * cos, 0.335 + 0.014 * sin, 0.09), _rgba(canvas.skin * 0.3, 0.55))
    ridge = canvas.features(canvas.shadow_side * (4.5 + 3 * t**3), -0.02 + 0.30 * t, 0.08)
    canvas.stroke(ridge, _rgba(shade, 0.12 + 0.2 * abs(canvas.face.light)), 0.011)


def _draw_mouth(canvas: _Canvas) -> None:
    face = canvas.face
    s = _span(17)
    longitude = (17.5 + 4.5 * max(face.smile, 0) - 2.5 * face.mouth_open) * s
    along = _loop(longitude, longitude)
    bend = MOUTH_V + 0.095 * face.smile * (0.45 - s**2)
    gap = face.mouth_open * (1 - np.abs(s) ** 3)
    top, bottom = bend - 0.05 * gap, bend + 0.12 * gap  # the lips' inner edges
    upper = top - 0.046 * (1 - np.abs(s) ** 1.6) + 0.012 * np.exp(-((s / 0.16) ** 2))
    lower = bottom + 0.060 * (1 - s**2) ** 0.8

    lip = canvas.skin * (0.84, 0.55, 0.56) + (14, 0, 4)
    teeth = bend + 0.005 * gap
    shapes = np.stack([_loop(top, bottom), _loop(top, teeth), _loop(upper, top), _loop(bottom, lower)])
    x, y = canvas.features(along, shapes, 0.03)
    if face.mouth_open > 0.02:
        canvas.fill((x[0], y[0]), (70, 18, 22, 255))
        canvas.fill((x[1], y[1]), (238, 232, 224, 255))
    canvas.fill((x[2], y[2]), _rgba(lip * 0.88))
    canvas.fill((x[3], y[3]), _rgba(lip * 1.06))
    canvas.stroke(
        canvas.features(longitude[5:12], (0.5 * bottom + 0.5 * lower)[5:12], 0.03), (255, 240, 236, 80), 0.010
    )
    canvas.stroke(canvas.features(longitude, top, 0.03), _rgba(canvas.skin * (0.36, 0.2, 0.2), 0.85), 0.008)
    t = np.linspace(0, 1, 7)
    fold = _rgba(canvas.skin * (0.66, 0.5, 0.48), 0.08 + 0.24 * max(face.smile, 0))
    for side in (-1, 1):  # from the nose past the corner of the mouth
        canvas.stroke(canvas.features(side * (11 + 15 * t**0.8), 0.36 + 0.22 * t), fold, 0.009)


def _draw_front_hair(canvas: _Canvas) -> None:
    """The cap of hair: outside a raised silhouette, inside the hairline, which falls to both sides of the part."""
    face = canvas.face
    end = 0.02 + 1.3 * min(max(face.hair_length - 0.15, 0), 0.55)  # how far down the sides it comes
    longitude = np.linspace(-88, 88, 33)
    s = longitude / 88
    top = -0.74 + 0.38 * face.fringe
    fall = top + (0.22 + 0.25 * (1 - face.fringe)) * np.abs(s - 0.45 * face.part) ** 1.5
    fall += 0.02 * (1 + 2 * face.wave) * np.sin(11 * s + 3 * face.part) * face.fringe
    side = np.maximum((np.abs(s) - 0.62) / 0.38, 0) ** 1.3
    hairline = fall * (1 - side) + end * side
    inner_x, inner_y = canvas.on_head(longitude, hairline)

    height = 0.05 + 0.05 * face.hair_length + 0.02 * face.wave
    v = np.sin(np.linspace(math.asin(end), -QUARTER, 17))
    v = _loop(v, v)
    down = np.minimum(v, 0.7)
    outer = (
        canvas.half_width_at(down)
        + 0.72 * height * np.minimum(3 + 3 * v, 1)
        + 0.024 * face.wave * np.sin(1.5 * np.arange(34))
    )
    outer_x = np.repeat([1.0, -1.0], 17) * outer + canvas.lean(down)
    outer_y = CENTRE_Y + HALF_HEIGHT * v - height * np.maximum(-v, 0) ** 2

    under = canvas.features(longitude[4:-4], hairline[4:-4] + 0.03)
    canvas.stroke(under, _rgba(canvas.skin * (0.5, 0.4, 0.38), 0.3), 0.022)
    gloss = np.exp(-(((np.hypot(canvas.u, canvas.v + 0.1) - 0.86) / 0.13) ** 2)) * canvas.lit**2 * (canvas.v < 0.2)
    colours = canvas.shaded(canvas.hair, 0.9) + gloss[..., None] * (20 + 0.2 * canvas.hair)
    canvas.fill_soft(canvas.tilt((np.append(inner_x, outer_x), np.append(inner_y, outer_y))), colours)

    crown_x, crown_y = canvas.on_head(np.array([34 * face.part]), np.array([-0.97]))
    t = np.linspace(0, 1, 8)
    start_y = crown_y - 0.3 * height
    strands_x = crown_x + (inner_x - crown_x)[:, None] * t**0.8 + 0.10 * s[:, None] * np.sin(t * math.pi)
    strands_y = start_y + (inner_y - start_y)[:, None] * t**1.25
    _draw_strands(canvas, canvas.tilt((strands_x[1:-1], strands_y[1:-1])))


def _draw_glasses(canvas: _Canvas) -> None:
    frame, width = (38, 32, 36, 235), 0.013
    cos, sin = (np.sign(wave) * np.abs(wave) ** 0.7 for wave in _turn(28))  # between an ellipse and a rectangle
    for side in (-1, 1):
        lens = canvas.features((EYE_LONGITUDE + 1) * side + 17.5 * cos, EYE_V + 0.04 + 0.17 * sin, 0.08)
        canvas.fill(lens, (235, 244, 255, 26))
        canvas.stroke(lens, frame, width)
        canvas.stroke(canvas.features(side * np.array([44.0, 85.0]), np.full(2, EYE_V), 0.06), frame, width)
    s = _span(7)
    canvas.stroke(canvas.features(9 * s, EYE_V + 0.01 + 0.03 * s**2, 0.12), frame, width)
