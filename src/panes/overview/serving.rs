//! A line a server: ready or why not, what it serves, how busy it is, whether it makes tokens.

use std::collections::BTreeMap;

use ratatui::layout::Rect;

use crate::panes::View;
use crate::panes::parts::{self, Pen};
use crate::rules::scene::ServingView;
use crate::theme::Role;

/// Draws the servers; says how many lines it took.
pub(super) fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) -> u16 {
    let all = &view.scene.serving;
    let now = view.scene.now.map_or(0, |n| n.ns);
    let mut lines = Vec::new();
    let mut shown: Vec<&ServingView> = all.iter().collect();
    if all.len() > usize::from(area.height) {
        // Not all have a line: how many there are, then those that need somebody most.
        lines.push(counted(all));
        shown.sort_by_key(|s| Standing::of(s));
    }
    lines.extend(shown.into_iter().map(|s| said(s, now)));
    lines.truncate(usize::from(area.height));
    for (line, i) in lines.iter().zip(0u16..) {
        let head = if i == 0 { "SERVING  " } else { "         " };
        let line = line.iter().map(|(t, r)| (t.as_str(), *r));
        let spans: Vec<_> = std::iter::once((head, Role::Label)).chain(line).collect();
        pen.spans(area.x, area.y + i, area.width, &spans);
    }
    u16::try_from(lines.len()).unwrap_or(0)
}

/// How a server stands. Order: who needs somebody most comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Stuck,
    NotReady,
    Unknown,
    Ready,
    NotAsked,
}

impl Standing {
    fn of(s: &ServingView) -> Self {
        match (s.ready, s.stuck_since) {
            (Some(true), Some(_)) => Self::Stuck,
            (Some(true), None) => Self::Ready,
            (Some(false), _) => Self::NotReady,
            (None, _) if s.refused => Self::NotAsked,
            (None, _) => Self::Unknown,
        }
    }

    fn word(self) -> (&'static str, Role) {
        match self {
            Self::Stuck => ("ready without a token", Role::Fail),
            Self::NotReady => ("not ready", Role::Warn),
            Self::Unknown => ("unknown", Role::Unknown),
            Self::Ready => ("ready", Role::Ok),
            Self::NotAsked => ("not asked", Role::Unknown),
        }
    }
}

/// `20 servers   13 ready   3 unknown   4 not asked`.
fn counted(all: &[ServingView]) -> Vec<(String, Role)> {
    let mut by: BTreeMap<Standing, usize> = BTreeMap::new();
    for server in all {
        *by.entry(Standing::of(server)).or_default() += 1;
    }
    let servers = parts::count(all.len() as u64, "server", "servers");
    let mut out = vec![(format!("{servers}   "), Role::Text)];
    out.extend(by.into_iter().map(|(standing, n)| {
        let (word, role) = standing.word();
        (format!("{n} {word}   "), role)
    }));
    out
}

fn said(s: &ServingView, now: i64) -> Vec<(String, Role)> {
    let mut out = vec![(format!("{}   ", s.pod), Role::Text)];
    out.push(match (Standing::of(s), s.stuck_since) {
        (Standing::Stuck, Some(since)) => {
            let since = parts::duration(now - since.ns);
            (format!("ready, and no token for {since}   "), Role::Fail)
        }
        // Why nobody asks stands behind it.
        (Standing::NotAsked, _) => ("unknown   ".into(), Role::Unknown),
        (standing, _) => {
            let (word, role) = standing.word();
            (format!("{word}   "), role)
        }
    });
    if let Some(why) = &s.why {
        out.push((format!("{why}   "), Role::Quiet));
    }
    if let Some((at, answer)) = &s.generated {
        out.push(match answer {
            Ok((tokens, ms)) => (
                format!(
                    "made {} in {ms} ms at {}   ",
                    parts::count(*tokens, "token", "tokens"),
                    parts::clock(*at)
                ),
                Role::Ok,
            ),
            Err(why) => (
                format!("made no token at {}: {why}   ", parts::clock(*at)),
                Role::Fail,
            ),
        });
    }
    if let (Some(running), Some(waiting)) = (s.running, s.waiting) {
        out.push((
            format!("{running:.0} running, {waiting:.0} waiting   "),
            Role::Text,
        ));
    }
    if let Some(kv) = s.kv_usage {
        let role = if kv > 0.95 { Role::Warn } else { Role::Text };
        out.push((format!("KV {:.0} %   ", kv * 100.0), role));
    }
    let served: Vec<&str> = s.models.iter().map(String::as_str).collect();
    if !served.is_empty() {
        out.push((format!("{}   ", served.join(", ")), Role::Quiet));
    }
    if let Some(v) = &s.version {
        out.push((format!("v{v}"), Role::Quiet));
    }
    out
}
