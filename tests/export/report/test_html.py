"""The page of a report: every part, nothing from elsewhere, all escaped, and it opens."""

import json
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import console
from example_report import outcome, with_all_parts

from feredge.export.fer_export import main
from feredge.export.report.html import bars, cells, fp32_file, html_report, points

HOSTILE = "\"'><script>console.error('x')</script><img src=http://192.0.2.1/>"


@pytest.fixture(scope="module")
def report(exported):
    found = with_all_parts(json.loads((exported / "manet.report.json").read_text()))
    return json.loads(json.dumps(found))


@pytest.fixture
def page(report, tmp_path):
    path = tmp_path / "manet.report.html"
    path.write_text(html_report(report), encoding="utf-8")
    return path


class Outline(HTMLParser):
    """The elements of a page with their attributes' names, the links, ids and all text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.links, self.ids, self.text = set(), [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements |= {(tag, name) for name, _ in attributes} | {(tag, "")}
        self.links += [value for name, value in attributes if name in ("href", "src")]
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_data(self, text):
        self.text += text


def hostile(value):
    """Return the report with markup in all of its text, names of files and classes included."""
    if isinstance(value, dict):
        return {key if str(key).isidentifier() else key + HOSTILE: hostile(each)
                for key, each in value.items()}
    if isinstance(value, list):
        return [hostile(each) for each in value]
    return value + HOSTILE if isinstance(value, str) else value


def test_every_part_of_a_report_is_on_the_page(report):
    outline = Outline(html_report(report))
    assert outline.ids == ["files", "model", "parity", "int8", "sweep", "gate", "validation",
                           "sensitivity", "fp16", "plan", "seconds", "environment"]
    validation = report["int8"]["validation"]
    said = [*report["files"], *report["seconds"], *report["model"]["labels"],
            f"{validation['fp32']['accuracy']:.2%}", report["environment"]["cpu"],
            report["environment"]["packages"]["torch"], report["plan"]["version"],
            report["int8"]["gate"]["trials"][0]["graphs"]["tensorrt"]["broken"][0],
            *(row["layer"] for row in report["int8"]["sensitivity"])]
    assert not [text for text in said if text not in outline.text]


@pytest.mark.parametrize("part", ["model", "parity", "fp16", "plan", "environment"])
def test_a_part_that_a_report_lacks_is_left_out(report, part):
    whole = Outline(html_report(report)).ids
    less = Outline(html_report({key: value for key, value in report.items() if key != part})).ids
    assert less == [name for name in whole if name != part]


@pytest.mark.parametrize("part", ["sweep", "gate", "validation", "sensitivity"])
def test_a_part_that_int8_lacks_is_left_out(report, part):
    whole = Outline(html_report(report)).ids
    int8 = {key: value for key, value in report["int8"].items() if key != part}
    assert Outline(html_report({**report, "int8": int8})).ids == [
        name for name in whole if name != part]


def test_a_failed_export_says_why_and_shows_what_the_gate_tried(report):
    found = outcome(report["model"]["labels"], noises=(0.4, 0.3))
    assert not found.holds
    html = html_report({"failed": "INT8 costs more than allowed", "int8": {"gate": asdict(found)},
                        "seconds": {"quantise": 1.0}})
    outline = Outline(html)
    assert outline.ids == ["gate", "seconds"]
    assert "INT8 costs more than allowed" in outline.text
    assert "they do not hold" in outline.text and "keeps to its limits" not in outline.text


def test_the_page_takes_nothing_from_elsewhere_and_is_small(report):
    html = html_report(report)
    outline = Outline(html)
    assert outline.links and all(link[1:] in outline.ids for link in outline.links)
    assert "://" not in html and "url(" not in html and "@import" not in html
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in outline.elements}
    assert len(html.encode()) < 300_000


def test_text_from_files_never_becomes_markup(report):
    clean, attacked = (Outline(html_report(each)) for each in (report, hostile(report)))
    assert attacked.elements == clean.elements
    assert attacked.links == clean.links
    assert attacked.text.count(HOSTILE) > 100


def test_bars_share_a_scale_that_holds_zero():
    assert bars([3.0, -1.0, 0.0]) == [(25.0, 75.0), (0.0, 25.0), (25.0, 0.0)]
    assert bars([0.0]) == [(0.0, 0.0)]


def test_confusion_cells_hold_count_change_and_share():
    assert cells([[3, 1], [0, 0]], [[4, 0], [0, 0]]) == [[(3, -1, 0.75), (1, 1, 0.25)],
                                                         [(0, 0, 0.0), (0, 0, 0.0)]]


@pytest.mark.parametrize(
    ("drop", "text"),
    [(0.284, "-0.28"), (-1.5, "+1.50"), (0.0, "0.00"), (-1e-9, "0.00"), (None, "")],
)
def test_a_drop_is_written_as_a_change(drop, text):
    assert points(drop) == text


def test_the_fp32_graph_is_found_under_any_name():
    assert fp32_file(["my.int8.net.int8.onnx", "my.int8.net.onnx", "a.json"]) == "my.int8.net.onnx"
    assert fp32_file(["manet.plan"]) is None


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "is_dark"), [(1, False), (0, True)], ids=["light", "dark"])
def test_the_page_opens_without_a_word_on_the_console(page, tmp_path, scheme, is_dark):
    picture = tmp_path / "page.png"
    assert console(page, picture, "--window-size=1200,2000",
                   f"--blink-settings=preferredColorScheme={scheme}") == []
    pixels = cv2.imread(str(picture))
    assert pixels.shape == (2000, 1200, 3)
    assert (np.median(pixels) < 64) == is_dark
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_what_reaches_out_of_the_page_is_stopped_and_seen(page):
    page.write_text(page.read_text().replace("</main>", "<img src=http://192.0.2.1/></main>"
                                             "<script>console.log('ran')</script>"))
    said = "\n".join(console(page))
    assert "192.0.2.1" in said and "script" in said and "ran" not in said


def test_a_phone_need_not_scroll_sideways(page):
    frame = page.with_name("phone.html")
    frame.write_text(
        f'<!doctype html><iframe id="f" src="{page.name}" width="390" height="800"></iframe>'
        "<script>f.onload = () => { const page = f.contentDocument, cut = "
        "[...page.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
        ".map(e => e.getAttribute('aria-label')); "
        "console.log('width ' + page.documentElement.scrollWidth + ' cut ' + cut) }</script>")
    assert console(frame)[0].startswith('"width 390 cut "')


def test_the_command_writes_the_page_beside_the_json(own, tmp_path):
    own((Path(__file__).parents[1] / "tiny_network.py").read_text(), "tiny_network")
    assert main(["--model", "tiny_network:tiny", "--random-weights", "--target", "onnx",
                 "--report", "html", "--output", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "tiny.report.json").read_text())
    assert set(report["environment"]["packages"]) >= {"feredge", "torch", "onnx", "numpy"}
    assert (tmp_path / "tiny.report.html").read_text(encoding="utf-8") == html_report(report)


def test_a_page_belongs_to_a_network_s_export(tmp_path, line):
    assert "--report belong to --model" in line("--onnx", tmp_path / "a.onnx", "--report", "html")


def test_the_calibrated_confidence_stands_on_the_page():
    facts = {"temperature": 0.719, "fitted_on": 1763, "measured_on": 1763, "faces": "<valid>",
             "error_before": 0.0784, "error_after": 0.0167, "int8_error_after": 0.017}
    page = html_report({"confidence": facts})
    assert "Temperature <strong>0.719</strong>" in page and "&lt;valid&gt;" in page
    assert "1.67%, 7.84% before; in INT8 1.70%" in " ".join(page.split())
