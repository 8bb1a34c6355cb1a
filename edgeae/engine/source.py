"""Write the C source of a compiled network: NAME.c and NAME_weights.c.

NAME.c has the text of each kernel once, at its end (kernel_text.py), and includes itself for each layer with that
layer's sizes as `#define`s. The order of the layers and the places of their values in memory come from the plan
(plan.py). Threads and the functions that users call are runtime.c. Templates have `NAME` for the library's name, and
`@KEY@` for each value.
"""

from __future__ import annotations

import functools
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae._version import __version__
from edgeae.engine.kernel_text import SECTIONS, kernel_lines
from edgeae.engine.plan import EnginePlan, Operation, whole_lines
from edgeae.engine.weight_text import ALIGNMENT, StoredWeights, quote, store, widening_functions
from edgeae.network.parameters import layer_names
from edgeae.network.weight_file import WeightFile
from edgeae.runtime.kernels import winograd_plans
from edgeae.runtime.kernels.plans import Constants


@dataclass(frozen=True)
class GoldenOutput:
    """What the self-test expects of the golden input (inference/golden.py).

    Attributes:
        places: indices into the flat output.
        values: the output there, in 65535ths.
        tolerance: largest difference that passes, for outputs in [0, 1].
    """

    places: npt.NDArray[np.int64]
    values: npt.NDArray[np.uint16]
    tolerance: float


