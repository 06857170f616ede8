"""The live page against viewers that are hostile, slow or many."""

import http.client
import logging
import os
import socket
import time

import pytest

from feredge.runtime.errors import OutputError
from feredge.runtime.serve import connections
from feredge.runtime.serve.address import Address
from feredge.runtime.serve.live_page import LivePage, PageContent
from feredge.runtime.serve.token import read_token

PATHS = ("/", "/stream", "/frame", "/events", "/metrics", "/healthz", "/none")


def facts():
    return {"totals": {"frames": 7, "dropped": 2, "faces": 9}, "stages": {}, "sources": []}


@pytest.fixture
def serve():
    """Open live pages; they are closed after the test."""
    opened = []

    def open_page(host="127.0.0.1", token=None, labels=("neutral",)):
        opened.append(LivePage(Address(host, 0, token), PageContent(labels, facts)))
        return opened[-1]

    yield open_page
    for page in opened:
        page.close()


def ask(page, head, body=False):
    """Send a raw request; returns everything until the connection is closed."""
    with socket.create_connection(("127.0.0.1", page.address.port), timeout=20) as viewer:
        viewer.sendall(head)
        content = b""
        while part := viewer.recv(65536):
            content += part
    return content


def request(method="GET", path="/healthz", host="localhost", more=b""):
    return (f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n".encode()
            + more + b"\r\n")


def test_port_0_is_replaced_by_the_port_that_was_taken(serve):
    page = serve()
    assert page.address.port > 0 and f":{page.address.port}/" in str(page.address)
    assert b" 200 " in ask(page, request())


@pytest.mark.parametrize("host", ["..", "a" * 300, "x" * 70 + ".local", "300.1.1.1", "1.2.3"])
def test_a_host_that_does_not_exist_is_one_line(host):
    with pytest.raises(OutputError, match="`serve`") as error:
        LivePage(Address(host, 0, "secret"), PageContent(("neutral",), facts))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example",
                                  "localhost.evil.example", "192.0.2.1", "[::1].evil",
                                  "@localhost"])
def test_a_foreign_host_name_gets_no_answer_without_a_token(serve, host):
    page = serve()
    for path in PATHS:
        answer = ask(page, request(path=path, host=host))
        assert answer.startswith(b"HTTP/1.1 403 ") and b"not served here" in answer


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "127.3.2.1", "[::1]"])
def test_names_of_this_machine_are_answered(serve, host):
    assert b" 200 " in ask(serve(), request(host=host))


def test_with_a_token_any_host_name_is_answered(serve):
    page = serve(token="secret")
    assert b" 200 " in ask(page, request(path="/metrics?token=secret", host="camera.example"))
    assert b" 401 " in ask(page, request(path="/metrics", host="camera.example"))


@pytest.mark.parametrize("bearer", [b"\xff", b"\xed\xa0\x80", b"secret\xff", b"", b"\x80" * 4000])
def test_a_token_that_is_no_text_is_refused(serve, bearer):
    page = serve(token="secret")
    answer = ask(page, request(path="/metrics", more=b"Authorization: Bearer " + bearer + b"\r\n"))
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("path", ["/?token=%ff", "/?token=%ED%A0%80", "/?token=%00"])
def test_a_token_in_the_address_that_is_no_text_is_refused(serve, path):
    assert ask(serve(token="secret"), request(path=path)).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("path", PATHS)
def test_head_has_no_body(serve, path):
    head, _, body = ask(serve(), request("HEAD", path)).partition(b"\r\n\r\n")
    assert body == b"" and head.startswith(b"HTTP/1.1 404" if path == "/none" else b"HTTP/1.1 200")


@pytest.mark.parametrize("raw", [
    request(path="/"), request(path="/none"), request("POST", "/"), request("HEAD", "/"),
    request(path="/", host="evil.example"), request(path="/frame?source=x"), b"nonsense\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20000 + b"\r\n\r\n",
])
def test_every_answer_has_the_security_headers(serve, raw):
    head = ask(serve(), raw).partition(b"\r\n\r\n")[0].lower()
    for header in (b"x-content-type-options: nosniff", b"frame-ancestors 'none'",
                   b"referrer-policy: no-referrer", b"cache-control: no-store",
                   b"x-frame-options: deny"):
        assert header in head, head


def test_labels_cannot_end_the_script_or_change_the_policy(serve):
    page = serve(labels=("</script><script>alert(1)</script>", "<!--", "\u2028", "&lt;"))
    answer = ask(page, request(path="/")).decode()
    assert answer.count("<script>") == answer.count("</script>") == 1
    assert "script-src 'sha256-" in answer and "unsafe-inline" not in answer


def test_idle_and_slow_connections_are_closed_and_viewers_stay(serve, monkeypatch):
    monkeypatch.setattr(connections, "IDLE_S", 0.5)
    monkeypatch.setattr(connections, "CHECK_S", 0.1)
    page = serve()
    starts = (b"", b"GET", b"GET / HTTP/1.1\r\nHost: localhost\r\n",
              b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    viewers = [socket.create_connection(("127.0.0.1", page.address.port)) for _ in starts]
    for viewer, start in zip(viewers, starts):
        viewer.sendall(start)
    events = http.client.HTTPConnection("127.0.0.1", page.address.port, timeout=10)
    events.request("GET", "/events")
    stream = events.getresponse()
    for viewer in viewers:
        viewer.settimeout(10)
        with pytest.raises(ConnectionResetError):
            while viewer.recv(4096):
                pass
            raise ConnectionResetError
    time.sleep(1)
    assert stream.readline().startswith(b"data: "), "a connection with an answer stays"


def test_more_connections_than_the_limit_are_refused_with_one_log_line(
    serve, monkeypatch, caplog
):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 20)
    monkeypatch.setattr(connections.log.filters[0], "next_s", 0.0)
    page = serve()
    with caplog.at_level(logging.WARNING):
        opened = [socket.create_connection(("127.0.0.1", page.address.port)) for _ in range(200)]
        time.sleep(0.5)
    files = len(os.listdir("/proc/self/fd"))
    assert files < 300
    lines = [record.message for record in caplog.records]
    assert len(lines) == 1 and "20 connections" in lines[0]
    for viewer in opened:
        viewer.close()
    time.sleep(0.3)
    assert b" 200 " in ask(page, request()), "the places are free again"


def test_nonsense_is_logged_at_most_once(serve, monkeypatch, caplog):
    monkeypatch.setattr(connections.log.filters[0], "next_s", 0.0)
    page = serve()
    for _ in range(20):
        ask(page, b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n")
    assert len(caplog.records) <= 1
    assert all(record.exc_info is None for record in caplog.records)


def test_a_token_file_that_others_can_read_draws_a_warning(tmp_path, caplog):
    file = tmp_path / "token"
    file.write_text("a secret\n")
    file.chmod(0o600)
    assert read_token(f"@{file}") == "a secret" and not caplog.records
    file.chmod(0o644)
    assert read_token(f"@{file}") == "a secret" and "chmod 600" in caplog.text
