//! What vLLM's, torch's and Ray's own lines prove.

use std::collections::{BTreeMap, BTreeSet};

use super::fix::sh;
use super::trouble::{Case, Notice, Words};
use super::{View, earlier, first_lines};
use crate::model::speakers::Speaker;
use crate::parse::fact::WarnKind;
use crate::parse::vllm::{FaultKind, host_of};
use crate::rules::comms::line_ref;
use crate::rules::rating::is_socket;
use crate::rules::scene::{Class, Confidence, Evidence, Finding, LineRef, Severity, Stage};

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
            }) && !went_on(v, n)
        },
        words: hub,
    },
    Rule {
        id: "vllm.tokenizer-missing",
        class: Class::Configuration,
        proves: |_, n| {
            n.fault().is_some_and(|f| {
                matches!(f.kind, FaultKind::TokenizerMissing { .. }) && !config_text(&f.text)
            })
        },
        words: tokenizer,
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
                FaultKind::TokenizerMissing { .. } => config_text(&f.text),
                _ => false,
            })
        },
        words: incomplete,
    },
    Rule {
        id: "vllm.permission-denied",
        class: Class::Platform,
        proves: faults!(FaultKind::Permission { .. } | FaultKind::NoPasswd { .. }),
        words: permission,
    },
    Rule {
        id: "vllm.kv-cache-too-small",
        class: Class::Resources,
        proves: faults!(FaultKind::NoKvBlocks | FaultKind::KvTooSmall { .. }),
        words: kv_cache,
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
        words: world_size,
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
        words: rank_config,
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
                        sh(&c.pod())
                    )),
                    c.target.kubectl("get networkpolicies"),
                ],
            )
        },
    },
    Rule {
        id: "vllm.rendezvous-timeout",
        class: Class::Application,
        proves: |_, n| {
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
            })
        },
        words: rendezvous,
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
                host_ip_fix(c),
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
                        sh(&c.pod()),
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
    cuda_memory(view, notices, out);
    foreign_memory(view, notices, out);
    graph_crash(view, notices, out);
    host_ip(view, out);
    tp_over_network(view, out);
    loading_slow(view, out);
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

/// A configuration, not a tokenizer, is what is missing.
fn config_text(text: &str) -> bool {
    text.contains("Can't load the configuration of") || text.contains("Unrecognized model ")
}

/// The source came further than loading after this line: it was no obstacle.
fn went_on(view: &View<'_>, n: &Notice<'_>) -> bool {
    let furthest = view
        .scene
        .processes
        .iter()
        .filter(|p| p.sources.contains(&n.line.source))
        .filter_map(|p| p.stage)
        .max();
    furthest >= Some(Stage::Weights) && n.stage < Some(Stage::Weights)
}

fn model_name(c: &Case<'_, '_>) -> String {
    let n = c.list.first().map_or(0, |n| n.unit);
    let w = c.view.scene.workloads.get(c.view.workload_of(n));
    w.and_then(|w| w.model.clone())
        .unwrap_or_else(|| "the model".into())
}

fn hub(c: &Case<'_, '_>) -> Words {
    let host = c.of(|k| match k {
        FaultKind::HubUnreachable { host } => host.clone(),
        FaultKind::OfflineHit { url } => url.clone(),
        _ => None,
    });
    let offline =
        c.of(|k| matches!(k, FaultKind::NotCached | FaultKind::OfflineHit { .. }).then_some(()));
    let to = host.unwrap_or_else(|| "the model hub".into());
    let title = if offline.is_some() {
        format!(
            "{} asks for files that are neither local nor cached",
            c.place
        )
    } else {
        format!("{} can't reach {to} to download model files", c.place)
    };
    let cause = if offline.is_some() {
        "Offline mode is on, and a model, tokenizer, adapter or remote code is named by hub id and is not in the cache that this user's HF_HOME points to."
    } else {
        "The pod has no way to the hub (DNS, proxy, egress policy or an air-gapped cluster), and something is named by hub id: the model, its tokenizer, an adapter, a draft model or remote code."
    };
    let model = model_name(c);
    let mut fix = Vec::new();
    if !model.starts_with('/') && model != "the model" {
        fix.push(c.target.arg(&format!(
            "/models/{}",
            sh(model.rsplit('/').next().unwrap_or(&model))
        )));
    }
    fix.push("give model, --tokenizer, --speculative-config and adapters as directories that are mounted in every pod".into());
    fix.push(c.target.env("HF_HUB_OFFLINE", Some("1")));
    fix.push(c.target.kubectl(&format!(
        "exec {} -- sh -c {}",
        sh(&c.pod()),
        sh("echo HF_HOME=$HF_HOME; ls ${HF_HOME:-$HOME/.cache/huggingface}/hub")
    )));
    (title, cause.into(), fix)
}

