"""MQTT through paho-mqtt, which reconnects and repeats unconfirmed messages by itself."""

from __future__ import annotations

import logging
import ssl
from collections import deque
from typing import Any

from feredge.runtime.errors import UsageError, require
from feredge.runtime.publish.base import Message
from feredge.runtime.publish.options import BrokerAddress, PublishOptions

KEEPALIVE_S = 5  # a device that freezes is offline for its readers after 1.5 times as long
LONGEST_WAIT_S = 5  # between two attempts to connect

logger = logging.getLogger(__name__)


class MqttBroker:
    """A connection to an MQTT 3.1.1 broker.

    Args:
        options: address, credentials and TLS files.
        client_id: unique among the broker's clients.
        will: the message that the broker publishes when this process is gone.

    Raises:
        PackageError: paho-mqtt is not installed.
        UsageError: a certificate or key cannot be used.
    """

    def __init__(self, options: PublishOptions, client_id: str, will: Message) -> None:
        mqtt = require("paho.mqtt.client", "mqtt")
        self.address = BrokerAddress.parse(options.url)
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id)
        self._client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        self._client.reconnect_delay_set(1, LONGEST_WAIT_S)
        if self.address.user is not None:
            self._client.username_pw_set(self.address.user, options.password())
        if self.address.scheme == "mqtts":
            set_tls(self._client, options)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        # paho calls it with a lock that `publish` takes, too: it only notes the number.
        self._client.on_publish = lambda client, data, number, *_: self._confirmed.append(number)
        self._confirmed: deque[int] = deque()
        self._keys: dict[int, int] = {}  # by paho's message number
        self._last_reason = ""

    @property
    def is_connected(self) -> bool:
        """Whether messages can be sent now."""
        return bool(self._client.is_connected())

    def start(self) -> None:
        """Begin to connect, in paho's thread."""
        self._client.connect_async(self.address.host, self.address.port, KEEPALIVE_S)
        self._client.loop_start()

    def send(self, message: Message, key: int | None = None) -> None:
        """Send a message, with QoS 1 if it has a key; see `Broker.send`."""
        qos = 0 if key is None else 1
        sent = self._client.publish(message.topic, message.payload, qos, message.retain)
        if key is not None:
            self._keys[sent.mid] = key

    def confirmations(self) -> list[int]:
        """Return the keys that were confirmed since the last call; call it where `send` is."""
        numbers = [self._confirmed.popleft() for _ in range(len(self._confirmed))]
        return [self._keys.pop(number) for number in numbers if number in self._keys]

    def close(self) -> None:
        """Disconnect and end paho's thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, *_: Any) -> None:
        if reason.is_failure:
            self._log(f"refuses the connection: {reason}; check user and password")
        else:
            self._log("connected", logging.INFO)

    def _on_connect_fail(self, client: Any, data: Any) -> None:
        self._log("does not answer, or its certificate is refused; trying again")

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, *_: Any) -> None:
        if reason.is_failure and not self._last_reason.startswith("refuses"):
            self._log(f"lost: {reason}; trying again")

    def _log(self, reason: str, level: int = logging.WARNING) -> None:
        """Log a change of state, not every attempt."""
        if reason != self._last_reason:
            self._last_reason = reason
            logger.log(level, "broker %s: %s", self.address, reason,
                       extra={"event": "broker", "reason": reason})


def set_tls(client: Any, options: PublishOptions) -> None:
    """Use TLS, with the broker's certificate checked.

    Raises:
        UsageError: a certificate or key cannot be used.
    """
    ca, certificate, key = (None if file is None else str(file) for file in (
        options.ca_file, options.certificate_file, options.key_file))
    try:
        client.tls_set(ca_certs=ca, certfile=certificate, keyfile=key)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise UsageError(f"publish: the TLS files cannot be used: {error}") from error
