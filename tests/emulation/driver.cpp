// An emulation of the CUDA driver on the CPU: the slice that PyCUDA and a graph's capture need.
//
// Device memory is host memory, and a module is a shared object of kernels that g++ compiled
// (cuda_host.hpp). Work that is enqueued on a stream runs late: when the stream is synchronized, in
// the thread that waits. With a seed, other moments and other streams' work are mixed in, in orders
// that CUDA allows. What a GPU would leave undefined is counted as a violation: memory freed while
// work is queued, copies whose memory is gone when they run. Calls that a capture forbids fail.
// Whatever is not here returns CUDA_ERROR_NOT_SUPPORTED. Its timings mean nothing.
#include <cuda.h>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {
using Work = std::function<void()>;
using Launch = void (*)(const char*, const unsigned*, const unsigned*);
using Clock = std::chrono::steady_clock;
using Blocks = std::map<uintptr_t, size_t>;  // start to bytes

struct Stream {
  bool capturing = false, blocking = true;
  std::vector<Work> nodes;
  std::deque<Work> queue;
  std::recursive_mutex running;  // held while its work runs, by the one thread that waits
};
struct Graph { std::vector<Work> nodes; };
struct Event {
  Clock::time_point time;
  Stream* stream = nullptr;
  int pending = 0;
};
enum Count { KERNELS, HOST_FUNCTIONS, UPLOADS, UPLOAD_BYTES, DOWNLOADS, DOWNLOAD_BYTES, GRAPHS, COUNTS };
struct Module { void* library; int file; };
struct Function { Launch launch; };

constexpr size_t TOTAL_BYTES = size_t(1) << 30, ALIGNMENT = 256;
constexpr int COMPUTE_MAJOR = 8, COMPUTE_MINOR = 7;

std::recursive_mutex lock;
Blocks device_blocks, host_blocks;
Stream default_stream;
std::vector<Stream*> streams;
int blocking_captures = 0, primary_context, integrated = 1, retained = 0;
uint64_t seed = 0;
size_t fails_at = 0;  // from which allocation on they fail, counted down to 1
std::atomic<size_t> counts[COUNTS];
std::vector<std::string> violations;
thread_local std::vector<CUcontext> contexts;
thread_local int captures = 0;  // by this thread: capture mode is thread-local

Stream& stream_of(CUstream s) { return s ? *reinterpret_cast<Stream*>(s) : default_stream; }

void violate(const std::string& what) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  violations.push_back(what);
}

unsigned chance(unsigned below) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return unsigned(seed >> 33) % below;
}

bool holds(const Blocks& blocks, uintptr_t start, size_t bytes) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  auto after = blocks.upper_bound(start);
  if (after == blocks.begin()) return false;
  const auto& [first, size] = *--after;
  return bytes <= size && start - first <= size - bytes;
}

bool run_one(Stream& stream) {
  Work work;
  {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (stream.queue.empty()) return false;
    work = std::move(stream.queue.front());
    stream.queue.pop_front();
  }
  work();  // without the lock: a host function may wait for the interpreter's
  return true;
}

// With a seed, some of the work of any stream may have run already.
void progress() {
  std::vector<Stream*> all;
  {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (!seed) return;
    all = streams;
  }
  for (Stream* stream : all)
    for (unsigned turns = chance(3); turns; turns--) {
      std::unique_lock<std::recursive_mutex> running(stream->running, std::try_to_lock);
      if (!running || !run_one(*stream)) break;
    }
}

void drain(Stream& stream) {
  progress();
  std::lock_guard<std::recursive_mutex> running(stream.running);
  while (run_one(stream)) {}
}

void drain_blocking() {
  std::vector<Stream*> all;
  {
    std::lock_guard<std::recursive_mutex> guard(lock);
    all = streams;
  }
  for (Stream* stream : all)
    if (stream->blocking) drain(*stream);
}

size_t queued() {
  size_t total = 0;
  for (Stream* stream : streams) total += stream->queue.size();
  return total;
}

CUresult submit(CUstream s, Work work) {
  Stream& stream = stream_of(s);
  if (!s) {  // the legacy stream: behind all work of blocking streams, and at once
    if (captures) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (blocking_captures) return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    drain_blocking();
    work();
    return CUDA_SUCCESS;
  }
  {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (stream.capturing) {
      stream.nodes.push_back(std::move(work));
      return CUDA_SUCCESS;
    }
    stream.queue.push_back(std::move(work));
  }
  progress();
  return CUDA_SUCCESS;
}

