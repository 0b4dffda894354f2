//! Why a pod is not what it should be, in one line taken from what Kubernetes says.

use crate::model::event::{ContainerState, ContainerView, PodView};
use crate::parse::Nanos;

/// A container that ended badly, or a pod that was ended from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// Container; empty when the whole pod was ended.
    pub container: String,
    /// UID of the pod in which it happened: a successor under the same name has another one.
    pub uid: String,
    /// When it ended.
    pub at: Option<Nanos>,
    /// What happened: `exit code 1 (Error)`, `OOMKilled`, `Evicted`.
    pub what: String,
    /// Termination message or the kubelet's text, first line.
    pub message: Option<String>,
    /// Restarts of the container that came before this one and were not seen.
    pub earlier: u32,
}

impl Failure {
    /// As one line.
    #[must_use]
    pub fn text(&self) -> String {
        let mut s = if self.container.is_empty() {
            self.what.clone()
        } else {
            format!("{}: {}", self.container, self.what)
        };
        if let Some(m) = &self.message {
            s.push_str(": ");
            s.push_str(m);
        }
        s
    }
}

/// First line of a text, without surrounding blanks; nothing when that is empty.
fn line(text: Option<&str>) -> Option<String> {
    let l = text?.trim().lines().next()?.trim();
    (!l.is_empty()).then(|| l.into())
}

/// How a container ended, when that was bad.
fn ended(state: &ContainerState) -> Option<(String, Option<String>, Option<Nanos>)> {
    let ContainerState::Terminated {
        exit_code,
        signal,
        reason,
        message,
        finished,
        ..
    } = state
    else {
        return None;
    };
    if *exit_code == 0 && signal.unwrap_or(0) == 0 {
        return None;
    }
    let what = match (reason.as_deref(), signal.filter(|s| *s != 0)) {
        (Some("OOMKilled"), _) => format!("OOMKilled (exit code {exit_code})"),
        (_, Some(s)) => format!("killed by signal {s}"),
        (Some(r), None) if !r.is_empty() => {
            format!("exit code {exit_code} ({r}{})", meaning(*exit_code))
        }
        _ => format!("exit code {exit_code}{}", meaning(*exit_code)),
    };
    Some((what, line(message.as_deref()), *finished))
}

/// What an exit code means beyond its number.
fn meaning(code: i32) -> &'static str {
    match code {
        126 => ", not executable",
        127 => ", not found",
        134 => ", SIGABRT",
        135 => ", SIGBUS",
        137 => ", SIGKILL",
        139 => ", SIGSEGV",
        143 => ", SIGTERM",
        _ => "",
    }
}

/// Every failure that a pod shows now, the earliest first.
#[must_use]
pub fn failures(pod: &PodView) -> Vec<Failure> {
    let mut all = Vec::new();
    if pod.phase == "Failed"
        && let Some(what) = pod.reason.clone().filter(|r| !r.is_empty())
    {
        let at = pod
            .conditions
            .iter()
            .find(|c| c.kind == "DisruptionTarget")
            .and_then(|c| c.since);
        let message = line(pod.message.as_deref());
        all.push(Failure {
            uid: pod.uid.clone(),
            at,
            what,
            message,
            ..Failure::default()
        });
    }
    for c in pod.init_containers.iter().chain(&pod.containers) {
        // The restart count says how many runs came before; of those only the last one is told.
        let before = [
            (&c.last_state, c.restarts.saturating_sub(1)),
            (&c.state, c.restarts),
        ];
        for (state, earlier) in before {
            if let Some((what, message, at)) = ended(state) {
                all.push(Failure {
                    container: c.name.clone(),
                    uid: pod.uid.clone(),
                    at,
                    what,
                    message,
                    earlier,
                });
            }
        }
    }
    all.sort_by_key(|f| f.at.unwrap_or(Nanos::MAX));
    all
}

/// Why the pod is not running, or why it restarted: one line, or nothing when there is nothing to say.
#[must_use]
pub fn why(pod: &PodView) -> Option<String> {
    if let Some(c) = pod
        .conditions
        .iter()
        .find(|c| c.kind == "DisruptionTarget" && c.status == "True")
    {
        let reason = c.reason.as_deref().unwrap_or("DisruptionTarget");
        let text = line(c.message.as_deref()).map_or_else(String::new, |m| format!(": {m}"));
        return Some(format!("ended from outside, {reason}{text}"));
    }
    if pod.deletion.is_some() {
        return Some("being deleted".into());
    }
    if pod.phase == "Failed" && pod.reason.as_deref().is_some_and(|r| !r.is_empty()) {
        return line(pod.message.as_deref()).or_else(|| pod.reason.clone());
    }
    if pod.phase == "Pending"
        && let Some(w) = unscheduled(pod)
    {
        return Some(w);
    }
    pod.init_containers
        .iter()
        .chain(&pod.containers)
        .find_map(container)
}

/// What keeps a container from running, or ended its last run.
fn container(c: &ContainerView) -> Option<String> {
    let last = ended(&c.last_state).map(|(what, message, _)| match message {
        Some(m) => format!("{what}: {m}"),
        None => what,
    });
    match &c.state {
        ContainerState::Waiting { reason, message } => {
            if matches!(
                reason.as_str(),
                "" | "ContainerCreating" | "PodInitializing"
            ) {
                return last.map(|l| format!("{}: {l}", c.name));
            }
            let text = match (reason.as_str(), last, line(message.as_deref())) {
                ("CrashLoopBackOff", Some(l), _) => format!("last run {l}"),
                (_, _, Some(m)) => m,
                (r, _, None) => r.into(),
            };
            Some(format!("{}: {text}", c.name))
        }
        state => ended(state)
            .map(|(what, message, _)| match message {
                Some(m) => format!("{}: {what}: {m}", c.name),
                None => format!("{}: {what}", c.name),
            })
            .or_else(|| last.map(|l| format!("{} restarted: {l}", c.name))),
    }
}

/// Why no node was found.
fn unscheduled(pod: &PodView) -> Option<String> {
    if !pod.scheduling_gates.is_empty() {
        return Some(format!("held by gate {}", pod.scheduling_gates.join(", ")));
    }
    let c = pod.conditions.iter().find(|c| c.kind == "PodScheduled");
    match c {
        Some(c) if c.status == "False" => {
            let m = line(c.message.as_deref());
            Some(m.map_or_else(
                || c.reason.clone().unwrap_or_else(|| "not scheduled".into()),
                |m| scheduler(&m),
            ))
        }
        Some(_) => None,
        None if pod.node.is_none() => Some("no scheduler has looked at it".into()),
        None => None,
    }
}

/// Shortens the scheduler's message to its counts: `0/3 nodes: 2 Insufficient nvidia.com/gpu, 1 untolerated taint`.
///
/// What it says of preemption and of claims comes after the reasons, in sentences of their own. Resource names hold
/// dots, so a dot alone ends nothing.
#[must_use]
pub fn scheduler(message: &str) -> String {
    let beside = ["preemption:", "no new claims to deallocate"];
    let end = beside.iter().filter_map(|b| message.find(b)).min();
    let main = end.and_then(|e| message.get(..e)).unwrap_or(message);
    let main = main.trim_end_matches([' ', ',', '.']);
    match main.split_once(" nodes are available: ") {
        Some((count, rest)) => format!("{count} nodes: {}", rest.trim()),
        None => main.into(),
    }
}
