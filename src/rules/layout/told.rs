//! What every pod is told about the cut of the job, before and while it speaks: log line, command line, environment.
//!
//! The most trusted voice wins, and whoever says otherwise is named. What a shell or a controller would still fill
//! in is no value (`reference/vllm.md` 4.5 and 4.6).

use std::collections::{BTreeMap, BTreeSet};

use super::Sizes;
use super::seats::{self, Seat, Spoken};
use crate::model::Model;
use crate::model::pods::command;
use crate::model::pods::place::{self, Group};
use crate::model::speakers::Speaker;
use crate::parse::vllm::{Command, Ray, Torchrun, host_of, is_known};
use crate::rules::probes::{Member, Members};
use crate::rules::scene::Scene;
use crate::rules::startup;
use crate::rules::variables::Values;

/// Others that say otherwise, named at most.
const NAMED: usize = 4;

/// Who says a value, the most trusted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Voice {
    /// A line of a log.
    Log,
    /// Command and arguments of the container.
    CommandLine,
    /// The file that `--config` names: it counts where the command line is silent.
    ConfigFile,
    /// A variable of the container.
    Env,
}

impl Voice {
    /// As the report writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::CommandLine => "command-line",
            Self::ConfigFile => "config-file",
            Self::Env => "env",
        }
    }

    /// As a person says it.
    #[must_use]
    pub fn place(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::CommandLine => "command line",
            Self::ConfigFile => "config file",
            Self::Env => "environment",
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// `TP`, `nodes`, `master`, `node rank` …
    pub name: &'static str,
    /// As it is written.
    pub value: String,
    /// Who says it.
    pub voice: Voice,
    /// In which words, and where: `llm-0: --tensor-parallel-size=8`.
    pub by: String,
    /// Who else says the same.
    pub also: Vec<Voice>,
    /// Who says otherwise, in their words.
    pub against: Vec<String>,
}

/// One engine: the pods of one group, and how it is cut.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Engine {
    /// Number and name of its group, where there is more than one.
    pub group: Option<String>,
    /// What holds for all its pods, in a fixed order.
    pub values: Vec<Told>,
    /// Why the sizes are not known although a command line is: they stand where it points to.
    pub open: Option<String>,
    /// Its pods in rank order.
    pub seats: Vec<Seat>,
}

/// How the job is cut, as far as anybody says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layout {
    /// Sizes of one torch world.
    pub sizes: Option<Sizes>,
    /// Engines, by group.
    pub engines: Vec<Engine>,
}

impl Told {
    /// `node rank: llm-1: --node-rank=0, but llm-1: LWS_WORKER_INDEX=1 (environment)`.
    #[must_use]
    pub fn dispute(&self) -> String {
        format!(
            "{}: {}, but {}",
            self.name,
            self.by,
            self.against.join("; ")
        )
    }
}

impl Layout {
    /// `TP 8, PP 2 by the log;  nodes 2, master llm-0.llm by the command line`: values by who says them.
    #[must_use]
    pub fn origins(&self) -> Option<String> {
        let mut by: BTreeMap<Voice, Vec<String>> = BTreeMap::new();
        for t in &self.engines.first()?.values {
            by.entry(t.voice)
                .or_default()
                .push(format!("{} {}", t.name, t.value));
        }
        let words: Vec<String> = by
            .into_iter()
            .map(|(voice, list)| format!("{} by the {}", list.join(", "), voice.place()))
            .collect();
        (!words.is_empty()).then(|| words.join(";  "))
    }

    /// Values of all engines and pods that somebody disputes.
    pub fn disputed(&self) -> impl Iterator<Item = &Told> {
        self.engines
            .iter()
            .flat_map(|e| e.values.iter().chain(e.seats.iter().flat_map(|s| &s.told)))
            .filter(|t| !t.against.is_empty())
    }
}

/// A name, vLLM's setting for it, and the variables that say it.
type Source = (&'static str, &'static str, &'static [&'static str]);

/// What must be equal in every pod of an engine.
const ENGINE: [Source; 14] = [
    ("TP", "tensor_parallel_size", &[]),
    ("PP", "pipeline_parallel_size", &[]),
    ("DP", "data_parallel_size", &["VLLM_DP_SIZE"]),
    ("EP", "enable_expert_parallel", &[]),
    ("PCP", "prefill_context_parallel_size", &[]),
    ("DCP", "decode_context_parallel_size", &[]),
    ("world", "", &[]),
    (
        "nodes",
        "nnodes",
        &["LWS_GROUP_SIZE", "PET_NNODES", "NNODES", "RAY_CLUSTER_SIZE"],
    ),
    (
        "master",
        "master_addr",
        &["LWS_LEADER_ADDRESS", "MASTER_ADDR", "PET_MASTER_ADDR"],
    ),
    (
        "master port",
        "master_port",
        &["MASTER_PORT", "PET_MASTER_PORT"],
    ),
    ("DP head", "data_parallel_address", &["VLLM_DP_MASTER_IP"]),
    (
        "DP port",
        "data_parallel_rpc_port",
        &["VLLM_DP_MASTER_PORT"],
    ),
    ("executor", "distributed_executor_backend", &[]),
    ("Ray head", "", &["RAY_ADDRESS", "FQ_RAY_IP"]),
];

