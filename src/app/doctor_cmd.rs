//! `ncclscope doctor`: whether everything it stands on is there, and what is missing on screen where it is not.
//!
//! Every line has an id that stays, so that a script can ask for one.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::args::{ClusterArgs, Format};
use super::config::Config;
use crate::model::event::Level;
use crate::parse::clean;
use crate::sources::cluster::needs::{self, NEEDS};
use crate::sources::cluster::{self, Connection};
use crate::sources::nvml;
use crate::theme::Depth;

/// Permissions asked for at once.
const AT_ONCE: usize = 8;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Form of the answer
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// It is not there, and something does without it.
    Warn,
    /// Something can't work.
    Fail,
    /// It could not be asked.
    Unknown,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Stays from version to version.
    pub id: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What is not there without it.
    pub without: Option<String>,
    /// What to do.
    pub fix: Option<String>,
}

fn line(id: &str, verdict: Verdict, found: impl Into<String>) -> Line {
    Line {
        id: id.to_owned(),
        verdict,
        found: clean(found.into().as_bytes()),
        without: None,
        fix: None,
    }
}

impl Line {
    fn without(mut self, what: impl Into<String>) -> Self {
        self.without = Some(what.into());
        self
    }

    fn fix(mut self, what: impl Into<String>) -> Self {
        self.fix = Some(what.into());
        self
    }
}

/// Looks at everything and prints it. Exit code 1 where something can't work.
///
/// # Errors
/// No runtime, or standard output can't be written.
pub fn run(args: &DoctorArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let mut lines = vec![configuration(config)];
    lines.extend(terminal());
    lines.push(nvml());
    lines.push(nccl());
    lines.extend(super::runtime()?.block_on(cluster_lines(args)));
    let text = match args.format {
        Format::Json => {
            let all = serde_json::json!({ "schema": "ncclscope.doctor/v1", "checks": lines });
            format!("{all:#}\n")
        }
        Format::Text => text(&lines),
    };
    super::print(text.as_bytes())?;
    let failed = lines.iter().any(|l| l.verdict == Verdict::Fail);
    Ok(ExitCode::from(u8::from(failed)))
}

fn text(lines: &[Line]) -> String {
    let width = lines.iter().map(|l| l.id.len()).max().unwrap_or(0);
    let mut out = String::new();
    for l in lines {
        let word = match l.verdict {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
            Verdict::Unknown => "?",
        };
        out.push_str(&format!("{word:<5} {:width$}  {}\n", l.id, l.found));
        let indent = " ".repeat(width + 8);
        if let Some(what) = &l.without {
            out.push_str(&format!("{indent}without it: {what}\n"));
        }
        if let Some(what) = &l.fix {
            out.push_str(&format!("{indent}{what}\n"));
        }
    }
    out
}

fn configuration(config: &Config) -> Line {
    match &config.path {
        Some(path) if config.found => {
            line("doctor.config", Verdict::Pass, path.display().to_string())
        }
        Some(path) => line(
            "doctor.config",
            Verdict::Pass,
            format!("none, and none is needed; it would be {}", path.display()),
        ),
        None => line(
            "doctor.config",
            Verdict::Pass,
            "none: there is no home folder",
        ),
    }
}

fn terminal() -> Vec<Line> {
    let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let mut lines = Vec::new();
    let term = var("TERM").unwrap_or_else(|| "none".to_owned());
    lines.push(if std::io::stdout().is_terminal() {
        let size = crossterm::terminal::size()
            .map_or_else(|_| "size unknown".to_owned(), |(w, h)| format!("{w}x{h}"));
        line("doctor.terminal", Verdict::Pass, format!("{term}, {size}"))
    } else {
        line(
            "doctor.terminal",
            Verdict::Warn,
            "standard output is not a terminal",
        )
        .without("the dashboard; `report` needs none")
    });
    let depth = Depth::detect(
        var("NO_COLOR").as_deref(),
        var("COLORTERM").as_deref(),
        var("TERM").as_deref(),
    );
    lines.push(
        line(
            "doctor.colour",
            Verdict::Pass,
            format!("{depth:?}").to_lowercase(),
        )
        .fix("--color 16|256|truecolor|never sets it by hand"),
    );
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|n| var(n));
    lines.push(match locale {
        Some(l) if l.to_ascii_lowercase().contains("utf") => {
            line("doctor.locale", Verdict::Pass, l)
        }
        Some(l) => line("doctor.locale", Verdict::Warn, format!("{l} is not UTF-8"))
            .without("signs beyond ASCII")
            .fix("LANG=C.UTF-8"),
        None => line("doctor.locale", Verdict::Pass, "not set; UTF-8 is assumed"),
    });
    let through = match (var("TMUX"), var("STY")) {
        (Some(_), _) => {
            "tmux: `set -g set-clipboard on`, or `allow-passthrough on`, lets `c` reach the clipboard"
        }
        (None, Some(_)) => "GNU screen: the clipboard is reached through it",
        (None, None) => "OSC 52, if the terminal allows it",
    };
    lines.push(line("doctor.clipboard", Verdict::Pass, through));
    lines
}

