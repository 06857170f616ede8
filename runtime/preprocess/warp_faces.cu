// Cuts, resamples, reorders and normalizes every face of a frame in one launch.
//
// reference.py defines a crop: a pixel of it is the mean of K x K bilinear samples evenly spread over
// it, at positions that one 2x3 matrix per face gives, rounded to a whole level. The same kernel with
// a black border scales the frame for the face detector and pads it.
//
// Memory. In: a pitched 8-bit frame, of three or four interleaved channels, gray, or NV12 (Y, and
// UV of half its size). Out: (faces, 3, height, width), float or half, without padding. The faces,
// their count and the place of their crops in the batch are read from device memory, so that a
// captured graph serves any count up to its grid; blocks of faces beyond the count return at once.
//
// Launch. Block (32, 4), grid (ceil(width / 32), ceil(height / 16), faces): a thread makes four rows
// of one column. A warp then reads 32 neighboring positions of one row, which fall into few sectors:
// 6 to 18 a load, where four columns a thread took 23 to 32 (of 32 at most).
//
// It includes nothing, since NVRTC as PyPI has it brings no headers.

using byte = unsigned char;

constexpr int BLOCK_X = 32, BLOCK_Y = 4;
constexpr int ROWS = 4;  // a thread's
// At least so many blocks a multiprocessor: 64 registers a thread, in which four samples are in
// flight. Left to itself, ptxas 13.0 takes fewer and spills more.
constexpr int BLOCKS = 8;

// What changes from frame to frame, as face_table.py writes it. The first Face lies offset_bytes
// behind its header; crop first + k of the batch belongs to face k.
struct Faces {
  int count;
  int first;
  int offset_bytes;
  int padding;
};

// (position in the crop - anchor) * matrix + offset = pixel center in the frame - origin.
// Both ends are counted from where the crop and the frame are nearest, which keeps the floats
// small: counted from the frame's corner, they would blur a face at the far end of a 4K frame.
struct alignas(16) Face {
  float matrix[4];
  float offset[2];
  int origin[2];  // even, so that it has a whole pixel in NV12's half-sized plane too
  int anchor[2];
  int samples;  // K
  float inverse_samples;
};

struct Frame {
  const byte* pixels;
  const byte* chroma;  // NV12's UV
  int pitch, chroma_pitch;
  int width, height;
};

// From Y'CbCr to RGB; see color.py.
struct Color {
  float black, luma, v_to_red, u_to_green, v_to_green, u_to_blue;
};

// Plane p of a crop is gain[p] * channel + bias[p].
struct Normalization {
  float gain[3], bias[3];
};

struct Half {
  unsigned short bits;
};

struct Split {
  int low, high;
  float weight;
};

// The coordinate is clamped before it is split: clamping the index alone extrapolates. Neither an
// infinity nor a NaN comes through, so that no matrix can read outside the frame.
__device__ __forceinline__ Split split(float center, int origin, int size) {
  center = fminf(fmaxf(center, float(-origin)), float(size - 1 - origin));
  const float whole = floorf(center);
  const int low = origin + int(whole);
  return {low, min(low + 1, size - 1), center - whole};
}

__device__ __forceinline__ bool inside(float center, int origin, int size) {
  return center >= float(-origin) - 0.5f && center < float(size - origin) - 0.5f;
}

__device__ __forceinline__ float mix(float from, float to, float weight) {
  return fmaf(weight, to - from, from);
}

__device__ __forceinline__ float bilinear(byte a, byte b, byte c, byte d, const Split& x,
                                          const Split& y) {
  return mix(mix(a, b, x.weight), mix(c, d, x.weight), y.weight);
}

// A format adds one sample's channels to a sum, gives those of black, and turns mean channels into
// colors.

struct Interleaved3 {
  static __device__ __forceinline__ void add(float* sum, const Frame& frame, const Split& x,
                                             const Split& y, const Face&, float, float) {
    const byte* top = frame.pixels + size_t(y.low) * frame.pitch;
    const byte* bottom = frame.pixels + size_t(y.high) * frame.pitch;
#pragma unroll
    for (int c = 0; c < 3; c++)
      sum[c] += bilinear(__ldg(top + 3 * x.low + c), __ldg(top + 3 * x.high + c),
                         __ldg(bottom + 3 * x.low + c), __ldg(bottom + 3 * x.high + c), x, y);
  }
  static __device__ __forceinline__ void add_black(float*, const Color&) {}
  static __device__ __forceinline__ void finish(float*, const Color&) {}
};

