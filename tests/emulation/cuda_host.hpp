// Compiles a .cu file for the CPU, without shared memory and barriers: include this, then the .cu
// file, then EMULATED_KERNEL(name) for each kernel. A launch runs its threads one after another.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
struct alignas(2) uchar2 { unsigned char x, y; };
struct alignas(4) uchar4 { unsigned char x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

static thread_local uint3 threadIdx, blockIdx;
static thread_local dim3 blockDim, gridDim;

using std::max;
using std::min;

// With COUNT_SECTORS, the loads of a warp are counted as a GPU makes them: the n-th load of its 32
// threads is one request, for as many sectors of 32 bytes as their addresses touch.
#ifdef COUNT_SECTORS
#include <cstdio>
#include <set>
#include <vector>
namespace emulation {
constexpr size_t WARP = 32, SECTOR_BYTES = 32;
struct Load { uintptr_t address; size_t bytes; };
inline std::vector<std::vector<Load>> loads_of_threads;  // of one block
struct Counter {
  size_t requests = 0, sectors = 0;
  ~Counter() { std::fprintf(stderr, "requests %zu sectors %zu\n", requests, sectors); }
  void add_block() {
    for (size_t warp = 0; warp < loads_of_threads.size(); warp += WARP) {
      const size_t end = std::min(warp + WARP, loads_of_threads.size());
      for (size_t k = 0;; k++) {
        std::set<uintptr_t> touched;
        for (size_t thread = warp; thread < end; thread++)
          if (k < loads_of_threads[thread].size()) {
            const Load& load = loads_of_threads[thread][k];
            touched.insert(load.address / SECTOR_BYTES);
            touched.insert((load.address + load.bytes - 1) / SECTOR_BYTES);
          }
        if (touched.empty()) break;
        requests++;
        sectors += touched.size();
      }
    }
    loads_of_threads.clear();
  }
};
inline Counter counter;
}  // namespace emulation
template <class T> T __ldg(const T* p) {
  emulation::loads_of_threads.back().push_back({uintptr_t(p), sizeof(T)});
  return *p;
}
#else
template <class T> T __ldg(const T* p) { return *p; }
#endif

// To the nearest half, ties to even, as PTX's cvt.rn.f16.f32.
inline unsigned short half_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return 0x7FFF;         // NaN
  if (magnitude >= 0x477FF000) return sign | 0x7C00;  // 65520 and more
  if (magnitude < 0x38800000)                         // below 2^-14, in units of 2^-24
    return sign | uint32_t(std::nearbyint(std::fabs(value) * 16777216.0f));
  const uint32_t odd = magnitude >> 13 & 1;
  return sign | (magnitude - 0x38000000 + 0xFFF + odd) >> 13;
}

namespace emulation {
// Arguments lie in a launch's buffer as in a struct.
template <class T> T argument(const char* buffer, size_t& offset) {
  offset = (offset + alignof(T) - 1) / alignof(T) * alignof(T);
  T value;
  std::memcpy(&value, buffer + offset, sizeof value);
  offset += sizeof value;
  return value;
}

template <class... A>
void run(void (*kernel)(A...), const char* buffer, const unsigned* grid, const unsigned* block) {
  size_t offset = 0;
  const std::tuple<A...> arguments{argument<A>(buffer, offset)...};
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  for (blockIdx.z = 0; blockIdx.z < grid[2]; blockIdx.z++)
    for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
      for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++) {
        for (threadIdx.z = 0; threadIdx.z < block[2]; threadIdx.z++)
          for (threadIdx.y = 0; threadIdx.y < block[1]; threadIdx.y++)
            for (threadIdx.x = 0; threadIdx.x < block[0]; threadIdx.x++) {
#ifdef COUNT_SECTORS
              loads_of_threads.emplace_back();
#endif
              std::apply(kernel, arguments);
            }
#ifdef COUNT_SECTORS
        counter.add_block();
#endif
      }
}
}  // namespace emulation

#define EMULATED_KERNEL(name)                                                              \
  extern "C" void emulated_##name(const char* arguments, const unsigned* grid,             \
                                  const unsigned* block) {                                 \
    emulation::run(name, arguments, grid, block);                                          \
  }
