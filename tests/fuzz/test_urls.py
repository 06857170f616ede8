"""No secret of an address is shown, and any argument is opened or refused in one line."""

import os
import shutil
import string

import cv2
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feredge.runtime.errors import FeredgeError
from feredge.runtime.sources import frames_of, open_source
from feredge.runtime.sources.names import mask_passwords

EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)
SECRET = "hunTer2Secret"
SAFE = string.ascii_letters + string.digits + "-._~"
WORDS = st.text(SAFE, min_size=1, max_size=8)
NAMES = st.sampled_from([
    "password", "pwd", "passwd", "pass", "token", "access_token", "api_key", "apikey", "secret",
    "auth", "sig", "signature", "loginpas", "PASSWORD", "Pwd", "x-token", "p%61ssword", "psw"])
HOSTS = st.builds("{}{}".format, WORDS, st.sampled_from(["", ":554", ":8080"]))
SCHEMES = st.sampled_from(["rtsp", "http", "https", "rtmp", "srt", "RTSP", "rtsps", "tcp", "udp"])


@EXAMPLES
@given(SCHEMES, WORDS, st.text(SAFE + "/@#?!$&=+,;:", max_size=6), HOSTS, WORDS)
def test_the_password_of_a_user_is_never_in_the_name(scheme, user, mark, host, path):
    masked = mask_passwords(f"{scheme}://{user}:{SECRET}{mark}@{host}/{path}")
    assert SECRET not in masked and host.split(":")[0] in masked and path in masked


@EXAMPLES
@given(SCHEMES, HOSTS, st.sampled_from(["?", "/?", "/x?a=1&", "/user=a&", "/live;", "/#", "/"]),
       NAMES, st.text(SAFE + "/:@,+%", max_size=5), st.sampled_from(["", "&b=2", "#end", " x"]))
def test_a_named_secret_is_never_in_the_name(scheme, host, before, name, mark, after):
    masked = mask_passwords(f"{scheme}://{host}{before}{name}={SECRET}{mark}{after}")
    assert SECRET not in masked


@EXAMPLES
@given(st.text(max_size=60))
def test_any_text_can_be_masked(text):
    assert isinstance(mask_passwords(text), str)


@EXAMPLES
@given(st.text(max_size=40).filter(lambda text: "://" not in text and text != "-"
                                   and not text.startswith(("/", ".", "~"))))
@example("")
def test_any_name_is_refused_in_one_exception(text):
    try:
        open_source(text)
    except FeredgeError:
        return
    raise AssertionError(f"{text!r} was opened")


@EXAMPLES
@given(st.integers().filter(lambda number: not 0 <= number < 100))
def test_any_camera_number_out_of_range_is_refused(number):
    try:
        open_source(number)
    except FeredgeError as error:
        assert "expected a number" in str(error)


def small_files(folder):
    """A picture and a video of two frames."""
    frame = np.zeros((16, 16, 3), np.uint8)
    writer = cv2.VideoWriter(str(folder / "a.mkv"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (16, 16))
    for _ in range(2):
        writer.write(frame)
    writer.release()
    return {1: cv2.imencode(".png", frame)[1].tobytes(), 2: (folder / "a.mkv").read_bytes()}


NAME_BYTES = st.sampled_from(b"ab.:%\\ \n\t'\"*?[]$#@&=-|;~\xe9\xff\x7f\x01") | st.integers(1, 255)


@EXAMPLES
@given(st.lists(NAME_BYTES, min_size=1, max_size=30).map(bytes).filter(
    lambda name: b"/" not in name and name not in (b".", b"..")),
    st.sampled_from([1, 2]))
def test_a_file_of_any_name_is_read(tmp_path_factory, name, count):
    folder = tmp_path_factory.mktemp("names")
    content = small_files(folder)[count]
    where = os.fsdecode(os.path.join(os.fsencode(folder), name))
    with open(where, "wb") as file:
        file.write(content)
    source = open_source(where)
    assert [frame.source for frame in frames_of(source)] == [where] * count
    source.close()
    shutil.rmtree(folder)
