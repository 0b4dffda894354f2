//! The endpoints of the served model, through the API server's proxy: is it ready, what does it serve, does it work.
//!
//! GETs at level probe, seldom enough for the budget of a pod that checks share. `:generate` asks it for one token,
//! which is an act and asked each time.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::cluster::{Access, Errands, Get, Helper, Seen, jitter};
use crate::model::event::{
    ContainerKey, ContainerState, Errand, Event, PodView, ProbeEvent, ProbeOutcome,
};
use crate::model::pods::place;
use crate::model::probes::Probes;
use crate::parse::serving;
use crate::parse::vllm::Ray;
use crate::rules::probes::Member;

/// Between two looks at a server that answers, and at one that does not.
const EVERY: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(30));
/// vLLM's own port.
const PORT: u16 = 8000;
/// Servers looked at, at most; of the others it is said that they are not.
const MOST: usize = 16;
/// How long the file that a command line names may take to be read, before its server is looked for where vLLM has it.
const READING: Duration = Duration::from_secs(10);
/// Bytes of an answer kept.
const CAP: usize = 512 << 10;
/// Longest wait for an answer, and for a token.
const LIMIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// The command.
pub const GENERATE: &str = "generate";

/// A container that should have a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Which.
    pub at: ContainerKey,
    /// Its port.
    pub port: u16,
    /// A file may name another one, and it is not read yet.
    unsure: bool,
    /// Its present life.
    life: String,
}

impl Server {
    /// The server of a pod, if it has one: the first of its group, or one that is told to serve and not headless,
    /// by its command line, and where that says nothing by the file that it names (vllm.md 4.5).
    #[must_use]
    pub fn of(pod: &PodView, files: &Probes) -> Option<Self> {
        let member = Member::alone(pod, files)?;
        let running = matches!(member.container.state, ContainerState::Running { .. });
        if !running || pod.deletion.is_some() {
            return None;
        }
        let (place, told) = (&member.place, &member.command);
        let first = place.index.is_none_or(|i| i == 0);
        // Who joins a Ray cluster works for the server on its head.
        let joins = matches!(told.ray, Some(Ray::Worker { .. }))
            || (pod.labels.contains_key(place::RAY) && place.group.number > 0);
        if !first || joins || told.settings.flag("headless") == Some(true) {
            return None;
        }
        let said = told.settings.get("port");
        let unread = member.named_file().is_some() && member.file.is_none();
        Some(Self {
            port: said.and_then(|p| p.parse().ok()).unwrap_or(PORT),
            unsure: said.is_none() && unread,
            life: member.container.container_id.clone().unwrap_or_default(),
            at: member.key,
        })
    }

    fn get(&self, path: &str) -> Get {
        Get {
            port: self.port,
            path: path.into(),
            cap: CAP,
            limit: LIMIT.0,
        }
    }
}

/// The helper that looks at the endpoints while a workload is on screen.
#[must_use]
pub fn helper() -> Helper {
    Box::new(|access, errands| Box::pin(keep(access, errands)))
}

async fn keep(access: Access, mut errands: Errands) {
    let mut seen = access.seen();
    let mut looking: BTreeMap<ContainerKey, (Server, AbortOnDropHandle<()>)> = BTreeMap::new();
    let mut trying: Option<AbortOnDropHandle<()>> = None;
    let mut left_out: BTreeMap<ContainerKey, Server> = BTreeMap::new();
    loop {
        let mut wanted = servers(&seen.borrow_and_update());
        let most = wanted.keys().nth(MOST).cloned();
        let over = most.map_or_else(BTreeMap::new, |at| wanted.split_off(&at));
        for server in over.values().filter(|s| left_out.get(&s.at) != Some(s)) {
            if !access.tell(not_asked(server)).await {
                return;
            }
        }
        left_out = over;
        looking.retain(|at, (server, _)| wanted.get(at) == Some(server));
        for (at, server) in &wanted {
            looking.entry(at.clone()).or_insert_with(|| {
                let work = look(access.clone(), server.clone());
                (server.clone(), AbortOnDropHandle::new(tokio::spawn(work)))
            });
        }
        tokio::select! {
            changed = seen.changed() => if changed.is_err() { return },
            errand = errands.recv() => match errand {
                Ok(Errand::Line(line)) if line.split_whitespace().next() == Some(GENERATE) => {
                    let Some(server) = wanted.values().next().cloned() else {
                        let text = "no pod of this workload has a server that runs".into();
                        if !access.tell(Event::Note { text, bad: true }).await { return }
                        continue;
                    };
                    if trying.as_ref().is_none_or(|t| t.is_finished()) {
                        trying = Some(AbortOnDropHandle::new(tokio::spawn(generate(access.clone(), server))));
                    }
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
    }
}

fn servers(seen: &Seen) -> BTreeMap<ContainerKey, Server> {
    let of = seen
        .pods
        .values()
        .filter_map(|pod| Server::of(pod, &seen.files));
    of.map(|s| (s.at.clone(), s)).collect()
}

/// Of a server that is one too many it is said that nobody asks it.
fn not_asked(server: &Server) -> Event {
    Event::Probe(ProbeEvent {
        probe: "health".into(),
        container: Some(server.at.clone()),
        ran: format!("GET :{}/health", server.port),
        outcome: ProbeOutcome::Refused {
            why: format!("not asked: {MOST} servers of a workload are, no more"),
            rule: None,
        },
    })
}

/// Looks at one server until it is gone.
async fn look(access: Access, server: Server) {
    let mut known = false;
    if server.unsure {
        // Another port may turn up meanwhile, and with it another look.
        sleep(READING).await;
    }
    loop {
        let health = access
            .get("health", server.at.clone(), server.get("/health"))
            .await;
        match health {
            // Nobody allowed it, or RBAC does not: asking again changes nothing.
            ProbeOutcome::Refused { .. } => return,
            ProbeOutcome::Answered { code: 200, .. } => {
                if !known {
                    for (probe, path) in [("version", "/version"), ("models", "/v1/models")] {
                        access.get(probe, server.at.clone(), server.get(path)).await;
                    }
                    known = true;
                }
                access
                    .get("metrics", server.at.clone(), server.get("/metrics"))
                    .await;
                sleep(jitter(EVERY.0)).await;
            }
            _ => sleep(jitter(EVERY.1)).await,
        }
    }
}

/// Asks for one token, after asking whether it may.
async fn generate(access: Access, server: Server) {
    let models = access
        .get("models", server.at.clone(), server.get("/v1/models"))
        .await;
    let name = match &models {
        ProbeOutcome::Answered { code: 200, out, .. } => {
            serving::models(out).into_iter().map(|m| m.id).next()
        }
        _ => None,
    };
    let Some(name) = name else {
        let text = "it says of no model that it serves it: nothing to ask for a token".into();
        access.tell(Event::Note { text, bad: true }).await;
        return;
    };
    let body = serde_json::json!({
        "model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 0
    });
    let post = Get {
        limit: LIMIT.1,
        ..server.get("/v1/completions")
    };
    access
        .post(GENERATE, server.at.clone(), post, body.to_string())
        .await;
}
