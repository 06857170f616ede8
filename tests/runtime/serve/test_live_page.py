"""The live page: who may look, what is sent, and that no viewer holds up the pipeline."""

import asyncio
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from feredge.runtime.errors import OutputError, UsageError
from feredge.runtime.results import Faces, Frame, FrameResult
from feredge.runtime.serve import handlers
from feredge.runtime.serve.address import Address
from feredge.runtime.serve.handlers import PAGE
from feredge.runtime.serve.live_page import LivePage, PageContent
from feredge.runtime.serve.token import read_token

sys.path.append(str(Path(__file__).parents[2] / "pages"))

from devtools import browser_page

LABELS = ("neutral", "happiness")


def facts(silent_s=0.1, state="delivering"):
    return {
        "totals": {"frames": 7, "dropped": 2, "faces": 9, "frames_per_s": 24.5},
        "stages": {"detect": {"median_ms": 3.0, "p95_ms": 5.0}},
        "sources": [{"source": "camera <0>", "state": state, "frames": 9, "reconnects": 1,
                     "error": None, "silent_s": silent_s}],
    }


def answer(index, picture=None, source="camera <0>", age_s=0.0):
    """A frame with one tracked, happy face."""
    faces = Faces.from_detections(np.array([[10, 10, 50, 60]]), np.zeros((1, 5, 2)),
                                  np.array([0.9]))
    faces = faces.with_probabilities(np.array([[0.2, 0.8]], np.float32))
    faces.track_ids[:] = 3
    picture = np.full((120, 160, 3), index % 256, np.uint8) if picture is None else picture
    found = FrameResult(Frame(index, picture, source, index / 25, time.monotonic() - age_s))
    found.faces = faces
    return found


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def serve():
    """Open live pages on free ports; they are closed after the test."""
    opened = []

    def open_page(host="127.0.0.1", token=None, pictures=True, facts=facts, sources=()):
        address = Address(host, free_port(), token)
        opened.append(LivePage(address, PageContent(
            LABELS, facts, has_pictures=pictures, sources=sources)))
        return opened[-1]

    yield open_page
    for page in opened:
        page.close()


