#!/usr/bin/env python3
"""All-reduce over every GPU of a job, with torch alone: is it correct, and how fast is it?

Runs in every pod of the test job and starts one process per GPU. Order of the steps:

  env, dns, rendezvous, import, gpus, gloo, nccl, sweep, pairs, pynccl, graph, end

gloo on CPU comes before NCCL, so that its result stands if NCCL hangs; where there is no GPU it is all there is.
Each step prints one line of JSON behind a fixed prefix, and rank 0 prints rows in the shape of nccl-tests beside it
(bandwidths as nccl-tests define them: algbw = bytes / time, busbw = algbw * 2 (n - 1) / n, both in 10^9 B/s).

Nothing waits for ever: a watchdog ends a process that makes no progress in a step, with the step's own exit code, and a
connection from each rank to rank 0 tells the others within seconds when one is gone.

Python 3.8 and torch 1.13 are enough.
"""

import argparse
import ctypes
import datetime
import faulthandler
import glob
import importlib.util
import json
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback

PREFIX = "#ncclscope "
# Exit code of a process that fails in a step.
CODES = {
    "usage": 2, "env": 10, "import": 11, "gpus": 12, "dns": 13, "rendezvous": 14, "gloo": 15,
    "nccl": 16, "sweep": 17, "pairs": 17, "pynccl": 18, "graph": 18, "end": 24,
}
WRONG = 19  # a result was wrong
PEER = 21  # another rank failed or is gone
DIED = 22  # a process was killed
# Seconds without progress after which a step is given up.
LIMITS = {
    "env": 20, "import": 300, "gpus": 90, "gloo": 120, "nccl": 180, "sweep": 120, "pairs": 120,
    "pynccl": 240, "graph": 120, "end": 60,
}
BEAT = 1.0  # seconds between two signs of life
SILENCE = 30.0  # seconds without one after which a rank counts as gone
GRACE = 3.0  # seconds that a failing rank waits, so that the echoes of others come after its own words
NAMES = ("NCCL_", "GLOO_", "UCX_", "FI_", "CUDA_", "TORCH_NCCL_", "NVSHMEM_", "SHARP_", "HCOLL_", "MELLANOX_")


class Lines:
    """Whole lines to standard output, from any thread, with one write each."""

    def __init__(self):
        self.lock = threading.Lock()
        self.rank = None
        self.run = os.environ.get("NCCLSCOPE_RUN", "")

    def text(self, line):
        data = (line + "\n").encode("utf-8", "replace")
        with self.lock:
            while data:
                try:
                    data = data[os.write(1, data):]
                except OSError:
                    return

    def say(self, step, status, **more):
        line = {"v": 1, "t": time.time_ns(), "run": self.run, "rank": self.rank, "step": step, "status": status}
        line.update(more)
        self.text(PREFIX + json.dumps(line, default=str))


OUT = Lines()


class Failed(Exception):
    """A step failed and has said so."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def brief(error):
    """The error in one line, the way a person would quote it."""
    text = str(error).strip() or error.__class__.__name__
    return (error.__class__.__name__ + ": " + " ".join(text.split()))[:2000]


class Progress:
    """Which step this process is in and when it last moved; the watchdog thread reads it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.step = "env"
        self.at = ""
        self.limit = LIMITS["env"]
        self.moved = time.monotonic()
        self.ended = False

    def begin(self, step, limit):
        with self.lock:
            self.step, self.limit, self.at, self.moved = step, limit, "", time.monotonic()
        # Should a call hold the interpreter's lock, this still ends the process; it needs no Python.
        faulthandler.dump_traceback_later(limit + 30, exit=True)

    def move(self, at=""):
        with self.lock:
            self.at, self.moved = at, time.monotonic()
            limit = self.limit
        faulthandler.dump_traceback_later(limit + 30, exit=True)

    def stalled(self):
        with self.lock:
            still = time.monotonic() - self.moved
            return None if self.ended or still < self.limit else (self.step, self.at, still)

    def end(self):
        with self.lock:
            self.ended = True
        faulthandler.cancel_dump_traceback_later()


HERE = Progress()


def watchdog(control):
    while True:
        time.sleep(0.5)
        stalled = HERE.stalled()
        if stalled is None:
            continue
        step, at, still = stalled
        error = "no progress for %d s" % still + (" at " + at if at else "")
        OUT.say(step, "fail", error=error, hang=True, at=at or None)
        control.tell({"fail": step, "error": error})
        faulthandler.dump_traceback(all_threads=True)
        time.sleep(GRACE)
        os._exit(CODES.get(step, 1))


