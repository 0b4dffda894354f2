//! Lines that come by the million cost no allocation, neither to read nor to fold: counted by the allocator.
#![expect(unsafe_code, reason = "an allocator is unsafe; this one only counts")]
#![expect(
    clippy::unwrap_used,
    reason = "the block is shared with nobody else between two rounds"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use ncclscope::model::event::{Event, LogBlock, SourceEvent, SourceId, SourceInfo, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::parse::{Block, Parser};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

impl Counting {
    fn count() {
        // A thread that ends has no counter any more.
        let _ = COUNT.try_with(|n| n.set(n.get() + 1));
    }
}

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations this thread made meanwhile.
fn allocations<T>(what: impl FnOnce() -> T) -> (u64, T) {
    let before = COUNT.get();
    let done = what();
    (COUNT.get() - before, done)
}

/// Line number `n` of a kind, behind the kubelet's stamp.
type Kind = (&'static str, fn(u64) -> String);

const KINDS: &[Kind] = &[
    ("connections", |n| {
        let (rank, channel) = (n % 8, n % 16);
        let next = (rank + 1) % 8;
        format!(
            "llm-0:21{rank}:421{rank} [{rank}] NCCL INFO Channel {channel:02}/0 : {rank}[{rank}] -> {next}[{next}] via P2P/CUMEM/read"
        )
    }),
    // The same ranks as above: several connections of one rank between two calls.
    ("connections over the network", |n| {
        let (rank, channel) = (n % 8, n % 16);
        format!(
            "llm-0:21{rank}:421{rank} [{rank}] NCCL INFO Channel {channel:02}/0 : {rank}[{rank}] -> 9[1] [send] via NET/IB/{}/GDRDMA",
            rank % 2
        )
    }),
    ("collective calls", |n| {
        let rank = n % 8;
        let op = ["AllReduce", "AllGather", "ReduceScatter"][(n % 3) as usize];
        format!(
            "llm-0:21{rank}:421{rank} [{rank}] NCCL INFO {op}: opCount {n:x} sendbuff 0x7f3a2c{n:06x} recvbuff 0x7f3a2c{n:06x} count {} datatype 9 op 0 root 0 comm 0x55d0b{rank}00 [nranks=8] stream 0x55cf1e20",
            4096 << (n % 11)
        )
    }),
    ("statistics", |n| {
        format!(
            "(APIServer pid=1) INFO 02-03 03:04:{:02} [loggers.py:127] Engine 000: Avg prompt throughput: {}.5 tokens/s, Avg generation throughput: {}.2 tokens/s, Running: {} reqs, Waiting: 0 reqs, GPU KV cache usage: {}.1%, Prefix cache hit rate: 12.0%",
            n % 60,
            n % 1000,
            n % 1000 * 3,
            n % 64,
            n % 90
        )
    }),
    ("progress", |n| {
        format!(
            "(Worker_TP{} pid=21{}) Loading safetensors checkpoint shards:  {}% Completed | {}/59 [00:{:02}<01:30,  1.71s/it]",
            n % 8,
            n % 8,
            n % 100,
            n % 59,
            n % 60
        )
    }),
    ("loads", |n| {
        format!(
            "(Worker_TP{} pid=21{}) INFO 02-03 03:04:{:02} [gpu_model_runner.py:3338] Model loading took 17.04 GiB memory and {}.402188 seconds",
            n % 8,
            n % 8,
            n % 60,
            n % 1000
        )
    }),
    ("steps", |n| {
        format!(
            "(Worker_TP{} pid=21{}) DEBUG 02-03 03:04:{:02} [v1/worker/gpu_worker.py:301] executing model step {} with {} tokens",
            n % 8,
            n % 8,
            n % 60,
            n % 1000,
            n % 1000 * 16
        )
    }),
    ("access logs", |n| {
        format!(
            "(APIServer pid=1) INFO:     10.42.0.{}:{} - \"POST /v1/chat/completions HTTP/1.1\" 200 OK",
            n % 250,
            40000 + n % 1000
        )
    }),
    ("words", |n| {
        format!("INFO:     Application is healthy, {} sessions open", n % 64)
    }),
];

fn text(lines: u64, line: impl Fn(u64) -> String) -> Vec<u8> {
    let mut text = String::new();
    for n in 0..lines {
        text.push_str(&format!(
            "2026-02-03T03:04:{:02}.{:09}Z {}\n",
            n / 500 % 60,
            n % 500,
            line(n)
        ));
    }
    text.into_bytes()
}

/// Allocations that reading and folding a text cost, after others like it.
fn cost(few: Vec<u8>, many: Vec<u8>) -> [(u64, u64); 2] {
    let mut model = Model::default();
    let mut tell = |event| {
        drop(update(
            &mut model,
            Stamped {
                seq: 1,
                at: 0,
                event,
            },
        ))
    };
    let source = SourceId(0);
    let info = SourceInfo {
        name: "log".into(),
        container: None,
        previous: false,
        started: None,
    };
    tell(Event::Source(SourceEvent::Opened(source, info)));
    let mut parser = Parser::default();
    let mut block = Arc::new(Block::default());
    let mut costs = [(0, 0); 2];
    // The first rounds learn, each set of connections between two calls among it; blocks keep the memory that the
    // longest of them needed.
    let rounds = [&many, &few, &many, &few, &many];
    for (round, text) in rounds.into_iter().enumerate() {
        let inner = Arc::get_mut(&mut block).unwrap();
        inner.text.clear();
        inner.text.extend_from_slice(text);
        let (read, ()) = allocations(|| parser.parse(inner));
        let event = Event::Log(LogBlock {
            source,
            block: Arc::clone(&block),
        });
        let (folded, ()) = allocations(|| tell(event));
        if let Some(cost) = round.checked_sub(3).and_then(|n| costs.get_mut(n)) {
            *cost = (read, folded);
        }
    }
    costs
}

#[test]
fn no_line_that_comes_by_the_million_allocates() {
    for (kind, line) in KINDS {
        let [few, many] = cost(text(1_000, line), text(10_000, line));
        assert_eq!(few, many, "{kind}: to read, to fold");
    }
    let calls = KINDS.iter().find(|(kind, _)| *kind == "collective calls");
    let calls = calls.unwrap().1;
    // What is open at the end of a block gets its text there: every rank ends with a call.
    let any = |lines: u64| {
        let line = move |n: u64| {
            let at = (n / 7 + n) % KINDS.len() as u64;
            let line = KINDS[at as usize].1;
            if n + 8 < lines { line(n) } else { calls(n) }
        };
        text(lines, line)
    };
    let [few, many] = cost(any(9_000), any(90_000));
    assert_eq!(few, many, "all of them in turn: to read, to fold");
}
