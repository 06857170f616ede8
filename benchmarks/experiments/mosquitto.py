"""A mosquitto of one's own and a subscriber, for measurements and tests of publishing."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from feredge.benchmarks.experiments.processes import free_port
from feredge.runtime.errors import require

WAIT_S = 10.0


def wait_for(condition: Callable[[], object], seconds: float = WAIT_S) -> None:
    """Wait until a condition is true.

    Raises:
        TimeoutError: it is not.
    """
    deadline_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"waited {seconds} s")
        time.sleep(0.01)


class Mosquitto:
    """A real broker that can be killed and started again, with its messages kept in a folder.

    Args:
        folder: created if it does not exist.
        lines: of its configuration, besides the port and what persistence needs.
    """

    def __init__(self, folder: Path, lines: Sequence[str] = ("allow_anonymous true",)) -> None:
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        folder.mkdir(exist_ok=True)
        self.config.write_text("\n".join([
            f"listener {self.port} 127.0.0.1", "persistence true",
            f"persistence_location {folder}/", "autosave_interval 1", "max_queued_messages 0",
            "user root", *lines]) + "\n")
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens.

        Raises:
            RuntimeError: it ended, with its reason.
            TimeoutError: it does not listen.
        """
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.process = subprocess.Popen([program, "-c", str(self.config)], stderr=subprocess.PIPE,
                                        text=True)
        wait_for(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None and self.process.stderr is not None
        if self.process.poll() is not None:
            raise RuntimeError(self.process.stderr.read())
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def wait_until_saved(self) -> None:
        """Wait for the next autosave: a broker that is killed before it forgets subscriptions."""
        time.sleep(2.5)

    def kill(self) -> None:
        """Kill it, as a power cut does."""
        if self.process is not None and self.process.stderr is not None:
            self.process.kill()
            self.process.wait()
            self.process.stderr.close()
            self.process = None


class Subscriber:
    """Collects what is published, in order of arrival, over restarts of the broker.

    Attributes:
        messages: topic and record of each message.
    """

    def __init__(self, port: int) -> None:
        mqtt: Any = require("paho.mqtt.client", "mqtt")
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="subscriber",
                                  clean_session=False)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.on_message = self._note
        self.client.connect_async("127.0.0.1", port)
        self.client.loop_start()
        wait_for(self.client.is_connected)

    def _note(self, client: Any, context: Any, message: Any) -> None:
        self.messages.append((message.topic, json.loads(message.payload)))

    def of(self, end: str) -> list[dict[str, Any]]:
        """Return the records of the topics that end so."""
        return [record for topic, record in list(self.messages) if topic.endswith(end)]

    def close(self) -> None:
        """Disconnect."""
        self.client.disconnect()
        self.client.loop_stop()
