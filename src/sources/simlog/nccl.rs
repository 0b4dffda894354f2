//! NCCL's lines, worded as the version of each process words them (`src/init.cc`, `src/bootstrap.cc`,
//! `src/transport/*.cc` of the tags).

use std::fmt::Write as _;

use crate::parse::Nanos;
use crate::sources::sim::plan::{Comm, Member, Plan, Pod, Rank};
use crate::sources::sim::scenario::{Phase, Rdma, Scenario};
use crate::sources::sim::version::Version;

use super::topo::{Side, Topo};
use super::{Pen, vllm};

const MS: Nanos = 1_000_000;

/// Variables that NCCL echoes as text, without a dot behind them.
const TEXT: &[&str] = &[
    "NCCL_SOCKET_IFNAME",
    "NCCL_SOCKET_FAMILY",
    "NCCL_ALGO",
    "NCCL_PROTO",
    "NCCL_TOPO_FILE",
    "NCCL_HOSTID",
    "NCCL_NET_PLUGIN",
    "NCCL_NET",
    "NCCL_IB_HCA",
    "NCCL_P2P_LEVEL",
    "NCCL_NET_GDR_LEVEL",
    "NCCL_P2P_DISABLE",
];

/// Variables that are never echoed.
const SILENT: &[&str] = &["NCCL_DEBUG", "NCCL_DEBUG_SUBSYS", "NCCL_DEBUG_FILE"];

/// Writes every communicator's life into the containers of its members.
pub fn write(s: &Scenario, plan: &Plan, pens: &mut [Pen]) {
    let mut threads: Vec<u64> = plan
        .ranks
        .iter()
        .map(|r| 1000 + 150 * r.local as u64 + r.pid % 97)
        .collect();
    let mut begun = vec![false; plan.ranks.len()];
    for comm in &plan.comms {
        if comm.kind == "tp" {
            calls(plan, comm, pens);
        }
        let topo = Topo::new(s, plan, comm);
        let through = comm.members.iter().filter_map(|m| m.start).max();
        for (i, member) in comm.members.iter().enumerate() {
            let Some((rank, pod)) = topo.at.get(i).copied() else {
                continue;
            };
            let (Some(start), Some(pen), Some(thread), Some(begun)) = (
                member.start,
                pens.get_mut(rank.pod),
                threads.get_mut(rank.global),
                begun.get_mut(rank.global),
            ) else {
                continue;
            };
            if !pod.debug {
                continue;
            }
            // vLLM's own call runs in the calling thread; torch's gets one of its own up to 2.27.7.
            let tid = if comm.func == "ncclCommInitRank" || pod.nccl >= Version(2, 28, 3) {
                rank.pid
            } else {
                fresh(thread)
            };
            let mut v = Voice {
                pen,
                plan,
                rank,
                pod,
                tid,
                at: start - 30 * MS,
            };
            if !std::mem::replace(begun, true) {
                v.process(s, i == 0);
            }
            v.network(s);
            v.at = v.at.max(start);
            let life = Life {
                comm,
                topo: &topo,
                member,
                i,
                through: through.filter(|_| comm.whole),
            };
            v.init(s, &life, thread);
        }
    }
}

/// Calls of the tensor-parallel group while requests are served, where `COLL` is among the subsystems: a prefill
/// twice a second. Replayed graphs print nothing.
fn calls(plan: &Plan, comm: &Comm, pens: &mut [Pen]) {
    let Some(serving) = plan.begins(Phase::Serving) else {
        return;
    };
    let n = comm.members.len();
    for (member, rank) in comm
        .members
        .iter()
        .filter_map(|m| Some((m, plan.ranks.get(m.global)?)))
    {
        let (Some(pod), Some(pen)) = (plan.pods.get(rank.pod), pens.get_mut(rank.pod)) else {
            continue;
        };
        let asked = |s: &str| {
            s.split(',')
                .any(|s| s.eq_ignore_ascii_case("COLL") || s.eq_ignore_ascii_case("ALL"))
        };
        if !pod.debug || !pod.env.get("NCCL_DEBUG_SUBSYS").is_some_and(|s| asked(s)) {
            continue;
        }
        let (mut at, mut call) = (serving + 4_000 * MS, 0x40u64);
        while at < plan.end {
            let own = at + Nanos::try_from(rank.local).unwrap_or(0) * MS;
            if pod.rotated.is_none_or(|t| own >= t) && plan.speaks(rank.global, own) {
                let text = format!(
                    "AllReduce: opCount {call:x} sendbuff 0x7f3a2c000000 recvbuff 0x7f3a2c000000 count {} datatype 9 op 0 root 0 comm 0x{:x} [nranks={n}] stream 0x55cf1e20",
                    4096 * (1 + call % 512),
                    member.pointer
                );
                pen.line(own, info(plan, rank, rank.pid, &text));
            }
            at += 500 * MS;
            call += 1;
        }
    }
}

