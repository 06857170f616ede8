"""Networks as plug-ins: what is here, a user's own, and what is wrong with it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from feredge.export.fer_export import main
from feredge.export.models import registry
from feredge.export.models.registry import known_networks, network_named
from feredge.runtime import fer_run, open_engine
from feredge.runtime.errors import ExportError
from feredge.runtime.sources.pictures import find_pictures

EXAMPLE = Path(__file__).parents[1] / "tiny_network.py"


@pytest.fixture
def line(own, line, tmp_path):
    """Run an export that must fail; return its one line, after a look at what it left."""

    def run(*arguments):
        error = line("--target", "onnx", "--output", tmp_path / "out", *arguments)
        assert not list((tmp_path / "out").glob("*"))
        return error

    return run


def test_what_is_here_is_listed_with_its_size(capfd):
    assert main(["--list", "--json"]) == 0
    sizes = {size["name"]: size for size in json.loads(capfd.readouterr().out)}
    assert set(sizes) == {"manet", "dsan", "dsan-resnet18"}
    assert round(sizes["manet"]["parameters"] / 1e6, 2) == 50.55
    assert round(sizes["manet"]["macs"] / 1e9, 2) == 3.64
    assert (sizes["manet"]["side"], sizes["manet"]["channels"]) == (224, "rgb")
    assert [sizes[name]["bundled"] for name in ("manet", "dsan", "dsan-resnet18")] == [
        True, False, True]
    assert sizes["dsan"]["channels"] == "bgr"
    # VGG-16's convolutions: 14.71 M parameters and 15.35 GMAC; the side branches add the rest.
    assert sizes["dsan"]["parameters"] > 14.71e6 and sizes["dsan"]["macs"] > 15.35e9
    assert main(["--list"]) == 0
    table = capfd.readouterr().out
    assert "manet" in table and "50.55 M" in table and "3.64 G" in table


def test_a_network_is_one_file_beside_the_registry():
    files = {file.stem for file in Path(registry.__file__).parent.glob("*.py")}
    makers = {known.factory.__module__.split(".")[-1] for known in known_networks().values()}
    assert makers == {"manet", "dsan"} <= files


def test_an_unknown_name_lists_what_there_is(line):
    assert "no network is called manett: there are dsan, dsan-resnet18, manet;" in line(
        "--model", "manett")


@pytest.fixture
def faces(faces_48px, tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    for file in find_pictures(faces_48px)[::100]:
        shutil.copy(file, folder)
    return folder


def test_a_users_own_network_is_exported_like_any_other(
    own, faces, tmp_path, astronaut, detector_path, capfd
):
    import cv2

    own(EXAMPLE.read_text(), "tiny_network")
    assert main(["--model", "tiny_network:tiny", "--random-weights", "--int8",
                 "--calibration-data", str(faces), "--target", "onnx"]) == 0
    report = json.loads((tmp_path / "tiny.report.json").read_text())
    assert report["parity"]["largest_difference"] < 1e-4
    assert report["int8"]["tiny.int8.onnx"]["int8_share"] == 1
    with open_engine("tiny.int8.onnx") as engine:
        spec = engine.spec
    assert (spec.model, spec.variant, spec.labels) == ("tiny", "32", ("calm", "tense"))
    assert spec.input.mean == (0.5, 0.5, 0.5) and spec.source.random_weights
    assert spec.source.trained_on == "nothing: random weights of seed 0"
    cv2.imwrite("portrait.png", astronaut)
    command = ["--engine", "tiny.int8.onnx", "--detector", str(detector_path),
               "--source", "portrait.png", "--jsonl", "faces.jsonl"]
    capfd.readouterr()
    assert fer_run.main(command) == 2
    assert "this tiny has random weights, so its labels mean nothing" in capfd.readouterr().err
    assert fer_run.main([*command, "--allow-random-weights"]) == 0
    assert json.loads(Path("faces.jsonl").read_text())["faces"][0]["label"] in ("calm", "tense")


NETWORK = """
import torch
from feredge.export.models.registry import Defaults, network
class Mine(torch.nn.Module):
    def forward(self, faces):
        return {answer}
