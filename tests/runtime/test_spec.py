import json
from dataclasses import replace

import pytest

from feredge.runtime.errors import SpecError
from feredge.runtime.spec import CropSpec, InputSpec, ModelSpec, SourceSpec, TargetSpec

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
        (broken(input__std=[1, 0, 1]), "above 0"),
        (broken(input__channels="xyz"), "expected rgb or bgr"),
        (broken(input=3), "not an object"),
        (broken(crop__scale=0), "crop.scale"),
        (broken(labels=["a"]), "at least two"),
        (broken(labels=["a", "a"]), "all different"),
        (broken(precision="int4"), "int4"),
        (broken(target__kind="coreml"), "coreml"),
        (broken(target__weight_bits=6), "expected 7 or 8"),
        (broken(format=2), "export the model again"),
    ],
)
def test_a_broken_spec_says_which_field_is_wrong(text, said):
    with pytest.raises(SpecError, match=said):
        ModelSpec.from_json(text)


def test_a_spec_is_checked_when_it_is_built():
    with pytest.raises(SpecError, match="precision"):
        replace(SPEC, precision="fp8")
