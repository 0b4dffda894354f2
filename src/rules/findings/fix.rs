//! Fixes that can be pasted: names filled in, values quoted, the right words for the workload's kind.

use std::collections::BTreeSet;

use crate::model::Model;
use crate::parse::is_unseen;

/// Quotes a word for a POSIX shell; what needs no quotes gets none.
#[must_use]
pub fn sh(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&b);
    if !word.is_empty() && !word.starts_with('-') && word.bytes().all(plain) {
        return word.to_owned();
    }
    // A control character would end or rewrite the line that is pasted.
    let shown: String = word
        .chars()
        .map(|c| if is_unseen(c) { '?' } else { c })
        .collect();
    format!("'{}'", shown.replace('\'', r"'\''"))
}

/// A double-quoted YAML scalar.
#[must_use]
pub fn yaml(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if is_unseen(c) => out.push('?'),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What a line of a fix is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// To be typed into a shell.
    Command,
    /// A piece of YAML, an argument or a setting: to be put where it belongs.
    Piece,
    /// A sentence.
    Words,
}

impl Shape {
    /// Of a line of a fix.
    #[must_use]
    pub fn of(fix: &str) -> Self {
        let mut words = fix.split_whitespace();
        let first = words.next().unwrap_or_default();
        let key = |w: &str| {
            w.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b))
        };
        let setting = first.split_once('=').is_some_and(|(name, _)| key(name));
        match first {
            "kubectl" | "ncclscope" => Self::Command,
            // Ray's and vLLM's own programs, where `…` stands for what is there already.
            "ray" | "vllm" => Self::Piece,
            "export" if words.next().is_some_and(|w| w.contains('=')) => Self::Command,
            "unset" if words.next().is_some_and(key) && words.next().is_none() => Self::Command,
            "-" => Self::Piece,
            _ if first.starts_with("--") || first.starts_with('{') || setting => Self::Piece,
            _ if first.strip_suffix(':').is_some_and(key) && fix.contains(['{', '[', '\n']) => {
                Self::Piece
            }
            _ => Self::Words,
        }
    }
}

/// What fixes are about: the workload on screen, or a job known from its logs alone.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Namespace.
    pub namespace: Option<String>,
    kind: String,
    name: Option<String>,
    selector: Option<String>,
    /// Pods of which a container has been started anew.
    restarted: BTreeSet<String>,
    /// The pods are known, and with them how often each restarted.
    pods_known: bool,
    /// Sources that are files or a pipe: their name is no pod's.
    files: BTreeSet<String>,
}

/// The namespace that the paths of the logs name, if it is one.
fn named(model: &Model) -> Option<String> {
    let sources = model.sources.iter();
    let containers = sources.filter_map(|(_, s)| s.info.container.as_ref());
    let all: BTreeSet<&str> = containers.map(|c| c.pod.namespace.as_str()).collect();
    match all.first() {
        Some(one) if all.len() == 1 => Some((*one).to_owned()),
        _ => None,
    }
}

