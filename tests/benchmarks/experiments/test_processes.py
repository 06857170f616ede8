"""What is read of processes: ports, memory, start-up."""

import socket
import sys
import threading
import time

import pytest

from feredge.benchmarks.experiments.processes import (
    free_port,
    process_state,
    startup_s,
    usage_of,
    wait_for_port,
)


def test_a_free_port_can_be_listened_on_and_waited_for():
    port = free_port()

    def listen():
        time.sleep(0.3)
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.accept()[0].close()

    thread = threading.Thread(target=listen)
    thread.start()
    start_s = time.monotonic()
    wait_for_port(port, timeout_s=20)
    assert time.monotonic() - start_s > 0.2
    thread.join()
    with pytest.raises(OSError):
        wait_for_port(free_port(), timeout_s=0.2)


def test_the_peak_of_memory_is_that_of_the_process():
    small, large = (usage_of([sys.executable, "-c", f"x = bytearray({size})"]).peak_mb
                    for size in (1, 100_000_000))
    assert 90 < large - small < 130
    with pytest.raises(SystemExit, match="failed with exit code 3"):
        usage_of([sys.executable, "-c", "raise SystemExit(3)"])


def test_the_cpu_time_is_that_of_the_process():
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    assert 0.4 < usage_of([sys.executable, "-c", busy]).cpu_s < 1


def test_a_start_is_timed_whole():
    assert 0.1 < startup_s([sys.executable, "-S", "-c", "import time; time.sleep(0.1)"]) < 5


def test_the_state_is_that_of_this_process():
    before = process_state()
    with socket.create_server(("127.0.0.1", 0)):
        after = process_state()
    assert after["files"] == before["files"] + 1 and before["threads"] >= 1
    assert 10 < before["resident_mb"] < 10_000
