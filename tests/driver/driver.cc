// The functions of the CUDA driver that jetc calls, for tests without one: launches run on the CPU over kernels/host/shim.h.
//
// It does what a driver may do at worst. What is put into a stream runs when somebody waits for the stream, not before. Of launches of a graph
// that need not wait for each other, the later one runs first. Memory is
// signalling NaN until it is written, and has guard zones. What the driver forbids is an error here too: calls without a current
// context, handles that are not alive, launches beyond the limits of the device or with more shared memory than was asked for,
// waiting or allocating during a capture. A kernel that goes wrong is an illegal address, and after that everything fails.
//
// JETC_TEST_SHIM     the folder of shim.h
// JETC_TEST_BUILT    a folder of what was built, for the next process that loads the same text
// JETC_TEST_LOG      a file that gets one line when the process ends: what is still alive, and what was done
// JETC_TEST_FAILS    `name:n`: the n-th call of that function fails
// JETC_TEST_REFUSES  `cubin ptx`: images of these kinds do not load
// JETC_TEST_MEMORY   bytes of the device
// JETC_TEST_VERSION  of the driver, as cuDriverGetVersion tells it

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

// for the layout of a launch
#include "shim.h"

namespace {

typedef int Status;
typedef uint64_t Address;

const Status OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_IMAGE = 200,
             INVALID_CONTEXT = 201, NO_BINARY = 209, INVALID_HANDLE = 400, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700,
             OUT_OF_RESOURCES = 701, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, CAPTURE_UNJOINED = 904;

const unsigned MOST_THREADS = 1024, UNASKED = 48 << 10, MOST_SHARED = 227 << 10, OWN_SHARED = 1 << 10;

using jetc_host::Guarded;
using jetc_host::Launch;
typedef int Run(const Launch*, unsigned);

const size_t GUARD = 128;

struct Memory {
    std::unique_ptr<char[]> all;
    size_t size;
    char* begin;
};

struct Function {
    std::string name;
    unsigned number, pointers, threads, allowed;
    bool is_double;
    Run* run;
};

struct Module {
    void* library;
    std::map<std::string, Function> functions;
};

typedef std::function<Status()> Task;

// A launch of a graph, and those that must be over before.
struct Node {
    Task task;
    std::set<size_t> after;
};

struct Graph {
    std::vector<Node> nodes;
    // of the capture
    int number = 0;
};

struct Stream {
    std::vector<Task> queue;
    Graph* capture = nullptr;
    bool invalidated = false;
    // of a capture: whether it began here, and what comes before the next launch
    bool is_origin = false;
    std::set<size_t> last;
};

// What a stream had got when it was recorded.
struct Event {
    int capture = 0;
    std::set<size_t> last;
};

std::recursive_mutex mutex;
std::map<std::string, int> calls;
std::map<char*, Memory> memories;
std::set<Module*> modules;
std::set<Stream*> streams;
std::set<Graph*> graphs, executables;
std::set<Event*> events;
int contexts = 0, launches = 0, replays = 0, captures = 0;
bool is_started = false;
Status broken = OK;
thread_local bool has_context = false;

std::string setting(const char* name, const char* otherwise = "") {
    const char* value = getenv(name);
    return value ? value : otherwise;
}

size_t total() { return std::stoull(setting("JETC_TEST_MEMORY", "8589934592")); }

size_t used() {
    size_t sum = 0;
    for (auto& m : memories) sum += m.second.size;
    return sum;
}

// What every function begins with.
Status enter(const char* function, bool needs_context = true) {
    const std::string fails = setting("JETC_TEST_FAILS");
    const int nth = ++calls[function];
    const size_t colon = fails.find(':');
    if (colon != std::string::npos && fails.substr(0, colon) == function && nth == std::stoi(fails.substr(colon + 1))) {
        return OUT_OF_RESOURCES;
    }
    if (needs_context && (!has_context || contexts == 0)) return INVALID_CONTEXT;
    return broken;
}

#define ENTER(...)                                          \
    std::lock_guard<std::recursive_mutex> guard(mutex);     \
    if (Status s = enter(__func__, ##__VA_ARGS__)) return s

bool is_capturing() {
    for (Stream* s : streams) {
        if (s->capture) return true;
    }
    return false;
}

// During a capture: forbidden, and the capture is lost.
Status forbidden() {
    for (Stream* s : streams) s->invalidated |= s->capture != nullptr;
    return CAPTURE_UNSUPPORTED;
}

Status put(Stream* stream, Task task) {
    if (!streams.count(stream)) return INVALID_HANDLE;
    if (stream->capture) {
        stream->capture->nodes.push_back({std::move(task), stream->last});
        stream->last = {stream->capture->nodes.size() - 1};
    } else {
        stream->queue.push_back(std::move(task));
    }
    return OK;
}

Memory* memory_of(Address at, size_t bytes) {
    for (auto& m : memories) {
        if ((char*)at >= m.second.begin && (char*)at + bytes <= m.second.begin + m.second.size) return &m.second;
    }
    return nullptr;
}

// Puts a copy into a stream, one side of which is on the device.
Status copy(Address there, void* to, const void* from, size_t bytes, Stream* stream) {
    if (!memory_of(there, bytes)) return INVALID_VALUE;
    return put(stream, [=] {
        if (!memory_of(there, bytes)) return broken = ILLEGAL_ADDRESS;
        memcpy(to, from, bytes);
        return OK;
    });
}

uint32_t poison_word(bool is_double, size_t k) {
    return is_double ? (k % 2 ? 0x7FF4DEADu : 0) : 0x7FA0DEADu;
}

struct Log {
    ~Log() {
        const std::string file = setting("JETC_TEST_LOG");
        if (file.empty()) return;
        std::ofstream to(file, std::ios::app);
        to << "alive: " << contexts << " contexts, " << memories.size() << " memories, " << modules.size() << " modules, "
           << streams.size() << " streams, " << events.size() << " events, " << graphs.size() + executables.size() << " graphs; " << launches << " launches, "
           << replays << " replays\n";
    }
} log_at_the_end;

// Kernels of a text: `extern "C" __global__ void __launch_bounds__(256) name(parameters) {`.
std::vector<Function> kernels(const std::string& text) {
    const std::string begins = "extern \"C\" __global__ void";
    std::vector<Function> found;
    for (size_t at = text.find(begins); at != std::string::npos; at = text.find(begins, at + 1)) {
        size_t p = at + begins.size();
        unsigned threads = MOST_THREADS;
        const std::string bounds = " __launch_bounds__(";
        if (text.compare(p, bounds.size(), bounds) == 0) {
            threads = std::stoul(text.substr(p + bounds.size()));
            p = text.find(')', p) + 1;
        }
        const size_t open = text.find('(', p), close = text.find(')', open);
        std::string name = text.substr(p, open - p);
        name.erase(0, name.find_first_not_of(" *"));
        unsigned commas = 0;
        for (size_t k = open; k < close; ++k) commas += text[k] == ',';
        found.push_back({name, (unsigned)found.size(), commas, threads, UNASKED, false, nullptr});
    }
    return found;
}

// Builds a text as src/cuda/host.rs does, so that both compute the same bits.
bool build(const std::string& text, const std::vector<Function>& all, const std::string& library) {
    const std::string own = library + "." + std::to_string(getpid()), source = own + ".cc", built = own + ".so";
    std::ofstream to(source);
    to << "#include \"" << setting("JETC_TEST_SHIM") << "/shim.h\"\n" << text;
    to << "\nstatic void (*const table[])(void* const*, unsigned) = {\n";
    for (const Function& f : all) to << "[](void* const* a, unsigned n) { jetc_host::call(" << f.name << ", a, n); },\n";
    to << "};\nextern \"C\" __attribute__((visibility(\"default\"))) int run(const jetc_host::Launch* l, unsigned k) {\n"
          "    return jetc_host::run(l, table[k]);\n}\n";
    to.close();
    const std::string command = setting("CXX", "c++") +
        " -std=gnu++17 -O1 -w -fPIC -shared -ffp-contract=off -fno-strict-aliasing -fvisibility=hidden"
#if defined(__x86_64__)
        " -march=native"
#endif
        " " + source + " -o " + built;
    const bool done = system(command.c_str()) == 0 && rename(built.c_str(), library.c_str()) == 0;
    unlink(source.c_str());
    return done;
}

Status load(const std::string& image, Module** made) {
    const size_t line = image.find('\n');
    const std::string head = image.substr(0, line), kind = head.substr(0, head.find(' '));
    if (line == std::string::npos || (kind != "cubin" && kind != "ptx")) return INVALID_IMAGE;
    if (setting("JETC_TEST_REFUSES").find(kind) != std::string::npos) return NO_BINARY;
    const std::string text = image.substr(line + 1);
    const std::string library = setting("JETC_TEST_BUILT") + "/" + std::to_string(std::hash<std::string>()(text)) + ".so";
    const std::vector<Function> all = kernels(text);
    if (access(library.c_str(), R_OK) != 0 && !build(text, all, library)) return INVALID_IMAGE;
    void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) return INVALID_IMAGE;
    Run* run = (Run*)dlsym(handle, "run");
    *made = new Module{handle, {}};
    for (Function f : all) {
        f.run = run;
        f.is_double = text.find("typedef double real;") != std::string::npos;
        (*made)->functions[f.name] = f;
    }
    return OK;
}

Status run(const Function& f, unsigned blocks, unsigned threads, unsigned shared, std::vector<void*> arguments, unsigned count) {
    std::vector<Guarded> guarded;
    for (auto& m : memories) {
        // guard zones are filled for the precision of the kernel that runs
        uint32_t* before = (uint32_t*)(m.second.begin - GUARD);
        uint32_t* after = (uint32_t*)(m.second.begin + (m.second.size + 7) / 8 * 8);
        for (size_t k = 0; k < GUARD / 4; ++k) before[k] = after[k] = poison_word(f.is_double, k);
        guarded.push_back({"of the device", before, after});
    }
    char message[512] = "";
    Launch launch = {f.name.c_str(), arguments.data(), guarded.data(), guarded.size(), GUARD / 4, 0, count, blocks, threads, shared, 2,
                     f.is_double ? 0x7FF4DEADu : 0x7FA0DEADu, f.is_double, 1, ~0u, message, sizeof message};
    launch.seed = 0x9E3779B97F4A7C15ull * ++launches;
    if (f.run(&launch, f.number) == 0) return OK;
    fprintf(stderr, "stand-in for the driver: %s\n", message);
    return broken = ILLEGAL_ADDRESS;
}

Status drain(Stream* stream) {
    std::vector<Task> queue;
    queue.swap(stream->queue);
    for (Task& task : queue) {
        if (Status s = task()) return s;
    }
    return OK;
}

}  // namespace

extern "C" {

Status cuInit(unsigned) {
    ENTER(false);
    is_started = true;
    return OK;
}

Status cuDriverGetVersion(int* version) {
    *version = std::stoi(setting("JETC_TEST_VERSION", "12080"));
    return OK;
}

Status cuGetErrorString(Status status, const char** text) {
    *text = status == ILLEGAL_ADDRESS    ? "an illegal memory access was encountered"
            : status == OUT_OF_RESOURCES ? "too many resources requested for launch"
                                         : "some error";
    return OK;
}

Status cuGetErrorName(Status status, const char** text) {
    *text = status == ILLEGAL_ADDRESS    ? "CUDA_ERROR_ILLEGAL_ADDRESS"
            : status == OUT_OF_RESOURCES ? "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"
            : status == OUT_OF_MEMORY    ? "CUDA_ERROR_OUT_OF_MEMORY"
            : status == NO_BINARY        ? "CUDA_ERROR_NO_BINARY_FOR_GPU"
            : status == INVALID_CONTEXT  ? "CUDA_ERROR_INVALID_CONTEXT"
                                         : "CUDA_ERROR_UNKNOWN";
    return OK;
}

Status cuDeviceGetCount(int* count) {
    ENTER(false);
    *count = 1;
    return is_started ? OK : NO_DEVICE;
}

Status cuDeviceGet(int* device, int ordinal) {
    ENTER(false);
    *device = 7;  // a handle is not the ordinal
    return ordinal == 0 ? OK : INVALID_DEVICE;
}

Status cuDeviceGetName(char* name, int length, int device) {
    ENTER(false);
    snprintf(name, length, "stand-in");
    return device == 7 ? OK : INVALID_DEVICE;
}

Status cuDeviceTotalMem_v2(size_t* bytes, int device) {
    ENTER(false);
    *bytes = total();
    return device == 7 ? OK : INVALID_DEVICE;
}

Status cuDeviceGetAttribute(int* value, int attribute, int device) {
    ENTER(false);
    const std::map<int, int> known = {{75, 9}, {76, 0}, {16, 132}, {97, MOST_SHARED}};
    if (device != 7 || !known.count(attribute)) return INVALID_VALUE;
    *value = known.at(attribute);
    return OK;
}

Status cuDevicePrimaryCtxRetain(void** context, int device) {
    ENTER(false);
    if (device != 7 || !is_started) return INVALID_DEVICE;
    contexts++;
    *context = &contexts;
    return OK;
}

Status cuDevicePrimaryCtxRelease_v2(int device) {
    ENTER(false);
    if (device != 7 || contexts == 0) return INVALID_DEVICE;
    contexts--;
    return OK;
}

Status cuCtxSetCurrent(void* context) {
    ENTER(false);
    if (context && (context != &contexts || contexts == 0)) return INVALID_CONTEXT;
    has_context = context != nullptr;
    return OK;
}

Status cuMemGetInfo_v2(size_t* free, size_t* all) {
    ENTER();
    *all = total();
    *free = total() - used();
    return OK;
}

Status cuMemAlloc_v2(Address* address, size_t bytes) {
    ENTER();
    if (is_capturing()) return forbidden();
    if (bytes == 0) return INVALID_VALUE;
    if (used() + bytes > total()) return OUT_OF_MEMORY;
    const size_t whole = (bytes + 7) / 8 * 8;
    Memory made{std::unique_ptr<char[]>(new char[whole + 2 * GUARD + 256]), bytes, nullptr};
    made.begin = (char*)(((uintptr_t)made.all.get() + GUARD + 255) / 256 * 256);
    uint32_t* words = (uint32_t*)made.begin;
    for (size_t k = 0; k < whole / 4; ++k) words[k] = 0x7FF4DEADu;  // not a number in either precision
    *address = (Address)made.begin;
    memories[made.begin] = std::move(made);
    return OK;
}

Status cuMemFree_v2(Address address) {
    ENTER();
    // freeing waits for what is under way
    for (Stream* s : streams) {
        if (Status error = drain(s)) return error;
    }
    return memories.erase((char*)address) ? OK : INVALID_VALUE;
}

Status cuMemsetD8Async(Address address, unsigned char value, size_t bytes, Stream* stream) {
    ENTER();
    if (!memory_of(address, bytes)) return INVALID_VALUE;
    return put(stream, [=] {
        if (!memory_of(address, bytes)) return broken = ILLEGAL_ADDRESS;
        memset((void*)address, value, bytes);
        return OK;
    });
}

Status cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, Stream* stream) {
    ENTER();
    return copy(to, (void*)to, from, bytes, stream);
}

Status cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, Stream* stream) {
    ENTER();
    return copy(from, to, (const void*)from, bytes, stream);
}

