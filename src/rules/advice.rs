//! What to set to see more, and what once it runs (`assets/advice.yaml`), as lines to paste.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::findings::fix::{sh, yaml};
use super::scene::{CheckVerdict, Scene};

/// When a piece of advice is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// To find out.
    Debugging,
    /// Once it is well.
    Running,
}

impl When {
    /// A word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Debugging => "debugging",
            Self::Running => "running",
        }
    }
}

/// A piece of advice.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advice {
    /// `advice.transports`.
    pub id: String,
    /// What it gives.
    pub title: String,
    /// When.
    pub when: When,
    /// What it does.
    pub means: String,
    /// What it costs.
    pub costs: String,
    /// Variables; one without a value is to be removed.
    #[serde(default)]
    pub env: BTreeMap<String, Option<String>>,
    /// Arguments of `vllm serve`.
    #[serde(default)]
    pub args: Vec<String>,
    /// Of use only where this check has something to say.
    #[serde(default)]
    pub check: Option<String>,
}

static ADVICE: LazyLock<Vec<Advice>> = LazyLock::new(|| {
    serde_yaml::from_str(include_str!("../../assets/advice.yaml")).unwrap_or_default()
});

/// All advice, debugging first.
#[must_use]
pub fn declared() -> &'static [Advice] {
    &ADVICE
}

/// Lines to paste: for whom, and the lines.
pub type Forms = Vec<(&'static str, Vec<String>)>;

/// One variable as lines for runai, YAML and a shell.
#[must_use]
pub fn set(name: &str, value: Option<&str>) -> Forms {
    forms(
        &BTreeMap::from([(name.to_owned(), value.map(str::to_owned))]),
        &[],
    )
}

impl Advice {
    /// As lines for runai, YAML and a shell.
    #[must_use]
    pub fn forms(&self) -> Forms {
        forms(&self.env, &self.args)
    }

    /// Whether it is of use for this job, as far as the checks can tell.
    #[must_use]
    pub fn fits(&self, scene: &Scene) -> bool {
        let told = |v| {
            matches!(
                v,
                CheckVerdict::Pass | CheckVerdict::Warn | CheckVerdict::Fail
            )
        };
        self.check.as_ref().is_none_or(|id| {
            let check = scene.checks.iter().find(|c| c.id == id);
            check.is_some_and(|c| told(c.verdict))
        })
    }

    /// In one line.
    #[must_use]
    pub fn short(&self) -> String {
        let env = self.env.iter().map(|(k, v)| match v {
            Some(v) => format!("{k}={v}"),
            None => format!("unset {k}"),
        });
        env.chain(self.args.iter().cloned())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

fn forms(env: &BTreeMap<String, Option<String>>, args: &[String]) -> Forms {
    let set = || env.iter().filter_map(|(k, v)| Some((k, v.as_ref()?)));
    let gone = || env.iter().filter(|(_, v)| v.is_none()).map(|(k, _)| k);
    let mut runai: Vec<String> = Vec::new();
    let flags: Vec<String> = set()
        .map(|(k, v)| format!("-e {}", sh(&format!("{k}={v}"))))
        .collect();
    if !flags.is_empty() {
        runai.push(format!("runai inference submit … {}", flags.join(" ")));
    }
    let mut lines: Vec<String> = set()
        .map(|(k, v)| format!("- {{name: {k}, value: {}}}   # containers[*].env", yaml(v)))
        .collect();
    let mut shell: Vec<String> = set()
        .map(|(k, v)| format!("export {k}={}", sh(v)))
        .collect();
    for k in gone() {
        runai.push(format!("without -e {k}=…"));
        lines.push(format!("# remove {k} from containers[*].env"));
        shell.push(format!("unset {k}"));
    }
    if !args.is_empty() {
        let words: Vec<String> = args.iter().map(|a| quoted(a)).collect();
        runai.push(format!(
            "runai inference submit … -- vllm serve … {}",
            words.join(" ")
        ));
        lines.push(format!(
            "args: [{}]   # beside those that are there",
            args.iter().map(|a| yaml(a)).collect::<Vec<_>>().join(", ")
        ));
        shell.push(format!("vllm serve … {}", words.join(" ")));
    }
    vec![("runai", runai), ("YAML", lines), ("shell", shell)]
}

/// A placeholder is for a person and stays readable.
fn quoted(arg: &str) -> String {
    if arg.contains('<') {
        arg.to_owned()
    } else {
        sh(arg)
    }
}
