//! What the served model's endpoints answered: the newest of each, and since when no token was made.

use std::collections::BTreeMap;

use super::event::{ContainerKey, ProbeEvent, ProbeOutcome};
use crate::parse::Nanos;
use crate::parse::serving::{self, Metrics, Model};

/// An answer, or a sentence why there is none.
pub type Answer<T> = Result<T, String>;

/// One server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Server {
    /// `GET :8000/health`: status code.
    pub health: Option<(Nanos, Answer<i32>)>,
    /// Nobody may ask it, or it is one too many: the sentence of `health` tells why.
    pub refused: bool,
    /// Where it listens, as it was asked.
    pub asked: String,
    /// Version.
    pub version: Option<String>,
    /// Models that it serves.
    pub models: Vec<Model>,
    /// Figures.
    pub metrics: Option<(Nanos, Metrics)>,
    /// Requests run and no token was read or made since then.
    pub stuck_since: Option<Nanos>,
    /// What a try to make a token came to: tokens, milliseconds.
    pub generated: Option<(Nanos, Answer<(u64, u64)>)>,
}

/// All servers.
#[derive(Debug, Clone, Default)]
pub struct Serving {
    by: BTreeMap<ContainerKey, Server>,
}

impl Serving {
    /// Takes in an answer, if it is of an endpoint.
    pub fn apply(&mut self, event: &ProbeEvent, at: Nanos) {
        let Some(container) = &event.container else {
            return;
        };
        if !["health", "version", "models", "metrics", "generate"].contains(&event.probe.as_str()) {
            return;
        }
        let refused = matches!(event.outcome, ProbeOutcome::Refused { .. });
        let answer = match &event.outcome {
            ProbeOutcome::Began => return,
            ProbeOutcome::Answered { code, out, ms, .. } => Ok((*code, out.as_str(), *ms)),
            ProbeOutcome::Refused { why, .. } | ProbeOutcome::Failed { why } => Err(why.clone()),
        };
        let server = self.by.entry(container.clone()).or_default();
        match (event.probe.as_str(), answer) {
            ("health", answer) => {
                server.asked.clone_from(&event.ran);
                server.refused = refused;
                server.health = Some((at, answer.map(|(code, ..)| code)));
            }
            ("version", Ok((200, body, _))) => server.version = serving::version(body),
            ("models", Ok((200, body, _))) => server.models = serving::models(body),
            ("metrics", Ok((200, body, _))) => {
                server.figures(at, serving::metrics(body.as_bytes()))
            }
            ("generate", answer) => {
                let tokens = answer.and_then(|(code, body, ms)| match serving::completion(body) {
                    Some((tokens, _)) if code == 200 => Ok((tokens, ms)),
                    _ => Err(format!("answered {code} and no token")),
                });
                server.generated = Some((at, tokens));
            }
            _ => {}
        }
    }

    /// Servers by container.
    pub fn iter(&self) -> impl Iterator<Item = (&ContainerKey, &Server)> {
        self.by.iter()
    }
}

impl Server {
    fn figures(&mut self, at: Nanos, now: Metrics) {
        let before = self.metrics.take();
        let busy = now.running.is_some_and(|n| n > 0.0);
        let moved = before
            .as_ref()
            .is_none_or(|(_, b)| b.tokens != now.tokens || b.tokens.is_none());
        self.stuck_since = match (busy, moved) {
            (true, false) => self.stuck_since.or(before.map(|(at, _)| at)),
            _ => None,
        };
        self.metrics = Some((at, now));
    }
}