Status cuModuleLoadData(Module** module, const void* image) {
    ENTER();
    if (is_capturing()) return forbidden();
    Status s = load((const char*)image, module);
    if (s == OK) modules.insert(*module);
    return s;
}

Status cuModuleUnload(Module* module) {
    ENTER();
    if (!modules.erase(module)) return INVALID_HANDLE;
    dlclose(module->library);
    delete module;
    return OK;
}

Status cuModuleGetFunction(Function** function, Module* module, const char* name) {
    ENTER();
    if (!modules.count(module)) return INVALID_HANDLE;
    auto found = module->functions.find(name);
    if (found == module->functions.end()) return NOT_FOUND;
    *function = &found->second;
    return OK;
}

Status cuFuncGetAttribute(int* value, int attribute, Function*) {
    ENTER();
    if (attribute != 1) return INVALID_VALUE;
    *value = OWN_SHARED;
    return OK;
}

Status cuFuncSetAttribute(Function* function, int attribute, int value) {
    ENTER();
    if (attribute != 8 || value < 0 || (unsigned)value + OWN_SHARED > MOST_SHARED) return INVALID_VALUE;
    function->allowed = value + OWN_SHARED;
    return OK;
}

Status cuLaunchKernel(Function* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                      Stream* stream, void** parameters, void** extra) {
    ENTER();
    if (gx == 0 || gy != 1 || gz != 1 || by != 1 || bz != 1 || bx == 0 || bx > f->threads || extra) return INVALID_VALUE;
    if (shared + OWN_SHARED > f->allowed) return INVALID_VALUE;
    std::vector<void*> arguments;
    for (unsigned k = 0; k < f->pointers; ++k) {
        const Address address = *(Address*)parameters[k];
        if (!memories.count((char*)address)) return INVALID_VALUE;
        arguments.push_back((void*)address);
    }
    const unsigned count = *(unsigned*)parameters[f->pointers];
    const Function copy = *f;
    return put(stream, [=] {
        for (void* a : arguments) {
            if (!memories.count((char*)a)) return broken = ILLEGAL_ADDRESS;
        }
        return run(copy, gx, bx, shared, arguments, count);
    });
}

