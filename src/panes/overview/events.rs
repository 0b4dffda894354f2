//! What happened last, as far as the scene knows when.

use std::collections::BTreeMap;

use ratatui::layout::Rect;

use super::numbers;
use crate::model::event::KubeEvent;
use crate::panes::logs::body;
use crate::panes::parts::{self, Pen};
use crate::parse::At;
use crate::rules::scene::{CommState, Scene, Severity};
use crate::theme::Role;

/// When, what, how loud.
pub type Happened = (At, String, Role);

/// Kubernetes Events looked at: more than fit on any screen.
const KUBE_EVENTS: usize = 512;

/// Objects to which the same happened in one second and that have a line each.
const FEW: usize = 2;

/// A second in nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// Milestones, newest first; alike ones that came together are one.
#[must_use]
pub fn of<'a>(scene: &Scene, kube: impl Iterator<Item = &'a KubeEvent>) -> Vec<Happened> {
    let mut out: Vec<Happened> = Vec::new();
    for (i, finding) in scene.findings.iter().enumerate() {
        let known = scene
            .findings
            .iter()
            .take(i)
            .any(|f| f.title == finding.title);
        if let Some(at) = finding
            .since
            .filter(|_| finding.severity > Severity::Info && !known)
        {
            let (_, role) = parts::severity(finding.severity);
            out.push((at, format!("finding {}  {}", i + 1, finding.title), role));
        }
    }
    // Stages: the ranks of one, when the last of them arrived.
    let mut stages: BTreeMap<(u64, &'static str), (At, Vec<u32>)> = BTreeMap::new();
    for (p, number) in scene.processes.iter().zip(numbers(scene)) {
        // What no line of a rank itself tells is no news of it.
        let number = number.filter(|_| !p.absent);
        if let (Some(stage), Some(at), Some(number)) = (p.stage, p.stage_since, number) {
            let (word, place) = parts::stage(stage);
            let entry = stages.entry((place, word)).or_insert((at, Vec::new()));
            entry.0 = entry.0.max(at);
            entry.1.push(number);
        }
        if let Some((at, error)) = p.first_error.as_ref().and_then(|e| Some((e.at?, e))) {
            out.push((
                at,
                format!("{}: {}", p.place(), body(&error.text, false)),
                Role::Fail,
            ));
        }
    }
    for ((_, word), (at, mut ranks)) in stages {
        ranks.sort_unstable();
        ranks.dedup();
        out.push((
            at,
            format!("{} reached {word}", parts::ranks(&ranks)),
            Role::Text,
        ));
    }
    // Communicators by what they are and how they stand.
    let mut comms: BTreeMap<(&str, CommState), (At, usize, &str)> = BTreeMap::new();
    for c in &scene.communicators {
        let Some(at) = c.since else { continue };
        let name = c.group.as_deref().unwrap_or(&c.key);
        let kind = c
            .group
            .as_deref()
            .map_or("", |g| g.split(':').next().unwrap_or(g));
        let entry = comms.entry((kind, c.state)).or_insert((at, 0, name));
        entry.0 = entry.0.max(at);
        entry.1 += 1;
    }
    for ((kind, state), (at, n, name)) in comms {
        let (word, role) = parts::comm_state(state);
        let role = if role == Role::Ok { Role::Text } else { role };
        let who = if n == 1 {
            format!("communicator {name}")
        } else {
            format!("{n} {kind} communicators").replace("  ", " ")
        };
        out.push((at, format!("{who} began, {word}"), role));
    }
    // What happened to many in one second, on one line.
    let mut alike: BTreeMap<(i64, &str, bool), Vec<&KubeEvent>> = BTreeMap::new();
    for event in kube.take(KUBE_EVENTS) {
        if let Some(ns) = event.last.or(event.first) {
            let key = (ns.div_euclid(SECOND), event.reason.as_str(), event.normal);
            alike.entry(key).or_default().push(event);
        }
    }
    for ((_, reason, normal), all) in alike {
        let Some(ns) = all.iter().filter_map(|e| e.last.or(e.first)).max() else {
            continue;
        };
        let mut who: Vec<&str> = all.iter().map(|e| e.object.as_str()).collect();
        who.sort_unstable();
        who.dedup();
        let said = all.first().map_or("", |e| e.message.as_str());
        let same = all.iter().all(|e| e.message == said);
        let role = if normal { Role::Text } else { Role::Warn };
        let at = At { ns, exact: true };
        if who.len() <= FEW {
            out.extend(all.iter().filter_map(|e| {
                let ns = e.last.or(e.first)?;
                let text = format!("{} {}: {}", e.object, e.reason, e.message);
                Some((At { ns, exact: true }, text, role))
            }));
            continue;
        }
        let pods = all.iter().all(|e| e.kind == "Pod");
        let (one, many) = if pods {
            ("pod", "pods")
        } else {
            ("object", "objects")
        };
        let who = parts::count(who.len() as u64, one, many);
        // Of trouble one reason is said, where they differ.
        let what = match (same, normal) {
            (true, _) => format!(": {said}"),
            (false, true) => String::new(),
            (false, false) => format!(", one of them: {said}"),
        };
        out.push((at, format!("{who} {reason}{what}"), role));
    }
    // Pods by the second in which they were made.
    let mut made: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    for pod in &scene.pods {
        if let Some(ns) = pod.created {
            made.entry(ns / SECOND).or_default().push(&pod.name);
        }
    }
    for (second, pods) in made {
        let at = At {
            ns: second * SECOND,
            exact: true,
        };
        let who = match pods.as_slice() {
            [one] => format!("pod {one}"),
            many => parts::count(many.len() as u64, "pod", "pods"),
        };
        out.push((at, format!("{who} created"), Role::Text));
    }
    out.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    out
}

/// Draws as many as fit.
pub fn draw(events: &[Happened], area: Rect, pen: &mut Pen<'_>) {
    if area.height < 2 {
        return;
    }
    pen.text(area.x, area.y, area.width, "EVENTS", Role::Label);
    if events.is_empty() {
        pen.text(
            area.x,
            area.y + 1,
            area.width,
            "nothing with a time stamp yet",
            Role::Quiet,
        );
    }
    for ((at, text, role), y) in events.iter().zip(area.y + 1..area.y + area.height) {
        pen.text(area.x, y, 8, &parts::clock(*at), Role::Quiet);
        pen.text(area.x + 10, y, area.width.saturating_sub(10), text, *role);
    }
}
