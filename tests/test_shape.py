"""The limits on files and functions; what exceeds one is named here with its reason."""

import ast
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("runtime", "calibration", "export", "benchmarks")
MOST_FILE_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS, MOST_MEDIAN_LINES = 250, 25, 6, 6
LARGER: dict[str, str] = {}  # file, or file:function, and why it may exceed a limit


def python_files():
    return [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]


def functions(file):
    """Yield `(name, lines, parameters)`; lines without the docstring, parameters without self."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                lines -= first.end_lineno - first.lineno + 1
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            names = [argument.arg for argument in arguments]
            yield node.name, lines, len([name for name in names if name not in ("self", "cls")])


def exceeding():
    """Yield `place: what` for every file and function over a limit."""
    for file in python_files():
        place, lines = file.relative_to(ROOT), len(file.read_text().splitlines())
        if lines > MOST_FILE_LINES:
            yield f"{place}: {lines} lines"
        for name, lines, parameters in functions(file):
            if lines > MOST_FUNCTION_LINES:
                yield f"{place}:{name}: {lines} lines"
            if parameters > MOST_PARAMETERS:
                yield f"{place}:{name}: {parameters} parameters"


def test_files_and_functions_are_small():
    over = [line for line in exceeding() if line.rsplit(": ", 1)[0] not in LARGER]
    assert not over, "\n".join(over)


def test_the_median_function_is_six_lines_or_fewer():
    assert median(lines for file in python_files() for _, lines, _ in functions(file)) <= 6


@pytest.mark.parametrize("place", LARGER)
def test_an_exception_is_still_needed(place):
    assert any(line.startswith(place) for line in exceeding())