// Ordinary host memory is read when an upload is enqueued, and written before a download returns;
// pinned memory is read and written when the copy runs.
CUresult copy(uintptr_t to, bool to_device, uintptr_t from, bool from_device, size_t bytes,
              CUstream s) {
  if (to_device && !holds(device_blocks, to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (from_device && !holds(device_blocks, from, bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (!to_device && !from_device) return CUDA_ERROR_INVALID_VALUE;
  const bool pinned = holds(host_blocks, to_device ? from : to, bytes);
  const Count kind = to_device ? UPLOADS : DOWNLOADS;
  const auto run = [=](uintptr_t source) {
    const bool gone = (to_device && !holds(device_blocks, to, bytes)) ||
                      (from_device && !holds(device_blocks, from, bytes)) ||
                      (pinned && !holds(host_blocks, to_device ? from : to, bytes));
    if (gone) return violate("a copy ran when its memory was freed");
    counts[kind]++;
    counts[kind + 1] += bytes;
    std::memmove((void*)to, (void*)source, bytes);
  };
  if (to_device && from_device) return submit(s, [=] { std::memmove((void*)to, (void*)from, bytes); });
  if (pinned) return submit(s, [=] { run(from); });
  if (s && stream_of(s).capturing) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (to_device) {
    const char* start = reinterpret_cast<char*>(from);
    return submit(s, [=, content = std::vector<char>(start, start + bytes)] {
      run(uintptr_t(content.data()));
    });
  }
  const CUresult result = submit(s, [=] { run(from); });
  if (s) drain(stream_of(s));
  return result;
}

CUresult fill(CUdeviceptr to, unsigned char value, size_t bytes, CUstream s) {
  if (!holds(device_blocks, to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return submit(s, [=] { std::memset((void*)to, value, bytes); });
}

void* allocate(Blocks& blocks, size_t bytes, unsigned char content) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (fails_at == 1) return nullptr;
  if (fails_at) fails_at--;
  void* start = std::aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
  if (!start) return nullptr;
  std::memset(start, content, bytes);  // what nobody wrote must not look like zeros
  blocks[uintptr_t(start)] = bytes;
  return start;
}

CUresult release(Blocks& blocks, void* start) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (captures) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (!blocks.erase(uintptr_t(start))) return CUDA_ERROR_INVALID_VALUE;
  if (queued()) violate("memory was freed while work was queued");
  std::free(start);
  return CUDA_SUCCESS;
}

CUresult wait_for(Stream& stream) {
  if (stream.capturing) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  drain(stream);
  return CUDA_SUCCESS;
}

// An ELF file ends with its section headers, as linkers write it.
size_t elf_bytes(const char* image) {
  uint64_t start;
  uint16_t entry, count;
  std::memcpy(&start, image + 0x28, sizeof start);
  std::memcpy(&entry, image + 0x3A, sizeof entry);
  std::memcpy(&count, image + 0x3C, sizeof count);
  return start + size_t(entry) * count;
}

// The file stays open as long as the library: dlopen takes a path that it knows for the same file.
Module open_module(const char* image) {
  const size_t bytes = elf_bytes(image);
  const int file = memfd_create("emulated_module", 0);
  if (file < 0) return {nullptr, file};
  const std::string path = "/proc/self/fd/" + std::to_string(file);
  const bool written = write(file, image, bytes) == ssize_t(bytes);
  void* library = written ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (!library) close(file);
  return {library, file};
}
}  // namespace

extern "C" {
// For tests: settings, allocations that nobody has freed, and what was done.
void emulate_integrated(int shares_memory) { integrated = shares_memory; }
void emulate_order(uint64_t order) { seed = order; }           // 0: as late as possible
void emulate_failure(size_t allocation) { fails_at = allocation; }  // 1: from the next one on
size_t emulated_allocations() { return device_blocks.size() + host_blocks.size(); }
size_t emulated_stack_depth() { return contexts.size(); }
size_t emulated_retained() { return retained; }
size_t emulated_streams() { return streams.size(); }
size_t emulated_count(int kind) { return counts[kind]; }
size_t emulated_violations() { return violations.size(); }
const char* emulated_violation() { return violations.empty() ? "" : violations.back().c_str(); }
void emulated_reset() {
  violations.clear();
  for (auto& count : counts) count = 0;
}

// Devices and contexts

CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int* version) { *version = CUDA_VERSION; return CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int* count) { *count = 1; return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  *device = 0;
  return ordinal ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char* name, int bytes, CUdevice) {
  std::snprintf(name, bytes, "CPU emulation");
  return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice) { *bytes = TOTAL_BYTES; return CUDA_SUCCESS; }
CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice) {
  *major = COMPUTE_MAJOR;
  *minor = COMPUTE_MINOR;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = COMPUTE_MAJOR; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = COMPUTE_MINOR; break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: *value = integrated; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY: *value = 1; break;
    default: *value = 0;
  }
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  *context = CUcontext(&primary_context);
  retained++;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) {  // it pops nothing off the stack
  retained--;
  return CUDA_SUCCESS;
}
CUresult cuCtxCreate_v4(CUcontext* context, CUctxCreateParams*, unsigned, CUdevice) {
  *context = CUcontext(&primary_context);
  contexts.push_back(*context);
  return CUDA_SUCCESS;
}
CUresult cuCtxPushCurrent_v2(CUcontext context) {
  contexts.push_back(context);
  return CUDA_SUCCESS;
}
CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  if (contexts.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (context) *context = contexts.back();
  contexts.pop_back();
  return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice* device) {
  *device = 0;
  return contexts.empty() ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}
CUresult cuCtxDetach(CUcontext) { return CUDA_SUCCESS; }
CUresult cuCtxSynchronize() {
  if (captures) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  for (Stream* stream : std::vector<Stream*>(streams)) drain(*stream);
  return CUDA_SUCCESS;
}
CUresult cuCtxGetApiVersion(CUcontext, unsigned* version) {
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char** text) {
  static thread_local char buffer[32];
  std::snprintf(buffer, sizeof buffer, "emulated error %d", int(error));
  *text = buffer;
  return CUDA_SUCCESS;
}

// Memory

CUresult cuMemAlloc_v2(CUdeviceptr* start, size_t bytes) {
  if (contexts.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (captures) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (!bytes) return CUDA_ERROR_INVALID_VALUE;
  *start = bytes > TOTAL_BYTES ? 0 : CUdeviceptr(allocate(device_blocks, bytes, 0xCD));
  return *start ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemFree_v2(CUdeviceptr start) { return release(device_blocks, (void*)start); }
CUresult cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  *free_bytes = *total = TOTAL_BYTES;
  return CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void** start, size_t bytes, unsigned) {
  if (captures) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  *start = allocate(host_blocks, std::max<size_t>(bytes, 1), 0xCD);
  return *start ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemFreeHost(void* start) { return release(host_blocks, start); }
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* device, void* host, unsigned) {
  *device = CUdeviceptr(host);
  return holds(host_blocks, uintptr_t(host), 1) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  return copy(to, true, uintptr_t(from), false, bytes, nullptr);
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream s) {
  return copy(to, true, uintptr_t(from), false, bytes, s);
}
CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  return copy(uintptr_t(to), false, from, true, bytes, nullptr);
}
CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream s) {
  return copy(uintptr_t(to), false, from, true, bytes, s);
}
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy(to, true, from, true, bytes, nullptr);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream s) {
  return copy(to, true, from, true, bytes, s);
}
CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t bytes) {
  return fill(to, value, bytes, nullptr);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream s) {
  return fill(to, value, bytes, s);
}

