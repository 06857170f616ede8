// An emulation of NVRTC: "compiles" CUDA C++ with g++ to a shared object that driver.cpp loads.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>

namespace fs = std::filesystem;

namespace {
struct Program { std::string source, log, cubin; };
enum { SUCCESS = 0, COMPILATION = 6 };

std::string content(const fs::path& file) {
  std::ostringstream all;
  all << std::ifstream(file, std::ios::binary).rdbuf();
  return all.str();
}

bool gxx(const std::string& options, const fs::path& folder, std::string& log) {
  const std::string errors = (folder / "log").string();
  const int status = std::system(("g++ -std=c++17 " + options + " 2>" + errors).c_str());
  log += content(errors);
  return status == 0;
}

// The names of the kernels, once macros have written them.
std::string wrappers(const std::string& preprocessed) {
  const std::regex kernel(R"(extern "C" __global__ void (?:__launch_bounds__\([^)]*\) *)?(\w+)\()");
  std::string lines;
  for (std::sregex_iterator match(preprocessed.begin(), preprocessed.end(), kernel), end;
       match != end; ++match)
    lines += "EMULATED_KERNEL(" + (*match)[1].str() + ")\n";
  return lines;
}

// cuda_host.hpp lies beside this library.
std::string host_header() {
  Dl_info info;
  dladdr(reinterpret_cast<void*>(&wrappers), &info);
  return (fs::path(info.dli_fname).parent_path() / "cuda_host.hpp").string();
}

int compile(Program& program, const fs::path& folder) {
  const std::string base = (folder / "kernel").string();
  std::ofstream(base + ".cu") << program.source;
  if (!gxx("-E -P -x c++ " + base + ".cu -o " + base + ".i", folder, program.log))
    return COMPILATION;
  std::ofstream(base + ".cpp") << "#include \"" << host_header()
                               << "\"\n#include \"kernel.cu\"\n" << wrappers(content(base + ".i"));
  if (!gxx("-O2 -fPIC -shared " + base + ".cpp -o " + base + ".so", folder, program.log))
    return COMPILATION;
  program.cubin = content(base + ".so");
  return SUCCESS;
}
}  // namespace

extern "C" {
int nvrtcVersion(int* major, int* minor) {
  *major = 13;
  *minor = 99;  // of no real one, so that a cache never mixes up what the two have made
  return SUCCESS;
}
int nvrtcCreateProgram(Program** program, const char* source, const char*, int, const char**,
                       const char**) {
  *program = new Program{source, {}, {}};
  return SUCCESS;
}
int nvrtcDestroyProgram(Program** program) {
  delete *program;
  return SUCCESS;
}
int nvrtcCompileProgram(Program* program, int, const char**) {
  std::string folder = (fs::temp_directory_path() / "nvrtc-XXXXXX").string();
  if (!mkdtemp(folder.data())) return COMPILATION;
  const int status = compile(*program, folder);
  fs::remove_all(folder);
  return status;
}
int nvrtcGetProgramLogSize(Program* program, size_t* bytes) {
  *bytes = program->log.size() + 1;
  return SUCCESS;
}
int nvrtcGetProgramLog(Program* program, char* log) {
  std::strcpy(log, program->log.c_str());
  return SUCCESS;
}
int nvrtcGetCUBINSize(Program* program, size_t* bytes) {
  *bytes = program->cubin.size();
  return SUCCESS;
}
int nvrtcGetCUBIN(Program* program, char* cubin) {
  std::memcpy(cubin, program->cubin.data(), program->cubin.size());
  return SUCCESS;
}
}
