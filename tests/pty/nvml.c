/* A node with two GPUs, as NVML tells of it: enough of libnvidia-ml.so.1 for `ncclscope local` where no GPU is. */
#include <string.h>

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
typedef struct { unsigned gpu, memory; } Load;

static const unsigned long long GIB = 1ULL << 30;
static int gpus[2] = {0, 1};

int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { (void)code; return "an error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { strncpy(text, "570.1", length); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, int **device) { if (i > 1) return 2; *device = &gpus[i]; return 0; }
int nvmlDeviceGetName(int *device, char *text, unsigned length) { (void)device; strncpy(text, "NVIDIA TEST", length); return 0; }
int nvmlDeviceGetUUID(int *device, char *text, unsigned length) {
    strncpy(text, *device ? "GPU-00000000-0000-0000-0000-000000000001" : "GPU-00000000-0000-0000-0000-000000000000", length);
    return 0;
}
int nvmlDeviceGetPciInfo_v3(int *device, Pci *pci) {
    memset(pci, 0, sizeof *pci);
    pci->bus = 0x3b + *device;
    strcpy(pci->bus_id, *device ? "00000000:3C:00.0" : "00000000:3B:00.0");
    return 0;
}
int nvmlDeviceGetMemoryInfo(int *device, Memory *m) { m->total = 80 * GIB; m->used = (*device ? 20 : 60) * GIB; m->free = m->total - m->used; return 0; }
int nvmlDeviceGetMemoryInfo_v2(int *device, MemoryV2 *m) {
    m->total = 80 * GIB; m->reserved = 0; m->used = (*device ? 20 : 60) * GIB; m->free = m->total - m->used;
    return 0;
}
int nvmlDeviceGetUtilizationRates(int *device, Load *load) { load->gpu = *device ? 7 : 93; load->memory = 11; return 0; }
int nvmlDeviceGetTemperature(int *device, unsigned sensor, unsigned *celsius) { (void)sensor; *celsius = 41 + *device; return 0; }
int nvmlDeviceGetPowerUsage(int *device, unsigned *milliwatts) { (void)device; *milliwatts = 310000; return 0; }
int nvmlDeviceGetEnforcedPowerLimit(int *device, unsigned *milliwatts) { (void)device; *milliwatts = 700000; return 0; }
