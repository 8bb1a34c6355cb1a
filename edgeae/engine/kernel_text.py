"""The end of NAME.c: the text of the kernels, and what makes its names those of a layer."""

from __future__ import annotations

import re
from collections.abc import Iterable

from edgeae.engine.plan import EnginePlan
from edgeae.runtime.kernels.plans import NARROW
from edgeae.runtime.kernels.programs import ARGUMENTS, FILES, interleave, read_text

SECTIONS = ("convolution", "narrow", "winograd", "winograd_weights")  # by their numbers in NAME.c


def kernel_lines(plan: EnginePlan) -> list[str]:
    """The end of NAME.c: the files of kernels/, and around them what makes their names those of the layer."""
    used = list(
        dict.fromkeys(
            [operation.function for operation in plan.operations]
            + ["winograd_weights" for operation in plan.operations if operation.factors]
        )
    )
    files = list(dict.fromkeys(name for function in used for name in (*FILES[function][1], FILES[function][0])))
    texts = {name: read_text(name) for name in files}
    pairs = {
        (count, int(operation.constants["LANES"]))
        for operation in plan.operations
        for count in {2, int(operation.constants["C_OUT"])}
        if count <= NARROW
    }
    shuffles = {pair: interleave(*pair) for pair in sorted(pairs)}
    macros = set[str]()
    constants = {function: set[str]() for function in used}
    for operation in plan.operations:
        constants[operation.function] |= set(operation.constants)
        if operation.factors:
            constants["winograd_weights"] |= set(operation.factors)
    names = {}
    for function in used:
        bodies = [texts[name] for name in (*FILES[function][1], FILES[function][0])]
        names[function] = {name for text in [*bodies, *shuffles.values()] for name in _names(text)}
        own = {name for text in bodies for name in re.findall(r"^#define (\w+)", text, re.M)}
        names[function] -= own | constants[function]
        macros |= own
    shared = set.intersection(*names.values())
    lines = [
        "#define JOINED_(layer, name) layer##_##name",
        "#define JOINED(layer, name) JOINED_(layer, name)",
        *(f"#define {name} JOINED(LAYER, {name})" for name in sorted(shared)),
        *(
            line
            for function in used
            for line in (
                f"#if SECTION == {SECTIONS.index(function)}",
                *(f"#define {name} JOINED(LAYER, {name})" for name in sorted(names[function] - shared)),
                "#endif",
            )
        ),
        "#ifndef ACTIVATION",
        "#define ACTIVATION NO_ACTIVATION",
        "#endif",
        "#ifndef GRADIENT_OF",
        "#define GRADIENT_OF NO_ACTIVATION",
        "#endif",
        "#ifndef FACTOR_BITS",
        "#define FACTOR_BITS 32",
        "#endif",
        "",
    ]
    for name, text in texts.items():
        sections = [SECTIONS.index(function) for function in used if name in (*FILES[function][1], FILES[function][0])]
        lines.append("#if " + " || ".join(f"SECTION == {number}" for number in sections) + f" // {name}")
        if name == "transpose.h":
            for (count, lanes), shuffle in shuffles.items():
                wanted = "" if count == 2 else f" && C_OUT == {count}"
                lines += [f"#if LANES == {lanes}{wanted}", shuffle.rstrip(), "#endif"]
        lines += [text.rstrip(), "#endif", ""]
    for function in used:
        lines += [f"#if SECTION == {SECTIONS.index(function)}", *_entry(function), "#endif", ""]
    gone = {"LAYER", "SECTION", "JOINED", "JOINED_", "ACTIVATION", "GRADIENT_OF", "FACTOR_BITS"}
    gone |= macros.union(*names.values(), *constants.values())
    lines += [f"#undef {name}" for name in sorted(gone)]
    return lines


def _entry(function: str) -> list[str]:
    if function == "winograd_weights":
        return ["SEPARATE void JOINED(LAYER, run)(void *u, const void *w) { winograd_weights(u, w, 0, 0); }"]
    given = {"out", "x", "w", "scale", "bias", "add", "scratch"}
    arguments = ", ".join(name if name in given else "0" for name in ARGUMENTS[function])
    return [
        "SEPARATE void JOINED(LAYER, run)(float *out, const float *x, const void *w, const float *scale, "
        "const float *bias, const float *add, float *scratch, int core)",
        "{",
        f"    {function}({arguments}, core);",
        "}",
    ]


def _names(text: str) -> Iterable[str]:
    """Functions, types and constants that a text defines."""
    bare = re.sub(r"//[^\n]*", "", text)
    yield from re.findall(r"^INLINE [\w ]+?\*?(\w+)\(", bare, re.M)
    yield from re.findall(r"^typedef [\w ]+? (\w+)(?: __attribute__|;)", bare, re.M)
    for block in re.findall(r"\benum \{(.*?)\}", bare, re.S):
        yield from re.findall(r"(?:^|,)\s*(\w+)(?=\s*(?:=|,|$))", block)