class Step:
    """One step: a line when it starts, one when it ends, and the words of its failure."""

    def __init__(self, name, control, limit=None, tell=True):
        self.name, self.control, self.more, self.tells = name, control, {}, tell
        self.limit = limit or LIMITS[name]
        # Why it was left out after all.
        self.skipped = None

    def __enter__(self):
        HERE.begin(self.name, self.limit)
        self.since = time.monotonic()
        OUT.say(self.name, "start")
        return self

    def __exit__(self, kind, error, trace):
        ms = int((time.monotonic() - self.since) * 1000)
        if error is None and self.skipped:
            OUT.say(self.name, "skip", ms=ms, why=self.skipped)
            return False
        if error is None:
            OUT.say(self.name, "ok", ms=ms, **self.more)
            return False
        if isinstance(error, Failed) or not isinstance(error, Exception):
            return False
        # The end of another rank often shows as an error here first; its own words may be a moment away.
        cause = self.control.cause(1.0)
        OUT.say(
            self.name, "fail", ms=ms, error=brief(error), at=HERE.at or None, after_rank=cause,
            trace=[x.rstrip() for x in traceback.format_exception(kind, error, trace)[-3:]],
        )
        if self.tells:
            self.control.tell({"fail": self.name, "error": brief(error)})
        raise Failed(PEER if cause is not None else CODES.get(self.name, 1)) from error