Status cuStreamCreate(Stream** stream, unsigned flags) {
    ENTER();
    if (flags > 1) return INVALID_VALUE;
    *stream = new Stream;
    streams.insert(*stream);
    return OK;
}

Status cuStreamDestroy_v2(Stream* stream) {
    ENTER();
    if (!streams.erase(stream)) return INVALID_HANDLE;
    delete stream;
    return OK;
}

Status cuStreamSynchronize(Stream* stream) {
    ENTER();
    if (!streams.count(stream)) return INVALID_HANDLE;
    if (stream->capture) return forbidden();
    return drain(stream);
}

Status cuStreamBeginCapture_v2(Stream* stream, int mode) {
    ENTER();
    if (!streams.count(stream) || mode > 2) return INVALID_VALUE;
    if (stream->capture) return forbidden();
    stream->capture = new Graph;
    stream->capture->number = ++captures;
    stream->invalidated = false;
    stream->is_origin = true;
    stream->last.clear();
    return OK;
}

Status cuEventCreate(Event** event, unsigned flags) {
    ENTER();
    if (flags & ~3u) return INVALID_VALUE;
    *event = new Event;
    events.insert(*event);
    return OK;
}

Status cuEventDestroy_v2(Event* event) {
    ENTER();
    if (!events.erase(event)) return INVALID_HANDLE;
    delete event;
    return OK;
}