fn tokenizer(c: &Case<'_, '_>) -> Words {
    let path = c.of(|k| match k {
        FaultKind::TokenizerMissing { path } => path.clone(),
        _ => None,
    });
    let at = path.unwrap_or_else(|| model_name(c));
    (
        format!("tokenizer files of {at} are missing"),
        format!(
            "{} could not build a tokenizer or processor from {at}: tokenizer.json, tokenizer_config.json, special_tokens_map.json or the family's own files are not there.",
            c.place
        ),
        vec![
            c.target
                .kubectl(&format!("exec {} -- ls -l {}", sh(&c.pod()), sh(&at))),
            format!(
                "copy tokenizer*.json, special_tokens_map.json and any *.model, vocab and merges files of the same revision into {}",
                sh(&at)
            ),
            c.target.arg("--tokenizer=/path/to/a/complete/tokenizer"),
        ],
    )
}

fn incomplete(c: &Case<'_, '_>) -> Words {
    let model = model_name(c);
    let path = c
        .of(|k| match k {
            FaultKind::BadRepoId { id } => id.clone(),
            FaultKind::NoWeights { path } => Some(path.clone()),
            _ => None,
        })
        .unwrap_or_else(|| model.clone());
    let what = c.of(|k| {
        Some(match k {
            FaultKind::NoConfig | FaultKind::TokenizerMissing { .. } => {
                "its config.json is missing".to_owned()
            }
            FaultKind::BadRepoId { .. } => "the path does not exist in this pod".into(),
            FaultKind::NoWeights { .. } => "it holds no weights".into(),
            FaultKind::ShardsMissing { files } => {
                format!("shards of the index are missing: {files}")
            }
            FaultKind::WeightsMissing => {
                "shards are missing: some weights were never loaded".into()
            }
            FaultKind::ShardCorrupt { why } => format!("a shard is truncated or corrupt ({why})"),
            _ => return None,
        })
    });
    let what = what.unwrap_or_else(|| "files are missing".into());
    (
        format!("{path} is not a complete model in {}: {what}", c.place),
        "A partial copy, a wrong mount path or an empty volume. The model must be whole in every pod.".into(),
        vec![
            c.target.kubectl(&format!("exec {} -- ls -l {}", sh(&c.pod()), sh(&path))),
            format!("copy the model again and compare sizes and checksums with its origin: config.json, generation_config.json, tokenizer files, model.safetensors.index.json and every shard it names, into {}", sh(&path)),
        ],
    )
}

fn permission(c: &Case<'_, '_>) -> Words {
    let path = c.of(|k| match k {
        FaultKind::Permission { path, .. } => path.clone(),
        _ => None,
    });
    if let Some(uid) = c.of(|k| match k {
        FaultKind::NoPasswd { uid } => Some(*uid),
        _ => None,
    }) {
        return (
            format!("user {uid} of {} has no entry in the password file", c.place),
            "The pod runs under a user id that the image does not know, and torch asks for its name.".into(),
            vec![
                c.target.env("USER", Some("vllm")),
                c.target.env("HOME", Some("/tmp")),
                c.target.env("TORCHINDUCTOR_CACHE_DIR", Some("/tmp/inductor")),
            ],
        );
    }
    let read_only = c
        .of(|k| {
            matches!(
                k,
                FaultKind::Permission {
                    read_only: true,
                    ..
                }
            )
            .then_some(())
        })
        .is_some();
    let at = path.unwrap_or_else(|| "a file".into());
    let (title, cause) = if read_only {
        (
            format!("{} can't write {at}: its file system is read-only", c.place),
            "A cache, a lock file or a download goes to a volume that is mounted read-only.",
        )
    } else {
        (
            format!("{} may not access {at}", c.place),
            "The container's user and group don't own the file, and its mode shuts others out: a volume written as root, or a cache below a HOME that can't be written.",
        )
    };
    (
        title,
        cause.into(),
        vec![
            c.target.kubectl(&format!("exec {} -- sh -c {}", sh(&c.pod()), sh(&format!("id; ls -ldn {}", sh(&at))))),
            c.target.yaml("securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, fsGroupChangePolicy: OnRootMismatch}"),
            c.target.env("HF_HOME", Some("/tmp/hf")),
            c.target.env("VLLM_CACHE_ROOT", Some("/tmp/vllm")),
        ],
    )
}

