"""Object stores, on moto's S3 server on this machine."""

import socket
import subprocess
import sys
import time
import urllib.request

import pytest

pytest.importorskip("pyarrow", reason="the extra batch is not installed")
pytest.importorskip("moto.server", reason="moto's server is not installed")

import pyarrow.fs as fs

from feredge.runtime.batch import batch, lock
from feredge.runtime.batch.storage import OutputFolder
from feredge.runtime.errors import OutputError


@pytest.fixture(scope="module")
def server():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1",
                                "-p", str(port)], stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(address, timeout=1)
            break
        except OSError:
            time.sleep(0.1)
    yield address
    process.terminate()
    process.wait()


@pytest.fixture
def bucket(server, monkeypatch, request):
    """A new bucket: its file system, its name and the URI's query."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    query = f"?endpoint_override={server}&region=us-east-1&allow_bucket_creation=true"
    store, _ = fs.FileSystem.from_uri(f"s3://x{query}")
    name = f"bucket-{abs(hash(request.node.name))}"
    store.create_dir(name)
    return store, name, query


@pytest.fixture
def remote(bucket, pictures, monkeypatch):
    """The URIs of a source with 20 pictures, of which one is damaged, and of an output."""
    store, name, query = bucket
    monkeypatch.setattr(lock, "SETTLE_S", 0.1)
    (pictures / "0007.jpg").write_bytes(b"no picture")
    (pictures / "a b%20#?.jpg").write_bytes((pictures / "0001.jpg").read_bytes())
    for path in pictures.iterdir():
        with store.open_output_stream(f"{name}/pictures/{path.name}") as stream:
            stream.write(path.read_bytes())
    return f"s3://{name}/pictures{query}", f"s3://{name}/faces{query}"


@pytest.mark.slow
def test_pictures_and_output_on_s3(remote, bucket, options, pictures, tmp_path, read_rows):
    store, name, _ = bucket
    source, output = remote
    given = options(sources=(source,), output=output)
    summary = batch(given)
    assert (summary.rows, summary.errors) == (21, 1)
    infos = store.get_file_info(fs.FileSelector(f"{name}/faces"))
    files = [info.path for info in infos if info.type == fs.FileType.File]
    import pyarrow.dataset
    rows = pyarrow.dataset.dataset(files, filesystem=store).to_table().to_pylist()
    batch(options(output=str(tmp_path / "local")))
    local = {row["unit"].rpartition("/")[2]: row for row in read_rows(tmp_path / "local")}
    assert {row["unit"] for row in rows} == {
        f"s3://{name}/pictures/{path.name}" for path in pictures.iterdir()}
    for row in rows:
        assert row["faces"] == local[row["unit"].rpartition("/")[2]]["faces"]
    assert batch(given).new_rows == 0


def test_a_missing_object_is_an_error_row(remote, bucket, options, tmp_path, read_rows):
    _, name, query = bucket
    (tmp_path / "list.txt").write_text(f"s3://{name}/pictures/0001.jpg\ns3://{name}/gone.jpg\n")
    sources = (str(tmp_path / "list.txt"), f"s3://{name}/pictures/0002.jpg{query}")
    assert batch(options(sources=sources)).errors == 1
    errors = [row["error"] for row in read_rows(options().output) if row["error"]]
    assert "gone.jpg cannot be read" in errors[0] and "secret" not in errors[0]


def test_a_video_on_s3_is_read_in_segments_and_joined_there(
    bucket, options, write_clip, astronaut, monkeypatch
):
    store, name, query = bucket
    monkeypatch.setattr(lock, "SETTLE_S", 0.1)
    clip = write_clip([astronaut[k:, : 512 - k][:400, :400] for k in range(100)])
    with store.open_output_stream(f"{name}/clip.mp4") as stream:
        stream.write(clip.read_bytes())
    summary = batch(options(sources=(f"s3://{name}/clip.mp4{query}",), segment_s=1,
                            output=f"s3://{name}/rows{query}"))
    assert (summary.rows, summary.errors) == (100, 0)
    files = store.get_file_info(fs.FileSelector(f"{name}/rows", recursive=True))
    names = [info.path for info in files if info.type == fs.FileType.File]
    assert sum("/_" not in path for path in names) == 1 and not any("_segments/" in path
                                                                    for path in names)
    import pyarrow.parquet as pq
    file = next(path for path in names if "/_" not in path)
    table = pq.read_table(file, filesystem=store)
    assert table["frame"].to_pylist() == list(range(100))


def test_a_lease_keeps_a_second_driver_away_until_it_expires(remote, monkeypatch):
    output = OutputFolder(remote[1])
    with lock.lock_output(output), pytest.raises(OutputError, match="in use by another"):
        with lock.lock_output(output):
            pytest.fail("two drivers")
    lock.write_lease(output, "of a driver that was killed")
    monkeypatch.setattr(lock, "EXPIRE_S", 0.2)
    time.sleep(0.3)
    with lock.lock_output(output):
        assert b"token" in output.read(lock.LEASE)
    assert output.read(lock.LEASE) is None
