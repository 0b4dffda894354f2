//! The catalogue of probes: what may be asked of the inside of a container, and when it is due.
//!
//! Every script is a constant of ours; every value from outside is a positional argument. A probe only reads,
//! ends by itself within its seconds, and answers in lines that [`crate::parse::probe`] understands.

mod schedule;

pub use schedule::{Ask, Members, Schedule};

use std::collections::{BTreeMap, BTreeSet};

use super::scene::{ProcessView, Scene};
use crate::model::event::{
    ContainerKey, ContainerState, ContainerView, PodKey, PodView, ProbeOutcome,
};
use crate::model::pods::{Place, Pods, command};
use crate::model::probes::{Probed, Probes};
use crate::parse::probe::{Answer, ServeConfig};
use crate::parse::vllm::{Command, is_known};

/// One probe.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Its name, in events and in `assets/checks.yaml`.
    pub name: &'static str,
    /// What it does, as a person would type it: shown in place of the script.
    pub says: &'static str,
    /// The script; `$0` is `ncclscope`, the arguments follow.
    pub script: &'static str,
    /// It is over after so many seconds.
    pub seconds: u32,
    /// Most bytes of its answer.
    pub cap: usize,
    /// Asked again after so many seconds.
    pub every: u32,
    /// Its arguments for one container; nothing where there is nothing to ask.
    args: fn(&Member<'_>, &Members<'_>) -> Option<Vec<String>>,
}

macro_rules! script {
    ($file:literal) => {
        concat!(
            include_str!("../../assets/probes/common.sh"),
            include_str!(concat!("../../assets/probes/", $file))
        )
    };
}

/// The probe of the file that `--config` names.
pub const FILE: &str = "serve-config";
/// The same file as the ConfigMap has it that it is mounted from; no probe of a container.
pub const FILE_MAP: &str = "serve-config-map";

/// Every probe, the most telling first: that is the order in which a pod's budget is spent.
pub const PROBES: &[Probe] = &[
    Probe {
        name: "gpus",
        says: "nvidia-smi -L; nvidia-smi --query-gpu=…,ecc.errors.uncorrected.volatile.total; nvidia-smi --query-remapped-rows=…",
        script: script!("gpus.sh"),
        seconds: 35,
        cap: 64 << 10,
        every: 300,
        args: |_, _| Some(Vec::new()),
    },
    Probe {
        name: FILE,
        says: "what cuts the job in the file that --config names:",
        script: script!("serve-config.sh"),
        seconds: 10,
        cap: 64 << 10,
        every: 3600,
        args: |m, _| Some(vec![m.named_file()?.to_owned()]),
    },
    Probe {
        name: "reach",
        says: "connect to every peer's port; resolve the leader's name",
        script: script!("reach.sh"),
        seconds: 60,
        cap: 64 << 10,
        every: 120,
        args: reach,
    },
    Probe {
        name: "env",
        says: "/proc/PID/environ through the allow-list",
        script: script!("env.sh"),
        seconds: 15,
        cap: 256 << 10,
        every: 600,
        args: |_, _| Some(vec!["/proc".into()]),
    },
    Probe {
        name: "shm",
        says: "df -P -k",
        script: script!("shm.sh"),
        seconds: 10,
        cap: 4 << 10,
        every: 120,
        args: |_, _| Some(vec!["/dev/shm".into()]),
    },
    Probe {
        name: "limits",
        says: "/proc/1/limits, /proc/1/status and the control group's memory in",
        script: script!("limits.sh"),
        seconds: 10,
        cap: 16 << 10,
        every: 60,
        args: |_, _| Some(vec!["/proc".into(), "/sys/fs/cgroup".into()]),
    },
    Probe {
        name: "model-files",
        says: "list the model, compare it with its index, read the heads of its shards:",
        script: script!("model-files.sh"),
        seconds: 60,
        cap: 1 << 20,
        every: 1800,
        args: |m, _| Some(vec![m.model()?]),
    },
    Probe {
        name: "model-access",
        says: "id; stat -c '%u %g %a' and test -r -w -x from the model up to /, and of the caches:",
        script: script!("model-access.sh"),
        seconds: 20,
        cap: 64 << 10,
        every: 1800,
        args: |m, _| Some(vec![m.model().unwrap_or_default()]),
    },
    Probe {
        name: "gpu-memory",
        says: "nvidia-smi --query-gpu=…,memory.used,memory.total; nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory",
        script: script!("gpu-memory.sh"),
        seconds: 30,
        cap: 64 << 10,
        every: 60,
        args: |_, _| Some(Vec::new()),
    },
    Probe {
        name: "rdma",
        says: "devices, ports, rates and GIDs in",
        script: script!("rdma.sh"),
        seconds: 20,
        cap: 256 << 10,
        every: 300,
        args: |_, _| {
            Some(vec![
                "/sys/class/infiniband".into(),
                "/dev/infiniband".into(),
            ])
        },
    },
    Probe {
        name: "interfaces",
        says: "names, MTUs, addresses and the default route from",
        script: script!("interfaces.sh"),
        seconds: 10,
        cap: 64 << 10,
        every: 600,
        args: |_, _| Some(vec!["/sys/class/net".into(), "/proc/net/route".into()]),
    },
    Probe {
        name: "versions",
        says: "packages of python3; libnccl of /proc/PID/maps; nvidia-smi --query-gpu=driver_version",
        script: script!("versions.sh"),
        seconds: 45,
        cap: 64 << 10,
        every: 3600,
        args: |_, _| Some(vec!["/proc".into()]),
    },
    Probe {
        name: "topo",
        says: "nvidia-smi topo -m; nvidia-smi nvlink --status; lspci -vvv | grep ACSCtl",
        script: script!("topo.sh"),
        seconds: 35,
        cap: 128 << 10,
        every: 3600,
        args: |_, _| Some(Vec::new()),
    },
    Probe {
        name: "clock",
        says: "date +%s.%N",
        script: script!("clock.sh"),
        seconds: 10,
        cap: 1 << 10,
        every: 600,
        args: |_, _| Some(Vec::new()),
    },
];

