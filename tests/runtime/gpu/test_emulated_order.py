"""Work on the emulated GPU runs late and in any order that streams allow: planted faults show."""

import ctypes

import numpy as np
import pytest

FORBIDDEN, IMPLICIT = 900, 906
NON_BLOCKING = 1


@pytest.fixture(scope="module")
def cuda(cuda_context):
    import pycuda.driver

    return pycuda.driver


@pytest.fixture(autouse=True)
def clean(emulated_driver):
    emulated_driver.emulated_reset()
    yield
    emulated_driver.emulate_order(0)
    emulated_driver.emulated_reset()


def pinned(cuda, values):
    memory = cuda.pagelocked_empty(len(values), np.float32)
    memory[:] = values
    return memory


def test_results_are_not_there_before_the_stream_is_synchronized(cuda):
    stream, device = cuda.Stream(NON_BLOCKING), cuda.to_device(np.ones(4, np.float32))
    host = pinned(cuda, np.zeros(4))
    cuda.memcpy_dtoh_async(host, device, stream)
    assert (host == 0).all()
    stream.synchronize()
    assert (host == 1).all()


def test_pinned_memory_that_is_written_before_the_copy_ran_is_copied_as_it_is_then(cuda):
    stream, device = cuda.Stream(NON_BLOCKING), cuda.mem_alloc(16)
    host, found = pinned(cuda, np.ones(4)), np.zeros(4, np.float32)
    cuda.memcpy_htod_async(device, host, stream)
    host[:] = 2
    stream.synchronize()
    cuda.memcpy_dtoh(found, device)
    assert (found == 2).all(), "a missing wait shows"


def test_ordinary_memory_is_read_when_the_copy_is_enqueued(cuda):
    stream, device = cuda.Stream(NON_BLOCKING), cuda.mem_alloc(16)
    host, found = np.ones(4, np.float32), np.zeros(4, np.float32)
    cuda.memcpy_htod_async(device, host, stream)
    host[:] = 2
    stream.synchronize()
    cuda.memcpy_dtoh(found, device)
    assert (found == 1).all()


def test_memory_freed_too_early_is_counted(cuda, emulated_driver):
    stream, host = cuda.Stream(NON_BLOCKING), pinned(cuda, np.ones(4))
    device = cuda.mem_alloc(16)
    cuda.memcpy_htod_async(device, host, stream)
    device.free()
    assert emulated_driver.emulated_violation() == b"memory was freed while work was queued"
    stream.synchronize()
    assert emulated_driver.emulated_violation() == b"a copy ran when its memory was freed"


def sums_of(cuda, emulated_driver, seed, waits):
    """Two streams: one writes 1, the other reads it behind an event, if it waits."""
    emulated_driver.emulate_order(seed)
    first, second = cuda.Stream(NON_BLOCKING), cuda.Stream(NON_BLOCKING)
    device, event = cuda.to_device(np.zeros(4, np.float32)), cuda.Event()
    ones, found = pinned(cuda, np.ones(4)), pinned(cuda, np.zeros(4))
    cuda.memcpy_htod_async(device, ones, first)
    event.record(first)
    if waits:
        second.wait_for_event(event)
    cuda.memcpy_dtoh_async(found, device, second)
    second.synchronize()
    first.synchronize()
    return float(found.sum())


def test_an_order_between_streams_holds_only_where_an_event_makes_it(cuda, emulated_driver):
    with_wait = {sums_of(cuda, emulated_driver, seed, True) for seed in range(40)}
    without = {sums_of(cuda, emulated_driver, seed, False) for seed in range(40)}
    assert with_wait == {4.0} and without == {0.0, 4.0}


@pytest.fixture
def capture(cuda, emulated_driver):
    """Begin a capture on a stream with these flags; it ends with the test."""
    begun = []

    def begin(flags):
        stream = cuda.Stream(flags)
        handle = ctypes.c_void_p(stream.handle)
        assert emulated_driver.cuStreamBeginCapture_v2(handle, 1) == 0
        begun.append((stream, handle))
        return stream

    yield begin
    for _, handle in begun:
        graph = ctypes.c_void_p()
        emulated_driver.cuStreamEndCapture(handle, ctypes.byref(graph))
        emulated_driver.cuGraphDestroy(graph)


def test_what_a_capture_forbids_fails(cuda, emulated_driver, capture):
    device, host = cuda.mem_alloc(16), np.zeros(4, np.float32)
    other = cuda.mem_alloc(16)
    stream = capture(NON_BLOCKING)
    for call in (lambda: cuda.mem_alloc(16), lambda: cuda.pagelocked_empty(4, np.uint8),
                 stream.synchronize, cuda.Context.synchronize,
                 lambda: cuda.memcpy_htod(device, host),
                 lambda: cuda.memcpy_dtoh_async(host, device, stream)):
        with pytest.raises(cuda.Error, match=str(FORBIDDEN)):
            call()
    assert emulated_driver.cuMemFree_v2(ctypes.c_void_p(int(other))) == FORBIDDEN


@pytest.mark.parametrize("flags, result", [(0, IMPLICIT), (NON_BLOCKING, 0)],
                         ids=["blocking", "non-blocking"])
def test_a_blocking_streams_capture_breaks_other_users_of_the_legacy_stream(
    cuda, emulated_driver, cuda_context, capture, flags, result
):
    import threading

    device, codes = cuda.mem_alloc(16), []
    host = (ctypes.c_char * 16)()

    def other_user():
        cuda_context.push()
        codes.append(emulated_driver.cuMemcpyHtoD_v2(
            ctypes.c_void_p(int(device)), host, ctypes.c_size_t(16)))
        cuda_context.pop()

    capture(flags)
    thread = threading.Thread(target=other_user)
    thread.start()
    thread.join()
    assert codes == [result]