Status cuEventRecord(Event* event, Stream* stream) {
    ENTER();
    if (!events.count(event) || !streams.count(stream)) return INVALID_HANDLE;
    // what does not capture has no use for events here
    if (!stream->capture) return INVALID_VALUE;
    *event = Event{stream->capture->number, stream->last};
    return OK;
}

Status cuStreamWaitEvent(Stream* stream, Event* event, unsigned flags) {
    ENTER();
    if (!events.count(event) || !streams.count(stream)) return INVALID_HANDLE;
    const auto is_own = [&](const Stream* s) { return s->capture && s->capture->number == event->capture; };
    const auto origin = std::find_if(streams.begin(), streams.end(), is_own);
    if (flags != 0 || origin == streams.end() || (stream->capture && !is_own(stream))) return INVALID_VALUE;
    if (!stream->capture) {
        stream->capture = (*origin)->capture;
        stream->is_origin = false;
        stream->last.clear();
    }
    stream->last.insert(event->last.begin(), event->last.end());
    return OK;
}

Status cuStreamEndCapture(Stream* stream, Graph** graph) {
    ENTER();
    if (!streams.count(stream) || !stream->capture || !stream->is_origin) return INVALID_VALUE;
    Graph* captured = stream->capture;
    // what the last launches of this stream come after
    std::set<size_t> over = stream->last;
    for (size_t k = captured->nodes.size(); k-- > 0;) {
        if (over.count(k)) over.insert(captured->nodes[k].after.begin(), captured->nodes[k].after.end());
    }
    bool is_invalid = false;
    for (Stream* s : streams) {
        if (s->capture != captured) continue;
        s->capture = nullptr;
        is_invalid |= s->invalidated;
    }
    *graph = nullptr;
    if (is_invalid || over.size() < captured->nodes.size()) {
        delete captured;
        return is_invalid ? CAPTURE_INVALIDATED : CAPTURE_UNJOINED;
    }
    *graph = captured;
    graphs.insert(captured);
    return OK;
}

