import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from jsonschema import Draft202012Validator
from real_broker import LABELS, face, result

import feredge.runtime.publish
from feredge.benchmarks.experiments.mosquitto import Mosquitto, wait_for
from feredge.runtime.publish import Publisher, PublishOptions
from feredge.runtime.sources.base import Health

SCHEMAS = Path(feredge.runtime.publish.__file__).parent / "schemas"


class OneSource:
    """A live source as the publisher sees it."""

    name = "door"

    def __init__(self):
        self.state, self.parts = "delivering", [SimpleNamespace(name="door")]

    def health(self):
        return [Health("door", self.state, 3, 0, None, 0.1)]


@pytest.fixture
def publisher(mosquitto):
    opened = []

    def open_publisher(**options):
        url = options.pop("url", f"mqtt://127.0.0.1:{mosquitto.port}/shop")
        options = PublishOptions(url, device="till 1", **options)
        opened.append(Publisher(options, OneSource(), LABELS))
        return opened[-1]

    yield open_publisher
    for one in opened:
        if one._thread.is_alive():
            one.close()


def check_schema(name, record):
    Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text())).validate(record)


def test_events_states_and_status_are_published_as_their_schemas_say(publisher, subscriber):
    one = publisher()
    one.write(result(0, face(1, "neutral"), [("enter", 1)]))
    one.write(result(1, face(1, "happiness")))
    one.write(result(2, events=[("exit", 1)]))
    wait_for(lambda: len(subscriber.of("/events")) == 3 and subscriber.of("/state"))
    events = subscriber.of("shop/till-1/door/events")
    assert [(event["seq"], event["event"], event["label"]) for event in events] == [
        (0, "enter", "neutral"), (1, "label", "happiness"), (2, "exit", "happiness")]
    one.close()
    wait_for(lambda: [r["state"] for r in subscriber.of("till-1/status")] == ["online", "offline"])
    for name, end in (("event", "/events"), ("state", "/state"), ("status", "till-1/status"),
                      ("source_status", "door/status")):
        records = subscriber.of(end)
        assert records, name
        for record in records:
            check_schema(name, record)


def test_a_schema_refuses_what_is_not_published():
    with pytest.raises(Exception, match="sneeze"):
        check_schema("event", {"run": "0" * 16, "seq": 0, "time": "2026-01-01T00:00:00.000+00:00",
                               "time_s": 0, "event": "sneeze", "track": 1, "label": None})


def test_a_state_is_published_once_a_second_at_most(publisher, subscriber):
    one = publisher()
    start_s, index = time.monotonic(), 0
    while time.monotonic() - start_s < 3:
        one.write(result(index, face(-1, "anger", count=2)))
        index += 1
        time.sleep(0.01)
    states = subscriber.of("/state")
    assert 2 <= len(states) <= (time.monotonic() - start_s) + 1
    assert states[-1]["people"] == 2 and states[-1]["faces"][0]["track"] is None


@pytest.mark.slow
def test_nothing_is_lost_or_reordered_when_the_broker_is_killed_and_comes_back(
        publisher, subscriber, mosquitto, tmp_path):
    one = publisher(spool=tmp_path / "spool.db")
    for index in range(600):
        if index == 100:
            wait_for(lambda: len(subscriber.of("/events")) == 100)
            mosquitto.wait_until_saved()
            mosquitto.kill()
        if index == 500:
            mosquitto.start()
        one.write(result(index, face(index + 1, "neutral"), [("enter", index + 1)]))
    wait_for(lambda: len({r["seq"] for r in subscriber.of("/events")}) == 600, 60)
    numbers = [record["seq"] for record in subscriber.of("/events")]
    assert sorted(set(numbers)) == list(range(600))
    first = list(dict.fromkeys(numbers))
    assert first == sorted(first)


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from real_broker import LABELS, face, result
from test_publisher import OneSource
from feredge.runtime.publish import Publisher, PublishOptions
one = Publisher(PublishOptions("mqtt://127.0.0.1:{port}", device="d", spool=Path({spool!r})),
                OneSource(), LABELS)
for index in range(50):
    one.write(result(index, face(index + 1, "neutral"), [("enter", index + 1)]))
print("written", flush=True)
import time; time.sleep(60)
"""


@pytest.mark.slow
def test_a_killed_process_loses_no_event_that_was_written(mosquitto, subscriber, tmp_path):
    mosquitto.wait_until_saved()
    mosquitto.kill()
    spool = tmp_path / "spool.db"
    code = CHILD.format(folder=str(Path(__file__).parent), port=mosquitto.port, spool=str(spool))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "written\n"
    child.kill()
    child.wait()
    child.stdout.close()
    mosquitto.start()
    url = f"mqtt://127.0.0.1:{mosquitto.port}"
    one = Publisher(PublishOptions(url, device="d", spool=spool), OneSource(), LABELS)
    wait_for(lambda: len(subscriber.of("/events")) == 50, 30)
    one.close()
    assert [record["seq"] for record in subscriber.of("/events")] == list(range(50))


@pytest.mark.slow
def test_a_wrong_password_is_one_line_and_the_pipeline_goes_on(tmp_path, caplog):
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "ann", "right"], check=True)
    broker = Mosquitto(tmp_path / "b", ["allow_anonymous false", f"password_file {passwords}"])
    broker.start()
    (tmp_path / "wrong").write_text("hunter2\n")
    url = f"mqtt://ann@127.0.0.1:{broker.port}"
    options = PublishOptions(url, password_file=tmp_path / "wrong")
    with caplog.at_level(logging.INFO, "feredge"):
        one = Publisher(options, OneSource(), LABELS)
        one.write(result(0, face(1, "neutral"), [("enter", 1)]))
        wait_for(lambda: "check user and password" in caplog.text)
        subprocess.run(["sleep", "4"], check=True)  # it is tried again
        one.close()
    assert caplog.text.count("check user and password") == 1
    assert "hunter2" not in caplog.text
    broker.kill()


def test_a_broker_that_is_not_there_costs_nothing_and_the_end_is_quick(publisher):
    one = publisher(url="mqtt://127.0.0.1:9/x")
    for index in range(1000):
        one.write(result(index, face(1, "neutral"), [("enter", 1)]))
    one.close()


def test_home_assistant_is_told_each_sensor_once(publisher, subscriber):
    publisher(home_assistant=True)
    wait_for(lambda: subscriber.of("/config"))
    (config,) = subscriber.of("homeassistant/device/feredge_till-1/config")
    platforms = [component["platform"] for component in config["components"].values()]
    assert platforms == ["binary_sensor", "sensor", "sensor"]
    assert config["components"]["feredge_till-1_door_expression"]["options"][:2] == [
        "neutral", "happiness"]


@pytest.mark.slow
def test_the_last_will_tells_of_a_killed_process(mosquitto, subscriber, tmp_path):
    folder, spool = str(Path(__file__).parent), str(tmp_path / "spool.db")
    code = CHILD.format(folder=folder, port=mosquitto.port, spool=spool)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    wait_for(lambda: subscriber.of("feredge/d/status"), 30)
    child.kill()
    child.wait()
    child.stdout.close()
    wait_for(lambda: subscriber.of("feredge/d/status")[-1]["state"] == "offline")
