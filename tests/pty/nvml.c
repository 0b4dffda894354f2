/* A stand-in for libnvidia-ml.so.1 where no GPU is: a node with two GPUs, for `ncclscope local`. Its figures are made up;
 * it says nothing of real GPUs.
 *
 * STANDIN_NVML, words with commas between: `init=CODE` (NVML does not start), `bare` (nothing but memory is supported),
 * `denied` (processes and events are not for this user), `mig` (GPU 0 is cut into two parts).
 * Files in the folder STANDIN_NODE say what happens while somebody watches: `lost.N` (GPU N falls off the bus), `gone.1`
 * (the last GPU is not listed any more), `xid.N` (with a code in it: an event), `mute` (NVML answers nothing any more).
 * Compiled with -DOLD it is a library from before MIG, NVLink, second versions of memory and lists of processes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, SIZE = 7, TIMEOUT = 10, LOST = 15, MISMATCH = 18 };
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Load;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } Process;
typedef struct { void *device; unsigned long long type, data; unsigned instance, compute; } Event;
/* A GPU, or a part of one. */
typedef struct { int index, part; } Gpu;

static const unsigned long long GIB = 1ULL << 30;
static Gpu gpus[2] = {{0, -1}, {1, -1}};
static int watched[2];

static int has(const char *word) {
    const char *all = getenv("STANDIN_NVML");
    return all && strstr(all, word);
}
static FILE *happened(const char *what, int index) {
    const char *node = getenv("STANDIN_NODE");
    char path[512];
    if (!node) return NULL;
    snprintf(path, sizeof path, index < 0 ? "%s/%s" : "%s/%s.%d", node, what, index);
    return fopen(path, "r");
}
static int is(const char *what, int index) {
    FILE *file = happened(what, index);
    if (file) fclose(file);
    return file != NULL;
}
/* What a GPU answers to any question but for its memory. */
static int state(Gpu *gpu) { return is("mute", -1) ? MISMATCH : is("lost", gpu->index) ? LOST : OK; }
static int asked(Gpu *gpu) { return state(gpu) ? state(gpu) : has("bare") || gpu->part >= 0 ? NOT_SUPPORTED : OK; }
#define ASK(gpu) do { int code = asked(gpu); if (code) return code; } while (0)
#define BASE(gpu) do { int code = state(gpu); if (code) return code; } while (0)

