// Runs recorded launches of the kernels, each buffer in an allocation of exactly its size, so that
// AddressSanitizer sees every byte read or written beside it. Built together with the kernels.
//
//   run_launch CASES RESULTS
//
// CASES holds launches one after another: name, grid, block, arguments, then buffers, each with
// the place of its address in the arguments. RESULTS takes the buffers as they are afterwards.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace {
using Launch = void (*)(const char*, const unsigned*, const unsigned*);

template <class T> bool read(std::FILE* file, T* values, size_t count) {
  return std::fread(values, sizeof(T), count, file) == count;
}

std::vector<char> block_of_bytes(std::FILE* file) {
  unsigned bytes = 0;
  if (!read(file, &bytes, 1)) std::exit(3);
  std::vector<char> content(bytes);
  if (!read(file, content.data(), bytes)) std::exit(3);
  return content;
}

struct Buffer {
  size_t bytes;
  std::unique_ptr<char, decltype(&std::free)> memory;
};

Buffer exact_copy(const std::vector<char>& content) {
  Buffer buffer{content.size(), {static_cast<char*>(std::malloc(content.size())), &std::free}};
  std::memcpy(buffer.memory.get(), content.data(), content.size());
  return buffer;
}

void run(const std::string& name, std::FILE* cases, std::FILE* results) {
  unsigned shape[7];  // grid, block, buffers
  if (!read(cases, shape, 7)) std::exit(3);
  std::vector<char> arguments = block_of_bytes(cases);
  std::vector<Buffer> buffers;
  for (unsigned i = 0; i < shape[6]; i++) {
    unsigned place = 0;
    if (!read(cases, &place, 1)) std::exit(3);
    buffers.push_back(exact_copy(block_of_bytes(cases)));
    char* address = buffers.back().memory.get();
    std::memcpy(arguments.data() + place, &address, sizeof address);
  }
  const auto launch = Launch(dlsym(RTLD_DEFAULT, ("emulated_" + name).c_str()));
  if (!launch) std::exit(4);
  launch(arguments.data(), shape, shape + 3);
  for (const Buffer& buffer : buffers)
    std::fwrite(buffer.memory.get(), 1, buffer.bytes, results);
}
}  // namespace

int main(int count, char** paths) {
  std::FILE* cases = count == 3 ? std::fopen(paths[1], "rb") : nullptr;
  std::FILE* results = cases ? std::fopen(paths[2], "wb") : nullptr;
  if (!results) return 2;
  unsigned length = 0;
  while (read(cases, &length, 1)) {
    std::string name(length, '\0');
    if (!read(cases, name.data(), length)) return 3;
    run(name, cases, results);
  }
  std::fclose(results);
  std::fclose(cases);
}