/// What each pod has for itself.
const POD: [Source; 7] = [
    (
        "node rank",
        "node_rank",
        &[
            "LWS_WORKER_INDEX",
            "NODE_RANK",
            "GROUP_RANK",
            "PET_NODE_RANK",
            "JOB_COMPLETION_INDEX",
        ],
    ),
    ("DP start", "data_parallel_start_rank", &[]),
    ("DP rank", "data_parallel_rank", &["VLLM_DP_RANK"]),
    ("DP local", "data_parallel_size_local", &[]),
    (
        "ranks per node",
        "",
        &["LOCAL_WORLD_SIZE", "PET_NPROC_PER_NODE"],
    ),
    ("rank", "", &[]),
    // Ray's and vLLM's must be one, or the placement group waits for ever.
    ("node address", "", &["VLLM_HOST_IP", "RAY_NODE_IP_ADDRESS"]),
];

/// Names whose values are addresses: a name and a number may mean one machine.
const ADDRESSES: [&str; 4] = ["master", "DP head", "Ray head", "node address"];

/// Somebody says a value.
#[derive(Debug, Clone)]
struct Statement {
    name: &'static str,
    value: String,
    voice: Voice,
    /// Pod or source.
    place: String,
    words: String,
}

/// A pod with what its command line starts.
pub(super) struct Pod<'a> {
    pub(super) member: &'a Member<'a>,
    pub(super) command: &'a Command,
}

/// Gathers who says what, and puts the pods on their seats.
#[must_use]
pub fn of(scene: &Scene, model: &Model, members: &Members<'_>, sizes: Option<Sizes>) -> Layout {
    let mut groups: BTreeMap<&Group, Vec<Pod<'_>>> = BTreeMap::new();
    for member in &members.list {
        let command = &member.command;
        let starts = command.vllm || command.ray.is_some() || command.torchrun.is_some();
        if starts || member.container.gpus > 0 {
            let pod = Pod { member, command };
            groups.entry(&member.place.group).or_default().push(pod);
        }
    }
    // The head of a Ray cluster and its workers are one engine.
    let ray = |p: &Pod<'_>| p.member.pod.labels.contains_key(place::RAY);
    let merged: Vec<(Option<String>, Vec<Pod<'_>>)> = if groups.values().flatten().any(ray) {
        vec![(None, groups.into_values().flatten().collect())]
    } else {
        let many = groups.len() > 1;
        let name = |g: &Group| {
            let named = [g.name.clone(), g.number.to_string()];
            named.into_iter().find(|n| !n.is_empty())
        };
        groups
            .into_iter()
            .map(|(g, pods)| (name(g).filter(|_| many), pods))
            .collect()
    };
    let spoken = Spoken::of(scene);
    let mut engines: Vec<Engine> = merged
        .into_iter()
        .map(|(group, pods)| engine(scene, model, group, &pods, sizes, &spoken))
        .collect();
    if engines.is_empty() {
        let said = logged(model, &|_| true);
        if !said.is_empty() {
            let said: Vec<&Statement> = said.iter().collect();
            engines.push(Engine {
                group: None,
                values: settled(&ENGINE, &said, &Names::default()),
                open: None,
                seats: Vec::new(),
            });
        }
    }
    Layout { sizes, engines }
}

