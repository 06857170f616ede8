import argparse

import pytest

from feredge.runtime.detect import DetectorOptions


def parse(*words):
    parser = argparse.ArgumentParser()
    DetectorOptions.add_arguments(parser)
    return DetectorOptions.from_arguments(parser.parse_args(words))


def test_a_command_without_arguments_has_the_default_options():
    assert parse() == DetectorOptions()


def test_every_argument_reaches_its_option():
    expected = DetectorOptions("yunet", 640, 0.3, 25)
    assert parse("--detector", "yunet", "--detector-size", "640", "--min-score", "0.3",
                 "--min-face", "25") == expected


def test_the_size_may_be_auto():
    assert parse("--detector-size", "auto").size_px is None


@pytest.mark.parametrize(
    "words", [("--detector-size", "0"), ("--min-score", "1.5"), ("--min-face", "0")], ids=" ".join)
def test_values_out_of_range_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        parse(*words)
    assert words[0] in capsys.readouterr().err
