"""Count what docs/style.md compares: lines, comments, docstrings, and how long functions are.

    python tools/count_lines.py FILE...

Python and C. A comment line has nothing but a comment, or one after code; blank lines count in `lines` only.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click

from edgeae.formatting import table

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Counts:
    """The figures of one file.

    Attributes:
        lines: all of them.
        filled: those that are not blank.
        comments: lines with a comment.
        docstrings: lines of docstrings.
        functions: the lines of each function, its docstring included.
    """

    lines: int
    filled: int
    comments: int
    docstrings: int
    functions: list[int]


def count_python(text: str) -> Counts:
    """Count a Python file."""
    lines = text.splitlines()
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    docstrings, functions = 0, []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            functions.append((node.end_lineno or 0) - node.lineno + 1)
        if isinstance(node, Function | ast.ClassDef | ast.Module) and ast.get_docstring(node, clean=False) is not None:
            docstrings += (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
    return Counts(len(lines), sum(map(bool, map(str.strip, lines))), len(comments), docstrings, functions)


def count_c(text: str) -> Counts:
    """Count a C file whose functions begin at the left margin and end with a brace there."""
    lines = text.splitlines()
    comments = {number for number, line in enumerate(lines) if "//" in line}
    for block in re.finditer(r"/\*.*?\*/", text, re.DOTALL):
        first = text.count("\n", 0, block.start())
        comments |= set(range(first, first + block.group().count("\n") + 1))
    functions, start = [], None
    for number, line in enumerate(lines):
        if re.match(r"[A-Za-z][^;=]*\(", line) and not line.startswith(("typedef", "enum")):
            start = number
        elif line.startswith("}") and start is not None:
            functions.append(number - start + 1)
            start = None
    return Counts(len(lines), sum(map(bool, map(str.strip, lines))), len(comments), 0, functions)


@click.command(help=__doc__)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
def main(files: tuple[Path, ...]) -> None:
    rows = []
    for path in files:
        text = path.read_text(encoding="utf-8")
        counts = count_python(text) if path.suffix == ".py" else count_c(text)
        lengths = counts.functions or [0]
        rows.append(
            [
                f"{path.parent.name}/{path.name}",
                str(counts.lines),
                f"{counts.comments / counts.filled:.0%}",
                f"{counts.docstrings / counts.filled:.0%}",
                str(len(counts.functions)),
                f"{median(lengths):.0f}",
                str(max(lengths)),
            ]
        )
    header = ["file", "lines", "comments", "docstrings", "functions", "median", "longest"]
    click.echo("\n".join(table(header, rows, right=range(1, 7))))


if __name__ == "__main__":
    main()
