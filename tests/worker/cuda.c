/* A stand-in for libcuda.so.1 where no GPU is: a "GPU" is a number, its memory is memory of this process, its streams do
 * at once what they are told. It says nothing of real GPUs; it lets `ncclscope worker` run from its first line to its
 * last. Only what the worker calls is here: a call more, and the test that made it fails.
 *
 * STANDIN_GPUS     how many (2)
 * STANDIN_FREE     free memory of each, bytes (64 MiB)
 * STANDIN_TIGHT    GPU:BYTES, another amount on one GPU
 * STANDIN_OOM      GPU on which nothing can be had, whatever is free
 * STANDIN_DRIVER   an error of cuInit, as its number
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NOT_READY = 600 };
enum { MOST = 64, FULL = 100 };

typedef struct { int gpu; } Context;
typedef struct { int gpu, stuck, broken; } Stream;
static Context contexts[MOST];
static _Thread_local Context *current;
static struct { char *at; size_t bytes; int gpu; } given[FULL];
static int count;

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}

static long room(int gpu) {
    const char *tight = getenv("STANDIN_TIGHT");
    int which;
    long bytes;
    if (tight && sscanf(tight, "%d:%ld", &which, &bytes) == 2 && which == gpu) return bytes;
    return number("STANDIN_FREE", 64L << 20);
}

int cuInit(unsigned flags) { (void)flags; return (int)number("STANDIN_DRIVER", OK); }
int cuDeviceGetCount(int *n) { *n = (int)number("STANDIN_GPUS", 2); return OK; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return OK; }
int cuDeviceGetAttribute(int *value, int what, int device) { (void)what; (void)device; *value = 1; return OK; }
int cuDeviceGetName(char *name, int length, int device) { (void)device; snprintf(name, (size_t)length, "Stand-in"); return OK; }
int cuDevicePrimaryCtxRetain(Context **context, int device) {
    if (device < 0 || device >= MOST) return INVALID;
    contexts[device].gpu = device;
    *context = &contexts[device];
    return OK;
}
int cuCtxGetCurrent(Context **context) { *context = current; return OK; }
int cuCtxSetCurrent(Context *context) { current = context; return OK; }
int cuMemGetInfo_v2(size_t *available, size_t *total) {
    size_t taken = 0;
    for (int i = 0; i < count; i++) if (given[i].gpu == current->gpu) taken += given[i].bytes;
    *total = (size_t)room(current->gpu);
    *available = *total > taken ? *total - taken : 0;
    return OK;
}
int cuStreamCreate(Stream **stream, unsigned flags) {
    (void)flags;
    *stream = calloc(1, sizeof **stream);
    (*stream)->gpu = current->gpu;
    return OK;
}
int cuStreamQuery(Stream *stream) { return stream->broken ? stream->broken : stream->stuck ? NOT_READY : OK; }
int cuMemAlloc_v2(unsigned long long *at, size_t bytes) {
    size_t available, total;
    cuMemGetInfo_v2(&available, &total);
    if (bytes > available || count >= FULL || number("STANDIN_OOM", -1) == current->gpu) return OUT_OF_MEMORY;
    given[count].at = malloc(bytes);
    given[count].bytes = bytes;
    given[count].gpu = current->gpu;
    *at = (unsigned long long)(size_t)given[count++].at;
    return OK;
}

/* Whether all of it was given to this GPU. */
static int holds(int gpu, unsigned long long at, size_t bytes) {
    char *from = (char *)(size_t)at;
    for (int i = 0; i < count; i++)
        if (given[i].gpu == gpu && from >= given[i].at && from + bytes <= given[i].at + given[i].bytes) return 1;
    return 0;
}
int cuMemsetD8Async(unsigned long long at, unsigned char value, size_t bytes, Stream *stream) {
    if (!holds(stream->gpu, at, bytes)) return INVALID;
    memset((void *)(size_t)at, value, bytes);
    return OK;
}
int cuMemcpyHtoDAsync_v2(unsigned long long at, const void *from, size_t bytes, Stream *stream) {
    if (!holds(stream->gpu, at, bytes)) return INVALID;
    memcpy((void *)(size_t)at, from, bytes);
    return OK;
}
int cuMemcpyDtoHAsync_v2(void *to, unsigned long long at, size_t bytes, Stream *stream) {
    if (!holds(stream->gpu, at, bytes)) return INVALID;
    memcpy(to, (void *)(size_t)at, bytes);
    return OK;
}
int cuGetErrorString(int code, const char **text) {
    static const struct { int code; const char *text; } known[] = {
        {INVALID, "invalid argument"}, {OUT_OF_MEMORY, "out of memory"}, {100, "no CUDA-capable device is detected"},
        {803, "system has unsupported display driver / cuda driver combination"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].code == code) { *text = known[i].text; return OK; }
    *text = NULL;
    return INVALID;
}

/* For the stand-in of NCCL. */
void standin_stick(Stream *stream) { stream->stuck = 1; }
int standin_holds(Stream *stream, void *at, size_t bytes) { return holds(stream->gpu, (unsigned long long)(size_t)at, bytes); }
