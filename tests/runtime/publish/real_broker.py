"""Fixtures: Debian's mosquitto on a port of its own, and a subscriber."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from feredge.benchmarks.experiments.mosquitto import Mosquitto, Subscriber
from feredge.runtime.results import Faces, Frame, FrameResult, TrackEvent

LABELS = ("neutral", "happiness", "anger")


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