class Control:
    """A connection from every rank to rank 0: who is here, who is gone. Independent of torch."""

    def __init__(self, rank, world, run):
        self.rank, self.world, self.run = rank, world, run
        self.socket = None
        self.server = None
        self.peers = {}
        self.byes = set()
        self.lock = threading.Lock()
        self.news = threading.Condition()
        self.first = None
        self.leaving = False
        self.all_here = threading.Event()

    # -- what others may ask

    def cause(self, wait):
        """The rank whose end explains ours, or None."""
        until = time.monotonic() + wait
        with self.news:
            while self.first is None and time.monotonic() < until:
                self.news.wait(max(0.0, until - time.monotonic()))
            return None if self.first in (None, self.rank) else self.first

    def tell(self, what):
        """Says something to rank 0, who passes it on."""
        if self.rank == 0:
            self.heard(0, what)
        elif self.socket is not None:
            self.send(self.socket, what)

    def leave(self):
        """Good-bye; rank 0 stays until all have said so, for its sockets serve the others."""
        self.leaving = True
        self.tell({"bye": 1})
        until = time.monotonic() + 20
        while self.rank == 0 and len(self.byes) < self.world and time.monotonic() < until:
            time.sleep(0.05)

    # -- the beginning

    def join(self, host, port, limit):
        if self.rank == 0:
            self.listen(port)
            threading.Thread(target=self.serve, daemon=True).start()
            told, since = None, time.monotonic()
            while not self.all_here.wait(0.25):
                HERE.move("waiting for ranks")
                missing = [r for r in range(1, self.world) if r not in self.peers]
                if time.monotonic() - since > limit:
                    raise TimeoutError("ranks %s did not come within %d s" % (short(missing), limit))
                if missing != told and time.monotonic() - since > 2:
                    told = missing
                    OUT.say("rendezvous", "wait", here=self.world - len(missing), of=self.world, missing=missing[:64])
            return
        since, last = time.monotonic(), None
        while True:
            try:
                self.socket = socket.create_connection((host, port), timeout=5)
                break
            except OSError as error:
                HERE.move("connecting to %s port %d" % (host, port))
                if brief(error) != last:
                    last = brief(error)
                    OUT.say("rendezvous", "wait", error=last, to="%s:%d" % (host, port))
                if time.monotonic() - since > limit:
                    raise
                time.sleep(0.5)
        self.socket.settimeout(None)
        self.send(self.socket, {"hello": self.rank, "run": self.run, "host": socket.gethostname()})
        threading.Thread(target=self.follow, daemon=True).start()
        threading.Thread(target=self.beat, daemon=True).start()
        # Rank 0 knows who is missing: it speaks first.
        while not self.all_here.wait(0.5):
            HERE.move("waiting for the other ranks")
            if time.monotonic() - since > limit + 15:
                raise TimeoutError("rank 0 did not see all ranks within %d s" % limit)

    def listen(self, port):
        if socket.has_dualstack_ipv6():
            try:
                self.server = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
            except OSError as error:
                if error.errno == 98:  # in use: the other family will not change that
                    raise
        if self.server is None:
            self.server = socket.create_server(("", port), backlog=1024)

    # -- inside

    def send(self, connection, what):
        try:
            with self.lock:
                connection.sendall((json.dumps(what) + "\n").encode())
        except OSError:
            pass

    def beat(self):
        while not self.leaving:
            time.sleep(BEAT)
            self.send(self.socket, {"beat": 1})

    def follow(self):
        """Every rank but 0: what rank 0 has to say."""
        buffer = b""
        self.socket.settimeout(SILENCE)
        while True:
            try:
                data = self.socket.recv(65536)
                why = "its connection was closed"
            except socket.timeout:
                data, why = b"", "no sign of life for %d s" % SILENCE
            except OSError as error:
                data, why = b"", brief(error)
            if not data:
                self.gone(0, why)
                return
            buffer += data
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                word = json.loads(line.decode())
                if "go" in word:
                    self.all_here.set()
                elif "gone" in word and word["gone"] != self.rank:
                    self.gone(word["gone"], word.get("why", ""))

    def serve(self):
        """Rank 0: takes the others in, passes on who failed or is gone."""
        poll = selectors.DefaultSelector()
        poll.register(self.server, selectors.EVENT_READ, None)
        if self.world == 1:
            self.all_here.set()
        last_beat = time.monotonic()
        while True:
            for key, _ in poll.select(0.5):
                if key.data is None:
                    connection, _ = self.server.accept()
                    poll.register(connection, selectors.EVENT_READ, {"rank": None, "buffer": b"", "seen": time.monotonic()})
                else:
                    self.read(poll, key.fileobj, key.data)
            now = time.monotonic()
            for key in list(poll.get_map().values()):
                peer = key.data
                if peer and peer["rank"] is not None and now - peer["seen"] > SILENCE:
                    self.drop(poll, key.fileobj, peer, "no sign of life for %d s" % SILENCE)
            if now - last_beat > BEAT:
                last_beat = now
                self.everyone({"beat": 1})

    def read(self, poll, connection, peer):
        try:
            data = connection.recv(65536)
            why = "its connection was closed"
        except OSError as error:
            data, why = b"", brief(error)
        if not data or len(peer["buffer"]) > 1 << 20:
            self.drop(poll, connection, peer, why)
            return
        peer["seen"] = time.monotonic()
        peer["buffer"] += data
        while b"\n" in peer["buffer"]:
            line, peer["buffer"] = peer["buffer"].split(b"\n", 1)
            try:
                word = json.loads(line.decode())
            except ValueError:
                word = {}
            if peer["rank"] is None:
                rank = word.get("hello")
                # Whatever else knocks on an open port is no rank of ours.
                if word.get("run") != self.run or not isinstance(rank, int) or not 0 < rank < self.world:
                    poll.unregister(connection)
                    connection.close()
                    return
                peer["rank"] = rank
                self.peers[rank] = connection
                if len(self.peers) == self.world - 1:
                    self.everyone({"go": 1})
                    self.all_here.set()
            else:
                self.heard(peer["rank"], word)

    def heard(self, rank, word):
        if "bye" in word:
            self.byes.add(rank)
        elif "fail" in word:
            why = "failed in step %s: %s" % (word["fail"], word.get("error", ""))
            self.everyone({"gone": rank, "why": why}, but=rank)
            self.gone(rank, why)

    def drop(self, poll, connection, peer, why):
        poll.unregister(connection)
        connection.close()
        rank = peer["rank"]
        if rank is None or rank in self.byes:
            return
        self.peers.pop(rank, None)
        self.everyone({"gone": rank, "why": why}, but=rank)
        self.gone(rank, why)

    def everyone(self, what, but=None):
        for rank, connection in list(self.peers.items()):
            if rank != but:
                self.send(connection, what)

    def gone(self, rank, why):
        with self.news:
            if self.leaving or self.first is not None:
                return
            self.first = rank
            self.news.notify_all()
        if rank == self.rank:
            return
        OUT.say(HERE.step, "peer", peer=rank, error="rank %d is gone: %s" % (rank, why), at=HERE.at or None)
        # Errors of our own, if there are any, come first; a call that hangs on the other one never returns.
        threading.Thread(target=self.give_up, daemon=True).start()

    def give_up(self):
        time.sleep(GRACE)
        os._exit(PEER)


def short(ranks):
    ranks = list(ranks)
    return ", ".join(map(str, ranks[:16])) + (" and %d more" % (len(ranks) - 16) if len(ranks) > 16 else "")


# -- facts


def first_line(path):
    try:
        with open(path) as file:
            return file.readline().strip()
    except (OSError, UnicodeDecodeError):
        return None


def number(text):
    return int(text) if text and text.isdigit() else None