fn fresh(thread: &mut u64) -> u64 {
    *thread += 3;
    *thread
}

/// One member's view of a communicator.
struct Life<'a> {
    comm: &'a Comm,
    topo: &'a Topo<'a>,
    member: &'a Member,
    i: usize,
    /// Moment at which the last member came.
    through: Option<Nanos>,
}

/// A process that speaks: each line takes a little time.
struct Voice<'a> {
    pen: &'a mut Pen,
    plan: &'a Plan,
    rank: &'a Rank,
    pod: &'a Pod,
    tid: u64,
    at: Nanos,
}

/// `host:pid:tid [dev] NCCL INFO …` of one rank.
#[must_use]
pub fn info(plan: &Plan, rank: &Rank, tid: u64, text: &str) -> String {
    let host = plan.pods.get(rank.pod).map_or("", |p| p.name.as_str());
    format!(
        "{host}:{}:{tid} [{}] NCCL INFO {text}",
        rank.pid, rank.local
    )
}

/// A WARN: an empty line, then the line with stamp, file and message. `text` is `file.cc:line message`.
#[must_use]
pub fn warn(plan: &Plan, rank: &Rank, tid: u64, at: Nanos, text: &str) -> Vec<String> {
    let Some(pod) = plan.pods.get(rank.pod) else {
        return Vec::new();
    };
    let (file, message) = text.split_once(' ').unwrap_or(("<unknown>:0", text));
    let stamp = if pod.nccl >= Version(2, 26, 2) {
        format!("[{}] ", vllm::strftime(at, "%Y-%m-%d %H:%M:%S"))
    } else {
        String::new()
    };
    let func = if pod.nccl >= Version(2, 30, 7) && !message.starts_with('(') {
        "(ncclFunc) "
    } else {
        ""
    };
    vec![
        String::new(),
        format!(
            "{stamp}{}:{}:{tid} [{}] {file} {func}NCCL WARN {message}",
            pod.name, rank.pid, rank.local
        ),
    ]
}