/// Ends the script where the image has `timeout`: a command that nobody waits for any more must not stay.
const BOUNDED: &str = "l=$1; s=$2; shift 2; \
    if command -v timeout >/dev/null 2>&1; then exec timeout -k 2 \"$l\" sh -c \"$s\" ncclscope \"$@\"; fi; \
    exec sh -c \"$s\" ncclscope \"$@\"";

impl Probe {
    /// The command with its arguments.
    #[must_use]
    pub fn argv(&self, args: &[String]) -> Vec<String> {
        let mut out: Vec<String> = vec![
            "sh".into(),
            "-c".into(),
            BOUNDED.into(),
            "ncclscope".into(),
            self.seconds.to_string(),
            self.script.into(),
        ];
        out.extend(args.iter().cloned());
        out
    }

    /// Its arguments for one container; nothing where there is nothing to ask.
    #[must_use]
    pub fn arguments(&self, member: &Member<'_>, all: &Members<'_>) -> Option<Vec<String>> {
        (self.args)(member, all)
    }

    /// What it does and with which arguments, for people.
    #[must_use]
    pub fn ran(&self, args: &[String]) -> String {
        let words: Vec<String> = args
            .iter()
            .filter(|a| !a.is_empty())
            .map(|a| super::findings::fix::sh(a))
            .collect();
        let text = if words.is_empty() {
            self.says.to_owned()
        } else {
            format!("{} {}", self.says, words.join(" "))
        };
        format!("{text}   (script {})", self.name)
    }
}

/// The probe of this name.
#[must_use]
pub fn get(name: &str) -> Option<&'static Probe> {
    PROBES.iter().find(|p| p.name == name)
}

/// The container of a pod that a person means: the one with GPUs, else the first.
#[must_use]
pub fn main_container(pod: &PodView) -> Option<&ContainerView> {
    pod.containers
        .iter()
        .find(|c| c.gpus > 0)
        .or_else(|| pod.containers.first())
}

/// A pod of the workload with the container that a person means.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// The pod.
    pub pod: &'a PodView,
    /// The container with the GPUs.
    pub container: &'a ContainerView,
    /// The container by its names.
    pub key: ContainerKey,
    /// Where it stands.
    pub place: Place,
    /// Its command line, and behind it what the file says that `--config` names.
    pub command: Command,
    /// That file, once somebody has looked for it.
    pub file: Option<ConfigFile>,
}

/// A file of settings, as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its path in the container.
    pub path: String,
    /// The settings that count from it: the command line says none of them.
    pub names: BTreeSet<&'static str>,
    /// Why what it does not say can't be taken for a default.
    pub open: Option<String>,
}

impl<'a> Member<'a> {
    fn of(pod: &'a PodView, place: Place) -> Option<Self> {
        let container = main_container(pod)?;
        Some(Self {
            pod,
            container,
            key: ContainerKey {
                pod: PodKey {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                },
                container: container.name.clone(),
            },
            place,
            command: command::command(pod, container),
            file: None,
        })
    }

    /// The container of one pod, with what was read of the file that its command line names.
    #[must_use]
    pub fn alone(pod: &'a PodView, probes: &Probes) -> Option<Self> {
        let mut member = Self::of(pod, Place::of(pod))?;
        member.read(probes);
        Some(member)
    }

    /// The file that `--config` names, where no shell still has to fill in its path.
    #[must_use]
    pub fn named_file(&self) -> Option<&str> {
        let path = self.command.settings.get("config")?;
        (self.command.vllm && !path.is_empty() && is_known(path)).then_some(path)
    }