fn kv_cache(c: &Case<'_, '_>) -> Words {
    let told = c.of(|k| match k {
        FaultKind::KvTooSmall {
            len,
            fits,
            need,
            have,
        } => Some((*len, *fits, *need, *have)),
        _ => None,
    });
    let (title, cause, fit) = match told {
        Some((len, fits, need, have)) => {
            let len = len.map_or_else(|| "its length".into(), |l| l.to_string());
            let gib = match (need, have) {
                (Some(n), Some(h)) => format!(": {n} GiB needed, {h} GiB left"),
                _ => String::new(),
            };
            (
                format!("one request of max_model_len {len} does not fit the KV cache{gib}"),
                fits.map_or_else(
                    || "What weights and activations leave of the GPU memory can't hold one request of full length.".into(),
                    |f| format!("What weights and activations leave of the GPU memory holds about {f} tokens."),
                ),
                fits,
            )
        }
        None => (
            "no GPU memory is left for the KV cache".into(),
            "Weights and activations take all of gpu_memory_utilization × GPU memory.".into(),
            None,
        ),
    };
    let mut fix = Vec::new();
    if let Some(fit) = fit {
        // Rounded down to whole blocks of 16 tokens.
        fix.push(c.target.arg(&format!("--max-model-len={}", fit / 16 * 16)));
    }
    fix.push(c.target.arg("--gpu-memory-utilization=0.95"));
    fix.push(c.target.arg("--kv-cache-dtype=fp8"));
    fix.push("spread the weights over more GPUs: a larger --tensor-parallel-size or --pipeline-parallel-size".into());
    (title, cause, fix)
}

fn world_size(c: &Case<'_, '_>) -> Words {
    let told = c.of(|k| {
        Some(match k {
            FaultKind::Heads { heads, tp } => (
                format!("{heads} attention heads can't be divided by tensor parallel size {tp}"),
                (2..*tp).rev().find(|n| heads % n == 0),
            ),
            FaultKind::WorldSize { ranks, gpus } => (
                format!("{ranks} ranks are wanted where {gpus} GPUs are"),
                None,
            ),
            _ => return None,
        })
    });
    let (title, tp) = told.unwrap_or_else(|| {
        let text = c
            .list
            .iter()
            .find_map(|n| n.fault())
            .map_or("", |f| f.text.as_str());
        (
            format!("the parallel sizes don't fit: {}", short(text)),
            None,
        )
    });
    let mut fix = Vec::new();
    if let Some(tp) = tp {
        fix.push(c.target.arg(&format!("--tensor-parallel-size={tp}")));
    }
    if let Some((ranks, gpus)) = c.of(|k| match k {
        FaultKind::WorldSize { ranks, gpus } => Some((*ranks, *gpus)),
        _ => None,
    }) {
        if gpus > 0 && ranks % gpus == 0 {
            fix.push(c.target.arg(&format!(
                "--nnodes={} --node-rank=<index of the pod> --master-addr=<first pod>",
                ranks / gpus
            )));
        }
        fix.push(c.target.yaml(&format!(
            "resources: {{limits: {{nvidia.com/gpu: {ranks}}}}}"
        )));
    }
    fix.push("tensor × pipeline × data parallel size must equal the GPUs of all pods together; the tensor parallel size must divide the attention heads".into());
    (title, "World size, tensor, pipeline or node count contradict the model or the GPUs that the pod sees.".into(), fix)
}

