"""Annotated videos: encoders, times, audio, full disks, names."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from feredge.runtime.errors import OutputError
from feredge.runtime.outputs import video_writers
from feredge.runtime.outputs.annotated import open_annotated
from feredge.runtime.outputs.video import VideoFile
from feredge.runtime.results import Frame, FrameResult
from feredge.runtime.sources import frames_of, open_sources

WRITERS = ("PyAV", "OpenCV")


@pytest.fixture
def no_av(monkeypatch):
    """PyAV is not installed."""
    monkeypatch.setitem(sys.modules, "av", None)


@pytest.fixture(params=WRITERS)
def writer(request):
    """Each of the two writers."""
    if request.param == "OpenCV":
        request.getfixturevalue("no_av")
    else:
        pytest.importorskip("av")
    return request.param


def picture(k, width=160, height=120):
    frame = np.full((height, width, 3), 40, np.uint8)
    frame[:, (5 * k) % width : (5 * k) % width + 20] = (0, 0, 255)
    return frame


def write(path, times_s, fps=25.0, audio=None, size=(160, 120)):
    file = VideoFile(path, fps, audio)
    try:
        for k, time_s in enumerate(times_s):
            frame = picture(k, *size)
            file.write_annotated(FrameResult(Frame(k, frame, "x", time_s)), frame)
    finally:
        file.close()
    return path


def count(path):
    capture, frames = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        frames += 1
    return frames


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_every_frame_is_in_the_file_and_nothing_else_is_left(writer, tmp_path, suffix):
    path = write(tmp_path / f"out{suffix}", [k / 25 for k in range(60)])
    assert count(path) == 60 and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("name", ["10:30:00.mp4", "caf\udce9.mp4", "a b%d.mp4", "-x.mp4"])
def test_every_name_can_be_written(writer, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write(Path(name), [k / 25 for k in range(5)])
    os.rename(os.fsencode(name), b"plain.mp4")
    assert count("plain.mp4") == 5


def test_a_folder_whose_name_is_not_utf8_is_one_line(writer, tmp_path):
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    with pytest.raises(OutputError, match="not UTF-8") as error:
        write(folder / "out.mp4", [0.0])
    assert str(error.value).isprintable() and os.listdir(folder) == []


@pytest.mark.parametrize("fps", [90_000.0, 1e9, 0.0, float("nan"), 29.97002997, 0.5])
def test_every_rate_can_be_written(writer, tmp_path, fps):
    assert count(write(tmp_path / "out.mp4", [k / 25 for k in range(5)], fps)) == 5


def test_a_size_without_an_encoder_is_one_line_and_leaves_nothing(no_av, tmp_path):
    with pytest.raises(OutputError, match="no encoder for a 9000x64") as error:
        write(tmp_path / "out.mkv", [0.0], size=(9000, 64))
    assert "\n" not in str(error.value) and os.listdir(tmp_path) == []


def test_odd_sides_and_a_change_of_size_are_scaled(writer, tmp_path):
    file = VideoFile(tmp_path / "out.mp4", 25.0)
    for k, size in enumerate([(161, 121), (80, 60), (161, 121)]):
        file.write_annotated(FrameResult(Frame(k, picture(k, *size), "x", k / 25)),
                             picture(k, *size))
    file.close()
    assert count(tmp_path / "out.mp4") == 3


FULL_DISK = """
import sys; from pathlib import Path; import numpy as np
if sys.argv[2] == "OpenCV": sys.modules["av"] = None
from feredge.runtime.errors import OutputError
from feredge.runtime.outputs.video import VideoFile
from feredge.runtime.outputs.closing import Outputs
from feredge.runtime.results import Frame, FrameResult
rng = np.random.default_rng(0)
try:
    with Outputs() as outputs:
        outputs.annotated.append(VideoFile(Path(sys.argv[1]), 25.0))
        for k in range(60):
            frame = rng.integers(0, 256, (240, 320, 3), np.uint8)
            outputs.annotated[0].write_annotated(FrameResult(Frame(k, frame, "x", k / 25)), frame)
except OutputError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_full_disk_is_one_line_and_leaves_nothing(writer, tmp_path, suffix):
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 300; exec "$0" -c "$1" "$2" "$3"', sys.executable, FULL_DISK,
         str(tmp_path / f"out{suffix}"), writer], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and os.listdir(tmp_path) == []


