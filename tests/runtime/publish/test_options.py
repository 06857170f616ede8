import argparse

import pytest

from feredge.runtime.errors import UsageError
from feredge.runtime.publish import PublishOptions
from feredge.runtime.publish.messages import source_topics
from feredge.runtime.publish.options import BrokerAddress, topic_level


@pytest.mark.parametrize("url, host, port, user, prefix", [
    ("mqtt://broker", "broker", 1883, None, "feredge"),
    ("mqtts://ann@broker:9000/shop/floor", "broker", 9000, "ann", "shop/floor"),
    ("mqtt://[::1]/", "::1", 1883, None, "feredge"),
])
def test_an_address_is_read(url, host, port, user, prefix):
    address = BrokerAddress.parse(url)
    assert (address.host, address.port, address.user, address.prefix) == (host, port, user, prefix)


@pytest.mark.parametrize("url, message", [
    ("mqtt://ann:hunter2@broker", "put it into a file"), ("http://broker", "expected mqtt://"),
    ("mqtt://", "expected mqtt://"), ("mqtt://broker:70000", "malformed"),
    ("mqtt://broker/a/%2B", "wildcard"), ("mqtt://[broker", "malformed"),
])
def test_a_wrong_address_is_refused_without_its_password(url, message):
    with pytest.raises(UsageError, match=message) as caught:
        PublishOptions(url)
    assert "hunter2" not in str(caught.value)


def test_the_arguments_are_read_back(tmp_path):
    parser = argparse.ArgumentParser()
    PublishOptions.add_arguments(parser)
    assert PublishOptions.from_arguments(parser.parse_args([])) is None
    given = parser.parse_args(["--publish", "mqtt://b", "--spool", "s.db", "--home-assistant"])
    options = PublishOptions.from_arguments(given)
    assert options.home_assistant and str(options.spool) == "s.db" and options.spool_mb == 64


@pytest.mark.parametrize("name", ["password_file", "ca_file", "certificate_file", "key_file"])
def test_a_file_that_is_missing_is_named_before_the_run(tmp_path, name):
    with pytest.raises(UsageError, match=r"missing\.pem does not exist"):
        PublishOptions("mqtt://b", **{name: tmp_path / "missing.pem"})


def test_the_password_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    (tmp_path / "p").write_text("a b\n")
    assert PublishOptions("mqtt://b", password_file=tmp_path / "p").password() == "a b"
    monkeypatch.setenv("FEREDGE_MQTT_PASSWORD", "c")
    assert PublishOptions("mqtt://b").password() == "c"


def test_names_become_levels_of_topics_that_differ():
    assert topic_level("rtsp://10.0.0.1/door #1") == "rtsp-10.0.0.1-door-1"
    assert source_topics(["a b", "a/b", "c"]) == {"a b": "a-b-0", "a/b": "a-b-1", "c": "c"}
    assert topic_level("///") == "unnamed"


def test_certificates_without_tls_are_refused_as_the_password_would_be_readable(tmp_path):
    (tmp_path / "ca.pem").write_text("x")
    with pytest.raises(UsageError, match="pass mqtts://"):
        PublishOptions("mqtt://ann@b", ca_file=tmp_path / "ca.pem")
