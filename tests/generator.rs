//! A log of a distributed vLLM job of any size, the same bytes every time.
//!
//! 64 processes in 8 pods; after the start of each, lines in the mix that the speed budget names: 25 %
//! channel lines, 35 % collective calls, 30 % vLLM, 10 % other, each behind a kubelet stamp. Composed from
//! the grammar of NCCL 2.27 and vLLM 0.11.

use std::io::{self, Read, Write};

/// Processes in the log.
pub const PROCESSES: u64 = 64;
/// Ranks per pod.
const PER_POD: u64 = 8;
/// Channels per pair.
const CHANNELS: u64 = 16;

/// Writes lines one after the other.
#[derive(Debug)]
pub struct Generator {
    state: u64,
    line: u64,
    start: u64,
}

impl Default for Generator {
    fn default() -> Self {
        Self {
            state: 0x9e37_79b9_7f4a_7c15,
            line: 0,
            start: 0,
        }
    }
}

impl Generator {
    /// Xorshift: good enough to mix lines, and the same everywhere.
    fn roll(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % below
    }

    /// Appends the next line.
    pub fn line(&mut self, out: &mut Vec<u8>) {
        let n = self.line;
        self.line += 1;
        let (second, nano) = (n / 50_000, (n % 50_000) * 20_000 + 137);
        let (hour, minute) = (3 + second / 3600, second / 60 % 60);
        let _ = write!(
            out,
            "2026-02-03T{:02}:{minute:02}:{:02}.{nano:09}Z ",
            hour % 24,
            second % 60
        );
        if self.start < PROCESSES * STEPS {
            let (step, rank) = (self.start / PROCESSES, self.start % PROCESSES);
            self.start += 1;
            let _ = self.beginning(step, rank, out);
        } else {
            let rank = self.roll(PROCESSES);
            let _ = match self.roll(100) {
                0..25 => self.channel(rank, out),
                25..60 => self.collective(rank, out),
                60..90 => self.vllm(rank, out),
                _ => self.other(rank, out),
            };
        }
        out.push(b'\n');
    }

    fn beginning(&mut self, step: u64, rank: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let (pod, dev) = (rank / PER_POD, rank % PER_POD);
        if step == 0 {
            return write!(
                out,
                "(Worker_TP{dev} pid={}) INFO 02-03 03:00:00 [parallel_state.py:1208] rank {rank} in world size {PROCESSES} is assigned as DP rank 0, PP rank {pod}, TP rank {dev}, EP rank {dev}",
                211 + dev
            );
        }
        head(out, rank)?;
        match step {
            1 => write!(out, "NCCL version 2.27.7+cuda12.8"),
            2 => write!(out, "Bootstrap: Using eth0:10.42.{pod}.17<0>"),
            3 => write!(
                out,
                "NET/IB : Using [0]mlx5_0:1/RoCE [1]mlx5_1:1/RoCE [RO]; OOB eth0:10.42.{pod}.17<0>"
            ),
            4 => write!(out, "Using network IB"),
            5 | 7 => {
                let what = if step == 5 { "START" } else { "COMPLETE" };
                write!(
                    out,
                    "ncclCommInitRank comm 0x55d0a{dev}00 rank {rank} nranks {PROCESSES} cudaDev {dev} nvmlDev {dev} busId {}b000 commId 0xc0ffee123456789a - Init {what}",
                    dev + 1
                )
            }
            6 => {
                write!(
                    out,
                    "Trees [0] {}/-1/-1->{rank}->{} [1] {}/-1/-1->{rank}->{}",
                    (rank + 1) % PROCESSES,
                    rank as i64 - 1,
                    (rank + 1) % PROCESSES,
                    rank as i64 - 1
                )
            }
            _ => {
                let what = if step == 8 { "START" } else { "COMPLETE" };
                write!(
                    out,
                    "ncclCommInitRank comm 0x55d0b{dev}00 rank {dev} nranks {PER_POD} cudaDev {dev} nvmlDev {dev} busId {}b000 commId 0xbeef00000000000{pod:x} - Init {what}",
                    dev + 1
                )
            }
        }
    }

    fn channel(&mut self, rank: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let channel = self.roll(CHANNELS);
        let next = (rank + 1) % PROCESSES;
        head(out, rank)?;
        if next / PER_POD == rank / PER_POD {
            write!(
                out,
                "Channel {channel:02}/0 : {rank}[{}] -> {next}[{}] via P2P/CUMEM/read",
                rank % PER_POD,
                next % PER_POD
            )
        } else {
            write!(
                out,
                "Channel {channel:02}/0 : {rank}[{}] -> {next}[{}] [send] via NET/IB/{}/GDRDMA",
                rank % PER_POD,
                next % PER_POD,
                channel % 2
            )
        }
    }

