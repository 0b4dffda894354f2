//! GPUs and containers as the samplers see them: the newest reading of each, and a curve that stays small.

use std::collections::{BTreeMap, VecDeque};

use super::event::{ContainerKey, PodKey, ProbeEvent, ProbeOutcome, SampleEvent};
use crate::parse::Nanos;
use crate::parse::gpu::{CgroupReading, GpuLink, GpuPair, GpuProcess, GpuReading, Reading, read};

/// Points of a curve at most: enough for a screen that is 200 columns wide.
const CURVE: usize = 240;
/// Newest points that a rate is taken from.
const RECENT: usize = 40;
/// Nearest that two of them stand: samplers print once a second, replays and demos may be denser.
const APART: Nanos = 900_000_000;
/// Memory that comes and goes without anything being loaded, bytes: a driver's context, a cache.
const NOISE: u64 = 32 << 20;
/// GPUs kept.
const GPUS: usize = 8_192;
/// Processes, links and pairs kept.
const PARTS: usize = 4_096;
/// Complaints kept.
const TROUBLES: usize = 64;

/// A figure over time in flat memory: when it is full, every other point goes, and from then on points must
/// stand twice as far apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    points: Vec<(Nanos, u64)>,
    apart: Nanos,
}

impl Curve {
    /// Takes a point, unless it stands too near to the one before.
    pub fn take(&mut self, at: Nanos, value: u64) {
        let near = |(last, _): &(Nanos, u64)| at.saturating_sub(*last) < self.apart.max(APART);
        if self.points.last().is_some_and(near) {
            return;
        }
        self.points.push((at, value));
        if self.points.len() >= CURVE {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.apart = self.apart.max(APART) * 2;
        }
    }

    /// The points, oldest first.
    #[must_use]
    pub fn points(&self) -> &[(Nanos, u64)] {
        &self.points
    }
}

/// A figure's newest points, for its rate.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recent(VecDeque<(Nanos, u64)>);

impl Recent {
    fn take(&mut self, at: Nanos, value: u64) {
        if let Some((last, old)) = self.0.back_mut()
            && at.saturating_sub(*last) < APART
        {
            *old = value;
            return;
        }
        if self.0.len() >= RECENT {
            self.0.pop_front();
        }
        self.0.push_back((at, value));
    }

    /// Growth per second over the last `window`; `None` until the points span a fifth of it, negative where it fell.
    #[must_use]
    pub fn per_second(&self, window: Nanos) -> Option<f64> {
        let (to, high) = *self.0.back()?;
        let (from, low) = *self.0.iter().find(|(t, _)| to - t <= window)?;
        let span = to - from;
        if span < window / 5 || span <= 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        Some((high as f64 - low as f64) / (span as f64 / 1e9))
    }
}

/// One GPU.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gpu {
    /// Newest reading; figures that it lacks are unknown, identity is kept from older ones.
    pub reading: GpuReading,
    /// Tool that it comes from.
    pub tool: String,
    /// When.
    pub at: Nanos,
    /// Containers that see it, the first one first. Shared GPUs have several.
    pub containers: Vec<ContainerKey>,
    /// Node.
    pub node: Option<String>,
    /// Memory used, over the whole time.
    pub curve: Curve,
    /// Memory used, lately.
    pub recent: Recent,
    /// Memory used when it was first seen, and when that was.
    pub first: Option<(Nanos, u64)>,
    /// Memory used stands still since then (but for noise).
    pub still_since: Option<Nanos>,
    /// Where it stands still.
    still_at: u64,
    /// Xids as they happened: when, number. The first and the newest ones.
    pub xids: Vec<(Nanos, u32)>,
    /// Processes on it; `None` where nobody listed them.
    pub processes: Option<Vec<GpuProcess>>,
    /// Links.
    pub links: Vec<GpuLink>,
}

/// One container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Newest reading.
    pub reading: CgroupReading,
    /// When.
    pub at: Nanos,
    /// Processor time, microseconds.
    pub cpu: Recent,
    /// Bytes fetched from storage.
    pub read: Recent,
}

/// Everything sampled.
#[derive(Debug, Clone, Default)]
pub struct Gpus {
    gpus: BTreeMap<String, Gpu>,
    usage: BTreeMap<Option<ContainerKey>, Usage>,
    /// Bytes of the model's tensors, by the container whose files say so.
    model_bytes: BTreeMap<Option<ContainerKey>, u64>,
    /// Why nobody is told of a GPU's Xids, by its UUID.
    unwatched: BTreeMap<String, String>,
    /// How near GPUs are.
    pairs: Vec<GpuPair>,
    /// Newest complaint by tool and container.
    troubles: BTreeMap<(String, Option<ContainerKey>), (Nanos, String)>,
    /// Readings not kept because there were too many GPUs.
    dropped: u64,
}