def environment():
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    nets = {}
    for path in sorted(glob.glob("/sys/class/net/*"))[:64]:
        nets[os.path.basename(path)] = {"mtu": number(first_line(path + "/mtu")), "mbps": number(first_line(path + "/speed"))}
    rates = {}
    for path in sorted(glob.glob("/sys/class/infiniband/*/ports/*"))[:64]:
        rate = first_line(path + "/rate")
        if (first_line(path + "/state") or "").endswith("ACTIVE") and rate:
            rates[path.split("/")[4] + ":" + os.path.basename(path)] = rate
    try:
        shm = os.statvfs("/dev/shm")
        shm = shm.f_frsize * shm.f_blocks
    except OSError:
        shm = None
    return {
        "host": socket.gethostname(), "node": os.environ.get("NCCLSCOPE_NODE"), "pid": os.getpid(),
        "uid": os.getuid(), "python": sys.version.split()[0], "shm": shm,
        "memlock": None if soft == resource.RLIM_INFINITY else soft,
        "infiniband": sorted(os.path.basename(p) for p in glob.glob("/dev/infiniband/*"))[:64],
        "ib": rates, "net": nets,
        # Values are in NCCL's own log where they matter; names suffice to compare ranks.
        "env": sorted(n for n in os.environ if n.startswith(NAMES)),
    }


def library(name):
    try:
        with open("/proc/self/maps") as maps:
            return next((x.split()[-1] for x in maps if name in x), None)
    except OSError:
        return None