// Four bytes are read at once: pixels and pitch are multiples of four, which cuda.py checks.
struct Interleaved4 : Interleaved3 {
  static __device__ __forceinline__ void add(float* sum, const Frame& frame, const Split& x,
                                             const Split& y, const Face&, float, float) {
    const uchar4* top = reinterpret_cast<const uchar4*>(frame.pixels + size_t(y.low) * frame.pitch);
    const uchar4* bottom =
        reinterpret_cast<const uchar4*>(frame.pixels + size_t(y.high) * frame.pitch);
    const uchar4 a = __ldg(top + x.low), b = __ldg(top + x.high);
    const uchar4 c = __ldg(bottom + x.low), d = __ldg(bottom + x.high);
    sum[0] += bilinear(a.x, b.x, c.x, d.x, x, y);
    sum[1] += bilinear(a.y, b.y, c.y, d.y, x, y);
    sum[2] += bilinear(a.z, b.z, c.z, d.z, x, y);
  }
};

struct Gray {
  static __device__ __forceinline__ void add(float* sum, const Frame& frame, const Split& x,
                                             const Split& y, const Face&, float, float) {
    const byte* top = frame.pixels + size_t(y.low) * frame.pitch;
    const byte* bottom = frame.pixels + size_t(y.high) * frame.pitch;
    sum[0] += bilinear(__ldg(top + x.low), __ldg(top + x.high), __ldg(bottom + x.low),
                       __ldg(bottom + x.high), x, y);
  }
  static __device__ __forceinline__ void add_black(float*, const Color&) {}
  static __device__ __forceinline__ void finish(float* mean, const Color&) {
    mean[1] = mean[2] = mean[0];
  }
};

// Y and UV are sampled apart, each at its own resolution, and become colors after that.
struct Nv12 {
  static __device__ __forceinline__ void add(float* sum, const Frame& frame, const Split& x,
                                             const Split& y, const Face& face, float centre_x,
                                             float centre_y) {
    Gray::add(sum, frame, x, y, face, 0, 0);
    // A UV pixel spans two by two of Y's: center c of Y is at (c + 0.5) / 2 - 0.5.
    const Split u = split(0.5f * centre_x - 0.25f, face.origin[0] / 2, (frame.width + 1) / 2);
    const Split v = split(0.5f * centre_y - 0.25f, face.origin[1] / 2, (frame.height + 1) / 2);
    const uchar2* top =
        reinterpret_cast<const uchar2*>(frame.chroma + size_t(v.low) * frame.chroma_pitch);
    const uchar2* bottom =
        reinterpret_cast<const uchar2*>(frame.chroma + size_t(v.high) * frame.chroma_pitch);
    const uchar2 a = __ldg(top + u.low), b = __ldg(top + u.high);
    const uchar2 c = __ldg(bottom + u.low), d = __ldg(bottom + u.high);
    sum[1] += bilinear(a.x, b.x, c.x, d.x, u, v);
    sum[2] += bilinear(a.y, b.y, c.y, d.y, u, v);
  }
  static __device__ __forceinline__ void add_black(float* sum, const Color& color) {
    sum[0] += color.black;
    sum[1] += 128;
    sum[2] += 128;
  }
  static __device__ __forceinline__ void finish(float* mean, const Color& color) {
    const float gray = color.luma * (mean[0] - color.black);
    const float u = mean[1] - 128, v = mean[2] - 128;
    const float green = gray + color.u_to_green * u + color.v_to_green * v;
    mean[0] = fminf(fmaxf(fmaf(color.v_to_red, v, gray), 0), 255);
    mean[1] = fminf(fmaxf(green, 0), 255);
    mean[2] = fminf(fmaxf(fmaf(color.u_to_blue, u, gray), 0), 255);
  }
};

