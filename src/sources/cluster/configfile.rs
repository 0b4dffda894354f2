//! The file that `vllm serve --config` names, where it is mounted from a ConfigMap: read from the API server, which
//! runs nothing in a pod. Only what tells how the job is cut is kept of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::access::{Access, Seen};
use super::client::PATIENCE;
use super::trouble::{Kind, Trouble};
use crate::model::event::{ContainerKey, Errand, Event, PodEvent, ProbeEvent, ProbeOutcome};
use crate::model::pods::Pods;
use crate::parse::probe::config::kept;
use crate::rules::probes::{FILE, FILE_MAP, members};

/// How often it is looked for pods that are new.
const BEAT: Duration = Duration::from_secs(2);
/// Looked at again after so long; a container that is new is told at once what is known.
const AGAIN: Duration = Duration::from_secs(600);
/// ConfigMaps of one workload.
const MOST: usize = 64;

/// Namespace and name of a ConfigMap.
type Map = (String, String);
/// The path in the container, and the key that is the file there.
type File = (String, String);

/// The helper of [`super::Director`].
#[must_use]
pub fn helper() -> super::Helper {
    Box::new(|access, errands| -> BoxFuture<'static, ()> { Box::pin(run(access, errands)) })
}

async fn run(access: Access, mut errands: super::Errands) {
    let mut seen = access.seen();
    let mut beat = tokio::time::interval(BEAT);
    let mut again = tokio::time::interval(AGAIN);
    for timer in [&mut beat, &mut again] {
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    }
    let mut news = true;
    let mut known: BTreeMap<Map, Result<ConfigMap, Trouble>> = BTreeMap::new();
    let mut told: BTreeSet<(ContainerKey, File)> = BTreeSet::new();
    loop {
        tokio::select! {
            () = access.until().cancelled() => return,
            _ = beat.tick() => {}
            _ = again.tick() => {
                known.clear();
                told.clear();
                news = true;
            }
            errand = errands.recv() => match errand {
                Ok(Errand::Recheck(what)) => if what.as_deref().is_none_or(|w| w == FILE) {
                    known.clear();
                    told.clear();
                    news = true;
                },
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
        news |= seen.has_changed().unwrap_or(false);
        if !std::mem::take(&mut news) {
            continue;
        }
        let wanted = wanted(&seen.borrow_and_update());
        for (map, container, file) in wanted {
            if !told.insert((container.clone(), file.clone())) {
                continue;
            }
            if !known.contains_key(&map) {
                if known.len() >= MOST {
                    continue;
                }
                let read = tokio::select! {
                    () = access.until().cancelled() => return,
                    read = read(&access, &map) => read,
                };
                known.insert(map.clone(), read);
            }
            let (path, key) = &file;
            let (namespace, name) = &map;
            let outcome = match known.get(&map) {
                Some(Ok(found)) => content(found, path, key),
                Some(Err(trouble)) => refused(trouble, namespace),
                None => continue,
            };
            let event = Event::Probe(ProbeEvent {
                probe: FILE_MAP.into(),
                container: Some(container),
                ran: format!("get configmap {name}, key {key}: {path}"),
                outcome,
            });
            if !access.tell(event).await {
                return;
            }
        }
    }
}

/// Which ConfigMaps are the files of which containers.
fn wanted(seen: &Seen) -> Vec<(Map, ContainerKey, File)> {
    let mut pods = Pods::default();
    let mounts = |c: &crate::model::event::ContainerView| !c.mounts.is_empty();
    for pod in seen
        .pods
        .values()
        .filter(|p| p.containers.iter().any(mounts))
    {
        pods.apply(&PodEvent::Upsert(Box::new((**pod).clone())));
    }
    let found = members(&pods).list.into_iter().filter_map(|m| {
        let path = m.named_file()?.to_owned();
        let (name, key) = m.container.config_map_of(&path)?;
        let map = (m.key.pod.namespace.clone(), name.to_owned());
        Some((map, m.key.clone(), (path, key)))
    });
    found.collect()
}

async fn read(access: &Access, (namespace, name): &Map) -> Result<ConfigMap, Trouble> {
    let api: Api<ConfigMap> = Api::namespaced(access.link().client(), namespace);
    timeout(PATIENCE, api.get(name))
        .await
        .map_err(|_| Trouble::timeout(PATIENCE))?
        .map_err(|e| Trouble::of(&e))
}

fn content(map: &ConfigMap, path: &str, key: &str) -> ProbeOutcome {
    match map.data.as_ref().and_then(|data| data.get(key)) {
        Some(text) => ProbeOutcome::Answered {
            code: 200,
            out: kept(path, text),
            err: String::new(),
            cut: false,
            ms: 0,
        },
        None => ProbeOutcome::Failed {
            why: format!("its ConfigMap has no {key}"),
        },
    }
}

fn refused(trouble: &Trouble, namespace: &str) -> ProbeOutcome {
    match trouble.kind {
        Kind::Forbidden => ProbeOutcome::Refused {
            why: trouble.text.clone(),
            rule: Some(format!("get configmaps in namespace {namespace}")),
        },
        _ => ProbeOutcome::Failed {
            why: trouble.text.clone(),
        },
    }
}