def resolve(name, limit):
    """Addresses of rank 0; a name that is seconds old may be unknown for half a minute."""
    since, last = time.monotonic(), None
    while True:
        try:
            return sorted({x[4][0] for x in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
        except OSError as error:
            HERE.move(name)
            if brief(error) != last:
                last = brief(error)
                OUT.say("dns", "wait", name=name, error=last)
            if time.monotonic() - since > limit:
                raise
            time.sleep(1)


# -- the measurement


def sizes(smallest, largest, factor):
    size, out = smallest, []
    while size <= largest:
        out.append(size)
        size *= factor
    return out


class Pattern:
    """Element i of rank r is a small whole number, such that the sum is exact in the type and tells ranks apart."""

    def __init__(self, world, exact):
        self.world = world
        if 3 * world <= exact:
            self.period = 3
            self.value = lambda rank, i: 1 + (rank + i) % 3
        else:
            # Few enough ranks have a one at the same place that their number is exact.
            self.period = 2 + world // exact
            self.value = lambda rank, i: 1 if (rank + i) % self.period == 0 else 0

    def own(self, rank):
        return [float(self.value(rank, i)) for i in range(self.period)]

    def sum(self):
        return [float(sum(self.value(r, i) for r in range(self.world))) for i in range(self.period)]


PAIR_ITERS = 8  # calls that are timed for a pair of pods
CHUNK = 1 << 22  # elements compared at a time: what the comparison needs of memory does not grow with the size


class Bench:
    """Measures one way to all-reduce, in one type."""

    def __init__(self, step, torch, dist, rank, world, device, dtype, reduce, sync, args):
        self.step, self.torch, self.dist, self.rank, self.world = step, torch, dist, rank, world
        self.device, self.dtype, self.reduce, self.sync, self.args = device, dtype, reduce, sync, args
        self.name = str(dtype).replace("torch.", "")
        # Whole numbers up to this one are exact in the type.
        self.exact = {"bfloat16": 256, "float16": 2048}.get(self.name, 1 << 24)
        self.item = self.torch.empty(0, dtype=dtype).element_size()
        self.pattern = Pattern(world, self.exact)
        self.wrong = 0

    def lay(self, buffer, values):
        period = len(values)
        whole = CHUNK // period * period
        piece = self.torch.tensor(values, dtype=self.dtype, device=self.device)
        piece = piece.repeat(min(whole, buffer.numel() + period) // period + 1)
        for at in range(0, buffer.numel(), whole):
            part = buffer[at:at + whole]
            part.copy_(piece[:part.numel()])

    def compare(self, buffer, values, what):
        """How many elements are not what they must be."""
        period = len(values)
        whole = CHUNK // period * period
        piece = self.torch.tensor(values, dtype=self.dtype, device=self.device)
        piece = piece.repeat(min(whole, buffer.numel() + period) // period + 1)
        wrong = 0
        for at in range(0, buffer.numel(), whole):
            part = buffer[at:at + whole]
            differs = part != piece[:part.numel()]
            bad = int(differs.sum().item())
            if bad and not wrong:
                i = int(differs.nonzero()[0].item())
                OUT.say(
                    self.step, "wrong", dtype=self.name, bytes=buffer.numel() * self.item, test=what, index=at + i,
                    got=str(part[i].item()), want=piece[i].item(),
                )
            wrong += bad
        return wrong

    def gather(self, value):
        """One number of every rank, over gloo."""
        mine = self.torch.tensor([float(value)], dtype=self.torch.float64)
        all_of = [self.torch.zeros_like(mine) for _ in range(self.world)]
        self.dist.all_gather(all_of, mine)
        return [x.item() for x in all_of]

    def check(self, buffer):
        wrong = 0
        if self.world <= self.exact:
            buffer.fill_(1)
            wrong += self.compare(self.reduce(buffer), [float(self.world)], "ones")
        self.lay(buffer, self.pattern.own(self.rank))
        wrong += self.compare(self.reduce(buffer), self.pattern.sum(), "pattern")
        return int(sum(self.gather(wrong)))

    def one(self, pool, size):
        count = size // self.item
        HERE.move("%d B %s" % (size, self.name))
        buffer = pool[:count]
        wrong = self.check(buffer)
        self.wrong += wrong
        buffer.zero_()
        self.reduce(buffer)
        self.sync()
        self.dist.barrier()
        since = time.perf_counter()
        for _ in range(self.args.warmup):
            self.reduce(buffer)
        self.sync()
        slowest = max(self.gather((time.perf_counter() - since) / max(1, self.args.warmup)))
        # At most about two seconds a size; every rank gets the same number from the same gathered times.
        iters = max(2, min(self.args.iters, int(2.0 / max(slowest, 1e-7))))
        HERE.move("%d B %s" % (size, self.name))
        self.dist.barrier()
        self.sync()
        since = time.perf_counter()
        for _ in range(iters):
            self.reduce(buffer)
        self.sync()
        times = self.gather((time.perf_counter() - since) / iters)
        seconds = sum(times) / len(times)
        algbw = count * self.item / seconds / 1e9
        busbw = algbw * 2 * (self.world - 1) / self.world
        if self.rank == 0:
            OUT.say(
                self.step, "row", dtype=self.name, bytes=count * self.item, count=count, world=self.world,
                iters=iters, us=round(seconds * 1e6, 3), us_min=round(min(times) * 1e6, 3),
                us_max=round(max(times) * 1e6, 3), slowest=times.index(max(times)),
                algbw=float("%.6g" % algbw), busbw=float("%.6g" % busbw), wrong=wrong,
            )
            OUT.text("%12d  %12d  %9s  %6s  %6d  %35s  %8.2f  %7.2f  %7.2f  %7d" % (
                count * self.item, count, self.name, "sum", -1, "", seconds * 1e6, algbw, busbw, wrong))
        return busbw

    def sweep(self, largest, factor):
        pool = self.torch.empty(max(2, largest // self.item), dtype=self.dtype, device=self.device)
        todo = sizes(8, largest, factor)
        if todo and todo[-1] != largest:
            todo.append(largest)
        if self.rank == 0:
            OUT.text("# %s over %d ranks, %s, in place" % (self.step, self.world, self.name))
            OUT.text("#%11s  %12s  %9s  %6s  %6s  %35s  %8s  %7s  %7s  %7s" % (
                "size", "count", "type", "redop", "root", "", "time", "algbw", "busbw", "#wrong"))
            OUT.text("#%11s  %12s  %9s  %6s  %6s  %35s  %8s  %7s  %7s" % (
                "(B)", "(elements)", "", "", "", "", "(us)", "(GB/s)", "(GB/s)"))
        # The first large call sets up connections and registers buffers.
        HERE.move("first call, %d B %s" % (largest, self.name))
        self.reduce(pool)
        self.sync()
        best = 0.0
        for size in todo:
            best = max(best, self.one(pool, size))
        return best


def gloo(torch, dist, rank, world, control, args):
    with Step("gloo", control) as step:
        HERE.move("process group")
        limit = datetime.timedelta(seconds=LIMITS["gloo"])
        store = dist.TCPStore(args.master_ip, args.master_port, world, rank == 0, limit)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=limit)

        def reduce(buffer):
            dist.all_reduce(buffer)
            return buffer

        bench = Bench("gloo", torch, dist, rank, world, torch.device("cpu"), torch.float32, reduce, lambda: None, args)
        best = bench.sweep(min(args.gloo_bytes, args.max_bytes or args.gloo_bytes), 8)
        step.more = {"busbw": float("%.6g" % best), "wrong": bench.wrong}
    return bench.wrong


def gpus(torch, dist, local, control, args):
    """Facts of the GPU of this rank; None where there is none and none was asked for."""
    with Step("gpus", control, tell=False) as step:
        have = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if have == 0 and not args.need_gpus:
            step.more = {"gpus": 0}
            return None
        if local >= have:
            raise RuntimeError("local rank %d has no GPU: torch sees %d" % (local, have))
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
        what = torch.cuda.get_device_properties(device)
        free, total = torch.cuda.mem_get_info(device)
        step.more = {
            "gpus": have, "name": what.name, "uuid": str(getattr(what, "uuid", "")) or None,
            "free": free, "total": total, "nccl": ".".join(map(str, torch.cuda.nccl.version())),
            "cuda": torch.version.cuda,
        }
        return device


def nccl(torch, dist, rank, world, device, control, args):
    with Step("nccl", control) as step:
        limit = datetime.timedelta(seconds=LIMITS["nccl"] + 60)
        group = dist.new_group(backend="nccl", timeout=limit)
        ones = torch.ones(128, device=device)
        dist.all_reduce(ones, group=group)
        torch.cuda.synchronize(device)
        mean = ones.mean().item()
        step.more = {"library": library("libnccl"), "value": mean}
        if mean != world:
            raise RuntimeError("the sum of ones over %d ranks is %s" % (world, mean))

    def reduce(buffer):
        dist.all_reduce(buffer, group=group)
        return buffer

    def sync():
        torch.cuda.synchronize(device)

    wrong = 0
    with Step("sweep", control) as step:
        free = int(torch.cuda.mem_get_info(device)[0] * 0.3)
        counted = torch.tensor([free], dtype=torch.int64)
        dist.all_reduce(counted, op=dist.ReduceOp.MIN)
        # A power of two, as the sizes before it.
        room = 1 << max(3, int(counted.item()).bit_length() - 1)
        largest = min(args.max_bytes or 1 << 30, room)
        best = {}
        for dtype in (torch.float32, torch.bfloat16):
            bench = Bench("sweep", torch, dist, rank, world, device, dtype, reduce, sync, args)
            best[bench.name] = float("%.6g" % bench.sweep(largest, args.factor))
            wrong += bench.wrong
            torch.cuda.empty_cache()
        step.more = {"largest": largest, "busbw": best, "wrong": wrong}
    return wrong


# -- pairs of pods: which one is slow, or which link between two


SLOW = 0.6  # of the reference; below it a pair is suspected
PAIR_BYTES = {"gloo": 1 << 20, "nccl": 64 << 20}


def rounds(n):
    """Every pair of n pods once, in rounds of pairs that share no pod (the circle method)."""
    ring = list(range(n)) + ([None] if n % 2 else [])
    out = []
    for _ in range(len(ring) - 1):
        half = len(ring) // 2
        pairs = zip(ring[:half], reversed(ring[half:]))
        out.append(sorted(tuple(sorted(p)) for p in pairs if None not in p))
        ring = [ring[0], ring[-1]] + ring[1:-1]
    return out


def suspects(rates, n):
    """What is measured again, one pair at a time: the slow pairs, and a good one to compare them with."""
    if n < 3:
        return []
    order = sorted(rates, key=lambda pair: (-rates[pair], pair))
    # The median of the pairs that stay good when any one pod is bad.
    reference = order[((n - 1) * (n - 2) // 2 - 1) // 2]
    slow = [pair for pair in sorted(rates) if rates[pair] < SLOW * rates[reference]]
    return slow + [reference] if slow else []


def pairs(torch, dist, rank, world, device, backend, control, args):
    """All-reduce over every two pods: first all pairs, as many at a time as share no pod; then the suspects alone."""
    pods, mine = args.nodes, rank // args.nproc
    if pods < 2:
        if rank == 0:
            OUT.say("pairs", "skip", why="one pod has no pair")
        return 0
    wrong = 0
    with Step("pairs", control) as step:
        members = lambda pod: list(range(pod * args.nproc, (pod + 1) * args.nproc))
        limit = datetime.timedelta(seconds=LIMITS["pairs"] + 60)
        groups = {}
        # Every rank makes every group, in the same order.
        for a, b in sorted(p for some in rounds(pods) for p in some):
            HERE.move("group of pods %d and %d" % (a, b))
            groups[a, b] = dist.new_group(members(a) + members(b), backend=backend, timeout=limit)
        size = min(PAIR_BYTES[backend], args.max_bytes or PAIR_BYTES[backend])
        buffer = torch.empty(max(2, size // 4), dtype=torch.float32, device=device)
        ranks = 2 * args.nproc

        def once(pair):
            """Seconds of one call, and wrong elements of the first."""
            HERE.move("pods %d and %d" % pair)
            group = groups[pair]
            sync = (lambda: torch.cuda.synchronize(device)) if backend == "nccl" else (lambda: None)
            buffer.fill_(1)
            dist.all_reduce(buffer, group=group)
            sync()
            bad = int((buffer != ranks).sum().item())
            buffer.zero_()
            dist.all_reduce(buffer, group=group)
            sync()
            times = []
            for _ in range(PAIR_ITERS):
                since = time.perf_counter()
                dist.all_reduce(buffer, group=group)
                sync()
                times.append(time.perf_counter() - since)
            # What others do on the same CPUs slows some calls; a bad link slows all.
            return sorted(times)[PAIR_ITERS // 4], bad

        def measure(some, turn):
            """The rates of pairs that share no pod, known to every rank."""
            told = torch.zeros(pods, pods, dtype=torch.float64)
            bad = torch.zeros(pods, pods, dtype=torch.int64)
            dist.barrier()
            for a, b in some:
                if mine in (a, b):
                    seconds, errors = once((a, b))
                    if rank == a * args.nproc:
                        told[a, b] = size / seconds / 1e9 * 2 * (ranks - 1) / ranks
                    bad[a, b] += errors
            dist.all_reduce(told)
            dist.all_reduce(bad)
            rates = {(a, b): told[a, b].item() for a, b in some}
            if rank == 0:
                for a, b in some:
                    OUT.say(
                        "pairs", "pair", turn=turn, a=a, b=b, by=backend, bytes=size,
                        busbw=float("%.6g" % rates[a, b]), wrong=int(bad[a, b].item()),
                    )
            return rates, int(bad.sum().item())

        rates = {}
        for some in rounds(pods):
            found, bad = measure(some, 1)
            rates.update(found)
            wrong += bad
        for pair in suspects(rates, pods):
            wrong += measure([pair], 2)[1]
        step.more = {"wrong": wrong}
    return wrong


def vllm_communicator():
    """The class, or None and why it can't be loaded: the image's business, and no word about NCCL."""
    try:
        from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator
    except Exception as error:
        return None, "vLLM's communicator can't be loaded: " + brief(error)
    return PyNcclCommunicator, None


def vllm_paths(torch, dist, rank, world, device, control, args):
    """vLLM's own communicator, and the same inside a CUDA graph: what the workload really calls."""
    why = None
    if world < 2:
        why = "one rank needs no communicator"
    elif importlib.util.find_spec("vllm") is None:
        why = "vllm is not installed here"
    if why:
        if rank == 0:
            OUT.say("pynccl", "skip", why=why)
            OUT.say("graph", "skip", why=why)
        return 0
    wrong = 0
    with Step("pynccl", control) as step:
        kind, why = vllm_communicator()
        # Whoever can't load it says why; without one rank the others would wait for it.
        can = torch.tensor([0 if why else 1], dtype=torch.int64)
        dist.all_reduce(can, op=dist.ReduceOp.MIN)
        if not can.item():
            step.skipped = why or "another rank can't load vLLM's communicator"
        else:
            communicator = kind(group=dist.group.WORLD, device=device)
            communicator.disabled = False
            stream = torch.cuda.Stream(device)

            def reduce(buffer):
                with torch.cuda.stream(stream):
                    stream.wait_stream(torch.cuda.default_stream(device))
                    result = communicator.all_reduce(buffer, stream=stream)
                stream.synchronize()
                # Old versions work in place and answer nothing.
                return buffer if result is None else result

            bench = Bench("pynccl", torch, dist, rank, world, device, torch.bfloat16, reduce, lambda: torch.cuda.synchronize(device), args)
            largest = min(16 << 20, args.max_bytes or 16 << 20)
            best = bench.sweep(largest, 16)
            wrong += bench.wrong
            step.more = {"library": library("libnccl"), "busbw": float("%.6g" % best), "wrong": bench.wrong}
    if step.skipped:
        if rank == 0:
            OUT.say("graph", "skip", why=step.skipped)
        return 0
    with Step("graph", control) as step:
        data = torch.ones(1 << 16, dtype=torch.bfloat16, device=device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(stream):
            communicator.all_reduce(data, stream=stream)
            stream.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            result = communicator.all_reduce(data, stream=torch.cuda.current_stream())
        result = data if result is None else result
        bad = 0
        for _ in range(10):
            data.fill_(1)
            torch.cuda.synchronize(device)
            graph.replay()
            torch.cuda.synchronize(device)
            bad += int((result != min(world, 256)).sum().item()) if world <= 256 else 0
            HERE.move("replay")
        step.more = {"replays": 10, "wrong": bad}
        wrong += bad
    return wrong


def work(args, local):
    rank = args.node_rank * args.nproc + local
    world = args.nodes * args.nproc
    OUT.rank = rank
    control = Control(rank, world, OUT.run)
    threading.Thread(target=watchdog, args=(control,), daemon=True).start()
    try:
        with Step("env", control) as step:
            step.more = environment()
            step.more["world"] = world
        with Step("dns", control, args.dns_timeout + 10) as step:
            found = resolve(args.master_addr, args.dns_timeout)
            args.master_ip = found[0]
            step.more = {"name": args.master_addr, "addresses": found[:8]}
        with Step("rendezvous", control, 60):
            control.join(args.master_addr, args.master_port + 1, args.rendezvous_timeout)
        with Step("import", control) as step:
            import torch
            import torch.distributed as dist

            step.more = {"torch": torch.__version__, "cuda": torch.version.cuda}
        device, no_gpu = None, None
        try:
            device = gpus(torch, dist, local, control, args)
        except Failed as failed:
            # gloo's result stands on its own; the others are told after it.
            no_gpu = failed
        wrong = gloo(torch, dist, rank, world, control, args)
        if no_gpu is not None:
            control.tell({"fail": "gpus", "error": "no GPU for this rank"})
            raise no_gpu
        over_gpus = device is not None and not args.gloo_only
        if over_gpus:
            wrong += nccl(torch, dist, rank, world, device, control, args)
        if args.pairs:
            backend = "nccl" if over_gpus else "gloo"
            wrong += pairs(torch, dist, rank, world, device if over_gpus else torch.device("cpu"), backend, control, args)
        if over_gpus:
            wrong += vllm_paths(torch, dist, rank, world, device, control, args)
        elif rank == 0:
            OUT.say("nccl", "skip", why="gloo alone was asked for" if args.gloo_only else "no GPU here")
        with Step("end", control) as step:
            dist.barrier()
            step.more = {"wrong": wrong}
        if rank == 0:
            OUT.text("# Out of bounds values : %d %s" % (wrong, "FAILED" if wrong else "OK"))
        HERE.end()
        control.leave()
        return WRONG if wrong else 0
    except Failed as failed:
        time.sleep(GRACE)
        return failed.code


# -- the pod: one process per GPU


def launch(args):
    children = {}

    def stop(*_):
        for child in children.values():
            child.kill()
        os._exit(143)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for local in range(args.nproc):
        env = dict(os.environ, NCCLSCOPE_LOCAL_RANK=str(local), NCCLSCOPE_PARENT=str(os.getpid()))
        children[local] = subprocess.Popen([sys.executable, "-u", os.path.abspath(__file__)] + sys.argv[1:], env=env)
    code, since = 0, None
    left = dict(children)
    while left:
        time.sleep(0.05)
        for local, child in list(left.items()):
            ended = child.poll()
            if ended is None:
                continue
            del left[local]
            if ended == 0:
                continue
            rank = args.node_rank * args.nproc + local
            if ended < 0:
                OUT.rank = rank
                name = signal.Signals(-ended).name if -ended in set(signal.Signals) else str(-ended)
                OUT.say("process", "fail", error="killed by %s" % name, signal=-ended)
                ended = DIED
            # A rank that ended for another's sake does not hide why.
            if code in (0, PEER):
                code = ended
            since = since or time.monotonic()
        if since is not None and time.monotonic() - since > 20:
            for child in left.values():
                child.kill()
    return code


def arguments():
    env = os.environ.get
    parser = argparse.ArgumentParser(description="All-reduce over every GPU of a job, with torch alone.")
    parser.add_argument("--nodes", type=int, default=int(env("NCCLSCOPE_NODES", "1")), help="pods")
    parser.add_argument("--node-rank", type=int, default=int(env("JOB_COMPLETION_INDEX", "0")), help="number of this pod")
    parser.add_argument("--nproc", type=int, default=int(env("NCCLSCOPE_NPROC", "0")), help="processes a pod; 0: one per GPU")
    parser.add_argument("--master-addr", default=env("MASTER_ADDR", "127.0.0.1"), help="name of pod 0")
    parser.add_argument("--master-port", type=int, default=int(env("MASTER_PORT", "29500")), help="this port and the next are used")
    parser.add_argument("--max-bytes", type=int, default=int(env("NCCLSCOPE_MAX_BYTES", "0")), help="0: 1 GiB or 30 %% of free memory")
    parser.add_argument("--gloo-bytes", type=int, default=16 << 20, help="largest size over gloo")
    parser.add_argument("--factor", type=int, default=2, help="from size to size")
    parser.add_argument("--iters", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--need-gpus", action="store_true", default=env("NCCLSCOPE_NEED_GPUS") == "1", help="no GPU is a failure")
    parser.add_argument("--pairs", action="store_true", default=env("NCCLSCOPE_PAIRS") == "1", help="every two pods, too")
    parser.add_argument("--gloo-only", action="store_true")
    parser.add_argument("--dns-timeout", type=int, default=120)
    parser.add_argument("--rendezvous-timeout", type=int, default=600)
    args = parser.parse_args()
    args.nproc = args.nproc or len(glob.glob("/dev/nvidia[0-9]*")) or 1
    if args.factor < 2 or args.nodes < 1 or args.iters < 1 or not 0 <= args.node_rank < args.nodes:
        parser.error("sizes, counts and ranks must make sense")
    return args


def main():
    args = arguments()
    local = os.environ.get("NCCLSCOPE_LOCAL_RANK")
    if local is None:
        return launch(args)
    # A process must not outlive the one that started it.
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    except (OSError, AttributeError):
        pass
    if os.getppid() != int(os.environ.get("NCCLSCOPE_PARENT", os.getppid())):
        return DIED
    faulthandler.enable()
    return work(args, int(local))


if __name__ == "__main__":
    CODE = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Destructors of communicators may wait for others that are gone.
    os._exit(CODE)