impl Target {
    /// The workload of a model.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let namespace = model
            .session
            .namespace
            .clone()
            .or_else(|| model.pods.iter().next().map(|(k, _)| k.namespace.clone()))
            .or_else(|| named(model));
        let known = Self {
            namespace,
            restarted: model
                .pods
                .iter()
                .filter(|(_, pod)| pod.containers.iter().any(|c| c.restarts > 0))
                .map(|(k, _)| k.name.clone())
                .collect(),
            pods_known: !model.pods.is_empty(),
            files: model
                .sources
                .iter()
                .filter(|(_, s)| s.info.container.is_none())
                .map(|(_, s)| s.info.name.clone())
                .collect(),
            ..Self::default()
        };
        match model.pods.workload() {
            Some(w) => Self {
                namespace: Some(w.namespace.clone()),
                kind: w.kind.clone(),
                name: Some(w.name.clone()),
                selector: Some(w.selector.clone()).filter(|s| !s.is_empty()),
                ..known
            },
            None => known,
        }
    }

    /// `kubectl -n NAMESPACE …`; words that come from outside must already be quoted.
    #[must_use]
    pub fn kubectl(&self, rest: &str) -> String {
        match &self.namespace {
            Some(n) => format!("kubectl -n {} {rest}", sh(n)),
            None => format!("kubectl {rest}"),
        }
    }

    /// A pod as a word of a command. Where only a file tells of it, a gap to be filled in: nobody knows whether the
    /// pod was called as its file is.
    #[must_use]
    pub fn pod(&self, place: &str) -> String {
        match place.rsplit('/').next() {
            Some("?" | "-" | "") | None => sh("<pod>"),
            Some(file) if self.files.contains(place) => sh(&format!("<pod of {file}>")),
            _ => sh(place),
        }
    }

    /// Lists the pods of the workload.
    #[must_use]
    pub fn pods(&self) -> String {
        match &self.selector {
            Some(s) => self.kubectl(&format!("get pods -l {} -o wide", sh(s))),
            None => self.kubectl("get pods -o wide"),
        }
    }

    /// The log of the container that ended: the one before where the pod has been restarted, else the one that
    /// is there; a pod that never restarted has none before.
    #[must_use]
    pub fn log(&self, pod: &str) -> String {
        if self.restarted.contains(pod) {
            return self.kubectl(&format!("logs --previous {}", self.pod(pod)));
        }
        let open = if self.pods_known {
            ""
        } else {
            "   # with --previous once it has been restarted"
        };
        self.kubectl(&format!("logs {}{open}", self.pod(pod)))
    }

    /// `kubectl describe pod …`.
    #[must_use]
    pub fn describe(&self, pod: &str) -> String {
        self.kubectl(&format!("describe pod {}", self.pod(pod)))
    }

    /// Where the pod template of this kind lies.
    #[must_use]
    pub fn template(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        let path = match self.kind.as_str() {
            "lws" => "spec.leaderWorkerTemplate.{leaderTemplate,workerTemplate}.spec",
            "sts" | "deploy" | "job" => "spec.template.spec",
            "jobset" => "spec.replicatedJobs[*].template.spec.template.spec",
            "raycluster" => "spec.{headGroupSpec,workerGroupSpecs[*]}.template.spec",
            "pytorchjob" => "spec.pytorchReplicaSpecs.*.template.spec",
            _ => return None,
        };
        Some(format!("{path} of {}/{}", self.kind, sh(name)))
    }

    /// Sets an environment variable, or removes it (`None`), in every pod.
    #[must_use]
    pub fn env(&self, name: &str, value: Option<&str>) -> String {
        if let ("sts" | "deploy", Some(w)) = (self.kind.as_str(), &self.name) {
            let change = match value {
                Some(v) => sh(&format!("{name}={v}")),
                None => format!("{name}-"),
            };
            return self.kubectl(&format!("set env {}/{} {change}", self.kind, sh(w)));
        }
        match (self.template(), value) {
            (Some(at), Some(v)) => {
                format!(
                    "- {{name: {name}, value: {}}}   # containers[*].env in {at}",
                    yaml(v)
                )
            }
            (Some(at), None) => format!("remove {name} from containers[*].env in {at}"),
            (None, Some(v)) => format!("export {name}={}", sh(v)),
            (None, None) => format!("unset {name}"),
        }
    }

    /// A piece of YAML for the pod template.
    #[must_use]
    pub fn yaml(&self, text: &str) -> String {
        match self.template() {
            Some(at) => format!("{text}   # in {at}"),
            None => format!("{text}   # in the pod template's spec"),
        }
    }

    /// An argument for `vllm serve`.
    #[must_use]
    pub fn arg(&self, arg: &str) -> String {
        match self.template() {
            Some(at) => format!("{arg}   # add to vllm serve: containers[*].args in {at}"),
            None => format!("{arg}   # add to vllm serve"),
        }
    }
}
