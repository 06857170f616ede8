"""The output that publishes: events through the spool, states once a second."""

from __future__ import annotations

import os
import threading
import time
from itertools import count

from feredge.runtime.publish.base import Broker, Message
from feredge.runtime.publish.home_assistant import discovery_message
from feredge.runtime.publish.messages import (
    SourceState,
    source_status_record,
    source_topics,
    status_record,
    utc_now,
)
from feredge.runtime.publish.options import BrokerAddress, PublishOptions
from feredge.runtime.publish.spool import Spool
from feredge.runtime.results import FrameResult
from feredge.runtime.sources.base import Source, part_name

STATE_S = 1.0  # between two states of a source
MOST_UNCONFIRMED = 20
LAST_WAIT_S = 2.0  # for confirmations when the run ends


class Publisher:
    """An output that publishes to a broker and never waits for it.

    Args:
        options: broker, spool and credentials.
        source: the run's source; its parts' names become levels of topics.
        labels: class names, in the order of the probabilities.
        broker: the connection; None opens the one that the address names.

    Raises:
        OutputError: the spool cannot be used.
        PackageError: the broker's package is not installed.
    """

    def __init__(
        self, options: PublishOptions, source: Source, labels: tuple[str, ...],
        broker: Broker | None = None,
    ) -> None:
        self.run, self._numbers = os.urandom(8).hex(), count()
        self._source, self._labels, self._options = source, labels, options
        self._base = f"{BrokerAddress.parse(options.url).prefix}/{options.device_id}"
        self._topics = source_topics([part.name for part in source.parts])
        self._states: dict[str, SourceState] = {}
        self._published: dict[str, object] = {}  # by topic, to publish changes alone
        self._last_key = 0  # of the messages that were handed to the broker
        self._unconfirmed: set[int] = set()
        self._broker = broker or self._open_broker()
        self._spool = Spool(options.spool, options.spool_mb * 1_000_000)
        self._wake, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="publish", daemon=True)
        self._broker.start()
        self._thread.start()

    def _open_broker(self) -> Broker:
        from feredge.runtime.publish.mqtt import MqttBroker

        client_id = f"feredge-{self._options.device_id}-{self.run}"[:128]
        return MqttBroker(self._options, client_id, self._status("offline", 0))

    def write(self, result: FrameResult) -> None:
        """Take a frame's result: events go to the spool, the rest waits for the next state."""
        topic = self._topics[part_name(self._source, result.frame)]
        state = self._states.setdefault(topic, SourceState(self._labels))
        for event in state.update(result):
            record = {"run": self.run, "seq": next(self._numbers), "time": utc_now(),
                      "time_s": round(result.frame.time_s, 3), **event}
            self._spool.append(Message.from_record(f"{self._base}/{topic}/events", record))
            self._wake.set()

    def close(self) -> None:
        """Send what is left for a moment, say offline, and disconnect; the rest stays spooled."""
        self._ended.set()
        self._wake.set()
        self._thread.join()
        self._broker.close()
        self._spool.close()

    def _work(self) -> None:
        """Send events as they come and states in their interval, until the run ends."""
        next_s, was_connected = 0.0, False
        while not self._ended.is_set():
            self._wake.wait(0.05 if self._unconfirmed else STATE_S)
            self._wake.clear()
            self._confirm()
            connected = self._broker.is_connected
            if connected and not was_connected:
                self._announce()
            if connected:
                self._send_events()
                if time.monotonic() >= next_s:
                    next_s = time.monotonic() + STATE_S
                    self._send_states()
            was_connected = connected
        self._finish()

    def _finish(self) -> None:
        """Send the last states and events, and wait for their confirmations, but not for long."""
        deadline_s = time.monotonic() + LAST_WAIT_S
        if not self._broker.is_connected:
            return
        self._send_states()
        while len(self._spool) and time.monotonic() < deadline_s:
            self._send_events()
            time.sleep(0.01)
            self._confirm()
        self._broker.send(self._status("offline", self._spool.dropped))

    def _status(self, state: str, dropped: int) -> Message:
        record = status_record(state, self.run, dropped)
        return Message.from_record(f"{self._base}/status", record, retain=True)

    def _announce(self) -> None:
        """Publish what readers need after every connect: they may have lost it with the broker."""
        self._published.clear()
        self._broker.send(self._status("online", self._spool.dropped))
        if self._options.home_assistant:
            self._broker.send(discovery_message(
                self._options.device_id, self._base, self._topics, self._labels))

    def _confirm(self) -> None:
        keys = self._broker.confirmations()
        self._spool.confirm(keys)
        self._unconfirmed.difference_update(keys)

    def _send_events(self) -> None:
        """Hand the oldest events to the broker, which repeats them by itself after a reconnect."""
        free = MOST_UNCONFIRMED - len(self._unconfirmed)
        for key, message in self._spool.pending_messages(self._last_key, free) if free > 0 else ():
            self._broker.send(message, key)
            self._last_key = key
            self._unconfirmed.add(key)

    def _send_states(self) -> None:
        """Publish each source's state and status, if it changed."""
        for topic, state in list(self._states.items()):
            self._send_change(f"{self._base}/{topic}/state", state.frames, state.record())
        for health in self._source.health():
            seen = (health.state, health.reconnects, health.error)
            topic = f"{self._base}/{self._topics[health.source]}/status"
            self._send_change(topic, seen, source_status_record(health))

    def _send_change(self, topic: str, seen: object, record: dict[str, object]) -> None:
        if self._published.get(topic) != seen:
            self._published[topic] = seen
            self._broker.send(Message.from_record(topic, record, retain=True))
