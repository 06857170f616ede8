"""The address of the live page, and who may open it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from feredge.runtime.errors import OutputError

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8080
# HOST:PORT, HOST, :PORT, PORT, [IPV6]:PORT, IPV6, or nothing.
PORT = re.compile(r"(?P<port>[0-9]{1,5})")
HOST_AND_PORT = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[A-Za-z0-9._-]*)(?::(?P<port>[0-9]{1,5})?)?"
)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is that of this machine alone."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # another name
        return False


@dataclass(frozen=True)
class Address:
    """Where the page is served, and the token that other machines need.

    Raises:
        OutputError: another machine could open it without a token.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    token: str | None = None

    def __post_init__(self) -> None:
        """Check that only this machine can open the page without a token."""
        if not self.token and not self.is_loopback:
            raise OutputError(f"`serve` {self.host}:{self.port} can be reached from other "
                              "machines: pass `token`, or serve this machine only: "
                              f"127.0.0.1:{self.port}")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def admits_host(self, header: str | None) -> bool:
        """Return whether a request with this `Host` header may be answered.

        Without a token the header must name this machine: otherwise a page of another site could
        point its own name at 127.0.0.1 and read the answers (DNS rebinding).
        """
        if self.token or header is None:
            return True
        found = HOST_AND_PORT.fullmatch(header)
        return found is not None and is_loopback(found["host"])

    def __str__(self) -> str:
        """Return the address for a browser, without the token, and a warning if it is exposed."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = "?token=SECRET" if self.token else ""
        warning = "" if self.is_loopback else (
            "; the connection is not encrypted: everyone on the network can read it, and the "
            "token with it")
        return f"http://{host}:{self.port}/{query}{warning}"

    @staticmethod
    def parse(text: str, token: str | None = None) -> Address:
        """Read `HOST:PORT`, `HOST`, `:PORT`, `PORT` or an empty text.

        Raises:
            OutputError: it is none of these, or another machine could open it without a token.
        """
        found = PORT.fullmatch(text) or HOST_AND_PORT.fullmatch(text)
        fields = found.groupdict() if found else {"host": text} if is_ipv6(text) else None
        port = int((fields or {}).get("port") or DEFAULT_PORT)
        if fields is None or port > 65535:
            raise OutputError(f"`serve` {text!a}: expected HOST:PORT, for example 127.0.0.1:8080")
        host = (fields.get("host") or DEFAULT_HOST).strip("[]")
        return Address(host, port, token)


def is_ipv6(text: str) -> bool:
    """Return whether a text is an IPv6 address without brackets."""
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
