"""Any command line: options or one line, never a traceback."""

import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from feredge.runtime.command import with_flags
from feredge.runtime.errors import FeredgeError
from feredge.runtime.fer_run import arguments
from feredge.runtime.options import RunOptions

FLAGS = sorted({name for action in arguments()._actions for name in action.option_strings
                if name.startswith("--")})
limits = settings(max_examples=200, deadline=5_000)
numbers = st.one_of(
    st.integers(-10, 10_000).map(str), st.floats().map(str),
    st.sampled_from(["nan", "inf", "-inf", "1e300", "9" * 5000, "0x10", "1_000", "\u0663", "",
                     " 1 "]))
words = st.one_of(numbers, st.sampled_from(FLAGS),
                  st.text(max_size=12).filter(lambda text: "\0" not in text),
                  st.sampled_from(["-", "a.jpg", "rtsp://u:p@h/s", "x\ny", "mqtt://h", "\udcff"]))
lines = st.lists(words, max_size=8)
pairs = st.lists(st.tuples(st.sampled_from(FLAGS), words), max_size=4).map(
    lambda found: [word for pair in found for word in pair])


def read(words):
    """Parse a command line into options; every refusal is one printable line."""
    out, err = StringIO(), StringIO()
    argv = mock.patch.object(sys, "argv", ["fer-run"])
    try:
        with redirect_stderr(err), redirect_stdout(out), argv:
            options = RunOptions.from_arguments(arguments().parse_args(words))
    except SystemExit as ended:
        if ended.code:
            assert err.getvalue().count("\n") == 1 and len(err.getvalue()) < 1_000
            assert err.getvalue().rstrip("\n").isprintable()
        return
    except FeredgeError as error:
        assert "\n" not in with_flags(str(error)) or "\n" in "".join(words)
        return
    assert options.tracks.detect_every >= 1
    assert options.max_faces is None or options.max_faces >= 1
    assert 0 <= options.detector.min_score <= 1


@limits
@given(words=lines)
def test_any_words_are_options_or_one_line(words):
    read(words)


@limits
@given(words=pairs)
def test_any_values_of_flags_are_options_or_one_line(words):
    read(["--source", "a.jpg", *words])