impl Gpus {
    /// Takes in what a sampler printed.
    pub fn apply(&mut self, event: &SampleEvent, at: Nanos) {
        let mut listing: BTreeMap<String, Vec<GpuProcess>> = BTreeMap::new();
        let mut listed: Option<Vec<String>> = None;
        for reading in read(&event.tool, event.text.as_bytes()) {
            match reading {
                Reading::Gpu(gpu) => self.gpu(event, *gpu, at),
                Reading::Cgroup(now) => self.cgroup(event.container.clone(), *now, at),
                Reading::Processes { unread } => listed = Some(unread),
                Reading::Unwatched { uuid, why } => {
                    if self.unwatched.len() < GPUS {
                        self.unwatched.insert(uuid, why);
                    }
                }
                Reading::Process(p) => listing.entry(p.uuid.clone()).or_default().push(p),
                Reading::Xid { bus, uuid, code } => {
                    if let Some(gpu) = self.named(event, uuid.as_deref(), bus) {
                        gpu.xid(at, code);
                    }
                }
                Reading::Link(link) => {
                    if let Some(gpu) = self.gpus.get_mut(&link.uuid)
                        && gpu.links.len() < PARTS
                    {
                        match gpu.links.iter_mut().find(|l| l.number == link.number) {
                            Some(old) => *old = link,
                            None => gpu.links.push(link),
                        }
                    }
                }
                Reading::Pair(pair) => {
                    self.pairs.retain(|p| (&p.a, &p.b) != (&pair.a, &pair.b));
                    if self.pairs.len() < PARTS {
                        self.pairs.push(pair);
                    }
                }
                Reading::ModelBytes(bytes) => {
                    self.model_bytes.insert(event.container.clone(), bytes);
                }
                Reading::Trouble(text) => {
                    let key = (event.tool.clone(), event.container.clone());
                    if self.troubles.len() < TROUBLES || self.troubles.contains_key(&key) {
                        self.troubles.insert(key, (at, text));
                    }
                }
            }
        }
        if let Some(unread) = listed {
            // The list is of every GPU of this node: those it does not name have no process, but for those that could
            // not be asked.
            for (uuid, gpu) in &mut self.gpus {
                if gpu.node == event.node && gpu.tool == event.tool {
                    let mut of = listing.remove(uuid).unwrap_or_default();
                    of.truncate(PARTS);
                    gpu.processes = (!unread.contains(uuid)).then_some(of);
                }
            }
        }
    }

    /// Takes in a page of DCGM's exporter, which is asked for like any other probe.
    pub fn probed(&mut self, event: &ProbeEvent, at: Nanos) {
        if let ("dcgm", ProbeOutcome::Answered { code: 200, out, .. }) =
            (event.probe.as_str(), &event.outcome)
        {
            let page = SampleEvent {
                container: None,
                node: None,
                tool: "dcgm".into(),
                text: out.clone(),
            };
            self.apply(&page, at);
        }
    }

    fn gpu(&mut self, event: &SampleEvent, now: GpuReading, at: Nanos) {
        let key = key(event, now.uuid.as_deref(), now.bus);
        if self.gpus.len() >= GPUS && !self.gpus.contains_key(&key) {
            self.dropped += 1;
            return;
        }
        // A complaint of this tool is over once it measures again.
        for tool in [event.tool.as_str(), "cgroup"] {
            self.troubles
                .remove(&(tool.to_owned(), event.container.clone()));
        }
        self.gpus.entry(key).or_default().take(event, now, at);
    }

    fn cgroup(&mut self, container: Option<ContainerKey>, now: CgroupReading, at: Nanos) {
        let usage = self.usage.entry(container).or_default();
        usage.at = at;
        if let Some(cpu) = now.cpu_us {
            usage.cpu.take(at, cpu);
        }
        // A process that ends takes what it had read out of the sum: the larger of both counts says more.
        if let Some(bytes) = now.read_block.max(now.read_storage) {
            usage.read.take(at, bytes);
        }
        usage.reading = now;
    }

    fn named(
        &mut self,
        event: &SampleEvent,
        uuid: Option<&str>,
        bus: Option<u64>,
    ) -> Option<&mut Gpu> {
        if let Some(uuid) = uuid {
            return self.gpus.get_mut(uuid);
        }
        self.gpus
            .values_mut()
            .find(|g| bus.is_some() && g.reading.bus == bus && g.node == event.node)
    }

