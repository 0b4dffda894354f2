//! What vLLM's, torch's and Ray's own lines prove.

mod graphs;
mod layout;
mod loading;
mod memory;
mod model;
mod silence;
mod specs;
mod waits;

use super::View;
use super::fix::sh;
use super::trouble::{Case, Notice, Words};
use crate::parse::fact::WarnKind;
use crate::parse::vllm::FaultKind;
use crate::rules::scene::{Class, Confidence, Finding, Severity};

/// An id whose lines speak for themselves.
struct Rule {
    id: &'static str,
    class: Class,
    proves: fn(&View<'_>, &Notice<'_>) -> bool,
    words: fn(&Case<'_, '_>) -> Words,
}

macro_rules! faults {
    ($pattern:pat) => {
        |_, n| n.fault().is_some_and(|f| matches!(f.kind, $pattern))
    };
}

const RULES: &[Rule] = &[
    Rule {
        id: "vllm.hub-access",
        class: Class::Configuration,
        proves: |v, n| {
            n.fault().is_some_and(|f| {
                matches!(
                    f.kind,
                    FaultKind::HubUnreachable { .. }
                        | FaultKind::NotCached
                        | FaultKind::OfflineHit { .. }
                        | FaultKind::HubRetry { .. }
                )
            }) && !model::went_on(v, n)
        },
        words: model::hub,
    },
    Rule {
        id: "vllm.tokenizer-missing",
        class: Class::Configuration,
        proves: |_, n| {
            n.fault().is_some_and(|f| {
                matches!(f.kind, FaultKind::TokenizerMissing { .. }) && !model::config_text(&f.text)
            })
        },
        words: model::tokenizer,
    },
    Rule {
        id: "vllm.model-incomplete",
        class: Class::Configuration,
        proves: |_, n| {
            n.fault().is_some_and(|f| match f.kind {
                FaultKind::NoConfig
                | FaultKind::BadRepoId { .. }
                | FaultKind::NoWeights { .. }
                | FaultKind::ShardsMissing { .. }
                | FaultKind::WeightsMissing
                | FaultKind::ShardCorrupt { .. } => true,
                FaultKind::TokenizerMissing { .. } => model::config_text(&f.text),
                _ => false,
            })
        },
        words: model::incomplete,
    },
    Rule {
        id: "vllm.permission-denied",
        class: Class::Platform,
        proves: faults!(FaultKind::Permission { .. } | FaultKind::NoPasswd { .. }),
        words: model::permission,
    },
    Rule {
        id: "vllm.kv-cache-too-small",
        class: Class::Resources,
        proves: faults!(FaultKind::NoKvBlocks | FaultKind::KvTooSmall { .. }),
        words: memory::kv_cache,
    },
    Rule {
        id: "vllm.world-size",
        class: Class::Configuration,
        proves: faults!(
            FaultKind::Heads { .. }
                | FaultKind::Sharding
                | FaultKind::WorldSize { .. }
                | FaultKind::LocalRank
                | FaultKind::Layout
                | FaultKind::OfflineDp
        ),
        words: layout::world_size,
    },
    Rule {
        id: "vllm.rank-config",
        class: Class::Configuration,
        proves: |_, n| {
            n.fault().is_some_and(|f| f.kind == FaultKind::DpRoles)
                || n.warn().is_some_and(|k| {
                    *k == WarnKind::BootstrapMismatch && !n.line.text.contains("Message truncated")
                })
        },
        words: layout::rank_config,
    },
    Rule {
        id: "vllm.device-mismatch",
        class: Class::Application,
        proves: faults!(FaultKind::DeviceMismatch),
        words: |c| {
            (
                format!("a tensor and its communicator are on different GPUs in {}", c.place),
                "A rank called a collective with a tensor of another device than the communicator was made on: its CUDA device was not set, or CUDA_VISIBLE_DEVICES differs between the processes of the pod.".into(),
                vec![
                    "let each worker see one fixed device order: do not change CUDA_VISIBLE_DEVICES after start, and pass local_rank to torch.cuda.set_device before the first collective".into(),
                    c.target.env("CUDA_LAUNCH_BLOCKING", Some("1")),
                ],
            )
        },
    },
    Rule {
        id: "vllm.gloo-mesh",
        class: Class::Network,
        proves: faults!(FaultKind::GlooMesh { .. }),
        words: |c| {
            let why = c.of(|k| match k {
                FaultKind::GlooMesh { why } => Some(why.clone()),
                _ => None,
            });
            (
                format!("gloo can't connect all pairs of ranks from {}", c.place),
                format!(
                    "gloo connects every rank with every other one over the address that the host name resolves to, or over GLOO_SOCKET_IFNAME. It failed{}: the name resolves to a loopback address, the interface is wrong, or ephemeral ports between pods are blocked.",
                    why.filter(|w| !w.is_empty())
                        .map_or_else(String::new, |w| format!(" ({w})"))
                ),
                vec![
                    c.target.env("GLOO_SOCKET_IFNAME", Some("eth0")),
                    c.target.kubectl(&format!(
                        "exec {} -- getent hosts \"$(hostname)\"",
                        c.target.pod(&c.pod())
                    )),
                    c.target.kubectl("get networkpolicies"),
                ],
            )
        },
    },
    Rule {
        id: "vllm.rendezvous-timeout",
        class: Class::Application,
        proves: |v, n| {
            n.fault().is_some_and(|f| {
                matches!(
                    f.kind,
                    FaultKind::HeadUnreachable {
                        timed_out: true,
                        ..
                    } | FaultKind::NotAllJoined { .. }
                        | FaultKind::StoreWait { .. }
                        | FaultKind::DpHandshake { .. }
                        | FaultKind::UniqueId { .. }
                )
            }) || layout::gave_up(v, n)
        },
        words: layout::rendezvous,
    },
    Rule {
        id: "vllm.port-variable",
        class: Class::Configuration,
        proves: faults!(FaultKind::PortVariable { .. }),
        words: |c| {
            let value = c.of(|k| match k {
                FaultKind::PortVariable { value } => Some(value.clone()),
                _ => None,
            });
            (
                "VLLM_PORT holds a Service's address instead of a port".into(),
                format!(
                    "A Service named vllm in this namespace makes Kubernetes inject VLLM_PORT={} into every pod, and vLLM reads that variable as its own.",
                    value.unwrap_or_default()
                ),
                vec![
                    c.target.yaml("enableServiceLinks: false"),
                    c.target.kubectl("get service vllm -o yaml")
                        + "   # rename it: nothing that vLLM talks to may be called vllm",
                ],
            )
        },
    },
    Rule {
        id: "vllm.wrong-host-ip",
        class: Class::Configuration,
        proves: faults!(FaultKind::HostIpShared { .. }),
        words: |c| {
            let ips = c.of(|k| match k {
                FaultKind::HostIpShared { ips } => ips.clone(),
                _ => None,
            });
            (
                format!(
                    "several pods claim one address{}",
                    ips.as_ref().map_or_else(String::new, |i| format!(": {i}"))
                ),
                "VLLM_HOST_IP has one value in all pods of the template; each pod needs its own."
                    .into(),
                layout::host_ip_fix(c),
            )
        },
    },
    Rule {
        id: "nccl.library-not-loaded",
        class: Class::Platform,
        proves: faults!(FaultKind::NcclLibrary { .. }),
        words: |c| {
            let file = c.of(|k| match k {
                FaultKind::NcclLibrary { file } => Some(file.clone()),
                _ => None,
            });
            let file = file.unwrap_or_else(|| "libnccl".into());
            (
                format!("{} can't load {file}", c.place),
                format!(
                    "{file} is not there, or something it needs is missing: VLLM_NCCL_SO_PATH points to the wrong place, or the image is damaged."
                ),
                vec![
                    c.target.env("VLLM_NCCL_SO_PATH", None),
                    c.target.kubectl(&format!(
                        "exec {} -- sh -c {}",
                        c.target.pod(&c.pod()),
                        sh("ldconfig -p | grep libnccl; find / -name 'libnccl.so*' 2>/dev/null")
                    )),
                ],
            )
        },
    },
];