fn rank_config(c: &Case<'_, '_>) -> Words {
    let twice = c
        .list
        .iter()
        .any(|n| n.line.text.contains("already checked in"));
    let title = if twice {
        "two processes claim one rank".to_owned()
    } else {
        "pods disagree about ranks or sizes".to_owned()
    };
    let text = c.list.first().map_or("", |n| &*n.line.text);
    (
        title,
        format!("{} says: {}. VLLM_DP_*, node rank, start rank or sizes differ between the pods, two pods were given the same rank, or a pod of an older run still lives.", c.place, short(text)),
        vec![
            c.target.pods(),
            "compare --data-parallel-size, --data-parallel-start-rank, --node-rank, --nnodes and --master-addr of all pods: sizes and address must be equal, ranks must differ".into(),
        ],
    )
}

fn rendezvous(c: &Case<'_, '_>) -> Words {
    let have = c.of(|k| match k {
        FaultKind::NotAllJoined {
            have,
            want,
            seconds,
        } => Some((*have, *want, *seconds)),
        _ => None,
    });
    let head = c.of(|k| match k {
        FaultKind::HeadUnreachable { to, .. } => Some(to.clone()),
        _ => None,
    });
    let (title, cause) = match (have, &head) {
        (Some((have, want, seconds)), _) => (
            format!("{have} of {want} ranks came to the rendezvous within {seconds} s"),
            format!("{} rank{} never reached the store: not started, crashed before, or unable to reach the head's port.", want.saturating_sub(have), if want.saturating_sub(have) == 1 { "" } else { "s" }),
        ),
        (None, Some(to)) => (
            format!("{} can't reach the head at {to}", c.place),
            "The head is not up, its address is wrong, or the port is blocked between the pods.".into(),
        ),
        _ => (
            format!("{} waited in vain for the other ranks", c.place),
            "A value that another rank should have stored, or an answer of the head, never came: that rank is late, dead or elsewhere.".into(),
        ),
    };
    let mut fix = vec![c.target.pods()];
    if let Some(to) = &head {
        let (host, port) = to.rsplit_once(':').unwrap_or((to, "29501"));
        fix.push(c.target.kubectl(&format!(
            "exec {} -- timeout 5 bash -c '</dev/tcp/\"$0\"/\"$1\"' {} {}",
            sh(&c.pod()),
            sh(host),
            sh(port)
        )));
    }
    fix.push("read the log of the ranks that did not come, and of the container before (kubectl logs --previous)".into());
    (title, cause, fix)
}

fn host_ip_fix(c: &Case<'_, '_>) -> Vec<String> {
    vec![
        c.target
            .yaml("- {name: VLLM_HOST_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}"),
    ]
}

/// CUDA ran out of memory while weights load.
fn cuda_memory(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    let list = notices
        .iter()
        .filter(|n| {
            n.fault().is_some_and(|f| match f.kind {
                FaultKind::LoadOom => true,
                FaultKind::CudaOom { .. } => n.stage.is_none_or(|s| s <= Stage::Weights),
                _ => false,
            })
        })
        .collect();
    for c in Case::split(view, list) {
        let told = c.of(|k| match k {
            FaultKind::CudaOom {
                gpu,
                total,
                free,
                wanted,
            } => Some((*gpu, *total, *free, *wanted)),
            _ => None,
        });
        let gib = |b: u64| format!("{:.1} GiB", b as f64 / f64::from(1 << 30));
        let (gpu, detail) = match told {
            Some((gpu, Some(total), Some(free), wanted)) => (
                gpu,
                format!(
                    " It has {}, {} were free{}.",
                    gib(total),
                    gib(free),
                    wanted.map_or_else(String::new, |w| format!(", {} were asked for", gib(w)))
                ),
            ),
            Some((gpu, ..)) => (gpu, String::new()),
            None => (None, String::new()),
        };
        let gpu = gpu.map_or_else(|| "a GPU".into(), |g| format!("GPU {g}"));
        let proven = c.list.iter().any(|n| {
            n.stage == Some(Stage::Weights)
                || n.fault().is_some_and(|f| f.kind == FaultKind::LoadOom)
        });
        let words = (
            format!("{gpu} of {} ran out of memory while weights load", c.place),
            format!("The weights of this rank don't fit beside what is already on the GPU.{detail}"),
            vec![
                c.target.kubectl(&format!("exec {} -- nvidia-smi --query-compute-apps=pid,used_memory --format=csv", sh(&c.pod()))),
                "spread the weights over more GPUs: a larger --tensor-parallel-size or --pipeline-parallel-size".into(),
                c.target.arg("--quantization=fp8"),
            ],
        );
        if let Some(mut f) = c.raise(
            "vllm.cuda-oom-loading",
            Severity::Error,
            Class::Resources,
            words,
        ) {
            f.confidence = if proven {
                Confidence::Certain
            } else if c.list.iter().any(|n| n.stage.is_some()) {
                Confidence::Likely
            } else {
                Confidence::Possible
            };
            out.push(f);
        }
    }
}

