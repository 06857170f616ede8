"""Fixtures: Debian's mosquitto on a port of its own, and a subscriber."""

import json
import os
import shutil
import socket
import subprocess
import time
from dataclasses import replace

import numpy as np
import pytest

from feredge.runtime.results import Faces, Frame, FrameResult, TrackEvent

LABELS = ("neutral", "happiness", "anger")


def wait_for(condition, seconds=10.0):
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "waited too long"
        time.sleep(0.01)


class Mosquitto:
    """A real broker that can be killed and started again, with its messages kept in a folder."""

    def __init__(self, folder, lines=("allow_anonymous true",)):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.config = folder / "mosquitto.conf"
        folder.mkdir(exist_ok=True)
        self.config.write_text("\n".join([
            f"listener {self.port} 127.0.0.1", "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 1", "max_queued_messages 0", "user root", *lines]) + "\n")
        self.process = None

    def start(self):
        self.process = subprocess.Popen([shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c",
                                         self.config], stderr=subprocess.PIPE, text=True)
        wait_for(self.answers)

    def answers(self):
        assert self.process.poll() is None, self.process.stderr.read()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def wait_until_saved(self):
        """Wait for the next autosave: a broker that is killed before it forgets subscriptions."""
        time.sleep(2.5)

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stderr.close()
            self.process = None


class Subscriber:
    """Collects what is published, in order of arrival, over restarts of the broker."""

    def __init__(self, port, **login):
        from paho.mqtt import client as mqtt

        self.messages = []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="subscriber",
                                  clean_session=False)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.on_message = self.note
        self.client.connect_async("127.0.0.1", port)
        self.client.loop_start()
        wait_for(self.client.is_connected)

    def note(self, client, data, message):
        self.messages.append((message.topic, json.loads(message.payload)))

    def of(self, end):
        return [record for topic, record in list(self.messages) if topic.endswith(end)]

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def mosquitto(tmp_path):
    pytest.importorskip("paho.mqtt.client")
    if not shutil.which("mosquitto") and not shutil.which("mosquitto", path="/usr/sbin"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("mosquitto is not installed")
    broker = Mosquitto(tmp_path / "broker")
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def subscriber(mosquitto):
    subscriber = Subscriber(mosquitto.port)
    yield subscriber
    subscriber.close()


def face(track, label, count=1):
    probabilities = np.full((count, 3), 0.1, np.float32)
    probabilities[:, LABELS.index(label)] = 0.8
    found = Faces.from_detections(np.array([[0, 0, 9, 9]] * count).reshape(-1, 4),
                                  np.zeros((count, 5, 2)), np.ones(count))
    return replace(found.with_probabilities(probabilities, LABELS), track_ids=np.full(count, track))


def result(index, faces=None, events=(), source="door"):
    frame = Frame(index, np.zeros((9, 9, 3), np.uint8), source, index / 25)
    return FrameResult(frame, faces=Faces.empty() if faces is None else faces, events=[
        TrackEvent(kind, track) for kind, track in events])