fn engine(
    scene: &Scene,
    model: &Model,
    group: Option<String>,
    pods: &[Pod<'_>],
    sizes: Option<Sizes>,
    spoken: &Spoken,
) -> Engine {
    let names: BTreeSet<&str> = pods.iter().map(|p| p.member.pod.name.as_str()).collect();
    let mut said = logged(model, &|s| {
        let source = model.sources.get(s.source);
        let pod = source.and_then(|s| s.info.container.as_ref());
        pod.is_none_or(|c| names.contains(c.pod.name.as_str()))
    });
    for p in pods {
        from_command(p, &mut said);
        from_env(p, pods.len(), &scene.variables, &mut said);
    }
    let known = Names::of(pods);
    let mut by_place: BTreeMap<&str, Vec<&Statement>> = BTreeMap::new();
    for s in &said {
        by_place.entry(&s.place).or_default().push(s);
    }
    let mine: Vec<Vec<Told>> = pods
        .iter()
        .map(|p| {
            let own = by_place.get(p.member.pod.name.as_str());
            settled(&POD, own.map_or(&[], Vec::as_slice), &known)
        })
        .collect();
    let all: Vec<&Statement> = said.iter().collect();
    let values = settled(&ENGINE, &all, &known);
    let elsewhere = || pods.iter().find_map(|p| startup::left_open(p.member));
    let open = sizes.is_none().then(elsewhere).flatten();
    let why = open.as_deref();
    let sizes = sizes.ok_or(why.unwrap_or("how the job is cut is not known yet"));
    let seats = seats::of(pods, &values, mine, sizes, spoken);
    Engine {
        group,
        values,
        open,
        seats,
    }
}

/// What the lines of the logs say.
fn logged(model: &Model, mine: &dyn Fn(&Speaker) -> bool) -> Vec<Statement> {
    let mut out = Vec::new();
    for s in model.speakers.list.iter().filter(|s| mine(s)) {
        let source = model.sources.get(s.source);
        let place = source.map_or_else(String::new, |s| match &s.info.container {
            Some(c) => c.pod.name.clone(),
            None => (s.teller.as_ref()).map_or_else(|| s.info.name.clone(), |t| t.name.clone()),
        });
        let mut say = |name, value: String, words: String| {
            out.push(Statement {
                name,
                value,
                voice: Voice::Log,
                place: place.clone(),
                words,
            });
        };
        for (name, setting, _) in ENGINE.iter().chain(&POD) {
            if let Some(value) = s.settings.get(setting).filter(|_| !setting.is_empty()) {
                say(name, plain(setting, value), format!("{setting}={value}"));
            }
        }
        if let Some((start, _)) = &s.rank_start {
            if let Some(world) = start.world {
                say("world", world.to_string(), format!("world_size={world}"));
            }
            if let Some(host) = host_of(&start.init) {
                let words = format!("distributed_init_method={}", start.init);
                say("master", host.to_owned(), words);
            }
        }
        if let Some((leader, _)) = &s.leader {
            let rank = leader.node_rank;
            say("node rank", rank.to_string(), format!("node_rank={rank}"));
            let at = &leader.master_addr;
            say("master", at.clone(), format!("master_addr={at}"));
            let ip = &leader.connect_ip;
            say("node address", ip.clone(), format!("mq_connect_ip={ip}"));
        }
        if let Some((ranks, _)) = &s.ranks {
            let world = ranks.world;
            say("world", world.to_string(), format!("in world size {world}"));
        }
    }
    out
}

/// A switch that is on, in one spelling.
fn plain(setting: &str, value: &str) -> String {
    match value {
        "true" | "True" | "1" if setting.starts_with("enable_") => "on".into(),
        "false" | "False" | "0" if setting.starts_with("enable_") => "off".into(),
        _ => value.to_owned(),
    }
}

fn from_command(p: &Pod<'_>, out: &mut Vec<Statement>) {
    let place = &p.member.pod.name;
    let mut tell = |voice, name, value: &str, words: String| {
        if is_known(value) {
            out.push(Statement {
                name,
                value: value.to_owned(),
                voice,
                place: place.clone(),
                words,
            });
        }
    };
    for (name, setting, _) in ENGINE.iter().chain(&POD) {
        if let Some(value) = p
            .command
            .settings
            .get(setting)
            .filter(|_| !setting.is_empty())
        {
            let flag = setting.replace('_', "-");
            let file = p.member.file.as_ref();
            if let Some(file) = file.filter(|f| f.names.contains(setting)) {
                let words = format!("{flag}: {value} in {}", file.path);
                tell(Voice::ConfigFile, name, &plain(setting, value), words);
                continue;
            }
            let value = plain(setting, value);
            let words = match value.as_str() {
                "on" => format!("--{flag}"),
                _ => format!("--{flag}={value}"),
            };
            tell(Voice::CommandLine, name, &value, words);
        }
    }
    let mut say = |name, value: &str, words| tell(Voice::CommandLine, name, value, words);
    if let Some(Torchrun {
        nodes,
        per_node,
        node_rank,
        master,
        port,
    }) = &p.command.torchrun
    {
        let all = [
            ("nodes", nodes, "--nnodes"),
            ("ranks per node", per_node, "--nproc-per-node"),
            ("node rank", node_rank, "--node-rank"),
            ("master", master, "--master-addr"),
            ("master port", port, "--master-port"),
        ];
        for (name, value, flag) in all {
            if let Some(value) = value {
                say(name, value, format!("torchrun {flag}={value}"));
            }
        }
    }
    match &p.command.ray {
        Some(Ray::Head { nodes: Some(n) }) => say("nodes", n, format!("--ray_cluster_size={n}")),
        Some(Ray::Worker { head: Some(h) }) => {
            say("Ray head", h, format!("ray start --address={h}"))
        }
        _ => {}
    }
}

fn from_env(
    p: &Pod<'_>,
    pods: usize,
    variables: &BTreeMap<String, Values>,
    out: &mut Vec<Statement>,
) {
    let (pod, container) = (p.member.pod, p.member.container);
    let value = |name: &str| {
        let set = p.command.env.get(name).cloned();
        // As the process has it, where somebody looked.
        set.or_else(|| variables.get(name)?.of(&pod.name).map(str::to_owned))
            .or_else(|| command::variable(pod, container, name))
            .filter(|v| is_known(v))
    };
    let mut say = |name, variable: &str, value: String| {
        let words = format!("{variable}={value}");
        out.push(Statement {
            name,
            value,
            voice: Voice::Env,
            place: pod.name.clone(),
            words,
        });
    };
    for (name, _, variables) in ENGINE.iter().chain(&POD) {
        for variable in *variables {
            if let Some(v) = value(variable) {
                let v = match *name {
                    "Ray head" => host_of(&v).unwrap_or(&v).to_owned(),
                    _ => v,
                };
                say(name, variable, v);
            }
        }
    }
    // A launcher counts pods, torch counts processes, and both call it so.
    let per_pod = p.command.torchrun.is_some()
        || (container.gpus > 1 && value("WORLD_SIZE").is_some_and(|w| w == pods.to_string()));
    let (size, rank) = if per_pod {
        ("nodes", "node rank")
    } else {
        ("world", "rank")
    };
    for (name, variable) in [(size, "WORLD_SIZE"), (rank, "RANK")] {
        if let Some(v) = value(variable) {
            say(name, variable, v);
        }
    }
}

/// One value a name: the most trusted voice's, in rank order of the pods; who agrees, and who does not.
fn settled(names: &[Source], said: &[&Statement], known: &Names<'_>) -> Vec<Told> {
    let mut out = Vec::new();
    for (name, ..) in names {
        let mine = || said.iter().filter(|s| s.name == *name);
        let Some(first) = mine().min_by_key(|s| s.voice) else {
            continue;
        };
        let by = format!("{}: {}", first.place, first.words);
        let mut also: Vec<Voice> = Vec::new();
        let mut against: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for s in mine() {
            match same(name, &first.value, &s.value, known) {
                Some(true) if s.voice != first.voice && !also.contains(&s.voice) => {
                    also.push(s.voice)
                }
                Some(false) => {
                    let words = format!("{} ({})", s.words, s.voice.place());
                    let list = against.entry(words).or_default();
                    if !list.contains(&s.place.as_str()) {
                        list.push(&s.place);
                    }
                }
                _ => {}
            }
        }
        let against = against.into_iter().map(|(words, places)| {
            let named = places.get(..NAMED.min(places.len())).unwrap_or_default();
            let more = places.len() - named.len();
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!("{}{more}: {words}", named.join(", "))
        });
        out.push(Told {
            name,
            value: first.value.clone(),
            voice: first.voice,
            by,
            also,
            against: against.collect(),
        });
    }
    out
}

/// The pods of an engine by what they are called: the first one of each address and of each name.
#[derive(Default)]
struct Names<'a> {
    ips: BTreeMap<&'a str, (usize, &'a str)>,
    names: BTreeMap<&'a str, (usize, &'a str)>,
}