/// vLLM measured that memory was taken before it began.
fn foreign_memory(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    let list = notices
        .iter()
        .filter(|n| {
            n.fault()
                .is_some_and(|f| matches!(f.kind, FaultKind::NotEnoughFree { .. }))
        })
        .collect();
    for c in Case::split(view, list) {
        let Some((device, free, total, share)) = c.of(|k| match k {
            FaultKind::NotEnoughFree {
                device,
                free,
                total,
                utilization,
            } => Some((device.clone(), *free, *total, *utilization)),
            _ => None,
        }) else {
            continue;
        };
        let gpu = device.unwrap_or_else(|| "a GPU".into());
        let words = (
            format!("{gpu} of {} had only {free} of {total} GiB free at start", c.place),
            format!("vLLM wants {:.0} % of the GPU's memory, and {:.1} GiB were taken before it allocated any: another process, or a previous one that has not gone.", share * 100.0, total - free),
            vec![
                c.target.kubectl(&format!("exec {} -- nvidia-smi --query-compute-apps=pid,process_name,used_memory --format=csv", sh(&c.pod()))),
                c.target.arg(&format!("--gpu-memory-utilization={:.2}", (free / total * 0.97).max(0.1))),
            ],
        );
        if let Some(mut f) = c.raise(
            "gpu.foreign-memory",
            Severity::Warning,
            Class::Resources,
            words,
        ) {
            f.confidence = if view.live() {
                Confidence::Likely
            } else {
                Confidence::Possible
            };
            out.push(f);
        }
    }
}

/// Crashes in the capture or replay of CUDA graphs.
fn graph_crash(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    let sure = |n: &Notice<'_>| {
        n.fault().is_some_and(|f| match &f.kind {
            FaultKind::Capture | FaultKind::CustomAllReduce { .. } => true,
            FaultKind::IllegalAccess | FaultKind::CudaOom { .. } => n.stage == Some(Stage::Graphs),
            _ => false,
        })
    };
    // While serving, nearly every step replays a graph.
    let near = |n: &Notice<'_>| {
        n.fault().is_some_and(|f| match f.kind {
            FaultKind::IllegalAccess => n.stage.is_none_or(|s| s >= Stage::Compile),
            FaultKind::Crash { .. } => n.stage == Some(Stage::Graphs),
            _ => false,
        })
    };
    let eager = |n: &Notice<'_>| {
        let speakers = view.joined.units.iter().flat_map(|u| &u.speakers);
        speakers
            .filter_map(|s| view.model.speakers.list.get(*s as usize))
            .any(|s| s.source.0 == n.line.source && s.settings.flag("enforce_eager") == Some(true))
    };
    let list = notices
        .iter()
        .filter(|n| (sure(n) || near(n)) && !eager(n))
        .collect();
    for c in Case::split(view, list) {
        let custom = c.of(|k| matches!(k, FaultKind::CustomAllReduce { .. }).then_some(()));
        let mut fix = vec![c.target.arg("--enforce-eager")];
        fix.push(c.target.arg("--disable-custom-all-reduce"));
        if custom.is_some() {
            fix.push("remove expandable_segments:True from PYTORCH_CUDA_ALLOC_CONF".into());
        }
        fix.push(c.target.env("CUDA_LAUNCH_BLOCKING", Some("1")));
        let certain = c.list.iter().any(|n| sure(n));
        let staged = c.list.iter().any(|n| n.stage.is_some());
        let when = match c.list.iter().filter_map(|n| n.stage).max() {
            Some(Stage::Serving) => "while serving, where steps replay CUDA graphs",
            _ => "while CUDA graphs are captured",
        };
        let words = (
            format!("{} crashed {when}", c.place),
            "A kernel or a collective failed inside a CUDA graph. Run eagerly first: if that works, the graph, custom or fused all-reduce is at fault; CUDA_LAUNCH_BLOCKING=1 names the kernel.".into(),
            fix,
        );
        if let Some(mut f) = c.raise(
            "vllm.graph-crash",
            Severity::Error,
            Class::Application,
            words,
        ) {
            f.confidence = match (certain, staged) {
                (true, _) => Confidence::Certain,
                (false, true) => Confidence::Likely,
                (false, false) => Confidence::Possible,
            };
            out.push(f);
        }
    }
}