    /// GPUs by UUID, or by place and bus id where no UUID is known.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Gpu)> {
        self.gpus.iter().map(|(k, g)| (k.as_str(), g))
    }

    /// A GPU by its key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Gpu> {
        self.gpus.get(key)
    }

    /// Nothing was sampled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gpus.is_empty()
    }

    /// Containers that were sampled; `None` is this node.
    pub fn usage(&self) -> impl Iterator<Item = (Option<&ContainerKey>, &Usage)> {
        self.usage.iter().map(|(k, u)| (k.as_ref(), u))
    }

    /// One container.
    #[must_use]
    pub fn usage_of(&self, container: &ContainerKey) -> Option<&Usage> {
        self.usage.get(&Some(container.clone()))
    }

    /// Bytes of the model's tensors, as the largest index among the containers says.
    #[must_use]
    pub fn model_bytes(&self) -> Option<u64> {
        self.model_bytes.values().copied().max()
    }

    /// How near GPUs are, where it was asked.
    #[must_use]
    pub fn pairs(&self) -> &[GpuPair] {
        &self.pairs
    }

    /// Why nobody is told of the Xids of the GPU with this UUID, where that is known.
    #[must_use]
    pub fn unwatched(&self, uuid: &str) -> Option<&str> {
        self.unwatched.get(uuid).map(String::as_str)
    }

    /// Complaints that no reading has followed: tool, container, when, what.
    pub fn troubles(&self) -> impl Iterator<Item = (&str, Option<&ContainerKey>, Nanos, &str)> {
        self.troubles
            .iter()
            .map(|((tool, c), (at, text))| (tool.as_str(), c.as_ref(), *at, text.as_str()))
    }

    /// Readings not kept because there were too many GPUs.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// UUIDs are unique in the world; without one, a bus id is unique in a node or in what a container sees.
fn key(event: &SampleEvent, uuid: Option<&str>, bus: Option<u64>) -> String {
    if let Some(uuid) = uuid {
        return uuid.to_owned();
    }
    let bus = bus.map_or_else(|| "?".to_owned(), |b| format!("{b:x}"));
    match (&event.node, &event.container) {
        (Some(node), _) => format!("{node}/{bus}"),
        (None, Some(c)) => format!("{}/{}/{bus}", c.pod.namespace, c.pod.name),
        (None, None) => bus,
    }
}

impl Gpu {
    fn take(&mut self, event: &SampleEvent, now: GpuReading, at: Nanos) {
        // DCGM reads every half minute: it does not replace what was seen a moment ago.
        let stale = event.tool == "dcgm"
            && self.tool != event.tool
            && !self.tool.is_empty()
            && at.saturating_sub(self.at) < 60_000_000_000;
        if let Some(code) = now.xid.filter(|x| *x != 0)
            && self.xids.last().is_none_or(|(_, last)| *last != code)
        {
            self.xid(at, code);
        }
        let holder = now.holder.as_ref().map(|(namespace, pod, container)| {
            let pod = PodKey {
                namespace: namespace.clone(),
                name: pod.clone(),
            };
            ContainerKey {
                pod,
                container: container.clone(),
            }
        });
        if let Some(c) = event.container.clone().or(holder)
            && !self.containers.contains(&c)
            && self.containers.len() < 64
        {
            self.containers.push(c);
        }
        if self.node.is_none() {
            self.node = event.node.clone().or_else(|| now.node.clone());
        }
        if stale {
            return;
        }
        self.tool.clone_from(&event.tool);
        self.at = at;
        if let Some(used) = now.used {
            self.first.get_or_insert((at, used));
            self.curve.take(at, used);
            self.recent.take(at, used);
            if self.still_since.is_none() || used.abs_diff(self.still_at) > NOISE {
                self.still_since = Some(at);
                self.still_at = used;
            }
        }
        let before = std::mem::replace(&mut self.reading, now);
        let r = &mut self.reading;
        r.uuid = r.uuid.take().or(before.uuid);
        r.bus = r.bus.or(before.bus);
        r.name = r.name.take().or(before.name);
        r.driver = r.driver.take().or(before.driver);
        r.total = r.total.or(before.total);
    }

    fn xid(&mut self, at: Nanos, code: u32) {
        if self.xids.len() >= 32 {
            // The first ones tell the cause.
            self.xids.remove(16);
        }
        self.xids.push((at, code));
    }
}
