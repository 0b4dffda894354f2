//! An all-reduce test in the embedded cluster: planned by the planner of real ones, played as its script and NCCL would
//! speak.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, Pod as KubePod, PodSpec, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::plan::{Plan, secs};
use super::rng::Rng;
use super::scenario::{Fault, Kind, Layout, Phases, Rdma, SEC, Scenario, Test};
use super::source;
use crate::jobs::options::TestArgs;
use crate::jobs::plan::{Plan as Job, plan as job};
use crate::jobs::{helper, submit};
use crate::model::event::Event;
use crate::model::testrun::{Ending, Phase, Planned, TestEvent};
use crate::parse::Nanos;
use crate::sources::gate::Action;
use crate::sources::simlog::{self, Pen};

/// Rate of an RDMA port, Gb/s.
const PORT: f64 = 400.0;
/// What one TCP stream after another gives over 10 Gb/s, GB/s.
const TCP: f64 = 1.12;
/// Largest size unless another is asked for, bytes.
const LARGEST: u64 = 1 << 30;
/// How long NCCL may stand still before the script's watchdog ends it, seconds.
const STALL: f64 = 180.0;

/// A test that is planned, and not begun.
#[derive(Debug)]
pub(super) struct Wanted {
    plan: Job,
    planned: Planned,
    largest: u64,
    pairs: bool,
}

/// Plans the test that is typed; the error is a sentence.
pub(super) fn want(s: &Scenario, at: Nanos, typed: &str) -> Result<Wanted, String> {
    let args = TestArgs::typed(typed)?;
    if args.inside || args.nccl_tests || args.worker || args.worker_image.is_some() {
        return Err("the demo plays the script in pods of its own, and nothing else".into());
    }
    let table = args.table()?;
    let world = Plan::new(s);
    let pods: Vec<KubePod> = world.pods.iter().map(|p| pod(s, p)).collect();
    let run = format!(
        "d{:05x}",
        (s.seed ^ (at.unsigned_abs() / 1_000_000)) & 0xf_ffff
    );
    let plan = job(&pods, &args.wish(run, &s.workload.name)).map_err(|e| e.to_string())?;
    let mut planned = plan.planned();
    planned.table = table;
    let largest = if args.max_bytes == 0 {
        LARGEST
    } else {
        args.max_bytes
    };
    Ok(Wanted {
        plan,
        planned,
        largest,
        pairs: args.pairs,
    })
}

impl Wanted {
    /// What is asked before it begins: what a real cluster's gate would be asked.
    pub(super) fn action(&self) -> Action {
        submit::action(&self.plan)
    }

    /// What is shown with the question.
    pub(super) fn body(&self, s: &Scenario) -> String {
        helper::body(&format!("demo {}", s.name), &self.plan, &[])
    }
}

/// What happens when a planned test begins at a moment.
pub(super) fn play(s: &Scenario, at: Nanos, wanted: Wanted) -> Vec<(Nanos, Event)> {
    let Wanted {
        plan,
        planned,
        largest,
        pairs,
    } = wanted;
    let mut cast = Cast::new(s, at, &planned.job, plan.pods, plan.gpus);
    cast.paired = pairs;
    cast.run.clone_from(&planned.run);
    let mut out: Vec<(Nanos, TestEvent)> = vec![(at, TestEvent::Planned(Arc::new(planned)))];
    let of = |n: u32| format!("{n} of {}", plan.pods);
    let mut phase = |after: f64, phase: Phase, note: Option<String>| {
        out.push((at + secs(after), TestEvent::Phase(phase, note)));
    };
    phase(0.3, Phase::Created, None);
    phase(
        0.6,
        Phase::Queued,
        Some(format!("{} pods have a node", of(0))),
    );
    phase(1.3, Phase::Scheduled, Some(format!("{} pods run", of(0))));
    phase(2.9, Phase::Starting, None);
    let (pens, end, ending) = cast.speak(largest, plan.gpus > 0);
    let mut lines = Vec::new();
    for (pod, pen) in cast.plan.pods.iter().zip(pens) {
        source(
            &cast.s,
            &cast.plan,
            pod,
            pen.finish(end),
            Nanos::MAX,
            &mut lines,
        );
    }
    for (at, event) in lines {
        match event {
            Event::Source(e) => out.push((at, TestEvent::Source(e))),
            Event::Log(l) => out.push((
                at,
                TestEvent::Log {
                    source: l.source,
                    block: l.block,
                },
            )),
            _ => {}
        }
    }
    out.push((end, TestEvent::Ended(ending.clone())));
    if ending == Ending::Complete {
        out.push((end, TestEvent::Phase(Phase::Done, None)));
    }
    out.push((end + SEC / 10, TestEvent::Phase(Phase::Cleaning, None)));
    out.push((end + 2 * SEC, TestEvent::Cleaned(Vec::new())));
    out.sort_by_key(|(at, _)| *at);
    out.into_iter()
        .map(|(at, e)| (at, Event::Test(e)))
        .collect()
}

