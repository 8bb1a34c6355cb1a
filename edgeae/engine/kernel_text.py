"""Write the end of NAME.c: the C text of the kernels, with names that are each layer's own.

The files of runtime/kernels are written as if a program had one layer: functions such as `convolution` and `tile`,
types such as `vec`, and constants such as `ROW` depend on the layer's sizes, which are macros (`C_IN`, `OUT_H`, …).
NAME.c has their text once and includes itself for each layer. Each time it

1. takes the layer's sizes, and `LAYER`, a prefix, as macros that stand before the `#include`;
2. turns every name that the text defines into a macro for `LAYER_name`, so that one C file can hold all the layers;
3. compiles the part of the text that the layer's kernel needs: `SECTION`, its number in `SECTIONS`;
4. drops all these macros again, for the next layer.

The names of step 2 are found by regular expressions in the kernels' text, which must keep to their style:

- a function begins a line with `INLINE`, its type, and its name, all on this line;
- a typedef of a name ends on its line, or has its `__attribute__` there;
- a constant stands in an `enum { … }` without braces or parenthesized commas inside;
- a macro begins a line with `#define`, without spaces before it.

A function or constant that is defined in another style is not renamed, and with two layers the C compiler reports it
as defined twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from edgeae.engine.plan import EnginePlan
from edgeae.runtime.kernels.plans import NARROW
from edgeae.runtime.kernels.programs import ARGUMENTS, FILES, interleave, read_text

SECTIONS = ("convolution", "narrow", "winograd", "winograd_weights")  # kernels by their value of SECTION

# What a layer that has no use for these constants takes; the other constants are always defined.
_DEFAULTS = {"ACTIVATION": "NO_ACTIVATION", "GRADIENT_OF": "NO_ACTIVATION", "FACTOR_BITS": "32"}


def kernel_lines(plan: EnginePlan) -> list[str]:
    """Return the end of NAME.c for the kernels that a plan uses."""
    constants = _constants(plan)
    functions = list(constants)
    files = {function: (*FILES[function][1], FILES[function][0]) for function in functions}
    texts = {name: read_text(name) for function in functions for name in files[function]}
    shuffles = _shuffles(plan)
    macros: set[str] = set()
    names: dict[str, set[str]] = {}
    for function in functions:
        bodies = [texts[name] for name in files[function]]
        own_macros = {name for text in bodies for name in re.findall(r"^#define (\w+)", text, re.M)}
        defined = {name for text in [*bodies, *shuffles.values()] for name in _defined_names(text)}
        # A macro cannot be renamed by a macro; the files define it anew for each layer.
        names[function] = defined - own_macros - constants[function]
        macros |= own_macros
    lines = [*_renaming(names)]
    for name, default in _DEFAULTS.items():
        lines += [f"#ifndef {name}", f"#define {name} {default}", "#endif"]
    lines.append("")
    for name, text in texts.items():
        sections = [SECTIONS.index(function) for function in functions if name in files[function]]
        lines.append("#if " + " || ".join(f"SECTION == {number}" for number in sections) + f" // {name}")
        if name == "transpose.h":
            lines += _shuffle_lines(shuffles)
        lines += [text.rstrip(), "#endif", ""]
    for function in functions:
        lines += [f"#if SECTION == {SECTIONS.index(function)}", *_entry(function), "#endif", ""]
    dropped = {"LAYER", "SECTION", "JOINED", "JOINED_", *_DEFAULTS, *macros}
    return [*lines, *(f"#undef {name}" for name in sorted(dropped.union(*names.values(), *constants.values())))]


def _constants(plan: EnginePlan) -> dict[str, set[str]]:
    """Return the names of the constants that each used kernel gets, kernels in the order of their first use."""
    constants: dict[str, set[str]] = {}
    for operation in plan.operations:
        constants.setdefault(operation.function, set()).update(operation.constants)
    for operation in plan.operations:
        if operation.factors:
            constants.setdefault("winograd_weights", set()).update(operation.factors)
    return constants


def _shuffles(plan: EnginePlan) -> dict[tuple[int, int], str]:
    """Return the texts of `interleave_COUNT` by (COUNT, LANES): of two vectors, and of a narrow layer's channels."""
    pairs = {
        (count, int(operation.constants["LANES"]))
        for operation in plan.operations
        for count in {2, int(operation.constants["C_OUT"])}
        if count <= NARROW
    }
    return {pair: interleave(*pair) for pair in sorted(pairs)}


def _shuffle_lines(shuffles: dict[tuple[int, int], str]) -> Iterator[str]:
    for (count, lanes), text in shuffles.items():
        only_channels = "" if count == 2 else f" && C_OUT == {count}"
        yield from (f"#if LANES == {lanes}{only_channels}", text.rstrip(), "#endif")


def _renaming(names: dict[str, set[str]]) -> Iterator[str]:
    """Define the macros of step 2: once those that all sections have, then each section's others."""
    shared = set.intersection(*names.values())
    yield "#define JOINED_(layer, name) layer##_##name"
    yield "#define JOINED(layer, name) JOINED_(layer, name)"  # a second step, so that LAYER is expanded before it joins
    yield from (f"#define {name} JOINED(LAYER, {name})" for name in sorted(shared))
    for function, own in names.items():
        yield f"#if SECTION == {SECTIONS.index(function)}"
        yield from (f"#define {name} JOINED(LAYER, {name})" for name in sorted(own - shared))
        yield "#endif"


def _entry(function: str) -> list[str]:
    """Return the function that NAME.c calls for a layer, the same for all kernels that compute one."""
    if function == "winograd_weights":
        return ["SEPARATE void JOINED(LAYER, run)(void *u, const void *w) { winograd_weights(u, w, 0, 0); }"]
    parameters = {"out", "x", "w", "scale", "bias", "add", "scratch"}
    arguments = ", ".join(name if name in parameters else "0" for name in ARGUMENTS[function])
    return [
        "SEPARATE void JOINED(LAYER, run)(float *out, const float *x, const void *w, const float *scale, "
        "const float *bias, const float *add, float *scratch, int core)",
        "{",
        f"    {function}({arguments}, core);",
        "}",
    ]


def _defined_names(text: str) -> Iterable[str]:
    """Find the functions, types and constants that a text defines, in the style that the module's docstring tells."""
    bare = re.sub(r"//[^\n]*", "", text)
    yield from re.findall(r"^INLINE [\w ]+?\*?(\w+)\(", bare, re.M)
    yield from re.findall(r"^typedef [\w ]+? (\w+)(?: __attribute__|;)", bare, re.M)
    for block in re.findall(r"\benum \{(.*?)\}", bare, re.S):
        yield from re.findall(r"(?:^|,)\s*(\w+)(?=\s*(?:=|,|$))", block)
