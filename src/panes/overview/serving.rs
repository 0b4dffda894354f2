//! A line a server: ready or why not, what it serves, how busy it is, whether it makes tokens.

use ratatui::layout::Rect;

use crate::panes::View;
use crate::panes::parts::{self, Pen};
use crate::rules::scene::ServingView;
use crate::theme::Role;

/// Draws the servers; says how many lines it took.
pub(super) fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) -> u16 {
    let all = &view.scene.serving;
    let lines = all.len().min(usize::from(area.height));
    for (server, i) in all.iter().take(lines).zip(0u16..) {
        let head = if i == 0 { "SERVING  " } else { "         " };
        let mut spans = vec![(head.to_owned(), Role::Label)];
        spans.extend(said(server, view.scene.now.map_or(0, |n| n.ns)));
        let spans: Vec<(&str, Role)> = spans.iter().map(|(t, r)| (t.as_str(), *r)).collect();
        pen.spans(area.x, area.y + i, area.width, &spans);
    }
    u16::try_from(lines).unwrap_or(0)
}

fn said(s: &ServingView, now: i64) -> Vec<(String, Role)> {
    let mut out = vec![(format!("{}   ", s.pod), Role::Text)];
    match (s.ready, s.stuck_since) {
        (Some(true), Some(since)) => out.push((
            format!(
                "ready, and no token for {}   ",
                parts::duration(now - since.ns)
            ),
            Role::Fail,
        )),
        (Some(true), None) => out.push(("ready   ".into(), Role::Ok)),
        (Some(false), _) => out.push(("not ready   ".into(), Role::Warn)),
        (None, _) => out.push(("unknown   ".into(), Role::Unknown)),
    }
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
