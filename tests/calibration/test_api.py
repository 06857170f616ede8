import feredge.calibration


def test_the_public_names_are_these():
    assert feredge.calibration.__all__ == dir(feredge.calibration) == ["FaceFolder", "Ranges"]
    for name in feredge.calibration.__all__:
        assert getattr(feredge.calibration, name).__name__ == name