// PTX, since __float2half_rn is declared in a header; elsewhere the compiler's stand-in.
__device__ __forceinline__ Half half_of(float value) {
#ifdef __CUDACC__
  Half half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half.bits) : "f"(value));
  return half;
#else
  return {half_bits(value)};
#endif
}

__device__ __forceinline__ void store(float* to, float value) { *to = value; }
__device__ __forceinline__ void store(Half* to, float value) { *to = half_of(value); }

// Adds one sample to each of the thread's pixels: (dx, dy) is its place in the first of them.
template <class Format, bool PADDED>
__device__ __forceinline__ void add_samples(float (*sums)[3], const Frame& frame,
                                            const Color& color, const Face& face, float dx,
                                            float dy) {
  const float column_x = fmaf(face.matrix[0], dx, face.offset[0]);
  const float column_y = fmaf(face.matrix[2], dx, face.offset[1]);
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    const float x = fmaf(face.matrix[1], dy + i, column_x);
    const float y = fmaf(face.matrix[3], dy + i, column_y);
    if (PADDED && !(inside(x, face.origin[0], frame.width) &&
                    inside(y, face.origin[1], frame.height))) {
      Format::add_black(sums[i], color);
      continue;
    }
    Format::add(sums[i], frame, split(x, face.origin[0], frame.width),
                split(y, face.origin[1], frame.height), face, x, y);
  }
}

__device__ __forceinline__ const Face& face_of(const Faces* faces, int k) {
  const char* first = reinterpret_cast<const char*>(faces) + faces->offset_bytes;
  return reinterpret_cast<const Face*>(first)[k];
}

template <class Format, bool PADDED, class Output>
__device__ __forceinline__ void warp(const Frame& frame, const Faces* faces, Output* crops,
                                     int width, int height, bool reverse,
                                     const Normalization& norm, const Color& color) {
  if (int(blockIdx.z) >= __ldg(&faces->count)) return;
  const int column = blockIdx.x * BLOCK_X + threadIdx.x;
  const int row = (blockIdx.y * BLOCK_Y + threadIdx.y) * ROWS;
  if (column >= width || row >= height) return;

  const Face face = face_of(faces, blockIdx.z);
  float sums[ROWS][3] = {};
  for (int j = 0; j < face.samples; j++) {
    const float dy = row - face.anchor[1] + (j + 0.5f) * face.inverse_samples;
    for (int i = 0; i < face.samples; i++) {
      const float dx = column - face.anchor[0] + (i + 0.5f) * face.inverse_samples;
      add_samples<Format, PADDED>(sums, frame, color, face, dx, dy);
    }
  }

  const float mean = face.inverse_samples * face.inverse_samples;
  const size_t plane = size_t(height) * width;
  Output* to = crops + 3 * plane * (faces->first + blockIdx.z) + size_t(row) * width + column;
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    if (row + i >= height) return;
#pragma unroll
    for (int c = 0; c < 3; c++) sums[i][c] *= mean;
    Format::finish(sums[i], color);
#pragma unroll
    for (int p = 0; p < 3; p++)
      store(to + p * plane + size_t(i) * width,
            fmaf(norm.gain[p], rintf(reverse ? sums[i][2 - p] : sums[i][p]), norm.bias[p]));
  }
}

#define WARP_FACES(name, Format, PADDED, Output)                                                \
  extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, BLOCKS)                       \
      name(Frame frame, const Faces* __restrict__ faces, Output* __restrict__ crops, int width, \
           int height, int reverse, Normalization norm, Color color) {                          \
    warp<Format, PADDED>(frame, faces, crops, width, height, reverse != 0, norm, color);        \
  }
#define WARP_FORMAT(name, Format)                                 \
  WARP_FACES(warp_##name##_replicate_fp32, Format, false, float)  \
  WARP_FACES(warp_##name##_replicate_fp16, Format, false, Half)   \
  WARP_FACES(warp_##name##_black_fp32, Format, true, float)       \
  WARP_FACES(warp_##name##_black_fp16, Format, true, Half)

WARP_FORMAT(interleaved3, Interleaved3)
WARP_FORMAT(interleaved4, Interleaved4)
WARP_FORMAT(gray, Gray)
WARP_FORMAT(nv12, Nv12)