fn loopback(host: &str) -> bool {
    host == "localhost" || host.starts_with("127.") || host == "::1" || host == "0.0.0.0"
}

/// Addresses that can't be right for a job of several pods.
fn host_ip(view: &View<'_>, out: &mut Vec<Finding>) {
    let speakers = &view.model.speakers.list;
    let mut loops: Vec<(LineRef, &Speaker, String)> = Vec::new();
    let mut stray: Vec<(LineRef, &Speaker, String)> = Vec::new();
    let own = |s: &Speaker| {
        let c = view.model.sources.get(s.source)?.info.container.clone()?;
        view.model.pods.get(&c.pod)?.pod_ip.clone()
    };
    for s in speakers {
        if let Some((start, q)) = &s.rank_start
            && let Some(host) = host_of(&start.init)
            && loopback(host)
            && spans(view, s, start.world)
        {
            loops.push((
                line_ref(s.source, q),
                s,
                format!("distributed_init_method={}", start.init),
            ));
        }
        if let Some((value, q)) = s.env.get("VLLM_HOST_IP") {
            let told = format!("VLLM_HOST_IP={value}");
            if loopback(value) && spans(view, s, None) {
                loops.push((line_ref(s.source, q), s, told));
            } else if own(s).is_some_and(|ip| &ip != value) {
                stray.push((line_ref(s.source, q), s, told));
            }
        }
    }
    for (list, why) in [
        (loops, "a loopback address: other pods can't reach it"),
        (stray, "not the address of its pod"),
    ] {
        let Some((first, s, told)) = list.first() else {
            continue;
        };
        let unit = view.unit_of_speaker(s);
        let place = unit.map_or_else(|| "job".into(), |u| view.place(u));
        let mut f = Finding::new(
            "vllm.wrong-host-ip",
            &place,
            Severity::Error,
            Class::Configuration,
            Evidence::Line(first.clone()),
        );
        let units: BTreeSet<u32> = list
            .iter()
            .filter_map(|(_, s, _)| view.unit_of_speaker(s))
            .collect();
        let who = view.who(&units);
        (f.hosts, f.pods, f.ranks) = (who.hosts, who.pods, who.ranks);
        for l in first_lines(list.iter().map(|(l, ..)| l.clone()).collect()) {
            f.since = earlier(f.since, l.at);
            f.prove(Evidence::Line(l));
        }
        f.title = format!("{told} is {why}");
        f.cause = "Every rank meets at this address, and gloo and the message queues use it. Each pod must announce its own address.".into();
        let target = super::fix::Target::of(view.model);
        f.fix = vec![
            target.yaml("- {name: VLLM_HOST_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}"),
        ];
        out.push(f);
    }
}

/// The speaker's job has ranks outside its own pod: two hosts or sources take part, or more ranks than this
/// source can hold.
fn spans(view: &View<'_>, s: &Speaker, world: Option<u32>) -> bool {
    let Some(unit) = view.unit_of_speaker(s) else {
        return false;
    };
    let w = view.workload_of(unit);
    let peers = (0u32..)
        .zip(&view.scene.processes)
        .filter(|(u, _)| view.workload_of(*u) == w);
    let sources: BTreeSet<u32> = peers
        .filter(|(_, p)| p.global_rank.is_some())
        .map(|(_, p)| p.source)
        .collect();
    // A node holds at most 16 GPUs of one job.
    sources.len() > 1 || world.is_some_and(|w| w > 16) || s.leader.is_some() || s.head.is_some()
}