def get(page, path, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", page.address.port, timeout=10)
    connection.request("GET", path, headers=headers or {})
    response = connection.getresponse()
    return response.status, response.read().decode()


def stream_of(page, path="/stream"):
    connection = http.client.HTTPConnection("127.0.0.1", page.address.port, timeout=10)
    connection.request("GET", path)
    return connection.getresponse()


def next_jpeg(response):
    """Read one part of an MJPEG stream; returns the picture's level."""
    length, line = None, b"?"
    while line.strip() or length is None:
        line = response.readline().lower()
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return round(float(cv2.imdecode(np.frombuffer(response.read(length), np.uint8), 1).mean()))


@pytest.mark.parametrize("text, token, expected", [
    ("", None, ("127.0.0.1", 8080)), (":9000", None, ("127.0.0.1", 9000)),
    ("localhost", None, ("localhost", 8080)), ("[::1]:81", None, ("::1", 81)),
    ("9000", None, ("127.0.0.1", 9000)), ("0", None, ("127.0.0.1", 0)),
    ("::1", None, ("::1", 8080)), ("127.0.0.1:", None, ("127.0.0.1", 8080)),
    ("0.0.0.0:80", "secret", ("0.0.0.0", 80)),
])
def test_an_address_is_this_machines_unless_it_says_otherwise(text, token, expected):
    address = Address.parse(text, token)
    assert (address.host, address.port) == expected


@pytest.mark.parametrize("text, said", [
    ("0.0.0.0:8080", "other machines: pass `token`"), ("camera.local", "pass `token`"),
    ("192.0.2.1:80", "pass `token`"), ("localhost:http", "expected HOST:PORT"),
    (":99999", "expected HOST:PORT"), ("99999", "expected HOST:PORT"),
    ("http://127.0.0.1:8080", "expected HOST:PORT"), (":-1", "expected HOST:PORT"),
    (":²", "expected HOST:PORT"), ("[::1", "expected HOST:PORT"), ("a b:80", "expected HOST:PORT"),
    ("\ud800:80", "expected HOST:PORT"), ("a\n:80", "expected HOST:PORT"),
])
def test_an_address_that_others_reach_needs_a_token(text, said):
    with pytest.raises(OutputError, match=said):
        Address.parse(text, None)


def test_a_token_may_lie_in_a_file(tmp_path):
    (tmp_path / "token").write_text("a secret\n")
    (tmp_path / "empty").write_text("\n")
    assert read_token("plain") == "plain" and read_token(f"@{tmp_path / 'token'}") == "a secret"
    for wrong, said in ((f"@{tmp_path / 'none'}", "cannot be read"), ("", "is empty"),
                        (f"@{tmp_path / 'empty'}", "is empty")):
        with pytest.raises(UsageError, match=said):
            read_token(wrong)


def test_a_port_that_is_taken_is_one_line(serve):
    page = serve()
    with pytest.raises(OutputError, match=f":{page.address.port}: "):
        LivePage(page.address, PageContent(LABELS, facts))


def test_the_token_opens_everything_and_nothing_opens_without(serve):
    page = serve(token="secret")
    for path in ("/", "/stream", "/events", "/metrics"):
        assert get(page, path)[0] == 401 and get(page, f"{path}?token=secre")[0] == 401
    assert get(page, "/?token=secret")[0] == 200
    assert get(page, "/metrics", {"Authorization": "Bearer secret"})[0] == 200
    assert get(page, "/healthz")[0] == 200
    assert "secret" not in get(page, "/?token=secret")[1]


def test_the_stream_shows_the_newest_frame_and_its_age(serve):
    page = serve()
    page.write(answer(40))
    response = stream_of(page)
    assert response.headers["Content-Type"].startswith("multipart/x-mixed-replace")
    assert next_jpeg(response) == 40
    for index in (80, 120, 200):
        page.write(answer(index))
    levels = [next_jpeg(response)]
    while levels[-1] != 200:
        levels.append(next_jpeg(response))
    assert levels == sorted(levels)


def test_events_carry_faces_stages_and_sources_even_without_frames(serve):
    page = serve()
    response = stream_of(page, "/events")
    first = json.loads(response.readline().decode().removeprefix("data: "))
    assert first["faces"] == [] and first["sources"][0]["reconnects"] == 1
    page.write(answer(1))
    state = first
    while not state["faces"]:
        line = response.readline().decode()
        state = json.loads(line.removeprefix("data: ")) if line.strip() else state
    assert state["faces"][0]["track"] == 3 and state["faces"][0]["label"] == "happiness"
    assert state["sources"][0]["age_ms"] >= 0 and state["totals"]["frames_per_s"] == 24.5


def test_of_several_sources_each_has_its_picture_and_its_faces(serve):
    page = serve(sources=("camera 0", "</script>"))
    assert '"sources": ["camera 0", "\\u003c/script>"]' in get(page, "/")[1]
    page.write(answer(40, source="camera 0", age_s=60))
    page.write(answer(80, source="</script>"))
    assert next_jpeg(stream_of(page, "/stream?source=camera+0")) == 40
    assert next_jpeg(stream_of(page, "/stream?source=%3C/script%3E")) == 80
    assert next_jpeg(stream_of(page, "/stream")) == 40
    assert get(page, "/stream?source=other")[0] == 404
    line = stream_of(page, "/events").readline().decode()
    faces = json.loads(line.removeprefix("data: "))["faces"]
    assert len(faces) == 1, "who was seen a minute ago may have left"


def test_a_frame_comes_with_its_faces_and_a_viewer_waits_for_a_newer_one(serve, monkeypatch):
    monkeypatch.setattr(handlers, "FRAME_S", 0.3)
    page = serve()
    page.write(answer(40))

    def frame(after):
        connection = http.client.HTTPConnection("127.0.0.1", page.address.port, timeout=10)
        connection.request("GET", f"/frame?after={after}")
        response = connection.getresponse()
        return response.status, response.read()

    status, content = frame(0)
    length = int.from_bytes(content[:4], "big")
    found = json.loads(content[4 : 4 + length])
    assert status == 200 and (found["width"], found["height"]) == (160, 120)
    assert [face["label"] for face in found["faces"]] == ["happiness"]
    picture = cv2.imdecode(np.frombuffer(content[4 + length :], np.uint8), 1)
    assert abs(picture.mean() - 40) < 2, "the frame without boxes"
    assert frame(found["number"]) == (204, b"")
    threading.Timer(0.1, lambda: page.write(answer(80))).start()
    assert frame(found["number"])[0] == 200


def test_prometheus_reads_totals_stages_and_sources(serve):
    page = serve()
    page.write(answer(1))
    parser = pytest.importorskip("prometheus_client.parser")
    found = {}
    for family in parser.text_string_to_metric_families(get(page, "/metrics")[1]):
        found |= {sample.name: (sample.value, sample.labels) for sample in family.samples}
    assert found["feredge_frames_total"] == (7, {})
    assert found["feredge_stage_seconds"] == (pytest.approx(0.003), {"stage": "detect"})
    assert found["feredge_source_up"] == (1, {"source": "camera <0>"})
    assert found["feredge_source_reconnects_total"][0] == 1
    age_s, of_source = found["feredge_frame_age_seconds"]
    assert 0 < age_s < 60 and of_source == {"source": "camera <0>"}


def test_health_fails_while_no_source_delivers(serve):
    assert get(serve(), "/healthz") == (200, "ok\n")
    status, text = get(serve(facts=lambda: facts(silent_s=42)), "/healthz")
    assert status == 503 and "no frame for 42 s" in text


def test_without_pictures_only_numbers_are_served(serve):
    page = serve(pictures=False)
    page.write(answer(1))
    assert get(page, "/stream")[0] == 404 and '"pictures": false' in get(page, "/")[1]


def test_a_hundred_viewers_that_never_read_and_fifty_that_do_hold_up_nothing(serve, astronaut):
    page = serve()
    request = b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
    deaf = [socket.create_connection(("127.0.0.1", page.address.port)) for _ in range(100)]
    for viewer in deaf:
        viewer.sendall(request)
    page.write(answer(0, astronaut))
    readers = [stream_of(page) for _ in range(50)]
    got = [threading.Event() for _ in readers]

    def read(response, enough):
        for _ in range(3):
            next_jpeg(response)
        enough.set()

    threads = [threading.Thread(target=read, args=each, daemon=True) for each in zip(readers, got)]
    for thread in threads:
        thread.start()
    index, slowest_s = 0, 0.0
    deadline = time.monotonic() + 60
    while not all(event.is_set() for event in got):
        assert time.monotonic() < deadline
        index += 1
        found = answer(index, astronaut)
        start_s = time.thread_time()
        page.write(found)
        slowest_s = max(slowest_s, time.thread_time() - start_s)
        time.sleep(0.04)
    assert slowest_s < 0.02, "the pipeline's own thread only leaves its frame"
    page.close()
    assert not page.thread.is_alive()
    for viewer in deaf:
        viewer.close()


def test_a_viewer_that_reads_nothing_for_long_is_left(serve, astronaut, monkeypatch):
    monkeypatch.setattr(handlers, "PATIENCE_S", 0.2)
    page = serve()
    with socket.create_connection(("127.0.0.1", page.address.port)) as viewer:
        viewer.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        looked = False
        deadline = time.monotonic() + 60
        while page.viewers or not looked:
            assert time.monotonic() < deadline
            looked = looked or page.viewers > 0
            page.write(answer(1, astronaut))
            time.sleep(0.01)


def test_the_page_is_small_and_needs_nothing_from_elsewhere():
    text = PAGE.read_text()
    assert len(text) < 50_000 and "http" not in text and "import" not in text


@pytest.fixture
def served_camera(exported, detector_path, network_camera):
    """The address of the page of a `fer-run` that looks at a network camera."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "feredge.runtime.fer_run", "--engine",
         str(exported / "manet.int8.onnx"), "--detector", str(detector_path), "--source",
         network_camera.url, "--serve", f":{port}", "--token", "a secret"],
        stderr=subprocess.PIPE, text=True,
    ) as process:
        assert f"live page: http://127.0.0.1:{port}/?token=SECRET" in process.stderr.readline()
        yield f"http://127.0.0.1:{port}/?token=a%20secret"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


def test_the_page_of_a_clip_stays_open_until_a_signal(
    exported, detector_path, write_clip, astronaut
):
    clip = write_clip([astronaut] * 9)
    with subprocess.Popen(
        [sys.executable, "-m", "feredge.runtime.fer_run", "--engine",
         str(exported / "manet.int8.onnx"), "--detector", str(detector_path), "--source", str(clip),
         "--serve", ":0"], stderr=subprocess.PIPE, text=True,
    ) as process:
        port = int(re.search(r"127\.0\.0\.1:(\d+)/", process.stderr.readline())[1])
        assert "stays open" in process.stderr.readline()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/metrics")
        assert "feredge_frames_total 9.0" in connection.getresponse().read().decode()
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert "9 frames" in process.stderr.read()


HAPPY_BGR = (233, 180, 86)


def cut(picture, box, scale=1):
    """The pixels of an element of the page."""
    left, top, width, height = (round(edge * scale) for edge in box)
    return picture[top : top + height, left : left + width]


BOX_OF = """(s => {{ const b = document.querySelector(s).getBoundingClientRect();
    return [b.left, b.top + scrollY, b.width, b.height]; }})("{}")"""
OVERLAPS = """(() => {
    const boxes = [...document.querySelectorAll("section:not([hidden]), header > *")]
        .map(e => e.getBoundingClientRect()).filter(b => b.width);
    const hits = boxes.filter((a, i) => boxes.some((b, k) => k > i && a.left < b.right - 1
        && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1));
    return [hits.length, document.documentElement.scrollWidth - innerWidth];
})()"""


async def look(address, folder):
    """Open the page at three widths; returns the console and a picture and boxes of each."""
    looks = {}
    async with browser_page(address) as page:
        for width, height, scale in ((390, 844, 2), (1366, 768, 1), (2560, 1440, 1)):
            await page.resize(width, height, scale, dark=width == 1366)
            await asyncio.sleep(4)
            shot = folder / f"{width}.png"
            boxes = {name: await page.evaluate(BOX_OF.format(selector)) for name, selector in (
                ("picture", "figure canvas"), ("chart", ".track canvas"))}
            overlaps = await page.evaluate(OVERLAPS)
            await page.screenshot(shot)
            looks[width] = cv2.imread(str(shot)), boxes, overlaps, scale
        return page.console, looks


@pytest.mark.slow
def test_a_browser_shows_picture_charts_and_numbers_at_every_width(served_camera, tmp_path):
    said, looks = asyncio.run(look(served_camera, tmp_path))
    assert said == []
    for seen, boxes, overlaps, scale in looks.values():
        assert overlaps == [0, 0], "nothing overlaps, nothing is cut off"
        assert cut(seen, boxes["picture"], scale).std() > 20, "the camera's picture"
        chart = cut(seen, boxes["chart"], scale)
        happiness = (np.abs(chart.astype(int) - HAPPY_BGR).max(axis=2) < 3).sum()
        assert happiness > 500, "her face is mostly happy, and so is its chart"
