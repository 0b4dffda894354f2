//! Variables of NCCL, gloo, vLLM and torch: what they mean (`assets/variables.yaml`), and which values the pods have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

use super::probes::Members;
use crate::model::probes::Probes;
use crate::parse::probe::Answer;

/// How a variable must stand over the pods of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// A difference is a mistake.
    #[default]
    Equal,
    /// Equality is a mistake: addresses, ranks.
    Differ,
    /// Says nothing.
    Ignored,
}

/// A variable as it is written down.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Name.
    pub name: String,
    /// What holds where it is not set.
    pub default: String,
    /// How it must stand over pods.
    #[serde(default)]
    pub over: Over,
    /// What it does.
    pub means: String,
    /// Values that are mistakes, or are for debugging alone, and why.
    #[serde(default)]
    pub mistakes: BTreeMap<String, String>,
    /// What it should be once the debugging is over; `unset` where it should go.
    #[serde(default)]
    pub production: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    equal_prefixes: Vec<String>,
    ignored_prefixes: Vec<String>,
    variables: Vec<Variable>,
}

static FILE: LazyLock<File> = LazyLock::new(|| {
    serde_yaml::from_str(include_str!("../../assets/variables.yaml")).unwrap_or_default()
});

/// Every variable that is written down.
#[must_use]
pub fn declared() -> &'static [Variable] {
    &FILE.variables
}

/// What is known of a name.
#[must_use]
pub fn get(name: &str) -> Option<&'static Variable> {
    static BY: LazyLock<BTreeMap<&'static str, &'static Variable>> = LazyLock::new(|| {
        FILE.variables
            .iter()
            .map(|v| (v.name.as_str(), v))
            .collect()
    });
    BY.get(name).copied()
}

/// How a name must stand over pods; what is neither written down nor of a known family says nothing.
#[must_use]
pub fn over(name: &str) -> Over {
    if let Some(v) = get(name) {
        return v.over;
    }
    let begins = |list: &[String]| list.iter().any(|p| name.starts_with(p.as_str()));
    if begins(&FILE.ignored_prefixes) || !begins(&FILE.equal_prefixes) {
        Over::Ignored
    } else {
        Over::Equal
    }
}

/// Why a value is a mistake, or for debugging alone.
#[must_use]
pub fn mistake(name: &str, value: &str) -> Option<&'static str> {
    get(name)?.mistakes.get(value).map(String::as_str)
}

/// Whether a name smells of a secret: that it is set is all that is shown of it, wherever its value was found.
#[must_use]
pub fn secret(name: &str) -> bool {
    const WORDS: [&str; 6] = ["KEY", "TOKEN", "SECRET", "PASS", "AUTH", "CREDENTIAL"];
    // Numbers of tokens, tokenizers, and the partition key of InfiniBand hide nothing.
    let name = name.to_ascii_uppercase();
    let name = ["TOKENS", "TOKENIZER", "PKEY"]
        .iter()
        .fold(name, |name, plain| name.replace(plain, ""));
    WORDS.iter().any(|w| name.contains(w))
}

/// One variable over the pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    /// Value and the pods that have it.
    pub by: BTreeMap<String, Vec<String>>,
    /// Pods that are known not to set it.
    pub unset: Vec<String>,
}

impl Values {
    /// The value of one pod.
    #[must_use]
    pub fn of(&self, pod: &str) -> Option<&str> {
        self.by
            .iter()
            .find(|(_, pods)| pods.iter().any(|p| p == pod))
            .map(|(v, _)| v.as_str())
    }

    /// More than one value, or set here and not there.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.by.len() > 1 || (!self.by.is_empty() && !self.unset.is_empty())
    }
}

/// Variables over the pods of a workload: as the process in the container has them where a probe has read them,
/// else as the specification writes them. A value that comes from a secret, a config map or a field is not known
/// from the specification, and then that pod is left out for that name.
#[must_use]
pub fn values(members: &Members<'_>, probes: &Probes) -> BTreeMap<String, Values> {
    struct Known<'a> {
        pod: &'a str,
        vars: BTreeMap<&'a str, Option<&'a str>>,
        read: bool,
    }
    let mut known: Vec<Known<'_>> = Vec::new();
    // That a secret is set is all that is known of it.
    let mut out: BTreeMap<String, Values> = BTreeMap::new();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for m in &members.list {
        let answer = probes
            .at("env", Some(&m.key))
            .and_then(|p| p.answer.as_deref());
        // A value with a reference in it is not what the process gets.
        let told = |k: &str, v: &String| !v.contains("$(") && !secret(k);
        let env = m.container.env.iter();
        let mut vars: BTreeMap<&str, Option<&str>> = env
            .map(|(k, v)| {
                let value = v.as_ref().filter(|v| told(k, v));
                (k.as_str(), value.map(String::as_str))
            })
            .collect();
        for (name, _) in m.container.env.iter().filter(|(k, _)| secret(k)) {
            out.entry(name.clone()).or_default();
        }
        let mut read = false;
        if let Some(Answer::Environment(e)) = answer {
            for name in &e.secrets {
                out.entry(name.clone()).or_default();
            }
            if !e.denied && !e.vars.is_empty() {
                vars.retain(|_, v| v.is_none());
                vars.extend(e.vars.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))));
                vars.extend(e.secrets.iter().map(|k| (k.as_str(), None)));
                read = true;
            }
        }
        names.extend(vars.iter().filter(|(_, v)| v.is_some()).map(|(k, _)| *k));
        known.push(Known {
            pod: &m.pod.name,
            vars,
            read,
        });
    }
    // The specification does not tell what the image sets: absence proves something only among equals.
    let all_read = known.iter().all(|k| k.read);
    let none_read = known.iter().all(|k| !k.read);
    for name in names {
        let mut by: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut unset = Vec::new();
        for k in &known {
            match k.vars.get(name) {
                Some(Some(value)) => by.entry(value).or_default().push(k.pod.to_owned()),
                Some(None) => {}
                None if k.read || all_read || none_read => unset.push(k.pod.to_owned()),
                None => {}
            }
        }
        let by = by.into_iter().map(|(v, pods)| (v.to_owned(), pods));
        let values = Values {
            by: by.collect(),
            unset,
        };
        out.insert(name.to_owned(), values);
    }
    out
}

/// Flags of vLLM whose values must differ from pod to pod of an engine.
pub const FLAGS_DIFFER: &[&str] = &["node_rank", "data_parallel_start_rank"];

/// Flags of vLLM that must be equal in every pod of an engine.
pub const FLAGS_EQUAL: &[&str] = &[
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "prefill_context_parallel_size",
    "decode_context_parallel_size",
    "nnodes",
    "master_addr",
    "master_port",
    "data_parallel_address",
    "data_parallel_rpc_port",
];

/// `--master-addr` of `master_addr`.
#[must_use]
pub fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

/// Variables that stand wrong over the pods: must be equal and differ, or must differ and are shared.
#[must_use]
pub fn skewed(values: &BTreeMap<String, Values>) -> Vec<(&String, &Values)> {
    values
        .iter()
        .filter(|(name, v)| match over(name) {
            Over::Equal => v.differs(),
            Over::Differ => v.by.values().any(|pods| pods.len() > 1),
            Over::Ignored => false,
        })
        .collect()
}