impl Voice<'_> {
    fn say(&mut self, text: &str) {
        self.say_as(self.tid, text);
    }

    fn say_as(&mut self, tid: u64, text: &str) {
        self.at += 40_000;
        if self.plan.speaks(self.rank.global, self.at) {
            self.pen
                .line(self.at, info(self.plan, self.rank, tid, text));
        }
    }

    fn is(&self, major: u32, minor: u32, patch: u32) -> bool {
        self.pod.nccl >= Version(major, minor, patch)
    }

    fn echo(&mut self, name: &str) {
        let Some(value) = self.pod.env.get(name) else {
            return;
        };
        let dot = if TEXT.contains(&name) { "" } else { "." };
        self.say(&format!("{name} set by environment to {value}{dot}"));
    }

    /// What a process prints once, before its first communicator.
    fn process(&mut self, s: &Scenario, zero: bool) {
        self.echo("NCCL_SOCKET_IFNAME");
        let eth = self.interface();
        let ip = &self.pod.ip;
        let colon = if self.is(2, 24, 3) { ":" } else { " :" };
        self.say(&format!("Bootstrap{colon} Using {eth}:{ip}<0>"));
        self.say("cudaDriverVersion 12080");
        let version = format!("NCCL version {}+cuda{}", self.pod.nccl, s.versions.cuda);
        if self.is(2, 22, 3) {
            self.say(&version);
        } else if zero {
            self.at += 40_000;
            self.pen.line(self.at, version);
        }
        if self.is(2, 29, 2) {
            self.say("NCCL git version stable 3ea7eed");
        }
        self.say(match () {
            () if self.is(2, 28, 3) => "NET/Plugin: Could not find: libnccl-net.so",
            () if self.is(2, 27, 3) => "NET/Plugin: Could not find: libnccl-net.so. ",
            () if self.is(2, 26, 2) => {
                "NET/Plugin: Could not find: libnccl-net.so. Using internal net plugin."
            }
            () if self.is(2, 22, 3) => {
                "NET/Plugin: Could not find: libnccl-net.so. Using internal network plugin."
            }
            () if self.is(2, 21, 5) => "NET/Plugin: Using internal network plugin.",
            () => "NET/Plugin : No plugin found, using internal implementation",
        });
        let own: Vec<String> = self
            .pod
            .env
            .keys()
            .filter(|k| {
                k.starts_with("NCCL_")
                    && !SILENT.contains(&k.as_str())
                    && *k != "NCCL_SOCKET_IFNAME"
            })
            .filter(|k| *k != "NCCL_P2P_DISABLE" || self.is(2, 23, 4))
            .cloned()
            .collect();
        for name in own {
            self.echo(&name);
        }
        self.devices(s, &eth);
    }

    fn interface(&self) -> String {
        let named = self
            .pod
            .env
            .get("NCCL_SOCKET_IFNAME")
            .map(|n| n.trim_start_matches('=').to_owned());
        named
            .filter(|n| !n.starts_with('^'))
            .unwrap_or_else(|| "eth0".into())
    }

    fn devices(&mut self, s: &Scenario, eth: &str) {
        let ip = &self.pod.ip;
        let disabled = self
            .pod
            .env
            .get("NCCL_IB_DISABLE")
            .is_some_and(|v| v == "1");
        if self.pod.rdma == Rdma::None {
            if !disabled {
                self.say("NET/IB : No device found.");
            }
        } else {
            let link = if self.pod.rdma == Rdma::Ib {
                "IB"
            } else {
                "RoCE"
            };
            let mut list = String::new();
            for n in 0..s.nodes.nics {
                let _ = write!(list, "[{n}]mlx5_{n}:1/{link} ");
            }
            self.say(&format!("NET/IB : Using {list}[RO]; OOB {eth}:{ip}<0>"));
            if self.is(2, 27, 3) && self.pod.network == "IB" {
                self.say("Initialized NET plugin IB");
            }
        }
        if self.pod.network == "Socket" {
            self.say(&format!("NET/Socket : Using [0]{eth}:{ip}<0>"));
            if self.is(2, 27, 3) {
                self.say("Initialized NET plugin Socket");
            }
        }
    }

    /// What every communicator prints before its START.
    fn network(&mut self, s: &Scenario) {
        let network = self.pod.network.clone();
        if self.is(2, 27, 3) {
            self.say(&format!("Assigned NET plugin {network} to comm"));
        }
        self.say(&format!("Using network {network}"));
        if self.pod.gdr && s.nodes.rdma != Rdma::None {
            self.say(&format!(
                "DMA-BUF is available on GPU device {}",
                self.rank.local
            ));
        }
    }

    fn identity(&self, life: &Life<'_>) -> String {
        let (m, n) = (life.member, life.comm.members.len());
        let func = if self.is(2, 23, 4) {
            format!("{} ", life.comm.func)
        } else if self.is(2, 21, 5) {
            "ncclCommInitRank ".into()
        } else {
            String::new()
        };
        format!(
            "{func}comm 0x{:x} rank {} nranks {n} cudaDev {} nvmlDev {} busId {:x} commId 0x{:x}",
            m.pointer, life.i, self.rank.local, self.rank.local, self.rank.bus, life.comm.id
        )
    }

    /// START to the first collective.
    fn init(&mut self, s: &Scenario, life: &Life<'_>, thread: &mut u64) {
        let identity = self.identity(life);
        let rank_tag = if self.is(2, 29, 2) {
            format!("[Rank {}] ", life.i)
        } else {
            String::new()
        };
        let start = format!("{rank_tag}{identity} - Init START");
        if self.is(2, 23, 4) {
            self.say(&start);
        }
        let Some(through) = life.through else { return };
        self.at = self.at.max(through + 35 * MS);
        if self.is(2, 23, 4) {
            self.say(
                "Bootstrap timings total 0.034512 (create 0.000040, send 0.000171, recv 0.012003, ring 0.021100, delay 0.000000)",
            );
        } else {
            self.say(&start);
        }
        if self.mismatch(life) {
            return;
        }
        self.topology(s, life);
        self.proxies(life, thread);
        let late = self.is(2, 22, 3)
            && self
                .pod
                .env
                .get("NCCL_RUNTIME_CONNECT")
                .is_none_or(|v| v != "0");
        if !late {
            self.connect(life);
        }
        self.say("threadThresholds 8/8/64 | 32/8/64 | 512 | 512");
        self.counts(life);
        if self.is(2, 22, 3) {
            self.say("CC Off, workFifoBytes 1048576");
        }
        if self.is(2, 22, 3) {
            self.say("TUNER/Plugin: Could not find: libnccl-tuner.so libnccl-net.so. Using internal tuner plugin.");
        }
        let Some(complete) = life.member.complete else {
            return;
        };
        self.at = self.at.max(complete);
        self.say(&format!("{identity} - Init COMPLETE"));
        self.timings(life);
        if late && life.comm.members.len() > 1 {
            // The first collective makes the connections: in a thread of its own up to 2.27.7.
            self.at += 60 * MS;
            let tid = if self.is(2, 28, 3) {
                self.tid
            } else {
                fresh(thread)
            };
            let tid = std::mem::replace(&mut self.tid, tid);
            self.connect(life);
            self.tid = tid;
        }
    }

    /// Members of two versions refuse each other; every member that sees it says so.
    fn mismatch(&mut self, life: &Life<'_>) -> bool {
        let Some((_, first)) = life.topo.at.first() else {
            return false;
        };
        let other = life.topo.at.iter().position(|(_, p)| p.nccl != first.nccl);
        let Some((r, (_, pod))) = other.and_then(|r| Some((r, life.topo.at.get(r)?))) else {
            return false;
        };
        if self.is(2, 23, 4) {
            let text = format!(
                "init.cc:880 Mismatched NCCL version detected : rank {r} version {} rank 0 version {}",
                pod.nccl.code(),
                first.nccl.code()
            );
            self.at += 40_000;
            for line in warn(self.plan, self.rank, self.tid, self.at, &text) {
                self.pen.line(self.at, line);
            }
            for back in [
                "init.cc:1416 -> 5",
                "init.cc:1750 -> 5",
                "init.cc:1824 -> 5",
            ] {
                self.say(back);
            }
        }
        true
    }

    fn topology(&mut self, s: &Scenario, life: &Life<'_>) {
        let (topo, n) = (life.topo, life.comm.members.len());
        let local = self.rank.local;
        if self.is(2, 28, 3) {
            self.say(&format!(
                "ncclTopoGetCpuAffinity: Affinity for GPU {local} is 0-47,96-143. (GPU affinity = 0-47,96-143 ; CPU affinity = 0-191)."
            ));
        } else if self.is(2, 27, 7) {
            self.say(&format!("Setting affinity for GPU {local} to 0-47,96-143"));
        } else {
            self.say(&format!(
                "Setting affinity for GPU {local} to ffff,ffffffff,00000000,0000ffff,ffffffff"
            ));
        }
        let mine: &[usize] = topo
            .hosts
            .iter()
            .find(|h| h.contains(&life.i))
            .map_or(&[], Vec::as_slice);
        let nvls = self.nvls(s, mine.len());
        if nvls {
            let tail = if self.is(2, 27, 3) && !self.is(2, 30, 3) {
                " (NVLS_NCHANNELS 16)"
            } else {
                ""
            };
            self.say(&format!(
                "NVLS multicast support is available on dev {local}{tail}"
            ));
        }
        if self.is(2, 20, 3) {
            let local_rank = mine.iter().position(|m| *m == life.i).unwrap_or(0);
            self.say(&format!(
                "comm 0x{:x} rank {} nRanks {n} nNodes {} localRanks {} localRank {local_rank} MNNVL 0",
                life.member.pointer,
                life.i,
                topo.hosts.len(),
                mine.len()
            ));
        }
        if life.i == 0 {
            for (c, ring) in topo.rings.iter().enumerate() {
                let line = self.ring_order(c, topo.channels, ring);
                self.say(&line);
            }
        }
        let mut trees = String::from("Trees");
        for (c, tree) in topo.trees.iter().enumerate() {
            let Some(b) = tree.get(life.i) else { continue };
            let down = |k: usize| b.down.get(k).map_or("-1".into(), ToString::to_string);
            let up = b.up.map_or("-1".into(), |u| u.to_string());
            let _ = write!(
                trees,
                " [{c}] {}/{}/{}->{}->{up}",
                down(0),
                down(1),
                down(2),
                life.i
            );
        }
        trees.truncate(1000);
        self.say(&trees);
        let chunk = if topo.hosts.len() > 1 {
            131_072
        } else {
            524_288
        };
        self.say(&format!("P2P Chunksize set to {chunk}"));
        if self.is(2, 28, 7) {
            self.say("Check P2P Type isAllDirectP2p 0 directMode 0 isAllCudaP2p 1");
        } else if self.is(2, 27, 3) {
            self.say("Check P2P Type isAllDirectP2p 0 directMode 0");
        } else if self.is(2, 24, 3) {
            self.say("Check P2P Type intraNodeP2pSupport 1 directMode 0");
        }
    }

    fn nvls(&self, s: &Scenario, local: usize) -> bool {
        s.nodes.nvlink
            && local > 2
            && self
                .pod
                .env
                .get("NCCL_NVLS_ENABLE")
                .is_none_or(|v| v != "0")
    }

    /// The order of a ring as rank 0 prints it, cut where NCCL cuts it.
    fn ring_order(&self, c: usize, of: usize, ring: &[usize]) -> String {
        if !self.is(2, 23, 4) {
            let mut line = format!("Channel {c:02}/{of:02} : ");
            for r in ring.iter().take(20) {
                let _ = write!(line, " {r:3}");
            }
            return line;
        }
        let width = ring.len().saturating_sub(1).to_string().len();
        let mut line = format!("Channel {c:02}/{of:02} :");
        for r in ring {
            let _ = write!(line, " {r:width$}");
        }
        if line.len() > 127 {
            line.truncate(124);
            line.push_str("...");
        }
        line
    }

    fn proxies(&mut self, life: &Life<'_>, thread: &mut u64) {
        if !self.is(2, 23, 4) || life.comm.members.len() < 2 {
            return;
        }
        let local = self.rank.local;
        for (what, core) in [("Proxy Service", 14), ("Proxy Service UDS", 31)] {
            let tid = fresh(thread);
            self.say_as(
                tid,
                &format!("[{what}] Device {local} CPU core {}", core + local),
            );
        }
    }

    fn connect(&mut self, life: &Life<'_>) {
        if life.comm.members.len() < 2 {
            return;
        }
        self.edges(life, &life.topo.ring_edges(life.i));
        if self.is(2, 24, 3) {
            let (pxn, gdr) = (u8::from(life.topo.pxn()), u8::from(life.topo.gdr()));
            self.say(&format!(
                "Connected all rings, use ring PXN {pxn} GDR {gdr}"
            ));
        } else {
            self.say("Connected all rings");
        }
        self.at += 4 * MS;
        self.edges(life, &life.topo.tree_edges(life.i));
        self.say("Connected all trees");
    }

    fn edges(&mut self, life: &Life<'_>, edges: &[(usize, usize, usize, Side)]) {
        for (c, from, to, side) in edges {
            if let Some(line) = life.topo.line(*c, 0, *from, *to, *side) {
                self.say(&line);
            }
        }
    }

    fn counts(&mut self, life: &Life<'_>) {
        let coll = life.topo.channels;
        let p2p = coll.max(2);
        let nvls = if life.topo.hosts.iter().any(|h| h.len() > 2) {
            16
        } else {
            0
        };
        let each = if life.topo.hosts.len() > 1 { 1 } else { p2p };
        if self.is(2, 20, 3) {
            self.say(&format!(
                "{coll} coll channels, {coll} collnet channels, {nvls} nvls channels, {p2p} p2p channels, {each} p2p channels per peer"
            ));
        } else {
            self.say(&format!(
                "{coll} coll channels, {nvls} nvls channels, {p2p} p2p channels, {each} p2p channels per peer"
            ));
        }
    }

    fn timings(&mut self, life: &Life<'_>) {
        let (n, r) = (life.comm.members.len(), life.i);
        let took = life.member.start.map_or(0, |t| self.at - t);
        let total = format!("{}.{:02}", took / 1_000_000_000, took / 10_000_000 % 100);
        if self.is(2, 23, 4) {
            self.say(&format!(
                "Init timings - {}: rank {r} nranks {n} total {total} (kernels 0.18, alloc 0.21, bootstrap 0.33, allgathers 0.01, topo 0.46, graphs 0.02, connections 0.18, rest 0.03)",
                life.comm.func
            ));
        } else if self.is(2, 22, 3) {
            self.say(&format!(
                "Init timings: rank {r} nranks {n} total {total} (kernels 0.18, bootstrap 0.33, allgathers 0.01, topo 0.46, graphs 0.02, connections 0.18, rest 0.03)"
            ));
        }
    }
}
