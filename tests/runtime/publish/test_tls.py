import subprocess

import pytest
from real_broker import LABELS, face, result
from test_publisher import OneSource

from feredge.benchmarks.experiments.mosquitto import Mosquitto, wait_for
from feredge.runtime.errors import UsageError
from feredge.runtime.publish import Publisher, PublishOptions


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate authority, and a certificate and key signed by it for broker and client."""
    folder = tmp_path_factory.mktemp("tls")
    new = ("-newkey", "rsa:2048", "-nodes", "-keyout")
    openssl("req", "-x509", *new, folder / "ca.key", "-out", folder / "ca.pem", "-subj", "/CN=ca")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("broker", "client"):
        openssl("req", *new, folder / f"{name}.key", "-out", folder / "r", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", folder / "r", "-CA", folder / "ca.pem", "-CAkey",
                folder / "ca.key", "-CAcreateserial", "-extfile", folder / "san", "-out",
                folder / f"{name}.pem")
    return folder


@pytest.fixture
def tls_broker(certificates, tmp_path, mosquitto):
    broker = Mosquitto(tmp_path / "tls", [
        "allow_anonymous true", "require_certificate true", f"cafile {certificates}/ca.pem",
        f"certfile {certificates}/broker.pem", f"keyfile {certificates}/broker.key"])
    broker.start()
    yield broker
    broker.kill()


@pytest.mark.slow
def test_events_arrive_over_tls_with_a_client_certificate(tls_broker, certificates):
    one = Publisher(PublishOptions(
        f"mqtts://127.0.0.1:{tls_broker.port}", ca_file=certificates / "ca.pem",
        certificate_file=certificates / "client.pem", key_file=certificates / "client.key"),
        OneSource(), LABELS)
    one.write(result(0, face(1, "neutral"), [("enter", 1)]))
    wait_for(lambda: len(one._spool) == 0)
    one.close()


@pytest.mark.slow
def test_a_broker_of_another_authority_is_not_trusted(tls_broker, certificates, caplog):
    one = Publisher(PublishOptions(f"mqtts://127.0.0.1:{tls_broker.port}"), OneSource(), LABELS)
    one.write(result(0, face(1, "neutral"), [("enter", 1)]))
    wait_for(lambda: "certificate is refused" in caplog.text)
    assert len(one._spool) == 1
    one.close()


def test_a_file_that_is_no_certificate_is_one_line(certificates, tmp_path):
    pytest.importorskip("paho.mqtt.client")
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(UsageError, match="TLS files cannot be used"):
        options = PublishOptions("mqtts://127.0.0.1", ca_file=tmp_path / "ca.pem")
        Publisher(options, OneSource(), LABELS)
