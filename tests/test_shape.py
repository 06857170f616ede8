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


# Adjectives and irregular participles, and words in -ed that are verbs or nouns.
NO_FUNCTIONS = {"shown", "known", "written", "held", "told", "begun", "coarse", "outside", "ready",
                "active", "pending", "whole", "printable", "nearest", "largest", "positive"}
NOUNS_AND_VERBS = {"seed", "need", "feed", "embed", "speed", "exceed"}


def misnamed(source):
    """Yield the functions, properties aside, whose whole name is an adjective or a participle."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name, marks = node.name.strip("_"), map(ast.unparse, node.decorator_list)
            is_participle = "_" not in name and name.endswith("ed") and name not in NOUNS_AND_VERBS
            if (name in NO_FUNCTIONS or is_participle) and "property" not in marks:
                yield node.name


def test_functions_are_named_by_verbs_or_nouns():
    found = [f"{file.relative_to(ROOT)}:{name}" for file in python_files()
             for name in misnamed(file.read_text())]
    assert not found, "\n".join(found)


def test_a_participle_is_noticed():
    source = "def scaled(x): ...\ndef shown(): ...\ndef feed(): ...\ndef scaled_crop(): ...\n"
    assert list(misnamed(source)) == ["scaled", "shown"]