    /// Takes in what was read of that file: in the pod, else in the ConfigMap that it is mounted from. What the
    /// command line says counts more (vllm.md 4.5).
    fn read(&mut self, probes: &Probes) {
        let Some(path) = self.named_file().map(str::to_owned) else {
            return;
        };
        let probed = |name| probes.at(name, Some(&self.key));
        let read = |p: &Probed| match p.answer.as_deref()? {
            Answer::ServeConfig(file) => Some(file.clone()),
            _ => None,
        };
        let mut read: Vec<ServeConfig> = [FILE, FILE_MAP]
            .into_iter()
            .filter_map(|name| read(probed(name)?))
            .collect();
        read.sort_by_key(|file| file.open.is_some());
        let Some(file) = read.into_iter().next() else {
            let why = [FILE, FILE_MAP].into_iter().find_map(|name| {
                match probed(name)?.outcome.as_ref()? {
                    ProbeOutcome::Failed { why } => Some(why.clone()),
                    _ => None,
                }
            });
            self.file = why.map(|why| ConfigFile {
                path,
                names: BTreeSet::new(),
                open: Some(why),
            });
            return;
        };
        let own = &mut self.command.settings;
        let mut pairs = file.settings.pairs;
        pairs.retain(|(name, _)| own.get(name).is_none());
        let names = pairs.iter().map(|(name, _)| *name).collect();
        pairs.append(&mut own.pairs);
        own.pairs = pairs;
        self.file = Some(ConfigFile {
            path,
            names,
            open: file.open,
        });
    }

    /// Since when the container runs, if it does.
    #[must_use]
    pub fn running(&self) -> Option<i64> {
        match &self.container.state {
            ContainerState::Running { since } => Some(since.unwrap_or(0)),
            _ => None,
        }
    }

    /// The value of a variable that the specification writes down.
    #[must_use]
    pub fn literal(&self, name: &str) -> Option<&'a str> {
        self.container
            .env
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .and_then(|(_, v)| v.as_deref())
    }

    /// The model that its command line names: a folder or a name on the hub.
    #[must_use]
    pub fn model(&self) -> Option<String> {
        let model = self.command.settings.get("model")?;
        // What a shell would still expand is not known here.
        (!model.is_empty() && !model.contains('$')).then(|| model.to_owned())
    }

    /// Address of the leader as the command line or the controller gives it.
    #[must_use]
    pub fn leader(&self) -> Option<String> {
        let known = |t: &str| !t.is_empty() && !t.contains('$');
        let settings = &self.command.settings;
        settings
            .get("master_addr")
            .or_else(|| settings.get("data_parallel_address"))
            .filter(|t| known(t))
            .or_else(|| self.literal("LWS_LEADER_ADDRESS").filter(|t| known(t)))
            .or_else(|| self.literal("MASTER_ADDR").filter(|t| known(t)))
            .map(str::to_owned)
    }

    /// The port on which the ranks meet: vLLM's own 29501 unless something else is said.
    #[must_use]
    pub fn port(&self) -> u16 {
        let said = self
            .command
            .settings
            .get("master_port")
            .or_else(|| self.literal("MASTER_PORT"));
        said.and_then(|p| p.parse().ok()).unwrap_or(29_501)
    }
}

/// Peers that one container connects to at most: all of a small group, the leader and the next ones of a big one.
const PEERS: usize = 16;

fn reach(m: &Member<'_>, all: &Members<'_>) -> Option<Vec<String>> {
    let group: Vec<&Member<'_>> = all
        .list
        .iter()
        .filter(|o| o.place.group == m.place.group && o.pod.namespace == m.pod.namespace)
        .collect();
    let own = group.iter().position(|o| o.pod.name == m.pod.name)?;
    let mut peers: Vec<&str> = Vec::new();
    let few = group.len() <= PEERS;
    for step in 1..group.len() {
        let Some(peer) = group.get((own + step) % group.len()) else {
            continue;
        };
        let leader = group.first().is_some_and(|l| l.pod.name == peer.pod.name);
        if (few || step <= 2 || leader)
            && let Some(ip) = peer.pod.pod_ip.as_deref()
        {
            peers.push(ip);
        }
    }
    if peers.is_empty() {
        return None;
    }
    let name = m
        .leader()
        .filter(|l| l.parse::<core::net::IpAddr>().is_err())
        .unwrap_or_default();
    let mut out = vec![name, m.port().to_string()];
    out.extend(peers.into_iter().map(str::to_owned));
    Some(out)
}

/// Processes of each pod, by its name.
pub(super) type ByPod<'a> = BTreeMap<&'a str, Vec<&'a ProcessView>>;

/// Who asks pod by pod looks here: going through all processes for each is quadratic.
pub(super) fn by_pod(scene: &Scene) -> ByPod<'_> {
    let mut by = ByPod::new();
    for p in &scene.processes {
        if let Some(pod) = &p.pod {
            by.entry(pod).or_default().push(p);
        }
    }
    by
}

/// The members of a workload, in rank order.
#[must_use]
pub fn members(pods: &Pods) -> Members<'_> {
    Members {
        list: pods
            .ranked()
            .into_iter()
            .filter(|(_, pod, _)| pod.deletion.is_none())
            .filter_map(|(_, pod, place)| Member::of(pod, place))
            .collect(),
    }
}

/// The same, with what the files say that their command lines name, as far as these were read.
#[must_use]
pub fn informed<'a>(pods: &'a Pods, probes: &Probes) -> Members<'a> {
    let mut members = members(pods);
    for m in &mut members.list {
        m.read(probes);
    }
    members
}
