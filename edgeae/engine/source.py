"""The C text of a compiled network: NAME.c, its weights, its header, an example, and the Python that calls it.

NAME.c holds the text of each kernel once, at its end, and includes itself for each layer with that layer's sizes as
`#define`s; every name of the text then begins with the layer's. What runs in which order, and where each value lies, is
written out from the plan (plan.py); the threads and the functions that users call are runtime.c.
"""

from __future__ import annotations

import functools
import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae._version import __version__
from edgeae.engine.kernel_text import SECTIONS, kernels
from edgeae.engine.plan import LINE, Operation, Plan
from edgeae.network.parameters import layer_names
from edgeae.network.quantize import GROUP
from edgeae.network.weight_file import WeightFile
from edgeae.runtime.kernels import winograd_plans
from edgeae.runtime.kernels.plans import Constants

Array = npt.NDArray[Any]

_ALIGNED = 64  # bytes


@dataclass(frozen=True)
class Golden:
    """What the self-test expects: outputs in 65535ths at some places of the output of the golden input."""

    places: npt.NDArray[np.int64]
    values: npt.NDArray[np.uint16]
    tolerance: float


@dataclass(frozen=True)
class Source:
    """Everything that the files of one library are made of.

    Attributes:
        name: a C identifier, and the library's name.
        file: the model.
        network: that the plan was made from, for the names of its layers.
        plan: what it does.
        processor: that it is compiled for, in words.
        title: the first line of the header.
        golden: for the self-test.
    """

    name: str
    file: WeightFile
    network: Any
    plan: Plan
    processor: str
    title: str
    golden: Golden

    # ---- the files -------------------------------------------------------------------------------------------------

    def header(self) -> str:
        """NAME.h"""
        code, batch = self.plan.features[0], self.plan.image.shape[0]
        skips = "" if len(self.plan.features) == 1 else "\n// A decoded code lacks what skips it on the way through."
        return self._filled(
            _own("header.h"),
            {
                "CODE": code.size // batch,
                "CODE_SHAPE": " x ".join(map(str, code.shape[1:])),
                "SKIPS": skips,
            },
        )

    def code(self) -> str:
        """NAME.c"""
        stored, _ = self._stored
        names = self._layer_names()
        layers = self._layers(names, stored)
        network = [
            *self._run_layer(names, layers.calls),
            *self._features(),
            _widening(self.file.scheme),
            "// Once: weights to floats, and to the factors of Winograd's products. `v` is not in use yet.",
            "static void prepare_weights(float *w, float *v)",
            "{",
            "    (void)v;",
            *layers.prepared,
            "}",
            "",
            *self._golden(),
        ]
        lines = [
            _own("head.c"),
            *layers.sections,
            *self._memory(layers),
            "",
            _own("runtime.c").replace("@NETWORK@", "\n".join(network)),
            "#else // ---- the kernels ----------------------------------------------------------------------",
            "",
            *kernels(self.plan),
            "#endif",
        ]
        text = self._filled("\n".join(lines) + "\n", {})
        return text.replace("@METADATA@", _quoted(json.dumps(self._metadata())))

    def weights(self) -> str:
        """NAME_weights.c"""
        _, data = self._stored
        lines = "".join(f'"{_escaped(data[i : i + 64])}"\n' for i in range(0, len(data), 64))
        head = self._filled(
            f"// The weights of NAME.c ({self.file.scheme}), which says where each begins.\n\n"
            f"extern const unsigned char NAME_stored[{len(data)}];\n"
            f"_Alignas({_ALIGNED}) const unsigned char NAME_stored[{len(data)}] =\n",
            {},
        )
        return f"{head}{lines};\n"

    def example(self) -> str:
        """example.c"""
        return self._filled(_own("example.c"), {})

    def wrapper(self) -> str:
        """edgeae_NAME.py"""
        return self._filled(_own("wrapper.txt"), {"CODE_SHAPE": repr(self.plan.features[0].shape[1:])})

    def readme(self) -> str:
        """README.md"""
        return self._filled(_own("readme.txt"), {})

    # ---- parts of NAME.c -------------------------------------------------------------------------------------------

    def _filled(self, text: str, values: dict[str, Any]) -> str:
        batch, height, width, channels = self.plan.image.shape
        common = {
            "TITLE": self.title,
            "PROCESSOR": self.processor,
            "WIDTH": width,
            "HEIGHT": height,
            "CHANNELS_IN": channels,
            "CHANNELS_OUT": self.plan.output.shape[-1],
            "BATCH": batch,
            "THREADS": self.plan.threads,
        }
        for key, value in (common | values).items():
            text = text.replace(f"@{key}@", str(value))
        return text.replace("NAME", self.name)

    def _metadata(self) -> dict[str, Any]:
        batch, height, width, _ = self.plan.image.shape
        own_size = height == width == self.file.config.size
        kept = {key: value for key, value in self.file.metadata.items() if own_size or key != "golden"}
        return kept | {
            "library": {
                "width": width,
                "height": height,
                "batch": batch,
                "threads": self.plan.threads,
                "edgeae_version": __version__,
            }
        }

    def _layer_names(self) -> dict[int, str]:
        return layer_names(self.network)

    @functools.cached_property
    def _stored(self) -> tuple[dict[str, int], bytes]:
        """Where each tensor begins, and all their bytes."""
        places: dict[str, int] = {}
        data = bytearray()
        for name in [name for layer in self._ordered() for name in self._tensors(layer)]:
            data += bytes(-len(data) % _ALIGNED)
            places[name] = len(data)
            data += np.ascontiguousarray(self.file.tensors[name]).tobytes()
        return places, bytes(data)

    def _ordered(self) -> list[str]:
        names = self._layer_names()
        return list(dict.fromkeys(names[id(operation.layer)] for operation in self.plan.operations))

    def _tensors(self, layer: str) -> list[str]:
        names = [f"{layer}.weight", f"{layer}.weight.scale", f"{layer}.bias"]
        return [name for name in names if name in self.file.tensors]

    def _layers(self, names: dict[int, str], stored: dict[str, int]) -> _Layers:
        made: dict[str, str] = {}
        lines: list[str] = []

        def section(label: str, function: str, constants: Constants, comment: str) -> str:
            """What the names of the section of these constants begin with, which is made where there is none yet."""
            defines = "".join(f"#define {name} {value}\n" for name, value in constants.items())
            key = f"{function} {defines}"
            if key not in made:
                made[key] = label
                lines.extend(
                    [
                        f"// {comment}",
                        f"#define LAYER {label}",
                        f"#define SECTION {SECTIONS.index(function)}",
                        defines + '#include "NAME.c"',
                        "",
                    ]
                )
            return made[key]

        calls, prepared, used = [], [], []
        floats = wide = 0
        for operation in self.plan.operations:
            name = names[id(operation.layer)]
            label = name.replace(".", "_")
            comment = f"{name}: {_described(operation)}"
            kernel = section(label, operation.function, operation.constants, comment)
            used.append(kernel)
            count, scale = operation.shape.weights, "0"
            if operation.factors is None:
                prepared.append(self._widen(f"w + {floats}", name, stored, operation))
            else:
                make = section(
                    f"{label}_factors", "winograd_weights", operation.factors, f"{name}: its weights' factors"
                )
                if operation.factors["WEIGHT_BITS"] == 32:
                    wide = max(wide, _whole_lines(count))
                    prepared += [self._widen("v", name, stored, operation), f"    {make}_run(w + {floats}, v);"]
                else:
                    prepared.append(f"    {make}_run(w + {floats}, NAME_stored + {stored[f'{name}.weight']});")
                    scale = f"FLOATS({stored[f'{name}.weight.scale']})"
                count = (
                    math.prod(winograd_plans.factors(operation.constants)) * int(operation.factors["FACTOR_BITS"]) // 32
                )
            add = "0" if operation.add is None else f"v + {operation.add}"
            calls.append(
                f"{kernel}_run(v + {operation.out}, v + {operation.x}, w + {floats}, {scale}, "
                f"FLOATS({stored[f'{name}.bias']}), {add}, h->scratch[core].{kernel}, core);"
            )
            floats += _whole_lines(count)
        return _Layers(lines, list(dict.fromkeys(used)), calls, prepared, floats, wide)

    def _widen(self, to: str, name: str, stored: dict[str, int], operation: Operation) -> str:
        size, columns = operation.shape.weights, operation.shape.c_out
        block = columns if operation.factors else operation.constants["WEIGHT_ROW"]
        scale = f"NAME_stored + {stored[f'{name}.weight.scale']}" if f"{name}.weight.scale" in stored else "0"
        return (
            f"    widen({to}, NAME_stored + {stored[f'{name}.weight']}, {scale}, {size // columns}, {columns}, "
            f"{block});"
        )

    def _memory(self, layers: _Layers) -> list[str]:
        plan = self.plan
        walked = sum(place.size // plan.image.shape[0] for place in plan.features)
        return [
            "// What a core needs for itself while it computes a layer.",
            "typedef union {",
            *(f"    _Alignas({_ALIGNED}) float {kernel}[{kernel}_SCRATCH];" for kernel in layers.kernels),
            "} workspace;",
            "",
            "enum {",
            f"    STEPS = {len(plan.operations) + 2}, // loading images, the layers, storing images",
            f"    FEATURES_END = {len(plan.encoder) + 1}, // the step after those that make the code and what skips it",
            f"    VALUE_FLOATS = {max(plan.floats, layers.wide)}, WEIGHT_FLOATS = {layers.weight_floats},",
            f"    WALK_FLOATS = {2 * walked},",
            f"    AT_IMAGE = {plan.image.at}, AT_CODE = {plan.features[0].at}, AT_OUTPUT = {plan.output.at},",
            "};",
        ]

    def _run_layer(self, names: dict[int, str], calls: Sequence[str]) -> list[str]:
        lines = [
            "// The share of a core of one layer. `v` is where the layers' outputs lie, `w` weights, prepared.",
            "static void run_layer(const NAME *h, int number, int core)",
            "{",
            "    float *const v = h->values;",
            "    const float *const w = h->weights;",
            "    switch (number) {",
        ]
        for number, (operation, call) in enumerate(zip(self.plan.operations, calls, strict=True), 1):
            lines.append(f"    case {number}: {call} break; // {names[id(operation.layer)]}")
        return [*lines, "    }", "}", ""]

    def _features(self) -> list[str]:
        """What is done with the features beside running layers."""
        batch = self.plan.image.shape[0]
        skips = self.plan.features[1:]
        sizes = [place.size // batch for place in self.plan.features]
        forget = [f"    memset(h->values + {place.at}, 0, {place.size} * sizeof(float));" for place in skips]
        keep, mix, at = [], [], 0
        for place, size in zip(self.plan.features, sizes, strict=True):
            keep.append(f"    memcpy(to + {at}, h->values + {place.at}, {size} * sizeof(float));")
            mix.append(
                f"    mix(h->values + {place.at} + (size_t)frame * {size}, h->walk + {at}, "
                f"h->walk + {at + sum(sizes)}, t, {size});"
            )
            at += size
        return [
            "// What skips the code is left out of what it decodes to.",
            "static void forget_skips(const NAME *h)",
            "{",
            *(forget or ["    (void)h;"]),
            "}",
            "",
            "static void keep_features(const NAME *h, float *to)",
            "{",
            *keep,
            "}",
            "",
            "static void mix(float *to, const float *a, const float *b, float t, int n)",
            "{",
            "    for (int i = 0; i < n; i++) to[i] = (1.0f - t) * a[i] + t * b[i];",
            "}",
            "",
            "static void mix_features(const NAME *h, int frame, float t)",
            "{",
            *mix,
            "}",
            "",
        ]

    def _golden(self) -> list[str]:
        places, values = ", ".join(map(str, self.golden.places)), ", ".join(map(str, self.golden.values))
        return [
            f"enum {{ GOLDEN_SAMPLES = {len(self.golden.places)} }};",
            f"#define GOLDEN_TOLERANCE {self.golden.tolerance}f",
            *_wrapped(f"static const int golden_places[] = {{{places}}};"),
            *_wrapped(f"static const uint16_t golden[] = {{{values}}};"),
            "",
        ]


@dataclass(frozen=True)
class _Layers:
    """What NAME.c says of the layers.

    Attributes:
        sections: the inclusions of itself.
        kernels: what the names of those begin with that compute layers.
        calls: of each operation.
        prepared: the lines that prepare the weights.
        weight_floats: that these then take.
        wide: floats that are needed for a while to prepare them.
    """

    sections: list[str]
    kernels: list[str]
    calls: list[str]
    prepared: list[str]
    weight_floats: int
    wide: int


def _whole_lines(floats: int) -> int:
    return -(-floats // LINE) * LINE


def _described(operation: Operation) -> str:
    shape = operation.shape
    kind = f"{shape.kernel}x{shape.kernel}" + (" up" if shape.up else " down" if shape.stride == 2 else "")
    out_h, out_w = shape.out_size
    return (
        f"{kind}, {shape.height} x {shape.width} x {shape.c_in} to {out_h} x {out_w} x {shape.c_out}, "
        f"{operation.function}"
    )


# ---- weights -----------------------------------------------------------------------------------------------------

# A weight of a matrix of `columns`, as each scheme stores it (quantize.py).
_NUMBERS = {
    "none": "return ((const float *)from)[row * columns + c];",
    "fp16": "return half(from + 2 * (row * columns + c));",
    "int8": "return (float)((const signed char *)from)[row * columns + c] * ((const float *)scale)[c];",
    "int4": f"""const int two = from[row / 2 * columns + c], value = (two >> row % 2 * 4 & 15) - 8;
    return (float)value * half(scale + 2 * (row / {GROUP} * columns + c));""",
}
_HALF = """// A half float in float.
static float half(const unsigned char *at)
{
    const uint32_t h = (uint32_t)(at[0] | at[1] << 8), special = (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
    union { uint32_t bits; float number; } f = {.bits = (h & 0x7fff) << 13};
    f.number *= 0x1p112f; // exact: the exponent grows from 5 bits to 8
    f.bits |= (h & 0x8000) << 16 | special;
    return f.number;
}
"""
_WIDEN = """// A stored weight.
static inline float number(const unsigned char *from, const unsigned char *scale, long row, long c, long columns)
{
    @NUMBER@
}

// rows x columns stored weights to floats, `block` columns at a time: in the order in which a layer reads them.
static void widen(float *restrict to, const unsigned char *from, const unsigned char *scale, long rows, long columns,
                  long block)
{
    for (long first = 0; first < columns; first += block)
        for (long row = 0; row < rows; row++, to += block)
            for (long c = 0; c < block; c++) to[c] = number(from, scale, row, first + c, columns);
}
"""


def _widening(scheme: str) -> str:
    """The C functions that make floats of stored weights."""
    return (_HALF + "\n" if scheme in ("fp16", "int4") else "") + _WIDEN.replace("@NUMBER@", _NUMBERS[scheme])


_ESCAPES = {byte: f"\\{byte:03o}" for byte in range(256)}
_ESCAPES |= {byte: chr(byte) for byte in range(32, 127) if chr(byte) != "?"}  # which might begin a trigraph
_ESCAPES |= {ord('"'): '\\"', ord("\\"): "\\\\"}


def _escaped(data: bytes) -> str:
    return "".join([_ESCAPES[byte] for byte in data])


def _quoted(text: str) -> str:
    data = text.encode()
    return "".join(f'\n    "{_escaped(data[i : i + 90])}"' for i in range(0, len(data), 90))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 118, subsequent_indent="    ")


def _own(name: str) -> str:
    return (Path(__file__).parent / name).read_text()
