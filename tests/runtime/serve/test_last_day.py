"""The last day on the live page: numbers from the history, in a real browser."""

import asyncio
import http.client
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from feredge.runtime.errors import SourceError
from feredge.runtime.history import HistoryOptions, HistoryRecorder
from feredge.runtime.history.last_day import LastDay
from feredge.runtime.history.store import DAY_S
from feredge.runtime.results import Faces, Frame, FrameResult
from feredge.runtime.serve.address import Address
from feredge.runtime.serve.handlers import PAGE
from feredge.runtime.serve.live_page import LivePage, PageContent

sys.path.append(str(Path(__file__).parents[2] / "pages"))

from devtools import browser_page

LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
NOW_S, HOUR_S = 1_700_002_800 + 1800, 3600


def result(index, tracks, label):
    probabilities = np.full((len(tracks), 8), 0.05, np.float32)
    probabilities[:, label] = 0.65
    faces = Faces.from_detections(np.zeros((len(tracks), 4)), np.zeros((len(tracks), 5, 2)),
                                  np.ones(len(tracks))).with_probabilities(probabilities, LABELS)
    faces.track_ids[:] = tracks
    return FrameResult(Frame(index, np.zeros((9, 9, 3), np.uint8), "door", captured_s=1.0),
                       faces=faces)


@pytest.fixture
def history(tmp_path):
    """A camera of 30 hours, with 5 people an hour, 2 in every fourth, and nobody in every fifth."""
    clock = SimpleNamespace(now_s=0.0)
    source = SimpleNamespace(name="door", parts=[SimpleNamespace(name="door")], is_ordered=True)
    recorder = HistoryRecorder(HistoryOptions(tmp_path / "h.db"), source, LABELS, "manet",
                               lambda: clock.now_s)
    for hour in range(30):
        for k in range(40):
            clock.now_s = NOW_S - (30 - hour) * HOUR_S + 12 * k
            people = 0 if hour % 5 == 4 else 2 if hour % 4 == 3 else 5
            tracks = [100 * hour + person + 1 for person in range(people)]
            recorder.write(result(40 * hour + k, tracks, (hour + k * (k % 3 == 0)) % 8))
    recorder.close()
    return tmp_path / "h.db"


@pytest.fixture
def page(history):
    """A live page with that history."""
    facts = {"totals": {"frames": 7, "dropped": 0, "faces": 9}, "stages": {}, "sources": []}
    page = LivePage(Address("127.0.0.1", 0, None), PageContent(
        LABELS, lambda: facts, has_pictures=False, last_day=LastDay(history, lambda: NOW_S)))
    yield page
    page.close()


def get(page, path):
    connection = http.client.HTTPConnection("127.0.0.1", page.address.port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def test_the_hours_are_those_of_the_last_day_newest_first_without_shares_of_few_people(page):
    status, body = get(page, "/history")
    rows = json.loads(body)
    hours = [row["hour"] for row in rows]
    assert status == 200 and hours == sorted(hours, reverse=True)
    assert hours[-1] >= NOW_S - DAY_S - HOUR_S and len(hours) in (24, 25)
    assert {row["people"] for row in rows} == {0, 2, 5}
    for row in rows:
        assert (row["shares"] is None) == (row["people"] < 3)
        assert row["shares"] is None or sum(row["shares"].values()) == pytest.approx(1, abs=1e-3)


def test_viewers_share_a_reading_for_half_a_minute(history):
    clock = SimpleNamespace(now_s=float(NOW_S))
    day = LastDay(history, lambda: clock.now_s)
    first = day()
    clock.now_s += 20
    assert day() is first
    clock.now_s += 20
    assert day() is not first


def test_a_file_that_is_not_there_is_503_and_no_history_404(page, tmp_path):
    day = LastDay(tmp_path / "none.db")
    with pytest.raises(SourceError):
        day()
    page.content = PageContent(LABELS, page.content.facts, last_day=day)
    status, body = get(page, "/history")
    assert status == 503 and b"does not exist" in body and body.count(b"\n") == 1
    page.content = PageContent(LABELS, page.content.facts)
    assert get(page, "/history")[0] == 404


def test_the_page_is_below_50_kb():
    assert PAGE.stat().st_size < 50_000


async def look(address, folder):
    """Return the console, sizes at two widths, and what keyboard and screen reader reach."""
    async with browser_page(address) as page:
        sizes = {}
        for width, height, dark in ((390, 844, False), (390, 844, True), (1366, 768, False),
                                    (1366, 768, True)):
            await page.resize(width, height, 1, dark=dark)
            await asyncio.sleep(0.7)
            await page.screenshot(folder / f"{width}-{'dark' if dark else 'light'}.png")
            sizes[width] = await page.evaluate(
                "[document.documentElement.scrollWidth, at('hours').children.length, "
                "at('history').scrollWidth - at('history').clientWidth, "
                "at('history').scrollHeight > at('history').clientHeight]")
        reached = []
        for _ in range(6):
            for kind in ("keyDown", "keyUp"):
                await page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab",
                                windowsVirtualKeyCode=9)
            reached.append(await page.evaluate("document.activeElement.id"))
        tree = (await page.call("Accessibility.getFullAXTree"))["nodes"]
        names = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree
                 if "role" in node}
        return page.console, sizes, reached, names


@pytest.mark.slow
def test_a_browser_shows_the_last_day_at_every_width_and_to_keyboard_and_screen_reader(
        page, tmp_path):
    address = f"http://127.0.0.1:{page.address.port}/"
    said, sizes, reached, names = asyncio.run(look(address, tmp_path))
    assert said == []
    for width, (scroll_width, rows, overflow, scrolls) in sizes.items():
        assert scroll_width <= width and overflow <= 0 and scrolls
        assert rows == len(json.loads(get(page, "/history")[1]))
    assert "history" in reached
    assert ("region", "Last day, by hour") in names
    assert {("columnheader", name) for name in ("Hour", "People", "Expressions")} <= names
    cells = {name for role, name in names if role in ("cell", "gridcell")}
    assert "too few people to show shares" in cells and any("%" in name for name in cells)