// Streams, events and graphs

CUresult cuStreamCreate(CUstream* s, unsigned flags) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  streams.push_back(new Stream);
  streams.back()->blocking = !(flags & CU_STREAM_NON_BLOCKING);
  *s = CUstream(streams.back());
  return CUDA_SUCCESS;
}
CUresult cuStreamDestroy_v2(CUstream s) {
  Stream* stream = reinterpret_cast<Stream*>(s);
  drain(*stream);
  std::lock_guard<std::recursive_mutex> guard(lock);
  streams.erase(std::find(streams.begin(), streams.end(), stream));
  delete stream;
  return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream s) { return wait_for(stream_of(s)); }
CUresult cuStreamQuery(CUstream s) {
  Stream& stream = stream_of(s);
  if (stream.capturing) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  progress();
  return stream.queue.empty() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}
CUresult cuStreamWaitEvent(CUstream s, CUevent e, unsigned) {
  Event* event = reinterpret_cast<Event*>(e);
  return submit(s, [event] { if (event->pending) drain(*event->stream); });
}
CUresult cuLaunchHostFunc(CUstream s, CUhostFn function, void* argument) {
  return submit(s, [=] {
    counts[HOST_FUNCTIONS]++;
    function(argument);
  });
}
CUresult cuEventCreate(CUevent* event, unsigned) {
  *event = CUevent(new Event);
  return CUDA_SUCCESS;
}
CUresult cuEventDestroy_v2(CUevent e) {
  Event* event = reinterpret_cast<Event*>(e);
  if (event->pending) violate("an event was destroyed before it was reached");
  delete event;
  return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent e, CUstream s) {
  Event* event = reinterpret_cast<Event*>(e);
  event->stream = &stream_of(s);
  event->pending++;
  return submit(s, [event] {
    event->time = Clock::now();
    event->pending--;
  });
}
CUresult cuEventQuery(CUevent event) {
  progress();
  return reinterpret_cast<Event*>(event)->pending ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}
