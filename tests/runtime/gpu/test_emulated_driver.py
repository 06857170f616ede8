"""The emulated CUDA driver: what fails on a GPU fails there too, and what is taken is freed."""

import ctypes

import emulated_cuda
import numpy as np
import pytest
from emulated_cuda import or_skip

VECTOR = """
extern "C" __global__ void add(float* values, float summand, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] += summand;
}
"""


@pytest.mark.parametrize("ci, outcome", [("1", pytest.fail.Exception),
                                         ("", pytest.skip.Exception)], ids=["ci", "elsewhere"])
def test_without_a_toolkit_ci_fails_and_others_skip(monkeypatch, tmp_path, ci, outcome):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(emulated_cuda, "TOOLKITS", (tmp_path,))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    with pytest.raises(outcome, match=r"no CUDA toolkit: nvcc and cuda\.h are needed"):
        or_skip(emulated_cuda.toolkit)


@pytest.fixture(scope="module")
def cuda(cuda_context):
    import pycuda.driver

    return pycuda.driver


@pytest.fixture(scope="module")
def add(cuda):
    from feredge.runtime.gpu.compilers import open_nvrtc

    module = cuda.module_from_buffer(open_nvrtc(13).cubin(VECTOR, "sm_87"))
    return module.get_function("add").prepare("Pfi")


def test_copies_go_there_and_back(cuda):
    sent, received = np.arange(100, dtype=np.float32), np.zeros(100, np.float32)
    memory = cuda.mem_alloc(sent.nbytes)
    cuda.memcpy_htod(memory, sent)
    cuda.memcpy_dtoh(received, memory)
    assert (received == sent).all()


@pytest.mark.parametrize("first, length", [(0, 101), (1, 100), (400, 1), (-1, 1)])
def test_copies_out_of_bounds_fail(cuda, first, length):
    memory, host = cuda.mem_alloc(100), np.zeros(length, np.uint8)
    for copy in (lambda: cuda.memcpy_htod(int(memory) + first, host),
                 lambda: cuda.memcpy_dtoh(host, int(memory) + first)):
        with pytest.raises(cuda.LogicError):
            copy()


def test_copies_of_freed_memory_fail(cuda):
    memory = cuda.mem_alloc(100)
    address = int(memory)
    memory.free()
    with pytest.raises(cuda.LogicError):
        cuda.memcpy_htod(address, np.zeros(1, np.uint8))


def test_fresh_memory_is_not_zero(cuda):
    received = np.zeros(64, np.uint8)
    cuda.memcpy_dtoh(received, cuda.mem_alloc(64))
    assert received.all()


def test_what_is_allocated_is_counted_until_it_is_freed(cuda, emulated_driver):
    before = emulated_driver.emulated_allocations()
    memory, pinned = cuda.mem_alloc(8), cuda.pagelocked_empty(8, np.uint8)
    assert emulated_driver.emulated_allocations() == before + 2
    del memory, pinned
    assert emulated_driver.emulated_allocations() == before


def test_more_memory_than_there_is_fails(cuda):
    with pytest.raises(cuda.MemoryError):
        cuda.mem_alloc(1 << 40)


def test_a_kernel_runs_every_thread_once(cuda, add):
    values = np.zeros(1000, np.float32)
    memory = cuda.to_device(values)
    add.prepared_call((8, 1), (128, 1, 1), memory, 2.5, 1000)
    cuda.memcpy_dtoh(values, memory)
    assert (values == 2.5).all()


@pytest.mark.parametrize("grid, block", [((0, 1), (1, 1, 1)), ((1, 1), (1025, 1, 1)),
                                         ((1, 1, 65536), (1, 1, 1))])
def test_launches_beyond_the_limits_fail(cuda, add, grid, block):
    with pytest.raises(cuda.LogicError):
        add.prepared_call(grid, block, cuda.mem_alloc(4), 1.0, 1)


def test_a_cubin_of_a_gpu_does_not_load(cuda, nvcc):
    from feredge.runtime.gpu.compilers import Nvcc

    for image in (Nvcc(str(nvcc), 13, 0).cubin(VECTOR, "sm_87"), b"no image" * 20):
        with pytest.raises(cuda.Error):
            cuda.module_from_buffer(image)


def test_modules_stand_beside_each_other(cuda, add):
    from feredge.runtime.gpu.compilers import open_nvrtc

    source = VECTOR.replace("+=", "-=")
    module = cuda.module_from_buffer(open_nvrtc(13).cubin(source, "sm_87"))
    subtract = module.get_function("add").prepare("Pfi")
    values = np.ones(4, np.float32)
    memory = cuda.to_device(values)
    for function, summand in ((add, 5.0), (subtract, 2.0)):
        function.prepared_call((1, 1), (4, 1, 1), memory, summand, 4)
    cuda.memcpy_dtoh(values, memory)
    assert (values == 4).all()


def test_a_captured_graph_does_nothing_until_it_is_launched(cuda, add, emulated_driver):
    memory, stream = cuda.to_device(np.zeros(4, np.float32)), cuda.Stream()
    handle, graph, ready = map(ctypes.c_void_p, (stream.handle, 0, 0))
    assert emulated_driver.cuStreamBeginCapture_v2(handle, 1) == 0
    add.prepared_async_call((1, 1), (4, 1, 1), stream, memory, 1.0, 4)
    with pytest.raises(cuda.Error):  # not while it is captured
        stream.synchronize()
    assert emulated_driver.cuStreamEndCapture(handle, ctypes.byref(graph)) == 0
    assert emulated_driver.cuGraphInstantiateWithFlags(ctypes.byref(ready), graph,
                                                       ctypes.c_ulonglong(0)) == 0
    values = np.ones(4, np.float32)
    cuda.memcpy_dtoh(values, memory)
    assert (values == 0).all()
    for _ in range(3):
        assert emulated_driver.cuGraphLaunch(ready, handle) == 0
    stream.synchronize()
    cuda.memcpy_dtoh(values, memory)
    assert (values == 3).all()
    assert emulated_driver.cuGraphExecDestroy(ready) == emulated_driver.cuGraphDestroy(graph) == 0


def test_the_driver_that_ctypes_finds_by_name_is_the_emulation(emulated_driver):
    found = ctypes.CDLL("libcuda.so.1")
    assert found.emulated_allocations() == emulated_driver.emulated_allocations()


def test_what_is_not_emulated_says_so(cuda):
    with pytest.raises(cuda.Error, match="801"):
        cuda.Array(cuda.ArrayDescriptor())
