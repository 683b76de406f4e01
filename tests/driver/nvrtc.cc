// NVRTC's functions, for tests without it: what it "compiles" a text to is the text, behind a line that says as what. The
// stand-in for the driver, driver.cc, builds it with the C++ compiler when it is loaded.
//
// JETC_TEST_KNOWS: the newest processor that it knows, 90 if not set.

#include <cstdlib>
#include <cstring>
#include <string>

namespace {

struct Program {
    std::string text, options;
};

std::string image(const Program* p, const char* kind) {
    return std::string(kind) + " of" + p->options + "\n" + p->text + '\0';
}

int size_of(void* program, const char* kind, size_t* size) {
    *size = image((Program*)program, kind).size();
    return 0;
}

int write(void* program, const char* kind, char* to) {
    const std::string all = image((Program*)program, kind);
    memcpy(to, all.data(), all.size());
    return 0;
}

int newest() {
    const char* named = getenv("JETC_TEST_KNOWS");
    return named ? atoi(named) : 90;
}

}  // namespace

extern "C" {

int nvrtcVersion(int* major, int* minor) {
    *major = 12;
    *minor = 9;
    return 0;
}

int nvrtcGetNumSupportedArchs(int* count) {
    *count = 2;
    return 0;
}

int nvrtcGetSupportedArchs(int* archs) {
    archs[0] = 80;
    archs[1] = newest();
    return 0;
}

const char* nvrtcGetErrorString(int) { return "an error of the stand-in"; }

int nvrtcCreateProgram(void** program, const char* text, const char*, int headers, const char* const*, const char* const*) {
    if (headers != 0) return 3;
    *program = new Program{text, ""};
    return 0;
}

int nvrtcCompileProgram(void* program, int count, const char* const* options) {
    for (int k = 0; k < count; ++k) ((Program*)program)->options += std::string(" ") + options[k];
    return 0;
}

int nvrtcDestroyProgram(void** program) {
    delete (Program*)*program;
    *program = nullptr;
    return 0;
}

int nvrtcGetProgramLogSize(void*, size_t* size) {
    *size = 1;
    return 0;
}

int nvrtcGetProgramLog(void*, char* log) {
    *log = 0;
    return 0;
}

int nvrtcGetPTXSize(void* program, size_t* size) { return size_of(program, "ptx", size); }
int nvrtcGetPTX(void* program, char* to) { return write(program, "ptx", to); }
int nvrtcGetCUBINSize(void* program, size_t* size) { return size_of(program, "cubin", size); }
int nvrtcGetCUBIN(void* program, char* to) { return write(program, "cubin", to); }

}  // extern "C"
