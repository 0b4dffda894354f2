/* A stand-in for libnccl.so.2 where no GPU is: all-reduce over the buffers of the ranks of this process, which the
 * stand-in for libcuda.so.1 gave out. It says nothing of real NCCL. Calls are counted from 1, a group of calls as one.
 *
 * STANDIN_VERSION  as ncclGetVersion tells it (22203)
 * STANDIN_WRONG    RANK:ELEMENT:BYTES, that element of that rank is wrong in every call over so many bytes
 * STANDIN_ERROR    init:RANK:CODE, call:RANK:CODE:CALL or later:RANK:CODE:CALL (the call goes well, what it began fails)
 * STANDIN_HANG     init, call:CALL (it does not return) or later:CALL (it returns, what it began never ends), exit (what
 *                  runs when the process ends never returns)
 * Compiled with -DOLD it lacks ncclGetLastError (before 2.13), with -DANCIENT ncclCommGetAsyncError, too (before 2.4).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Stream Stream;
void standin_stick(Stream *stream);
int standin_holds(Stream *stream, void *at, size_t bytes);

enum { OK = 0, SYSTEM = 2, ARGUMENT = 4, USAGE = 5, MOST = 64, FLOAT32 = 7, BFLOAT16 = 9 };
typedef struct { int rank, ranks, later; } Comm;
static Comm comms[MOST];
static struct { void *at; size_t count; int type; Comm *comm; Stream *stream; } queue[MOST];
static int queued, depth, calls;
static const char *last = "";

static int version(void) {
    const char *text = getenv("STANDIN_VERSION");
    return text ? atoi(text) : 22203;
}

/* Whether `name` is WHEN:RANK:CODE:CALL of this moment; a RANK of -1 takes whatever it says. */
static int error_now(const char *when, int rank, int *code) {
    const char *text = getenv("STANDIN_ERROR");
    int who, call = 0;
    size_t n = strlen(when);
    if (!text || strncmp(text, when, n) || text[n] != ':') return 0;
    if (sscanf(text + n, ":%d:%d:%d", &who, code, &call) < 2 || who != rank) return 0;
    if (call && call != calls) return 0;
    last = *code == SYSTEM ? "socketStartConnect: Connect to 10.0.0.7<4791> failed : Connection refused" : "";
    return 1;
}

static int hang_now(const char *when) {
    const char *text = getenv("STANDIN_HANG");
    size_t n = strlen(when);
    return text && !strncmp(text, when, n) && (!text[n] || (text[n] == ':' && atoi(text + n + 1) == calls));
}

static void hang(void) { for (;;) pause(); }

/* A library that was only looked at has nothing to take down. */
__attribute__((destructor)) static void leave(void) { if (calls && hang_now("exit")) hang(); }

/* As NCCL does it: to C's own buffer of standard output, which is block-buffered where that is a pipe. */
static void say(const char *what, const char *state, Comm *comm, int device) {
    const char *level = getenv("NCCL_DEBUG");
    char host[64] = "";
    if (!level || strcmp(level, "INFO")) return;
    gethostname(host, sizeof host - 1);
    printf("%s:%d:%d [%d] NCCL INFO %s comm %p rank %d nranks %d cudaDev %d nvmlDev %d busId %x000 commId 0x57a4d1457a4d14 - Init %s\n",
        host, getpid(), getpid(), device, what, (void *)comm, comm->rank, comm->ranks, device, device, 0x3b + device, state);
}

int ncclGetVersion(int *v) { *v = version(); return OK; }
const char *ncclGetErrorString(int code) {
    static const char *text[] = {"no error", "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
        "unhandled system error (run with NCCL_DEBUG=INFO for details)", "internal error - please report this issue to the NCCL developers",
        "invalid argument (run with NCCL_DEBUG=WARN for details)", "invalid usage (run with NCCL_DEBUG=WARN for details)",
        "remote process exited or there was a network error"};
    return code >= 0 && code < 7 ? text[code] : "unknown result code";
}
#ifndef ANCIENT
#ifndef OLD
const char *ncclGetLastError(Comm *comm) { (void)comm; return last; }
#endif
int ncclCommGetAsyncError(Comm *comm, int *code) { *code = comm ? comm->later : OK; return OK; }
#endif

