//! Whether the model is served: ready by its own word, at work by its figures, and, where somebody asked for it,
//! proven by a token.

use super::scene::{Scene, ServingView};
use crate::model::Model;
use crate::parse::{At, Nanos};

/// Requests run and no token comes for so long: it is stuck (vllm.md section 7).
const STUCK: Nanos = 30 * 1_000_000_000;

/// Fills `scene.serving`.
pub fn fill(scene: &mut Scene, model: &Model) {
    let now = scene.now.map_or(0, |a| a.ns);
    let stamp = |ns: Nanos| At { ns, exact: true };
    scene.serving = model
        .serving
        .iter()
        .map(|(container, s)| match model.pods.get(&container.pod) {
            Some(pod) if pod.has_ended(&container.container) => ServingView {
                pod: container.pod.name.clone(),
                asked: s.asked.clone(),
                ready: Some(false),
                why: Some("its container has ended".into()),
                version: s.version.clone(),
                models: s.models.iter().map(|m| m.id.clone()).collect(),
                ended: true,
                at: s.health.as_ref().map(|(at, _)| stamp(*at)),
                ..ServingView::default()
            },
            _ => ServingView {
                pod: container.pod.name.clone(),
                asked: s.asked.clone(),
                ready: match &s.health {
                    Some((_, Ok(200))) => Some(true),
                    Some((_, Ok(_))) => Some(false),
                    _ => None,
                },
                why: match &s.health {
                    Some((_, Ok(200))) | None => None,
                    Some((_, Ok(code))) => Some(format!("/health answers {code}")),
                    Some((_, Err(why))) => Some(why.clone()),
                },
                version: s.version.clone(),
                models: s.models.iter().map(|m| m.id.clone()).collect(),
                running: s.metrics.as_ref().and_then(|(_, m)| m.running),
                waiting: s.metrics.as_ref().and_then(|(_, m)| m.waiting),
                kv_usage: s.metrics.as_ref().and_then(|(_, m)| m.kv_usage),
                stuck_since: s
                    .stuck_since
                    .filter(|since| now - since >= STUCK)
                    .map(stamp),
                generated: s.generated.clone().map(|(at, answer)| (stamp(at), answer)),
                refused: s.refused,
                at: s
                    .health
                    .as_ref()
                    .filter(|_| !s.refused)
                    .map(|(at, _)| stamp(*at)),
                ended: false,
            },
        })
        .collect();
}
