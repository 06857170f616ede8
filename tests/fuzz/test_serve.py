"""The live page against any address, any header and any bytes."""

import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feredge.runtime.errors import FeredgeError
from feredge.runtime.serve.address import Address, is_loopback
from feredge.runtime.serve.live_page import LivePage, PageContent

EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)
HOSTS = st.one_of(st.text(max_size=20), st.sampled_from(
    ["localhost", "127.0.0.1", "[::1]", "::1", "0.0.0.0", "::", "evil.example", "[fe80::1%eth0]"]))
PORTS = st.one_of(st.text(max_size=6), st.integers(-10, 10**7).map(str))
HEADER = st.binary(max_size=60).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b""))
METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS", b"TRACE", b"get", b"", b"\xff"])
PATHS = st.one_of(st.sampled_from([
    b"/", b"/stream", b"/frame?after=9", b"/frame?after=-1&source=", b"/metrics", b"/healthz",
    b"/events?token=%ff", b"*", b"//x", b"/../etc/passwd", b"http://evil.example/"]), HEADER)


@EXAMPLES
@given(HOSTS, PORTS, st.sampled_from(["{}:{}", "{}", ":{}", "{1}", "http://{}:{}"]),
       st.sampled_from([None, "", "secret"]))
def test_any_address_is_one_line_or_safe(host, port, form, token):
    text = form.format(host, port)
    try:
        address = Address.parse(text, token)
    except FeredgeError as error:
        assert "\n" not in str(error)
        return
    assert 0 <= address.port < 65536
    assert address.token or is_loopback(address.host), "other machines need a token"
    assert "secret" not in str(address)


@pytest.fixture(scope="module")
def page():
    """A page without a token, and one with."""
    facts = {"totals": {"frames": 1, "dropped": 0, "faces": 0}, "stages": {}, "sources": []}
    opened = {token: LivePage(Address("127.0.0.1", 0, token),
                              PageContent(("neutral",), lambda: facts))
              for token in (None, "secret token")}
    yield opened
    for one in opened.values():
        one.close()


def first_line(page, content, wait_s=10):
    """Send bytes; returns the first line of the answer, empty if there is none."""
    with socket.create_connection(("127.0.0.1", page.address.port), timeout=wait_s) as viewer:
        viewer.sendall(content)
        try:
            return viewer.makefile("rb").readline()
        except (ConnectionResetError, TimeoutError):
            return b""


def check_alive(page):
    healthy = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert first_line(page, healthy).startswith(b"HTTP/1.1 200 ")
    assert page.thread.is_alive() and threading.active_count() < 50


@EXAMPLES
@given(METHODS, PATHS, HEADER, HEADER, HEADER, st.booleans())
def test_any_request_is_answered_and_never_an_internal_error(
    page, method, path, host, bearer, other, has_token
):
    opened = page["secret token" if has_token else None]
    content = (method + b" " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nAuthorization: Bearer "
               + bearer + b"\r\nX: " + other + b"\r\nConnection: close\r\n\r\n")
    line = first_line(opened, content, 0.3)
    assert b" 500 " not in line, content
    if line.startswith(b"HTTP/1.1 200 ") and path != b"/healthz":
        assert not has_token, "without the token nothing but the health is answered"
    check_alive(opened)


@EXAMPLES
@given(st.binary(max_size=400))
def test_any_bytes_leave_the_page_alive(page, content):
    assert b" 500 " not in first_line(page[None], content, 0.05)
    check_alive(page[None])