def test_a_folder_that_vanishes_is_one_line(writer, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    file = VideoFile(folder / "out.mp4", 25.0)
    for k in range(3):
        file.write_annotated(FrameResult(Frame(k, picture(k), "x", k / 25)), picture(k))
    subprocess.run(["rm", "-r", str(folder)], check=True)
    with pytest.raises(OutputError, match="cannot be written"):
        file.close()
    assert os.listdir(tmp_path) == []


def test_closing_twice_is_allowed(writer, tmp_path):
    file = VideoFile(tmp_path / "out.mp4", 25.0)
    file.write_annotated(FrameResult(Frame(0, picture(0), "x", 0.0)), picture(0))
    file.close()
    file.close()
    assert count(tmp_path / "out.mp4") == 1


def test_without_pyav_one_line_names_the_extra(no_av, tmp_path, caplog):
    with caplog.at_level("INFO", "feredge"):
        write(tmp_path / "out.mp4", [0.0, 0.04])
    assert "feredge[video]" in caplog.text and len(caplog.records) == 1


@pytest.fixture
def source_with_sound(tmp_path):
    """A clip of 2 s at a variable rate with a tone, and the times of its frames."""
    av = pytest.importorskip("av")
    times_s = [0.0, 0.04, 0.08, 0.5, 0.54, 1.2, 1.24, 1.28, 1.9]
    path = tmp_path / "source.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=44100)
        for k, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(picture(k), format="bgr24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for k in range(86):
            tone = np.sin(np.arange(1024) / 20)[None].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 44100, 1024 * k, Fraction(1, 44100)
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path, times_s


def packets(file):
    """Return the audio of a file, packet by packet."""
    import av

    with av.open(str(file)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_times_are_kept_and_audio_is_copied(source_with_sound, tmp_path, suffix):
    import av

    source, times_s = source_with_sound
    path = write(tmp_path / f"out{suffix}", times_s, audio=source)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        got_s = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert 0 <= got_s[0] < 0.03, "Matroska moves all streams by the priming of the audio"
    np.testing.assert_allclose(np.subtract(got_s, got_s[0]), times_s, atol=0.002)

    copied, original = packets(path), packets(source)
    assert copied == original[: len(copied)] and len(copied) >= 0.9 * len(original)


def test_the_audio_of_joined_parts_is_copied_completely(source_with_sound, tmp_path):
    import av

    part = tmp_path / "part.ts"
    with av.open(str(source_with_sound[0])) as source, av.open(str(part), "w") as container:
        streams = {stream: container.add_stream_from_template(stream)
                   for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream]
                container.mux(packet)
    (tmp_path / "joined.ts").write_bytes(part.read_bytes() * 3)
    path = write(tmp_path / "out.mp4", [k / 25 for k in range(150)], audio=tmp_path / "joined.ts")
    copied, original = packets(path), packets(tmp_path / "joined.ts")
    # An MP4 holds AAC without the header that each packet of a transport stream has.
    assert all(theirs.endswith(ours) for ours, theirs in zip(copied, original))
    assert len(original) > 3 * 80 and len(copied) >= 0.9 * len(original)
    with av.open(str(path)) as container:
        assert float(container.duration / 1e6) == pytest.approx(6, abs=0.3)


def test_each_of_several_videos_keeps_its_own_audio(source_with_sound, tmp_path):
    first, second = source_with_sound[0], tmp_path / "second.mp4"
    second.write_bytes(first.read_bytes())
    source = open_sources((str(first), str(second)))
    output = open_annotated(str(tmp_path / "out"), source)
    for frame in frames_of(source):
        output.write_annotated(FrameResult(frame), frame.frame_bgr)
    output.close()
    source.close()
    written = sorted((tmp_path / "out").iterdir())
    assert [path.name.endswith(name) for path, name in
            zip(written, ("source.mp4.mp4", "second.mp4.mp4"))] == [True, True]
    original = packets(first)
    for path in written:
        copied = packets(path)
        assert copied == original[: len(copied)] and len(copied) >= 0.9 * len(original)


def test_the_index_of_an_mp4_is_at_its_start(tmp_path):
    pytest.importorskip("av")
    content = write(tmp_path / "out.mp4", [k / 25 for k in range(50)]).read_bytes()
    assert 0 < content.find(b"moov") < content.find(b"mdat")


def test_audio_that_a_container_cannot_hold_is_left_out_with_one_line(tmp_path, caplog):
    av = pytest.importorskip("av")
    source = tmp_path / "source.avi"
    with av.open(str(source), "w") as container:
        sound = container.add_stream("pcm_u8", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.uint8), format="u8",
                                           layout="mono")
        frame.sample_rate = 8000
        container.mux(sound.encode(frame))
    assert count(write(tmp_path / "out.mp4", [0.0, 0.04], audio=source)) == 2
    assert len(caplog.records) == 1 and "pcm_u8" in caplog.text


@pytest.mark.slow
def test_chromium_plays_what_is_written(tmp_path):
    pytest.importorskip("av")
    sys.path.append(str(Path(__file__).parents[2] / "pages"))
    import asyncio

    from devtools import browser_page

    video = write(tmp_path / "out.mp4", [k / 25 for k in range(50)])
    page = tmp_path / "page.html"
    page.write_text(f'<!doctype html><video src="{video.name}" muted></video>')

    async def play():
        async with browser_page(page.as_uri()) as tab:
            await asyncio.sleep(1)
            return await tab.evaluate(
                "(async () => { const v = document.querySelector('video'); await v.play();"
                " await new Promise(r => setTimeout(r, 1000));"
                " return [v.videoWidth, v.currentTime, v.duration, v.error]; })()")

    width, at_s, duration_s, error = asyncio.run(play())
    assert width == 160 and at_s > 0.3 and error is None and abs(duration_s - 2) < 0.1


def test_the_writer_without_pyav_is_opencvs(no_av, tmp_path):
    writer = video_writers.open_writer(tmp_path / "out.mp4", 25.0, (160, 120), None)
    assert isinstance(writer, video_writers.OpenCvWriter)
    writer.close()