fn nvml() -> Line {
    match nvml_wrapper::Nvml::init() {
        Ok(nvml) => {
            let gpus = nvml.device_count().unwrap_or(0);
            let driver = nvml.sys_driver_version().unwrap_or_default();
            line(
                "doctor.nvml",
                Verdict::Pass,
                format!("{gpus} GPUs, driver {driver}"),
            )
        }
        Err(e) => line("doctor.nvml", Verdict::Warn, nvml::missing(&e))
            .without("`local`, the view of this node's own GPUs; clusters and logs need none"),
    }
}

fn nccl() -> Line {
    let places = ["libnccl.so.2", "libnccl.so"];
    let found = places.iter().find(|name| {
        [
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu",
            "/usr/lib64",
            "/usr/local/lib",
            "/usr/local/cuda/lib64",
        ]
        .iter()
        .any(|folder| Path::new(folder).join(name).exists())
    });
    match found {
        Some(name) => line("doctor.nccl", Verdict::Pass, (*name).to_owned()),
        None => line(
            "doctor.nccl",
            Verdict::Warn,
            "no libnccl in the usual folders of this machine",
        )
        .without("`worker` outside of the workload's image; inside of it there is one"),
    }
}

async fn cluster_lines(args: &DoctorArgs) -> Vec<Line> {
    let options = args.cluster.options(None);
    let link = match cluster::connect(&options).await {
        Ok(link) => link,
        Err(e) => {
            return vec![
                line("doctor.kubeconfig", Verdict::Fail, e.to_string())
                    .without("everything live; logs and recordings need no cluster")
                    .fix("--kubeconfig FILE, --context NAME, or KUBECONFIG"),
            ];
        }
    };
    let context = link.context().unwrap_or("the pod's own account").to_owned();
    let mut lines = vec![line(
        "doctor.kubeconfig",
        Verdict::Pass,
        format!(
            "context {context}, namespace {}, {}",
            link.namespace(),
            link.server()
        ),
    )];
    if let Err(e) = link.check().await {
        lines.push(line("doctor.reach", Verdict::Fail, e.to_string()).without("everything live"));
        return lines;
    }
    lines.push(line(
        "doctor.reach",
        Verdict::Pass,
        "the API server answers",
    ));
    lines.extend(permissions(&link).await);
    lines
}

async fn permissions(link: &Connection) -> Vec<Line> {
    use futures::StreamExt as _;
    let namespace = link.namespace().to_owned();
    let asked = NEEDS
        .iter()
        .flat_map(|n| n.verbs.iter().map(move |v| (n, *v)));
    let answers: Vec<_> = futures::stream::iter(asked)
        .map(async |(need, verb)| {
            (
                need,
                verb,
                needs::allowed(link, need, verb, &namespace).await,
            )
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut lines: Vec<Line> = Vec::new();
    for need in NEEDS {
        let level = match need.level {
            Level::Observe => "observe",
            Level::Probe => "probe",
            Level::Act => "act",
        };
        let dot = if need.group.is_empty() { "" } else { "." };
        let id = format!(
            "doctor.rbac.{level}.{}{dot}{}",
            need.resource.replace('/', "-"),
            need.group
        );
        let mine = answers.iter().filter(|(n, ..)| *n == need);
        let mut refused = Vec::new();
        let mut broken = None;
        for (_, verb, answer) in mine {
            match answer {
                Ok(true) => {}
                Ok(false) => refused.push(need.rule(verb)),
                Err(t) => broken = Some(t.text.clone()),
            }
        }
        let place = if need.cluster {
            "in the cluster".to_owned()
        } else {
            format!("in {namespace}")
        };
        lines.push(match (broken, refused.as_slice()) {
            (Some(why), _) => line(&id, Verdict::Unknown, why).without(need.panes),
            (None, []) => line(
                &id,
                Verdict::Pass,
                format!("{} {place}", need.verbs.join(", ")),
            ),
            (None, all) => {
                let must = need.level == Level::Observe && !need.optional;
                let verdict = if must { Verdict::Fail } else { Verdict::Warn };
                line(
                    &id,
                    verdict,
                    format!("not allowed to {} {place}", all.join(", ")),
                )
                .without(need.panes)
                .fix(format!(
                    "ncclscope rbac {level} -n {namespace} | kubectl apply -f -"
                ))
            }
        });
    }
    lines
}
