/* A driver without a device, for test_driver.py: the functions that gradc calls, under the names that cuda-bindings
   looks up.  Memory is the host's; every call is written to stderr with what was in its arguments. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef unsigned long long Pointer;
#define CONTEXT ((void *)0x10)
#define STREAM ((void *)0x20)
#define SAY(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), fflush(stderr))

static _Thread_local void *contexts[8];
static _Thread_local int depth;

static Result inside(void) { return depth && contexts[depth - 1] == CONTEXT ? 0 : 201; }

Result cuInit(unsigned flags) { return flags; }
Result cuDriverGetVersion(int *version) { *version = 13000; return 0; }
Result cuDeviceGetCount(int *count) { *count = 1; return 0; }
Result cuDeviceGet(int *device, int number) { *device = number; return 0; }
Result cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "No GPU"); return device; }
Result cuDeviceGetAttribute(int *value, int what, int device) { *value = what == 75 ? 9 : 0; return device; }
Result cuDevicePrimaryCtxRetain(void **context, int device) { *context = CONTEXT; return device; }
Result cuCtxGetCurrent(void **context) { *context = depth ? contexts[depth - 1] : 0; return 0; }
Result cuCtxPushCurrent_v2(void *context) { contexts[depth++] = context; return 0; }
Result cuCtxPopCurrent_v2(void **context) { *context = contexts[--depth]; return 0; }
Result cuStreamCreate(void **stream, unsigned flags) { *stream = STREAM; SAY("stream %u", flags); return inside(); }
Result cuDeviceGetDefaultMemPool(void **pool, int device) { *pool = (void *)0x30; return device; }
Result cuMemPoolSetAttribute(void *pool, int what, void *value) {
    SAY("pool %d %llx", what, *(Pointer *)value);
    return pool == (void *)0x30 ? 0 : 1;
}
Result cuModuleLoadDataEx(void **module, const void *text, unsigned count, int *options, void **values) {
    *module = (void *)0x40;
    SAY("load %u %d %d %zu", count, options[0], options[1], (size_t)values[1]);
    if (!strstr(text, ".target sm_75")) return inside();
    strcpy(values[0], "line 3: no such target");
    return 218;
}
Result cuModuleGetFunction(void **f, void *module, const char *name) {
    *f = (void *)0x50;
    SAY("function %s", name);
    return module == (void *)0x40 ? inside() : 1;
}
Result cuFuncSetAttribute(void *f, int what, int value) { SAY("attribute %d %d", what, value); return inside(); }
Result cuMemAllocAsync(Pointer *at, size_t size, void *stream) {
    void *memory;
    if (size > 1u << 30 || posix_memalign(&memory, 256, size)) return 2;
    *at = (Pointer)memory;
    return stream == STREAM ? inside() : 1;
}
Result cuMemFreeAsync(Pointer at, void *stream) { SAY("free"); free((void *)at); return inside(); }
Result cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t n, void *s) { memcpy((void *)to, from, n); return inside(); }
Result cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t n, void *s) { memcpy(to, (void *)from, n); return inside(); }
Result cuMemsetD8Async(Pointer to, unsigned char byte, size_t n, void *s) { memset((void *)to, byte, n); return inside(); }
Result cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **arguments, void **extra) {
    SAY("launch %u %u %u, %u %u %u, %u, %d", gx, gy, gz, bx, by, bz, shared, stream == STREAM && !extra);
    SAY("status %llx", **(Pointer **)arguments[3]); /* indices, an array, the result, the status word */
    memcpy(*(void **)arguments[2], *(void **)arguments[1], 64);
    return inside();
}
Result cuStreamSynchronize(void *stream) { return inside(); }
Result cuStreamBeginCapture_v2(void *stream, int mode) { SAY("begin %d", mode); return inside(); }
Result cuStreamEndCapture(void *stream, void **graph) { *graph = (void *)0x60; SAY("end"); return 0; }
Result cuGraphInstantiateWithFlags(void **run, void *graph, Pointer flags) {
    *run = (void *)0x70;
    SAY("instantiate %llu", flags);
    return graph == (void *)0x60 ? inside() : 1;
}
Result cuGraphDestroy(void *graph) { SAY("destroy graph"); return graph == (void *)0x60 ? 0 : 1; }
Result cuGraphExecDestroy(void *run) { SAY("destroy run"); return run == (void *)0x70 ? 0 : 1; }
Result cuGraphLaunch(void *run, void *stream) { SAY("run graph"); return inside(); }
Result cuGetErrorName(Result code, const char **text) { *text = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR"; return 0; }
Result cuGetErrorString(Result code, const char **text) { *text = code == 2 ? "out of memory" : "wrong"; return 0; }

Result cuGetProcAddress_v2(const char *name, void **f, int version, Pointer flags, int *found) {
    const char *endings[] = {"_v2", "WithFlags", ""};
    void *self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    char full[256];
    *f = 0;
    for (int k = 0; k < 3 && !*f; k++) {
        snprintf(full, sizeof full, "%s%s", name, endings[k]);
        *f = dlsym(self, full);
    }
    if (found) *found = *f ? 0 : 1;
    return 0;
}
Result cuGetProcAddress(const char *name, void **f, int version, Pointer flags) {
    return cuGetProcAddress_v2(name, f, version, flags, 0);
}