@dataclass(frozen=True)
class NetworkCode:
    """The C source of one compiled network.

    Attributes:
        name: the library's name, a C identifier.
        file: the model.
        network: the one that the plan was made from, for the names of its layers.
        plan: its operations and their memory.
        processor: the one that it is compiled for, in words.
        title: first line of the files for users.
        golden: for the self-test.
    """

    name: str
    file: WeightFile
    network: Any
    plan: EnginePlan
    processor: str
    title: str
    golden: GoldenOutput

    # ---- the files -------------------------------------------------------------------------------------------------

    def network_c(self) -> str:
        """Return the text of NAME.c."""
        layers = self._layers()
        network = [
            *self._run_layer(layers.calls),
            *self._features(),
            widening_functions(self.file.scheme),
            "// Once: weights to floats, and to the factors of Winograd's products. `v` is not in use yet.",
            "static void prepare_weights(float *w, float *v)",
            "{",
            "    (void)v;",
            *layers.preparations,
            "}",
            "",
            *self._golden(),
        ]
        lines = [
            _read_template("head.c"),
            *layers.sections,
            *self._memory(layers),
            "",
            _read_template("runtime.c").replace("@NETWORK@", "\n".join(network)),
            "#else // ---- the kernels ----------------------------------------------------------------------",
            "",
            *kernel_lines(self.plan),
            "#endif",
        ]
        text = self.fill("\n".join(lines) + "\n")
        # Last, since the metadata may hold `NAME` or `@` themselves.
        metadata = "".join(f"\n    {literal}" for literal in quote(json.dumps(self._metadata()).encode(), 90))
        return text.replace("@METADATA@", metadata)

    def weights_c(self) -> str:
        """Return the text of NAME_weights.c."""
        data = self._stored.data
        head = self.fill(
            f"// The weights of NAME.c ({self.file.scheme}), which says where each begins.\n\n"
            f"extern const unsigned char NAME_stored[{len(data)}];\n"
            f"_Alignas({ALIGNMENT}) const unsigned char NAME_stored[{len(data)}] =\n"
        )
        return head + "".join(f"{literal}\n" for literal in quote(data, 64)) + ";\n"

    def fill(self, template: str, values: Mapping[str, object] | None = None) -> str:
        """Fill a template: `NAME`, `@WIDTH@` and the other values that all files share, and those given here."""
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
        for key, value in {**common, **(values or {})}.items():
            template = template.replace(f"@{key}@", str(value))
        return template.replace("NAME", self.name)

    # ---- parts of NAME.c -------------------------------------------------------------------------------------------

    def _metadata(self) -> dict[str, Any]:
        batch, height, width, _ = self.plan.image.shape
        own_size = height == width == self.file.config.size  # the one that the file's golden output is for
        metadata = {key: value for key, value in self.file.metadata.items() if own_size or key != "golden"}
        return metadata | {
            "library": {
                "width": width,
                "height": height,
                "batch": batch,
                "threads": self.plan.threads,
                "edgeae_version": __version__,
            }
        }

    @functools.cached_property
    def _names(self) -> dict[int, str]:
        """Names of the network's layers by their id."""
        return layer_names(self.network)

    @functools.cached_property
    def _stored(self) -> StoredWeights:
        names = dict.fromkeys(self._names[id(operation.layer)] for operation in self.plan.operations)
        return store(self.file.tensors, names)

    def _layers(self) -> _Layers:
        """Write the sections, the calls and the preparations of all operations.

        In C, `w` is the memory of the prepared weights and `v` that of the values, where one layer's stored weights are
        widened to before Winograd's factors are made of them.
        """
        labels: dict[str, str] = {}  # of the sections so far, by their function and constants
        lines: list[str] = []

        def section(label: str, function: str, constants: Constants, comment: str) -> str:
            """Return the prefix of a section's names. Layers of the same constants share one section."""
            defines = "".join(f"#define {name} {value}\n" for name, value in constants.items())
            key = f"{function} {defines}"
            if key not in labels:
                labels[key] = label
                lines.extend(
                    [
                        f"// {comment}",
                        f"#define LAYER {label}",
                        f"#define SECTION {SECTIONS.index(function)}",
                        defines + '#include "NAME.c"',
                        "",
                    ]
                )
            return labels[key]

        calls, preparations, kernels = [], [], []
        offsets = self._stored.offsets
        floats = wide = 0
        for operation in self.plan.operations:
            name = self._names[id(operation.layer)]
            label = name.replace(".", "_")
            comment = f"{name}: {_describe(operation)}"
            kernel = section(label, operation.function, operation.constants, comment)
            kernels.append(kernel)
            # `scale` is for a kernel that reads 16-bit factors; all others find the scale in the prepared weights.
            count, scale = operation.shape.weights, "0"
            if operation.factors is None:
                preparations.append(self._widen(f"w + {floats}", name, operation))
            else:
                make = section(
                    f"{label}_factors", "winograd_weights", operation.factors, f"{name}: its weights' factors"
                )
                if operation.factors["WEIGHT_BITS"] == 32:
                    wide = max(wide, whole_lines(count))
                    preparations += [self._widen("v", name, operation), f"    {make}_run(w + {floats}, v);"]
                else:
                    preparations.append(f"    {make}_run(w + {floats}, NAME_stored + {offsets[f'{name}.weight']});")
                    scale = f"FLOATS({offsets[f'{name}.weight.scale']})"
                count = (
                    math.prod(winograd_plans.factors(operation.constants)) * int(operation.factors["FACTOR_BITS"]) // 32
                )
            add = "0" if operation.add is None else f"v + {operation.add}"
            calls.append(
                f"{kernel}_run(v + {operation.out}, v + {operation.x}, w + {floats}, {scale}, "
                f"FLOATS({offsets[f'{name}.bias']}), {add}, h->scratch[core].{kernel}, core);"
            )
            floats += whole_lines(count)
        return _Layers(lines, list(dict.fromkeys(kernels)), calls, preparations, floats, wide)

    def _widen(self, to: str, name: str, operation: Operation) -> str:
        """Write the call that makes floats of a layer's stored weights."""
        offsets = self._stored.offsets
        size, columns = operation.shape.weights, operation.shape.c_out
        block = columns if operation.factors else operation.constants["WEIGHT_ROW"]
        scale = f"NAME_stored + {offsets[f'{name}.weight.scale']}" if f"{name}.weight.scale" in offsets else "0"
        return (
            f"    widen({to}, NAME_stored + {offsets[f'{name}.weight']}, {scale}, {size // columns}, {columns}, "
            f"{block});"
        )

    def _memory(self, layers: _Layers) -> list[str]:
        """Write the sizes and places of all memory."""
        plan = self.plan
        walked = sum(place.size // plan.image.shape[0] for place in plan.features)
        return [
            "// What a core needs for itself while it computes a layer.",
            "typedef union {",
            *(f"    _Alignas({ALIGNMENT}) float {kernel}[{kernel}_SCRATCH];" for kernel in layers.kernels),
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

    def _run_layer(self, calls: Sequence[str]) -> list[str]:
        """Write the function that runs one layer by its number, from 1 on: step 0 loads the images."""
        lines = [
            "// The share of a core of one layer. `v` is where the layers' outputs lie, `w` weights, prepared.",
            "static void run_layer(const NAME *h, int number, int core)",
            "{",
            "    float *const v = h->values;",
            "    const float *const w = h->weights;",
            "    switch (number) {",
        ]
        for number, (operation, call) in enumerate(zip(self.plan.operations, calls, strict=True), 1):
            lines.append(f"    case {number}: {call} break; // {self._names[id(operation.layer)]}")
        return [*lines, "    }", "}", ""]

    def _features(self) -> list[str]:
        """Write the functions that clear, keep and mix the features."""
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
    """The parts of NAME.c that are about layers.

    Attributes:
        sections: lines with which NAME.c includes itself.
        kernels: prefixes of the sections that compute layers.
        calls: C statement of each operation.
        preparations: C statements that prepare the weights.
        weight_floats: floats of all prepared weights.
        wide: floats of scratch memory that the preparation takes.
    """

    sections: list[str]
    kernels: list[str]
    calls: list[str]
    preparations: list[str]
    weight_floats: int
    wide: int


def _describe(operation: Operation) -> str:
    shape = operation.shape
    kind = f"{shape.kernel}x{shape.kernel}" + (" up" if shape.up else " down" if shape.stride == 2 else "")
    out_h, out_w = shape.out_size
    return (
        f"{kind}, {shape.height} x {shape.width} x {shape.c_in} to {out_h} x {out_w} x {shape.c_out}, "
        f"{operation.function}"
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 118, subsequent_indent="    ")


def _read_template(name: str) -> str:
    return (Path(__file__).parent / name).read_text()