CUresult cuEventSynchronize(CUevent e) {
  Event* event = reinterpret_cast<Event*>(e);
  if (captures) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (event->pending) drain(*event->stream);
  return CUDA_SUCCESS;
}
CUresult cuEventElapsedTime_v2(float* ms, CUevent from, CUevent to) {
  const Event &first = *reinterpret_cast<Event*>(from), &last = *reinterpret_cast<Event*>(to);
  if (first.pending || last.pending) return CUDA_ERROR_NOT_READY;
  *ms = std::chrono::duration<float, std::milli>(last.time - first.time).count();
  return CUDA_SUCCESS;
}
CUresult cuStreamBeginCapture_v2(CUstream s, CUstreamCaptureMode) {
  Stream& stream = stream_of(s);
  if (!s || stream.capturing) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  stream.capturing = true;
  captures++;
  blocking_captures += stream.blocking;
  stream.nodes.clear();
  return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream s, CUgraph* graph) {
  Stream& stream = stream_of(s);
  if (!stream.capturing) return CUDA_ERROR_ILLEGAL_STATE;
  stream.capturing = false;
  captures--;
  blocking_captures -= stream.blocking;
  *graph = CUgraph(new Graph{std::move(stream.nodes)});
  return CUDA_SUCCESS;
}
CUresult cuStreamIsCapturing(CUstream s, CUstreamCaptureStatus* status) {
  *status = stream_of(s).capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                   : CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec* ready, CUgraph graph, unsigned long long) {
  *ready = CUgraphExec(new Graph(*reinterpret_cast<Graph*>(graph)));
  return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec ready, CUstream s) {
  return submit(s, [nodes = reinterpret_cast<Graph*>(ready)->nodes] {
    counts[GRAPHS]++;
    for (const Work& node : nodes) node();
  });
}
CUresult cuGraphExecDestroy(CUgraphExec ready) {
  delete reinterpret_cast<Graph*>(ready);
  return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph graph) {
  delete reinterpret_cast<Graph*>(graph);
  return CUDA_SUCCESS;
}

// Modules and launches

CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count,
                            CUjit_option* options, void** values) {
  // The driver says how much it logged, and PyCUDA reads as much of its buffers: nothing, here.
  for (unsigned k = 0; k < count; k++) {
    const CUjit_option option = options[k];
    if (option == CU_JIT_INFO_LOG_BUFFER || option == CU_JIT_ERROR_LOG_BUFFER)
      *static_cast<char*>(values[k]) = 0;
    if (option == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES || option == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
      values[k] = nullptr;
  }
  if (std::memcmp(image, "\x7f" "ELF", 4)) return CUDA_ERROR_INVALID_IMAGE;
  const Module opened = open_module(static_cast<const char*>(image));
  if (!opened.library) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  *module = CUmodule(new Module(opened));
  return CUDA_SUCCESS;
}
CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}
CUresult cuModuleUnload(CUmodule module) {
  Module* closed = reinterpret_cast<Module*>(module);
  dlclose(closed->library);
  close(closed->file);
  delete closed;
  return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  const std::string symbol = std::string("emulated_") + name;
  void* launch = dlsym(reinterpret_cast<Module*>(module)->library, symbol.c_str());
  if (!launch) return CUDA_ERROR_NOT_FOUND;
  *function = CUfunction(new Function{Launch(launch)});
  return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int* value, CUfunction_attribute, CUfunction) {
  *value = 0;
  return CUDA_SUCCESS;
}
// PyCUDA sets the block, then passes it to the launch as well.
CUresult cuFuncSetBlockShape(CUfunction, int, int, int) { return CUDA_SUCCESS; }
CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned, CUstream s,
                        void** params, void** extra) {
  if (!grid_x || !grid_y || !grid_z || grid_y > 65535 || grid_z > 65535)
    return CUDA_ERROR_INVALID_VALUE;
  if (!block_x || !block_y || !block_z || size_t(block_x) * block_y * block_z > 1024)
    return CUDA_ERROR_INVALID_VALUE;
  if (params || !extra || extra[0] != CU_LAUNCH_PARAM_BUFFER_POINTER)
    return CUDA_ERROR_NOT_SUPPORTED;
  const char* buffer = static_cast<char*>(extra[1]);
  const std::vector<char> arguments(buffer, buffer + *static_cast<size_t*>(extra[3]));
  const Launch launch = reinterpret_cast<Function*>(function)->launch;
  return submit(s, [=] {
    const unsigned grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
    counts[KERNELS]++;
    launch(arguments.data(), grid, block);
  });
}
}