Status cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) {
    ENTER();
    if (!graphs.count(graph)) return INVALID_HANDLE;
    *executable = new Graph(*graph);
    executables.insert(*executable);
    return OK;
}

Status cuGraphDestroy(Graph* graph) {
    ENTER();
    if (!graphs.erase(graph)) return INVALID_HANDLE;
    delete graph;
    return OK;
}

Status cuGraphExecDestroy(Graph* executable) {
    ENTER();
    if (!executables.erase(executable)) return INVALID_HANDLE;
    delete executable;
    return OK;
}

Status cuGraphLaunch(Graph* executable, Stream* stream) {
    ENTER();
    if (!executables.count(executable)) return INVALID_HANDLE;
    replays++;
    // of what can run next, the launch that was captured last
    std::set<size_t> left;
    for (size_t k = 0; k < executable->nodes.size(); ++k) left.insert(k);
    while (!left.empty()) {
        const auto can_run = [&](size_t k) {
            for (size_t before : executable->nodes[k].after) {
                if (left.count(before)) return false;
            }
            return true;
        };
        const size_t next = *std::find_if(left.rbegin(), left.rend(), can_run);
        left.erase(next);
        if (Status s = put(stream, executable->nodes[next].task)) return s;
    }
    return OK;
}

}  // extern "C"
