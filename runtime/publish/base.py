"""The interface between the publisher and a message broker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Message:
    """One message: topic, JSON payload, and whether the broker keeps it for later readers."""

    topic: str
    payload: bytes
    retain: bool = False

    @staticmethod
    def from_record(topic: str, record: Mapping[str, Any], retain: bool = False) -> Message:
        """Return a message whose payload is a record as compact JSON."""
        text = json.dumps(record, separators=(",", ":"), allow_nan=False)
        return Message(topic, text.encode(), retain)


class Broker(Protocol):
    """A connection that reconnects by itself; every method returns at once, except `close`."""

    @property
    def is_connected(self) -> bool:
        """Whether messages can be sent now."""

    def start(self) -> None:
        """Begin to connect, in a thread of its own."""

    def send(self, message: Message, key: int | None = None) -> None:
        """Send a message.

        Args:
            message: what to send.
            key: asks for a confirmation, which `confirmations` returns under this key.
        """

    def confirmations(self) -> list[int]:
        """Return the keys of the messages that the broker confirmed since the last call."""

    def close(self) -> None:
        """Disconnect; what was not confirmed is given up."""