/// Every rule of this room.
pub fn find(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    for rule in RULES {
        let list = notices.iter().filter(|n| (rule.proves)(view, n)).collect();
        for case in Case::split(view, list) {
            let mut words = (rule.words)(&case);
            words.2.retain(|f| !f.is_empty());
            let Some(mut f) = case.raise(rule.id, Severity::Error, rule.class, words) else {
                continue;
            };
            doubt(&case, &mut f);
            out.push(f);
        }
    }
    memory::cuda_memory(view, notices, out);
    memory::foreign_memory(view, notices, out);
    graphs::graph_crash(view, notices, out);
    layout::host_ip(view, out);
    layout::same_ranks(view, out);
    specs::host_ip(view, out);
    specs::rank_config(view, out);
    layout::tp_over_network(view, out);
    loading::loading_slow(view, out);
}

/// What an engine says of workers that don't answer.
pub fn unanswered(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    waits::find(view, notices, out);
}

/// What samples prove of ranks that say nothing, once everything else has been looked at.
pub fn silent(view: &View<'_>, out: &mut Vec<Finding>) {
    silence::find(view, out);
}

/// Weaker lines alone make a weaker finding.
fn doubt(case: &Case<'_, '_>, f: &mut Finding) {
    let all = |weak: fn(&FaultKind) -> bool| {
        case.list
            .iter()
            .all(|n| n.fault().is_some_and(|f| weak(&f.kind)))
    };
    if all(|k| {
        matches!(
            k,
            FaultKind::HubRetry { .. } | FaultKind::LocalRank | FaultKind::UniqueId { .. }
        )
    }) {
        f.confidence = Confidence::Likely;
    }
}

/// At most 160 characters of a message.
pub fn short(text: &str) -> String {
    let t = text.trim();
    match t.char_indices().nth(160) {
        Some((at, _)) => format!("{}…", t.get(..at).unwrap_or(t)),
        None => t.to_owned(),
    }
}
