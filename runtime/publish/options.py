"""Options of publishing, and the address of a broker."""

from __future__ import annotations

import argparse
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from feredge.runtime.command import positive_int
from feredge.runtime.environment import broker_password
from feredge.runtime.errors import UsageError

SCHEMES = {"mqtt": 1883, "mqtts": 8883}
DEFAULT_PREFIX = "feredge"
DEFAULT_SPOOL_MB = 64


@dataclass(frozen=True)
class BrokerAddress:
    """Host, port and user of a broker, and the first level of every topic."""

    scheme: str
    host: str
    port: int
    user: str | None
    prefix: str

    def __str__(self) -> str:
        """Return the address for log lines; it never holds a password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @staticmethod
    def parse(url: str) -> BrokerAddress:
        """Read `mqtt[s]://[user@]host[:port][/prefix]`.

        Raises:
            UsageError: another form, or it holds a password, which every process could read.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"publish: the broker's address is malformed: {error}") from error
        if parts.password is not None:
            raise UsageError("publish: a password in the address can be read by every process: put "
                             "it into a file and pass its path as `password_file`")
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise UsageError("publish: expected mqtt://[user@]host[:port][/prefix]; mqtts:// uses "
                             "TLS")
        user = unquote(parts.username) if parts.username else None
        prefix = unquote(parts.path).strip("/") or DEFAULT_PREFIX
        if re.search(r"[+#\0]", prefix):
            raise UsageError(f"publish: prefix {prefix!r} holds a wildcard, which topics cannot")
        return BrokerAddress(parts.scheme, parts.hostname, port or SCHEMES[parts.scheme], user,
                             prefix)


@dataclass(frozen=True)
class PublishOptions:
    """Where and how results are published.

    Attributes:
        url: the broker, see `BrokerAddress.parse`.
        device: the name of this device in topics; None is the host's name.
        spool: SQLite file that keeps events until the broker confirms them, also when the process
            is killed; None keeps them in memory.
        spool_mb: bound on the events kept; the oldest are dropped and counted.
        password_file: holds the user's password; None reads the variable FEREDGE_MQTT_PASSWORD.
        ca_file: certificate authority of the broker; None is the system's.
        certificate_file: the client's certificate, for brokers that ask for one.
        key_file: the key of `certificate_file`.
        home_assistant: announce the device to Home Assistant.
    """

    url: str
    device: str | None = None
    spool: Path | None = None
    spool_mb: int = DEFAULT_SPOOL_MB
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    home_assistant: bool = False

    def __post_init__(self) -> None:
        """Check everything that can be wrong before the run.

        Raises:
            UsageError: the address is malformed, or a file is missing.
        """
        scheme = BrokerAddress.parse(self.url).scheme
        for file in (self.password_file, self.ca_file, self.certificate_file, self.key_file):
            if file is not None and not file.is_file():
                raise UsageError(f"publish: {file} does not exist")
        if (self.certificate_file is None) != (self.key_file is None):
            raise UsageError("publish: a client certificate and its key go together")
        if scheme != "mqtts" and (self.ca_file or self.certificate_file):
            raise UsageError("publish: certificates need TLS, and mqtt:// has none: pass mqtts://")

    @property
    def device_id(self) -> str:
        """The device's name as one level of a topic."""
        return topic_level(self.device or socket.gethostname())

    def password(self) -> str | None:
        """Return the password.

        Raises:
            UsageError: its file cannot be read.
        """
        if self.password_file is None:
            return broker_password()
        try:
            return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"publish: {self.password_file} cannot be read: {error}") from error

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the command-line arguments of these options."""
        group = parser.add_argument_group("messages (extra: mqtt)")
        group.add_argument("--publish", metavar="URL",
                           help="publish to a broker: mqtt[s]://[user@]host[:port][/prefix]")
        group.add_argument("--device-name", metavar="NAME",
                           help="this device's name in topics (default: the host's name)")
        group.add_argument("--spool", type=Path, metavar="PATH",
                           help="keep events in this file until the broker confirms them")
        group.add_argument("--spool-mb", type=positive_int, default=DEFAULT_SPOOL_MB, metavar="MB",
                           help=f"most that the spool keeps ({DEFAULT_SPOOL_MB})")
        group.add_argument("--mqtt-password-file", type=Path, metavar="FILE",
                           help="the broker's password (default: FEREDGE_MQTT_PASSWORD)")
        group.add_argument("--mqtt-ca", type=Path, metavar="FILE",
                           help="certificate authority of the broker (default: the system's)")
        group.add_argument("--mqtt-certificate", type=Path, metavar="FILE",
                           help="client certificate")
        group.add_argument("--mqtt-key", type=Path, metavar="FILE", help="its key")
        group.add_argument("--home-assistant", action="store_true",
                           help="announce the device to Home Assistant")

    @staticmethod
    def from_arguments(options: argparse.Namespace) -> PublishOptions | None:
        """Return the options that were given on the command line, None without `--publish`."""
        if options.publish is None:
            return None
        return PublishOptions(
            options.publish, options.device_name, options.spool, options.spool_mb,
            options.mqtt_password_file, options.mqtt_ca, options.mqtt_certificate,
            options.mqtt_key, options.home_assistant,
        )


def topic_level(name: str) -> str:
    """Return a name as one level of a topic: letters, digits, `_`, `-` and `.`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[-64:] or "unnamed"
