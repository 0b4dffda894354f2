//! STATUS, READY, RESTARTS and AGE as `kubectl get pods` prints them.
//!
//! kubectl does not compute these columns, the API server does when it is asked for a table; this follows
//! its printer rule by rule, so that two people who look at two tools read the same words.

use crate::model::event::{ContainerState, ContainerView, PodView};
use crate::parse::Nanos;

/// What the columns of `kubectl get pods` say of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// STATUS.
    pub status: String,
    /// Containers that are ready, of all that count (sidecars included).
    pub ready: (u32, u32),
    /// Restarts that the column counts.
    pub restarts: u32,
    /// When the last of them ended.
    pub last_restart: Option<Nanos>,
}

impl Columns {
    /// Derives them.
    #[must_use]
    pub fn of(pod: &PodView) -> Self {
        Walk::new(pod).run()
    }

    /// READY: `1/2`.
    #[must_use]
    pub fn ready_text(&self) -> String {
        format!("{}/{}", self.ready.0, self.ready.1)
    }

    /// RESTARTS: `3`, or `3 (5m ago)`.
    #[must_use]
    pub fn restarts_text(&self, now: Option<Nanos>) -> String {
        match (self.restarts, self.last_restart, now) {
            (n, Some(at), Some(now)) if n != 0 => {
                format!("{n} ({} ago)", duration(now.saturating_sub(at)))
            }
            (n, ..) => n.to_string(),
        }
    }
}

/// AGE: how long since `created`.
#[must_use]
pub fn age(created: Option<Nanos>, now: Option<Nanos>) -> String {
    match (created, now) {
        (Some(c), Some(n)) => duration(n.saturating_sub(c)),
        _ => "<unknown>".into(),
    }
}

/// A span of time as Kubernetes writes it for people: `59s`, `9m5s`, `7h`, `2d3h`, `400d`, `3y12d`.
#[must_use]
pub fn duration(nanos: i64) -> String {
    // Whole seconds, cut towards zero; a clock that is a second behind still reads as "just now".
    let s = nanos / 1_000_000_000;
    match s {
        i64::MIN..=-2 => return "<invalid>".into(),
        -1 => return "0s".into(),
        _ => {}
    }
    let (m, h, d) = (s / 60, s / 3600, s / 86_400);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    if s < 120 {
        format!("{s}s")
    } else if m < 10 {
        two(m, "m", s % 60, "s")
    } else if m < 180 {
        format!("{m}m")
    } else if h < 8 {
        two(h, "h", m % 60, "m")
    } else if h < 48 {
        format!("{h}h")
    } else if d < 8 {
        two(d, "d", h % 24, "h")
    } else if d < 730 {
        format!("{d}d")
    } else if d < 2920 {
        two(d / 365, "y", d % 365, "d")
    } else {
        format!("{}y", d / 365)
    }
}

/// Whether a condition is there and true.
#[must_use]
pub fn condition(pod: &PodView, kind: &str) -> bool {
    pod.conditions
        .iter()
        .any(|c| c.kind == kind && c.status == "True")
}

fn finished(state: &ContainerState) -> Option<Nanos> {
    match state {
        ContainerState::Terminated { finished, .. } => *finished,
        _ => None,
    }
}

/// Reason of a container that ended, as the column prints it.
fn ended(reason: Option<&str>, signal: Option<i32>, exit_code: i32) -> String {
    match (reason.filter(|r| !r.is_empty()), signal.unwrap_or(0)) {
        (Some(r), _) => r.into(),
        (None, 0) => format!("ExitCode:{exit_code}"),
        (None, n) => format!("Signal:{n}"),
    }
}

struct Walk<'a> {
    pod: &'a PodView,
    status: String,
    ready: u32,
    restarts: u32,
    last: Option<Nanos>,
    sidecar_restarts: u32,
    sidecar_last: Option<Nanos>,
}