/// What is told when a test is ended before its time.
pub(super) fn cancel(at: Nanos) -> Vec<(Nanos, Event)> {
    [
        TestEvent::Ended(Ending::Cancelled),
        TestEvent::Phase(Phase::Cleaning, None),
        TestEvent::Cleaned(Vec::new()),
    ]
    .into_iter()
    .map(|e| (at, Event::Test(e)))
    .collect()
}

/// A pod of the workload, as far as a test takes after it.
fn pod(s: &Scenario, pod: &super::plan::Pod) -> KubePod {
    let amount = |n: &str| Quantity(n.to_owned());
    let gpus = s.nodes.gpus.to_string();
    let limits = BTreeMap::from([
        ("nvidia.com/gpu".to_owned(), amount(&gpus)),
        ("memory".to_owned(), amount(&s.workload.memory)),
    ]);
    let env = pod.env.iter().map(|(name, value)| EnvVar {
        name: name.clone(),
        value: Some(value.clone()),
        value_from: None,
    });
    KubePod {
        metadata: ObjectMeta {
            name: Some(pod.name.clone()),
            namespace: Some(s.workload.namespace.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: pod.scheduled.map(|_| pod.node.clone()),
            containers: vec![Container {
                name: s.workload.container.clone(),
                image: Some(pod.image.clone()),
                env: Some(env.collect()),
                resources: Some(ResourceRequirements {
                    limits: Some(limits),
                    ..ResourceRequirements::default()
                }),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        status: None,
    }
}

/// The test's own pods and ranks: a scenario inside the scenario, on the same nodes with the same faults.
struct Cast {
    s: Scenario,
    plan: Plan,
    run: String,
    test: Test,
    /// Every two pods alone, too.
    paired: bool,
    rng: Rng,
}

impl Cast {
    fn new(s: &Scenario, at: Nanos, name: &str, pods: u32, gpus: u32) -> Self {
        let pods = usize::try_from(pods).unwrap_or(1);
        // Without GPUs there is a rank a pod.
        let gpus = usize::try_from(gpus.max(1)).unwrap_or(1);
        let lasting = |f: &&Fault| {
            let kind = matches!(
                f,
                Fault::Env { .. }
                    | Fault::Versions { .. }
                    | Fault::Network { .. }
                    | Fault::NoGdr { .. }
                    | Fault::Unreachable { .. }
                    | Fault::SameNode { .. }
            );
            kind && f.reach().0.iter().all(|p| *p < pods)
        };
        let mut own = Scenario {
            name: s.name.clone(),
            start: simlog::vllm::strftime(at, "%Y-%m-%dT%H:%M:%S.%9fZ"),
            lasts: 3_600.0,
            watch_from: 0.0,
            layout: Layout {
                tp: pods * gpus,
                pp: 1,
                dp: 1,
            },
            phases: Phases {
                schedule: 0.9,
                pull: 0.2,
                config: 1.2,
                rendezvous: 5.0,
                nccl: 2.4,
                weights: 3_000.0,
                ..Phases::default()
            },
            faults: s.faults.iter().filter(lasting).cloned().collect(),
            ..s.clone()
        };
        own.workload.kind = Kind::Sts;
        own.workload.name = name.into();
        own.workload.pods = pods;
        own.workload.container = "allreduce".into();
        own.workload.env.insert("NCCL_DEBUG".into(), "INFO".into());
        own.nodes.gpus = gpus;
        own.model.moe = false;
        let mut plan = Plan::new(&own);
        plan.comms.retain(|c| c.kind == "tp");
        Self {
            rng: Rng::new(s.seed, 9),
            test: s.test.clone(),
            s: own,
            plan,
            run: String::new(),
            paired: false,
        }
    }

    fn world(&self) -> usize {
        self.plan.ranks.len()
    }

    /// Bus bandwidth that large sizes reach, GB/s.
    fn peak(&self) -> f64 {
        let per_host = self.s.nodes.gpus;
        let inside = match (self.s.nodes.nvlink, per_host) {
            (_, 1) => f64::MAX,
            (false, _) => 21.0,
            (true, 2..=4) => 354.0,
            (true, _) => 462.0,
        };
        let nodes: std::collections::BTreeSet<&str> =
            self.plan.pods.iter().map(|p| p.node.as_str()).collect();
        if nodes.len() < 2 {
            return inside.min(200.0 * 2.36);
        }
        let sockets = self
            .plan
            .pods
            .iter()
            .any(|p| p.network == "Socket" || p.rdma == Rdma::None);
        let ports = u32::try_from(self.s.nodes.nics.min(per_host)).unwrap_or(1);
        let mut between = if sockets {
            TCP
        } else {
            PORT / 8.0 * f64::from(ports) * 0.86
        };
        if !sockets && self.plan.pods.iter().any(|p| !p.gdr) {
            between *= 0.42;
        }
        if let Some(slow) = self.test.slow {
            between *= slow.share;
        }
        between.min(inside)
    }

    /// Everything that is said, by pod; when it ends, and how.
    fn speak(&mut self, largest: u64, gpus: bool) -> (Vec<Pen>, Nanos, Ending) {
        let mut pens: Vec<Pen> = self.plan.pods.iter().map(|_| Pen::default()).collect();
        let begin = |plan: &Plan, p| plan.begins(p).unwrap_or(plan.start);
        let met = begin(&self.plan, super::scenario::Phase::Rendezvous);
        let nccl = begin(&self.plan, super::scenario::Phase::Nccl);
        self.arrive(met, gpus, &mut pens);
        // gloo is over when NCCL begins.
        let gloo = nccl - 2 * SEC;
        self.step(
            &mut pens,
            gloo,
            nccl - SEC / 10,
            "gloo",
            ", \"busbw\": 1.01, \"wrong\": 0",
        );
        let mut at = gloo + SEC / 5;
        for shift in (3..=24).step_by(3) {
            self.row(&mut pens, at, "gloo", "float32", 1 << shift, 1.05);
            at += SEC / 5;
        }
        if !gpus {
            let why = ", \"why\": \"no GPU here\"";
            self.say(&mut pens, 0, nccl, "nccl", "skip", why);
            return self.finish(pens, nccl + SEC / 2);
        }
        simlog::nccl::write(&self.s, &self.plan, &mut pens);
        if self.plan.comms.iter().any(|c| !c.whole) {
            return self.hang(pens, nccl);
        }
        let ready = nccl + secs(2.6);
        let library = ", \"library\": \"/usr/local/lib/python3.12/dist-packages/nvidia/nccl/lib/libnccl.so.2\"";
        self.step(&mut pens, nccl, ready, "nccl", library);
        let mut at = ready + SEC / 10;
        let sweep = at;
        let peak = self.peak();
        for kind in ["float32", "bfloat16"] {
            self.text(
                &mut pens,
                at,
                &format!("# sweep over {} ranks, {kind}, in place", self.world()),
            );
            let mut bytes = 8;
            while bytes <= largest {
                at += self.row(&mut pens, at, "sweep", kind, bytes, peak);
                bytes *= 2;
            }
        }
        let best = format!(
            ", \"largest\": {largest}, \"busbw\": {{\"float32\": {peak:.6}, \"bfloat16\": {peak:.6}}}"
        );
        self.step(&mut pens, sweep, at, "sweep", &best);
        if self.paired && self.plan.pods.len() > 1 {
            at = self.pairs(&mut pens, at + SEC / 10, peak);
        }
        let (pynccl, mut at) = (at + SEC / 10, at + SEC / 2);
        for shift in [3, 7, 11, 15, 19, 23] {
            at += self.row(&mut pens, at, "pynccl", "bfloat16", 1 << shift, peak * 0.97);
        }
        self.step(&mut pens, pynccl, at, "pynccl", library);
        self.step(
            &mut pens,
            at + SEC / 10,
            at + SEC,
            "graph",
            ", \"replays\": 10, \"wrong\": 0",
        );
        self.finish(pens, at + SEC)
    }

    /// Every rank on its way to the others.
    fn arrive(&mut self, met: Nanos, gpus: bool, pens: &mut [Pen]) {
        let gpu = self.s.nodes.gpu.replace('-', " ");
        for r in 0..self.world() {
            let Some((rank, pod)) = self
                .plan
                .ranks
                .get(r)
                .and_then(|r| Some((r, self.plan.pods.get(r.pod)?)))
            else {
                continue;
            };
            let start = pod.started.unwrap_or(met) + SEC / 5;
            let ports = if pod.rdma == Rdma::None {
                0
            } else {
                self.s.nodes.nics
            };
            let ib: Vec<String> = (0..ports)
                .map(|n| format!("\"mlx5_{n}:1\": \"{PORT:.0} Gb/sec (4X NDR)\""))
                .collect();
            let facts = format!(
                ", \"ms\": 3, \"host\": \"{}\", \"node\": \"{}\", \"pid\": {}, \"uid\": 0, \"ib\": {{{}}}, \"net\": {{\"eth0\": {{\"mtu\": 1500, \"mbps\": 10000}}}}, \"world\": {}",
                pod.name,
                pod.node,
                rank.pid,
                ib.join(", "),
                self.world()
            );
            let name = format!(
                ", \"ms\": 210, \"gpus\": {}, \"name\": \"{gpu}\", \"free\": 62000000000",
                self.s.nodes.gpus
            );
            self.say(pens, r, start, "env", "start", "");
            self.say(pens, r, start + SEC / 50, "env", "ok", &facts);
            self.say(pens, r, start + SEC / 40, "dns", "start", "");
            self.say(pens, r, start + SEC / 4, "dns", "ok", ", \"ms\": 220");
            self.say(pens, r, start + SEC / 3, "rendezvous", "start", "");
            self.say(pens, r, met + SEC / 10, "rendezvous", "ok", ", \"ms\": 900");
            self.say(pens, r, met + SEC / 9, "import", "start", "");
            self.say(
                pens,
                r,
                met + 2 * SEC,
                "import",
                "ok",
                ", \"ms\": 1890, \"torch\": \"2.9.0+cu128\", \"cuda\": \"12.8\"",
            );
            self.say(pens, r, met + 2 * SEC, "gpus", "start", "");
            let (more, at) = if gpus {
                (name.as_str(), 2.3)
            } else {
                (", \"ms\": 4, \"gpus\": 0", 2.1)
            };
            self.say(pens, r, met + secs(at), "gpus", "ok", more);
        }
    }

    /// Every two pods, then the suspects alone; says when that is over.
    fn pairs(&mut self, pens: &mut [Pen], begun: Nanos, peak: f64) -> Nanos {
        let n = self.plan.pods.len();
        // Alone two pods do as well as all, but where the slow link is one of theirs.
        let share = self.test.slow.map_or(1.0, |s| s.share);
        let slow = self.test.slow.map(|s| s.pod);
        let rate = |a: usize, b: usize| {
            let bad = slow.is_some_and(|p| p == a || p == b);
            peak / share * if bad { share } else { 1.0 }
        };
        let mut at = begun;
        let mut tell = |turn: u32, a: usize, b: usize| {
            at += SEC / 4;
            let more = format!(
                ", \"turn\": {turn}, \"a\": {a}, \"b\": {b}, \"by\": \"nccl\", \"bytes\": 67108864, \"busbw\": {:.6}, \"wrong\": 0",
                rate(a, b) * (1.0 + (self.rng.unit() - 0.5) * 0.04)
            );
            self.say(pens, 0, at, "pairs", "pair", &more);
        };
        let all: Vec<(usize, usize)> = (0..n)
            .flat_map(|a| (a + 1..n).map(move |b| (a, b)))
            .collect();
        all.iter().for_each(|(a, b)| tell(1, *a, *b));
        let bad = |(a, b): &(usize, usize)| slow.is_some_and(|p| p == *a || p == *b);
        if n > 2 && slow.is_some() {
            let control = all.iter().find(|p| !bad(p));
            let again = all.iter().filter(|p| bad(p)).chain(control);
            again.for_each(|(a, b)| tell(2, *a, *b));
        }
        self.step(pens, begun, at + SEC / 10, "pairs", ", \"wrong\": 0");
        at + SEC / 10
    }

    /// NCCL stands still: the watchdog of each rank says so.
    fn hang(&mut self, mut pens: Vec<Pen>, nccl: Nanos) -> (Vec<Pen>, Nanos, Ending) {
        for r in 0..self.world() {
            self.say(&mut pens, r, nccl, "nccl", "start", "");
            let error = format!(
                ", \"error\": \"no progress for {STALL:.0} s\", \"hang\": true{}",
                if r == 0 { "" } else { ", \"after_rank\": 0" }
            );
            self.say(
                &mut pens,
                r,
                nccl + secs(STALL) + SEC / 100,
                "nccl",
                "fail",
                &error,
            );
        }
        let why = "Container allreduce for pod failed with exit code 16".to_owned();
        (pens, nccl + secs(STALL + 4.0), Ending::Failed(why))
    }

    fn finish(&mut self, mut pens: Vec<Pen>, at: Nanos) -> (Vec<Pen>, Nanos, Ending) {
        let bad = self.test.wrong.is_some();
        self.step(&mut pens, at, at + SEC / 5, "end", "");
        let words = if bad { "FAILED" } else { "OK" };
        self.text(
            &mut pens,
            at + SEC / 4,
            &format!("# Out of bounds values : {} {words}", u8::from(bad)),
        );
        let ending = if bad {
            Ending::Failed("Container allreduce for pod failed with exit code 19".into())
        } else {
            Ending::Complete
        };
        (pens, at + SEC, ending)
    }

    /// A line of one rank.
    fn say(&self, pens: &mut [Pen], rank: usize, at: Nanos, step: &str, status: &str, more: &str) {
        let pod = self.plan.ranks.get(rank).map_or(0, |r| r.pod);
        if let Some(pen) = pens.get_mut(pod) {
            pen.line(
                at,
                format!(
                    "#ncclscope {{\"v\": 1, \"t\": {at}, \"run\": \"{}\", \"rank\": {rank}, \"step\": \"{step}\", \"status\": \"{status}\"{more}}}",
                    self.run
                ),
            );
        }
    }

    fn text(&self, pens: &mut [Pen], at: Nanos, line: &str) {
        if let Some(pen) = pens.first_mut() {
            pen.line(at, line);
        }
    }

    /// A step of every rank from its start to its end.
    fn step(&self, pens: &mut [Pen], from: Nanos, to: Nanos, step: &str, more: &str) {
        for r in 0..self.world() {
            self.say(pens, r, from, step, "start", "");
            let ms = (to - from) / 1_000_000;
            self.say(pens, r, to, step, "ok", &format!(", \"ms\": {ms}{more}"));
        }
    }

    /// A row; says how long its measurement took.
    fn row(
        &mut self,
        pens: &mut [Pen],
        at: Nanos,
        step: &str,
        kind: &str,
        bytes: u64,
        peak: f64,
    ) -> Nanos {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (n, size) = (self.world().max(1) as f64, bytes as f64);
        let factor = 2.0 * (n - 1.0) / n;
        let latency = if step == "gloo" {
            190.0
        } else {
            21.0 + 2.4 * n
        };
        let jitter = 1.0 + (self.rng.unit() - 0.5) * 0.02;
        let us = (latency + size * factor / peak / 1e3) * jitter;
        let (algbw, busbw) = (size / us / 1e3, size * factor / us / 1e3);
        let (slowest, spread) = match self.test.slow {
            Some(slow) if step != "gloo" => (slow.pod * self.s.nodes.gpus, 1.31),
            _ => (self.world() / 2, 1.02),
        };
        let wrong = match self.test.wrong {
            Some(w) if step == "sweep" && bytes >= w.from => {
                let more = format!(
                    ", \"dtype\": \"{kind}\", \"bytes\": {bytes}, \"test\": \"pattern\", \"index\": {}, \"got\": \"17.0\", \"want\": 16.0",
                    bytes / 8 + 5
                );
                self.say(pens, w.rank, at, step, "wrong", &more);
                w.elements
            }
            _ => 0,
        };
        let count = bytes / if kind == "float32" { 4 } else { 2 };
        let done = at + secs((25.0 * us / 1e6).clamp(0.06, 6.0));
        let mut more = format!(
            ", \"dtype\": \"{kind}\", \"bytes\": {bytes}, \"count\": {count}, \"world\": {n}, \"iters\": 20"
        );
        // Writing to a string can't fail.
        let _ = write!(
            more,
            ", \"us\": {us:.3}, \"us_min\": {:.3}, \"us_max\": {:.3}, \"slowest\": {slowest}, \"algbw\": {algbw:.6}, \"busbw\": {busbw:.6}, \"wrong\": {wrong}",
            us / spread,
            us
        );
        self.say(pens, 0, done, step, "row", &more);
        self.text(
            pens,
            done,
            &format!(
                "{bytes:>12}  {count:>12}  {kind:>9}  {:>6}  {:>6}  {:>35}  {us:>8.2}  {algbw:>7.2}  {busbw:>7.2}  {wrong:>7}",
                "sum", -1, ""
            ),
        );
        done - at
    }
}
