//! Model files: the hub, the tokenizer, shards, rights.

use super::super::View;
use super::super::fix::sh;
use super::super::trouble::{Case, Notice, Words};
use crate::parse::vllm::FaultKind;
use crate::rules::scene::Stage;

/// A configuration, not a tokenizer, is what is missing.
pub(super) fn config_text(text: &str) -> bool {
    text.contains("Can't load the configuration of") || text.contains("Unrecognized model ")
}

/// The source came further than loading after this line: it was no obstacle.
pub(super) fn went_on(view: &View<'_>, n: &Notice<'_>) -> bool {
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

pub(super) fn hub(c: &Case<'_, '_>) -> Words {
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
        c.target.pod(&c.pod()),
        sh("echo HF_HOME=$HF_HOME; ls ${HF_HOME:-$HOME/.cache/huggingface}/hub")
    )));
    (title, cause.into(), fix)
}

pub(super) fn tokenizer(c: &Case<'_, '_>) -> Words {
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
            c.target.kubectl(&format!(
                "exec {} -- ls -l {}",
                c.target.pod(&c.pod()),
                sh(&at)
            )),
            format!(
                "copy tokenizer*.json, special_tokens_map.json and any *.model, vocab and merges files of the same revision into {}",
                sh(&at)
            ),
            c.target.arg("--tokenizer=/path/to/a/complete/tokenizer"),
        ],
    )
}

pub(super) fn incomplete(c: &Case<'_, '_>) -> Words {
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
            c.target.kubectl(&format!("exec {} -- ls -l {}", c.target.pod(&c.pod()), sh(&path))),
            format!("copy the model again and compare sizes and checksums with its origin: config.json, generation_config.json, tokenizer files, model.safetensors.index.json and every shard it names, into {}", sh(&path)),
        ],
    )
}

pub(super) fn permission(c: &Case<'_, '_>) -> Words {
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
            c.target.kubectl(&format!("exec {} -- sh -c {}", c.target.pod(&c.pod()), sh(&format!("id; ls -ldn {}", sh(&at))))),
            c.target.yaml("securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, fsGroupChangePolicy: OnRootMismatch}"),
            c.target.env("HF_HOME", Some("/tmp/hf")),
            c.target.env("VLLM_CACHE_ROOT", Some("/tmp/vllm")),
        ],
    )
}