impl<'a> Walk<'a> {
    fn new(pod: &'a PodView) -> Self {
        let mut status = pod
            .reason
            .clone()
            .filter(|r| !r.is_empty())
            .unwrap_or_else(|| pod.phase.clone());
        let gated = |c: &crate::model::event::Condition| {
            c.kind == "PodScheduled" && c.reason.as_deref() == Some("SchedulingGated")
        };
        if pod.conditions.iter().any(gated) {
            status = "SchedulingGated".into();
        }
        Self {
            pod,
            status,
            ready: 0,
            restarts: 0,
            last: None,
            sidecar_restarts: 0,
            sidecar_last: None,
        }
    }

    fn run(mut self) -> Columns {
        let sidecars = self
            .pod
            .init_containers
            .iter()
            .filter(|c| c.sidecar)
            .count();
        let total = u32::try_from(self.pod.containers.len() + sidecars).unwrap_or(u32::MAX);
        let initializing = self.init();
        if !initializing || condition(self.pod, "Initialized") {
            self.main();
        }
        if self.pod.deletion.is_some() {
            if self.pod.reason.as_deref() == Some("NodeLost") {
                self.status = "Unknown".into();
            } else if !matches!(self.pod.phase.as_str(), "Succeeded" | "Failed") {
                self.status = "Terminating".into();
            }
        }
        Columns {
            status: self.status,
            ready: (self.ready, total),
            restarts: self.restarts,
            last_restart: self.last,
        }
    }

    /// The init containers in order; true when one of them has not let the pod pass yet.
    fn init(&mut self) -> bool {
        for (i, c) in self
            .pod
            .init_containers
            .iter()
            .enumerate()
            .filter(|(_, c)| c.state != ContainerState::None)
        {
            self.count(c);
            if c.sidecar {
                self.sidecar_restarts = self.sidecar_restarts.saturating_add(c.restarts);
                self.sidecar_last = self.sidecar_last.max(finished(&c.last_state));
            }
            match &c.state {
                ContainerState::Terminated { exit_code: 0, .. } => continue,
                _ if c.sidecar && c.started == Some(true) => {
                    self.ready += u32::from(c.ready);
                    continue;
                }
                ContainerState::Terminated {
                    exit_code,
                    signal,
                    reason,
                    ..
                } => {
                    self.status = format!("Init:{}", ended(reason.as_deref(), *signal, *exit_code));
                }
                ContainerState::Waiting { reason, .. }
                    if !reason.is_empty() && reason != "PodInitializing" =>
                {
                    self.status = format!("Init:{reason}");
                }
                _ => self.status = format!("Init:{i}/{}", self.pod.init_containers.len()),
            }
            return true;
        }
        false
    }

    /// The main containers, from last to first: the first one in the list has the last word.
    fn main(&mut self) {
        self.restarts = self.sidecar_restarts;
        self.last = self.sidecar_last;
        let mut running = false;
        let mut error = None;
        let pod = self.pod;
        for c in pod.containers.iter().rev() {
            self.count(c);
            match &c.state {
                ContainerState::Waiting { reason, .. } if !reason.is_empty() => {
                    self.status.clone_from(reason)
                }
                ContainerState::Terminated {
                    exit_code,
                    signal,
                    reason,
                    ..
                } => {
                    self.status = ended(reason.as_deref(), *signal, *exit_code);
                    if *exit_code != 0 {
                        error = Some(self.status.clone());
                    }
                }
                ContainerState::Running { .. } if c.ready => {
                    running = true;
                    self.ready += 1;
                }
                _ => {}
            }
        }
        if self.status == "Completed" {
            if running && condition(pod, "Ready") {
                self.status = "Running".into();
            } else if let Some(e) = error {
                self.status = e;
            } else if running {
                self.status = "NotReady".into();
            }
        }
    }

    fn count(&mut self, c: &ContainerView) {
        self.restarts = self.restarts.saturating_add(c.restarts);
        self.last = self.last.max(finished(&c.last_state));
    }
}