@network("mine", defaults=Defaults(labels=("a", "b"), side=8))
def mine(state, classes, side):
    return {made}
"""


@pytest.mark.parametrize("source, said", [
    ("raise OSError('no\\nluck')", "mine cannot be imported: OSError: no"),
    ("import nowhere", "mine cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
    ("def other(state): ...",
     "mine:mine does not exist; expected a function of mine under @network"),
    ("def mine(state): ...", "mine:mine is not decorated with @network"),
    ("from feredge.export.models.registry import network\n@network('mine')\ndef mine(state): ...",
     "mine cannot be imported: TypeError: network() missing 1 required positional argument: "
     "'defaults'"),
    ("from feredge.export.models.registry import network\n@network('mine', defaults={})\n"
     "def mine(state): ...", "needs defaults=Defaults(labels=..., side=...)"),
    (NETWORK.replace('"mine"', '"manet"'), "there is a network called 'manet' already"),
    (NETWORK.format(answer="0", made="Mine"), "the factory of mine returned type, expected a"),
    (NETWORK.format(answer="0", made="Mine(3)"), "the factory of mine failed: TypeError"),
    (NETWORK.format(answer="faces", made="Mine()"),
     "mine returns (1, 3, 8, 8) for one face, expected (1, classes) probabilities"),
    (NETWORK.format(answer="(faces, faces)", made="Mine()"), "returns tuple for one face"),
    (NETWORK.format(answer="faces @ faces[0, 0, :5]", made="Mine()"),
     "mine does not take (1, 3, 8, 8) float32 faces: RuntimeError"),
    (NETWORK.format(answer="faces.sum((2, 3))[:, :2]", made="Mine()"),
     "mine returns numbers from 32 to 32 that sum to 64, expected probabilities"),
    (NETWORK.format(answer="faces.sum((2, 3)).softmax(1)", made="Mine()"),
     "the network has 3 classes, but there are 2 labels: a,b"),
], ids=["broken", "import", "missing", "undecorated", "no defaults", "defaults", "taken", "class",
        "failing", "map", "pair", "shape", "logits", "classes"])
def test_what_is_wrong_with_ones_own_network_is_one_line(own, line, source, said):
    own(source.replace("{answer}", "0").replace("{made}", "0"))
    assert said in line("--model", "mine:mine", "--random-weights")


def test_a_module_that_is_not_there_is_named(own):
    with pytest.raises(ExportError, match="no_such cannot be imported: ModuleNotFoundError"):
        network_named("no_such:factory")


def test_weights_are_bundled_named_or_random(own, line, tmp_path, capfd):
    own(EXAMPLE.read_text(), "tiny_network")
    assert ("no weights are bundled for dsan: pass --checkpoint PATH, or --random-weights"
            in line("--model", "dsan"))
    assert "no weights are bundled for tiny" in line("--model", "tiny_network:tiny")
    with pytest.raises(SystemExit):
        main(["--model", "dsan", "--random-weights", "--checkpoint", "a.pth"])
    assert "--checkpoint: not allowed with argument --random-weights" in capfd.readouterr().err
    assert ("--random-weights, --backbone-from belong to --model"
            in line("--onnx", "a.onnx", "--random-weights", "--backbone-from", "b.pth"))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_nothing(own, tmp_path):
    own(EXAMPLE.read_text(), "tiny_network")
    script = ("import resource, signal, sys\n"
              "from feredge.export.fer_export import main\n"
              "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
              "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
              "sys.exit(main(['--model', 'tiny_network:tiny', '--random-weights', '--target', "
              "'onnx', '--output', 'out']))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "error: out cannot be written: File too large" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "out").iterdir())
