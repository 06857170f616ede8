import json
from dataclasses import replace

import pytest

from feredge.runtime.errors import SpecError
from feredge.runtime.spec import (
    CropSpec,
    DetectorSpec,
    InputSpec,
    ModelSpec,
    SourceSpec,
    TargetSpec,
)

SPEC = ModelSpec(
    model="manet", variant="w50-96", labels=("neutral", "happiness"), input=InputSpec(96),
    source=SourceSpec("ab" * 32), crop=CropSpec(1.2, 0.1, False), precision="int8",
    target=TargetSpec("onnx", "avx2", 7), calibration={"faces": 3}, quality={"parity": 1e-6},
)


def test_a_spec_survives_the_round_trip_through_json():
    assert ModelSpec.from_json(SPEC.to_json()) == SPEC


def test_fields_of_a_later_version_are_passed_over():
    document = json.loads(SPEC.to_json()) | {"later": 1}
    assert ModelSpec.from_json(json.dumps(document)) == SPEC


def broken(**changes):
    document = json.loads(SPEC.to_json())
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = document
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    "text, said",
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        (broken(labels=None), "labels is missing"),
        (broken(input__side=None), "input.side is missing"),
        (broken(input__side="96"), "input.side is '96', expected int"),
        (broken(input__side=True), "input.side is True"),
        (broken(input__side=0), "input.side is 0"),
        (broken(input__mean=[0, 0]), "three numbers"),
        (broken(input__mean=[0, 0, "x"]), "input.mean"),
        (broken(input__std=[1, 0, 1]), "input.std is 0.0, expected a number from 0.0001"),
        (broken(input__std=[1, 1e-300, 1]), "input.std is 1e-300"),
        (broken(input__mean=[0, 0, 10**400]), "input.mean is an integer of 1329 bits"),
        (SPEC.to_json().replace("1.2", "NaN"), "holds NaN"),
        (SPEC.to_json().replace("1.2", "1e999"), "crop.scale is inf"),
        (broken(crop__scale=1e300), "crop.scale is 1e\\+300, expected a number from 0.05 to 20"),
        (broken(crop__shift_y=-1e9), "crop.shift_y"),
        (broken(input__side=10**400), "input.side is an integer of"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "not JSON"),
        (broken(labels=["a", "b\nc"]), "printable characters"),
        (broken(model="\x1b[31m"), "printable characters"),
        (broken(input__channels="xyz"), "expected rgb or bgr"),
        (broken(input=3), "not an object"),
        (broken(crop__scale=0), "crop.scale"),
        (broken(labels=["a"]), "at least two"),
        (broken(labels=["a", "a"]), "all different"),
        (broken(precision="int4"), "int4"),
        (broken(target__kind="coreml"), "coreml"),
        (broken(target__weight_bits=6), "expected 7 or 8"),
        (broken(format=2), "export the model again"),
        (broken(sha256="abc"), "sha256 is 'abc', expected 64 hexadecimal digits"),
        (broken(target__onnx_sha256="AB" * 32), "target.onnx_sha256"),
        (broken(target__compute_capabilities="8.7"), "target.compute_capabilities is '8.7'"),
        (broken(target__compute_capabilities=["87"]), "expected the like of 8.7"),
        (broken(target__profile=[1, 4]), "smallest, usual and largest batch"),
        (broken(target__profile=[4, 1, 8]), "smallest, usual and largest batch"),
        (broken(target__profile=[0, 1, 8]), "smallest, usual and largest batch"),
        (broken(target__flags=["int3"]), r"target.flags hold \['int3'\]"),
        (broken(target__flags=[3]), "target.flags is"),
    ],
)
def test_a_broken_spec_says_which_field_is_wrong(text, said):
    with pytest.raises(SpecError, match=said) as error:
        ModelSpec.from_json(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_spec_is_checked_when_it_is_built():
    with pytest.raises(SpecError, match="precision"):
        replace(SPEC, precision="fp8")


PLAN = TargetSpec("tensorrt", version="10.3.0", compute_capabilities=("8.7",), profile=(1, 4, 16),
                  flags=("fp16", "int8", "tf32"), onnx_sha256="ab" * 32)


def test_a_plans_sidecar_survives_the_round_trip():
    plan = replace(SPEC, target=PLAN, sha256="cd" * 32)
    assert ModelSpec.from_json(plan.to_json()) == plan
    detector = DetectorSpec(PLAN, "cd" * 32, 320)
    assert DetectorSpec.from_json(detector.to_json()) == detector


@pytest.mark.parametrize(
    "change, said",
    [({"size_px": 0}, "size_px is 0"), ({"size_px": "320"}, "expected int"),
     ({"sha256": None}, "sha256 is None"), ({"format": 2}, "export the detector again"),
     ({"target": {"kind": "cuda"}}, "cuda"), ({"target": []}, "target. is not an object")],
    ids=str,
)
def test_a_broken_detectors_sidecar_says_which_field_is_wrong(change, said):
    document = json.loads(DetectorSpec(PLAN, "cd" * 32, 320).to_json()) | change
    with pytest.raises(SpecError, match=said):
        DetectorSpec.from_json(json.dumps(document))


def test_a_sidecar_that_is_not_json_is_refused():
    with pytest.raises(SpecError, match="not JSON"):
        DetectorSpec.from_json("{")