int ncclCommInitAll(Comm **out, int ranks, const int *devices) {
    int code = OK;
    if (hang_now("init")) hang();
    if (ranks > MOST) return ARGUMENT;
    for (int i = 0; i < ranks; i++) {
        comms[i] = (Comm){i, ranks, OK};
        say("ncclCommInitAll", "START", &comms[i], devices[i]);
    }
    for (int i = 0; i < ranks; i++) if (error_now("init", i, &code)) return code;
    for (int i = 0; i < ranks; i++) {
        out[i] = &comms[i];
        say("ncclCommInitAll", "COMPLETE", &comms[i], devices[i]);
    }
    return OK;
}

static float get(void *at, size_t i, int type) {
    float f;
    if (type == FLOAT32) return ((float *)at)[i];
    uint32_t bits = (uint32_t)((uint16_t *)at)[i] << 16;
    memcpy(&f, &bits, sizeof f);
    return f;
}
static void put(void *at, size_t i, int type, float f) {
    uint32_t bits;
    if (type == FLOAT32) { ((float *)at)[i] = f; return; }
    memcpy(&bits, &f, sizeof bits);
    ((uint16_t *)at)[i] = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static int reduce(void) {
    const char *wrong = getenv("STANDIN_WRONG");
    int rank, code, ranks = queue[0].comm->ranks;
    size_t element, bytes, size = queue[0].type == FLOAT32 ? 4 : 2;
    /* Real NCCL would wait for ever for those that did not come, or read beyond a buffer. */
    if (queued != ranks) return USAGE;
    for (int r = 0; r < ranks; r++)
        if (queue[r].comm->rank != r || queue[r].count != queue[0].count || queue[r].type != queue[0].type
            || !standin_holds(queue[r].stream, queue[r].at, queue[r].count * size)) return ARGUMENT;
    for (int r = 0; r < ranks; r++)
        if (error_now("later", r, &code)) {
            queue[r].comm->later = code;
            for (int all = 0; all < ranks; all++) standin_stick(queue[all].stream);
            return OK;
        }
    if (hang_now("later")) {
        /* All but the first, who has what it needs. */
        for (int r = 1; r < ranks; r++) standin_stick(queue[r].stream);
        if (ranks == 1) standin_stick(queue[0].stream);
        return OK;
    }
    for (size_t i = 0; i < queue[0].count; i++) {
        float sum = 0;
        for (int r = 0; r < ranks; r++) sum += get(queue[r].at, i, queue[r].type);
        for (int r = 0; r < ranks; r++) put(queue[r].at, i, queue[r].type, sum);
    }
    if (wrong && sscanf(wrong, "%d:%zu:%zu", &rank, &element, &bytes) == 3 && rank < ranks && bytes == queue[0].count * size)
        put(queue[rank].at, element, queue[rank].type, get(queue[rank].at, element, queue[rank].type) + 1);
    return OK;
}

int ncclGroupStart(void) { if (!depth++) calls++; return OK; }
int ncclGroupEnd(void) {
    int code = OK;
    if (hang_now("call")) hang();
    if (!--depth && queued) {
        code = reduce();
        queued = 0;
    }
    return code;
}
int ncclAllReduce(const void *from, void *to, size_t count, int type, int op, Comm *comm, Stream *stream) {
    int code;
    if (error_now("call", comm->rank, &code)) return code;
    if ((type != FLOAT32 && type != BFLOAT16) || (type == BFLOAT16 && version() < 21000) || op != 0 || from != to || !depth || queued >= MOST)
        return ARGUMENT;
    queue[queued].at = to;
    queue[queued].count = count;
    queue[queued].type = type;
    queue[queued].comm = comm;
    queue[queued++].stream = stream;
    return OK;
}