int nvmlInit_v2(void) { const char *code = has("init=") ? strstr(getenv("STANDIN_NVML"), "init=") + 5 : "0"; return atoi(code); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { (void)code; return "an error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { strncpy(text, "570.1", length); return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = is("gone", 1) ? 1 : 2; return is("mute", -1) ? MISMATCH : OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, Gpu **gpu) {
    unsigned count;
    int code = nvmlDeviceGetCount_v2(&count);
    if (code) return code;
    if (i >= count) return INVALID;
    *gpu = &gpus[i];
    return state(*gpu);
}
int nvmlDeviceGetName(Gpu *gpu, char *text, unsigned length) { BASE(gpu); strncpy(text, "NVIDIA TEST", length); return OK; }
int nvmlDeviceGetUUID(Gpu *gpu, char *text, unsigned length) {
    BASE(gpu);
    snprintf(text, length, "%s-00000000-0000-0000-0000-00000000000%d", gpu->part < 0 ? "GPU" : "MIG", gpu->part < 0 ? gpu->index : gpu->part);
    return OK;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, Gpu **gpu) { *gpu = &gpus[uuid[strlen(uuid) - 1] == '1']; return state(*gpu); }
int nvmlDeviceGetPciInfo_v3(Gpu *gpu, Pci *pci) {
    BASE(gpu);
    memset(pci, 0, sizeof *pci);
    pci->bus = 0x3b + (unsigned)gpu->index;
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%X:00.0", pci->bus);
    return OK;
}
static unsigned long long used(Gpu *gpu) { return (gpu->part >= 0 ? 5 : gpu->index ? 20 : 60) * GIB; }
int nvmlDeviceGetMemoryInfo(Gpu *gpu, Memory *m) { BASE(gpu); m->total = 80 * GIB; m->used = used(gpu); m->free = m->total - m->used; return OK; }
int nvmlDeviceGetUtilizationRates(Gpu *gpu, Load *load) { ASK(gpu); load->gpu = gpu->index ? 7 : 93; load->memory = 11; return OK; }
int nvmlDeviceGetTemperature(Gpu *gpu, unsigned sensor, unsigned *celsius) { ASK(gpu); (void)sensor; *celsius = 41 + (unsigned)gpu->index; return OK; }
int nvmlDeviceGetPowerUsage(Gpu *gpu, unsigned *milliwatts) { ASK(gpu); *milliwatts = 310000; return OK; }
int nvmlDeviceGetEnforcedPowerLimit(Gpu *gpu, unsigned *milliwatts) { ASK(gpu); *milliwatts = 700000; return OK; }
int nvmlDeviceGetClockInfo(Gpu *gpu, unsigned what, unsigned *mhz) { ASK(gpu); (void)what; *mhz = 1410; return OK; }
int nvmlDeviceGetMaxClockInfo(Gpu *gpu, unsigned what, unsigned *mhz) { ASK(gpu); (void)what; *mhz = 1980; return OK; }
int nvmlDeviceGetCurrentClocksThrottleReasons(Gpu *gpu, unsigned long long *mask) { ASK(gpu); *mask = gpu->index ? 0 : 0x4; return OK; }
int nvmlDeviceGetTotalEccErrors(Gpu *gpu, unsigned kind, unsigned counter, unsigned long long *n) { ASK(gpu); (void)counter; *n = kind ? 0 : 7; return OK; }
int nvmlDeviceGetCurrPcieLinkGeneration(Gpu *gpu, unsigned *n) { ASK(gpu); *n = 5; return OK; }
int nvmlDeviceGetCurrPcieLinkWidth(Gpu *gpu, unsigned *n) { ASK(gpu); *n = 16; return OK; }
int nvmlSystemGetProcessName(unsigned pid, char *text, unsigned length) { snprintf(text, length, "VLLM::Worker_%u", pid); return OK; }
int nvmlEventSetCreate(void **set) { *set = watched; return OK; }
int nvmlEventSetFree(void *set) { (void)set; watched[0] = watched[1] = 0; return OK; }
int nvmlDeviceGetSupportedEventTypes(Gpu *gpu, unsigned long long *types) { BASE(gpu); *types = has("bare") ? 0 : 0xf; return OK; }
int nvmlDeviceRegisterEvents(Gpu *gpu, unsigned long long types, void *set) {
    (void)types;
    (void)set;
    if (has("denied") && gpu->index == 0) return NO_PERMISSION;
    watched[gpu->index] = 1;
    return OK;
}

#ifndef OLD
static Gpu parts[2] = {{0, 0}, {0, 1}};
int nvmlDeviceGetMemoryInfo_v2(Gpu *gpu, MemoryV2 *m) {
    BASE(gpu);
    m->total = (gpu->part < 0 ? 80 : 10) * GIB;
    m->reserved = 0;
    m->used = used(gpu);
    m->free = m->total - m->used;
    return OK;
}
int nvmlDeviceGetMigMode(Gpu *gpu, unsigned *now, unsigned *pending) { ASK(gpu); *now = *pending = has("mig") && !gpu->index; return OK; }
int nvmlDeviceGetMaxMigDeviceCount(Gpu *gpu, unsigned *n) { ASK(gpu); *n = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(Gpu *gpu, unsigned i, Gpu **part) { ASK(gpu); if (i > 1) return NOT_FOUND; *part = &parts[i]; return OK; }
int nvmlDeviceGetComputeRunningProcesses_v3(Gpu *gpu, unsigned *count, Process *list) {
    unsigned there = gpu->index ? 0 : 2, room = *count;
    ASK(gpu);
    if (has("denied")) return NO_PERMISSION;
    *count = there;
    if (room < there) return SIZE;
    for (unsigned i = 0; i < there; i++) list[i] = (Process){4100 + i, i ? ~0ULL : 58 * GIB, ~0U, ~0U};
    return OK;
}
int nvmlDeviceGetNvLinkState(Gpu *gpu, unsigned link, unsigned *up) { ASK(gpu); if (link > 3) return INVALID; *up = !(gpu->index == 0 && link == 2); return OK; }
int nvmlDeviceGetNvLinkVersion(Gpu *gpu, unsigned link, unsigned *version) { ASK(gpu); (void)link; *version = 4; return OK; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2(Gpu *gpu, unsigned link, Pci *pci) { ASK(gpu); (void)link; return nvmlDeviceGetPciInfo_v3(&gpus[!gpu->index], pci); }
int nvmlDeviceGetTopologyCommonAncestor(Gpu *a, Gpu *b, unsigned *level) { ASK(a); ASK(b); *level = 40; return OK; }
int nvmlDeviceGetP2PStatus(Gpu *a, Gpu *b, unsigned what, unsigned *status) { ASK(a); ASK(b); (void)what; *status = 0; return OK; }
int nvmlEventSetWait_v2(void *set, Event *event, unsigned ms) {
    (void)set;
    for (unsigned waited = 0; waited < ms; waited += 20) {
        for (int i = 0; i < 2; i++) {
            FILE *file = watched[i] ? happened("xid", i) : NULL;
            char path[512];
            if (!file) continue;
            *event = (Event){&gpus[i], 0x8, 0, ~0U, ~0U};
            int read = fscanf(file, "%llu", &event->data);
            fclose(file);
            if (read != 1) continue;
            snprintf(path, sizeof path, "%s/xid.%d", getenv("STANDIN_NODE"), i);
            unlink(path);
            return OK;
        }
        usleep(20000);
    }
    return TIMEOUT;
}
#endif