    fn collective(&mut self, rank: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let (count, op, buffer) = (self.line / 64, self.roll(3), self.roll(1 << 20));
        let op = ["AllReduce", "AllGather", "ReduceScatter"]
            .get(op as usize)
            .unwrap_or(&"AllReduce");
        head(out, rank)?;
        write!(
            out,
            "{op}: opCount {count:x} sendbuff 0x7f3a2c{buffer:06x} recvbuff 0x7f3a2c{buffer:06x} count {} datatype 9 op 0 root 0 comm 0x55d0b{}00 [nranks={PER_POD}] stream 0x55cf1e20",
            4096 << (buffer % 11),
            rank % PER_POD
        )
    }

    fn vllm(&mut self, rank: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let (dev, value) = (rank % PER_POD, self.roll(1000));
        let pid = 211 + dev;
        let clock = format_args!(
            "{:02}:{:02}:{:02}",
            3 + value % 9,
            value % 60,
            (value * 7) % 60
        )
        .to_string();
        match self.roll(8) {
            0 => write!(
                out,
                "(Worker_TP{dev} pid={pid}) Loading safetensors checkpoint shards:  {}% Completed | {}/59 [00:{:02}<01:30,  1.71s/it]",
                value % 100,
                value % 59,
                value % 60
            ),
            1 => write!(
                out,
                "(EngineCore_DP0 pid=199) DEBUG 02-03 {clock} [core.py:601] EngineCore loop active, {value} requests waiting"
            ),
            2 | 3 => write!(
                out,
                "(APIServer pid=1) INFO:     10.42.0.{}:{} - \"POST /v1/chat/completions HTTP/1.1\" 200 OK",
                value % 250,
                40000 + value
            ),
            4 => write!(
                out,
                "(APIServer pid=1) INFO 02-03 {clock} [loggers.py:127] Engine 000: Avg prompt throughput: {value}.5 tokens/s, Avg generation throughput: {}.2 tokens/s, Running: {} reqs, Waiting: 0 reqs, GPU KV cache usage: {}.1%, Prefix cache hit rate: 12.0%",
                value * 3,
                value % 64,
                value % 90
            ),
            5 => write!(
                out,
                "(Worker_TP{dev} pid={pid}) INFO 02-03 {clock} [gpu_model_runner.py:3338] Model loading took 17.04 GiB memory and {value}.402188 seconds"
            ),
            _ => write!(
                out,
                "(Worker_TP{dev} pid={pid}) DEBUG 02-03 {clock} [v1/worker/gpu_worker.py:301] executing model step {value} with {} tokens",
                value * 16
            ),
        }
    }

    fn other(&mut self, rank: u64, out: &mut Vec<u8>) -> io::Result<()> {
        match self.roll(4) {
            0 => write!(
                out,
                "/usr/lib/python3.12/multiprocessing/resource_tracker.py:{rank}: UserWarning: something leaked"
            ),
            1 => write!(
                out,
                "INFO:     Application is healthy, {rank} sessions open"
            ),
            2 => {
                head(out, rank)?;
                write!(
                    out,
                    "NVLS multicast support is available on dev {}",
                    rank % PER_POD
                )
            }
            _ => {
                head(out, rank)?;
                write!(out, "Connected all rings, use ring PXN 0 GDR 1")
            }
        }
    }
}

/// Lines that each process prints first.
const STEPS: u64 = 10;

fn head(out: &mut Vec<u8>, rank: u64) -> io::Result<()> {
    let (pod, dev) = (rank / PER_POD, rank % PER_POD);
    write!(
        out,
        "llm-{pod}:{}:{} [{dev}] NCCL INFO ",
        211 + dev,
        4211 + dev
    )
}

/// So many bytes of whole lines, as a stream.
#[derive(Debug)]
pub struct Stream {
    generator: Generator,
    left: u64,
    chunk: Vec<u8>,
    at: usize,
}

impl Stream {
    /// At least `bytes`, up to the end of a line.
    pub fn new(bytes: u64) -> Self {
        Self {
            generator: Generator::default(),
            left: bytes,
            chunk: Vec::new(),
            at: 0,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            self.chunk.clear();
            self.at = 0;
            while self.chunk.len() < 1 << 18 && self.left > 0 {
                let before = self.chunk.len();
                self.generator.line(&mut self.chunk);
                self.left = self.left.saturating_sub((self.chunk.len() - before) as u64);
            }
        }
        let mut rest = self.chunk.get(self.at..).unwrap_or_default();
        let read = rest.read(buf)?;
        self.at += read;
        Ok(read)
    }
}
