"""Names of sources hold no secrets, and native code gets no name that crashes it."""

import os
from pathlib import Path

import pytest

from feredge.runtime.sources.names import mask_passwords, native_path


@pytest.mark.parametrize("where, masked", [
    ("rtsp://admin:hunter2@cam/1", "rtsp://cam/1"),
    ("RTSP://admin:hunter2@cam:554", "RTSP://cam:554"),
    ("rtsp://admin:hun/ter2@127.0.0.1:5540/x", "rtsp://127.0.0.1:5540/x"),
    ("rtsp://admin:hun@ter2@h/x", "rtsp://h/x"),
    ("rtsp://admin:hun?ter2@h/x", "rtsp://h/x"),
    ("rtsp://hunter2@h/x", "rtsp://h/x"),
    ("rtsp:/admin:hunter2@cam", "rtsp:/cam"),
    ("rtsp://h:5540/user=admin&password=hunter2&channel=1&stream=0.sdp?",
     "rtsp://h:5540/user=admin&password=***&channel=1&stream=0.sdp?"),
    ("rtsp://h/user=admin_password=hunter2_channel=1_stream=0.sdp",
     "rtsp://h/user=admin_password=***_channel=1_stream=0.sdp"),
    ("http://h:9/cgi?user=a&pwd=hunter2", "http://h:9/cgi?user=a&pwd=***"),
    ("http://h/?PASSWORD=hunter2&x=1", "http://h/?PASSWORD=***&x=1"),
    ("http://h/?p%61ssword=hunter2", "http://h/?p%61ssword=***"),
    ("rtmp://h/live?token=hunter2", "rtmp://h/live?token=***"),
    ("https://h/x#access_token=hunter2", "https://h/x#access_token=***"),
    ("srt://h:1?passphrase=hunter2", "srt://h:1?passphrase=***"),
    ("srt://h:1?streamid=u:hunter2@x", "srt://h:1?streamid=x"),
    ("gst:rtspsrc location=rtsp://cam/live user-pw = 'hunter2 x' ! appsink",
     "gst:rtspsrc location=rtsp://cam/live user-pw = *** ! appsink"),
    ('gst:uridecodebin uri="rtsp://a:hunter2@cam/live" ! appsink',
     'gst:uridecodebin uri="rtsp://cam/live" ! appsink'),
])
def test_a_password_is_masked_in_every_form_of_address(where, masked):
    assert mask_passwords(where) == masked


@pytest.mark.parametrize("where", [
    "http://host:80/cgi?mail=a@b", "rtsp://10.0.0.7:554/h264/ch1/main", "camera 0", "csi:0",
    "gst:videotestsrc is-live=1 ! appsink drop=1 max-buffers=1", "holiday/2026 (1).mp4",
])
def test_a_name_without_a_secret_stays_as_it_is(where):
    assert mask_passwords(where) == where


@pytest.mark.parametrize("name", [b"10:30:00.mp4", b"caf\xe9.mp4", "größe.mp4".encode()])
def test_native_code_gets_an_absolute_name_in_utf8(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = Path(os.fsdecode(name))
    path.write_bytes(b"content")
    with native_path(path) as native:
        assert os.path.isabs(native) and native.encode() and native.endswith(".mp4")
        assert Path(native).read_bytes() == b"content"
    assert path.exists()