/// Tensor parallelism over TCP between hosts.
fn tp_over_network(view: &View<'_>, out: &mut Vec<Finding>) {
    for g in view.scene.groups.iter().filter(|g| g.kind == "tp") {
        let Some(c) = view
            .scene
            .communicators
            .iter()
            .find(|c| Some(&c.key) == g.communicator.as_ref())
        else {
            continue;
        };
        let slow: Vec<_> = c
            .edges
            .iter()
            .filter(|e| is_socket(e) && e.same_host == Some(false))
            .collect();
        let lines = first_lines(slow.iter().map(|e| e.line.clone()).collect());
        let Some(first) = lines.first() else { continue };
        let mut f = Finding::new(
            "vllm.tp-over-network",
            &c.key,
            Severity::Warning,
            Class::Configuration,
            Evidence::Line(first.clone()),
        );
        for l in lines {
            f.since = earlier(f.since, l.at);
            f.prove(Evidence::Line(l));
        }
        let units: BTreeSet<u32> = c.ranks.iter().map(|m| m.process).collect();
        let who = view.who(&units);
        f.hosts = who.hosts;
        f.pods = who.pods;
        f.communicator = Some(c.key.clone());
        f.ranks = c.ranks.iter().map(|m| m.rank).collect();
        f.title = format!(
            "tensor parallel group {} spans {} hosts over TCP",
            g.name,
            f.hosts.len()
        );
        f.cause = format!(
            "{} of its connections leave the host over sockets. Tensor parallelism exchanges activations in every layer of every token; it needs NVLink or RDMA.",
            slow.len()
        );
        let per_host = c.ranks.len() / f.hosts.len().max(1);
        let target = super::fix::Target::of(view.model);
        if per_host > 1 {
            f.fix.push(target.arg(&format!(
                "--tensor-parallel-size={per_host} --pipeline-parallel-size={}",
                f.hosts.len()
            )));
        }
        f.fix
            .push(target.yaml("resources: {limits: {rdma/hca: 1}}"));
        out.push(f);
    }
}

/// Weights that still advance are no hang.
fn loading_slow(view: &View<'_>, out: &mut Vec<Finding>) {
    let Some(now) = view.scene.now else { return };
    let mut by: BTreeMap<usize, (u32, &Speaker, f64, u64, u64)> = BTreeMap::new();
    for s in &view.model.speakers.list {
        let Some((Stage::Weights, began)) = &s.stage else {
            continue;
        };
        let Some((p, q)) = &s.progress else { continue };
        let (Some(a), Some(b), Some(unit)) = (began.at, q.at, view.unit_of_speaker(s)) else {
            continue;
        };
        let (age, quiet) = ((now.ns - a.ns) as f64 / 1e9, (now.ns - b.ns) as f64 / 1e9);
        let spent = (b.ns - a.ns) as f64 / 1e9;
        // Two minutes without a step is no longer an advance.
        let advancing = a.exact == now.exact && b.exact == now.exact && quiet < 120.0;
        if !advancing || age < 60.0 || p.done == 0 || p.done >= p.total || spent <= 0.0 {
            continue;
        }
        let eta = spent / p.done as f64 * (p.total - p.done) as f64;
        let slot = by
            .entry(view.workload_of(unit))
            .or_insert((unit, s, eta, p.done, p.total));
        if eta > slot.2 {
            *slot = (unit, s, eta, p.done, p.total);
        }
    }
    for (unit, s, eta, done, total) in by.into_values() {
        let (Some((_, began)), Some((p, q))) = (&s.stage, &s.progress) else {
            continue;
        };
        let place = view.place(unit);
        let mut f = Finding::new(
            "vllm.loading-slow",
            &place,
            Severity::Info,
            Class::Resources,
            Evidence::Line(line_ref(s.source, q)),
        );
        f.prove(Evidence::Line(line_ref(s.source, began)));
        let who = view.who(&BTreeSet::from([unit]));
        (f.hosts, f.pods, f.ranks) = (who.hosts, who.pods, who.ranks);
        f.since = began.at;
        f.title = format!(
            "weights still load: {done} of {total} {}, about {eta:.0} s to go",
            p.counted.unit()
        );
        f.cause = "NCCL is done and the weights advance: this is slow storage, not a hang.".into();
        f.fix = vec![
            "wait, or put the model on faster storage (local NVMe, a read-many volume with more throughput, a warm page cache)".into(),
            super::fix::Target::of(view.model).arg("--load-format=runai_streamer"),
        ];
        out.push(f);
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