fn is_number(text: &str) -> bool {
    text.parse::<core::net::IpAddr>().is_ok()
}

impl<'a> Names<'a> {
    fn of(pods: &[Pod<'a>]) -> Self {
        let mut known = Self::default();
        for (i, pod) in pods.iter().map(|p| p.member.pod).enumerate() {
            let place = (i, pod.name.as_str());
            if let Some(ip) = &pod.pod_ip {
                known.ips.entry(ip).or_insert(place);
            }
            for name in std::iter::once(&pod.name).chain(&pod.hostname) {
                known.names.entry(name).or_insert(place);
            }
        }
        known
    }

    /// The pod that an address means.
    fn pod(&self, address: &str) -> Option<&'a str> {
        let label = address.split('.').next().unwrap_or(address);
        let named = self.names.get(label).filter(|_| !is_number(address));
        let both = self.ips.get(address).into_iter().chain(named);
        both.min().map(|(_, name)| *name)
    }
}

/// Whether two values mean the same; nothing where that can't be told.
fn same(name: &str, a: &str, b: &str, known: &Names<'_>) -> Option<bool> {
    if a == b {
        return Some(true);
    }
    if !ADDRESSES.contains(&name) {
        return match (a.parse::<i64>(), b.parse::<i64>()) {
            (Ok(a), Ok(b)) => Some(a == b),
            _ => Some(a.eq_ignore_ascii_case(b)),
        };
    }
    match (known.pod(a), known.pod(b)) {
        (Some(a), Some(b)) => Some(a == b),
        _ if is_number(a) && is_number(b) => Some(false),
        // A name may be that of a Service, or short for the other.
        _ => None,
    }
}
