//! List once, then watch: one request a kind, resumed from where it was cut, listed again only when the
//! server has forgotten that place (410).
//!
//! `kube::runtime::watcher` does not say when a cut watch is established again, stays in a loop when the
//! server refuses its place before the stream begins, forgets its place when credentials change, and comes
//! back without a pause after an orderly end. All four show on a screen that people look at for hours.

use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::client::{Connection, PATIENCE};
use super::trouble::{Kind, Trouble};
use crate::model::event::{EdgeEvent, EdgeState, Event};

/// The server ends a watch after so many seconds; a connection that died unseen is noticed a little later. So often,
/// because somebody looks at the screen meanwhile; a request a minute and kind.
const WATCH_SECONDS: u32 = 60;
/// Objects a page of a list.
const PAGE: u32 = 500;
/// A watch that ends sooner than this was not a watch.
const BRIEF: Duration = Duration::from_secs(1);
/// After a refusal rights may have changed; asked so rarely that it costs nothing.
const FORBIDDEN: Duration = Duration::from_secs(60);

/// A change of what is watched.
#[derive(Debug)]
pub enum Change<K> {
    /// A list begins.
    Restart,
    /// In the list, new or different.
    Put(K),
    /// The list is complete.
    Listed,
    /// Deleted, or no longer matching.
    Gone(K),
}

/// What to watch.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Label selector.
    pub labels: Option<String>,
    /// Field selector.
    pub fields: Option<String>,
}

/// Reports the state of a connection, each state once.
pub struct Edge {
    name: &'static str,
    last: Option<EdgeState>,
    tx: mpsc::Sender<Event>,
}

impl Edge {
    /// An edge of which nothing is known yet.
    #[must_use]
    pub fn new(name: &'static str, tx: mpsc::Sender<Event>) -> Self {
        Self {
            name,
            last: None,
            tx,
        }
    }

    /// Says what it is like now.
    pub async fn set(&mut self, state: EdgeState) {
        if self.last.as_ref() != Some(&state) {
            self.last = Some(state.clone());
            // A closed channel means that nobody looks any more.
            let _ = self
                .tx
                .send(Event::Edge(EdgeEvent {
                    edge: self.name.into(),
                    state,
                }))
                .await;
        }
    }
}

/// Watches until nobody takes the changes any more. Never gives up: rights, tokens and networks come back.
pub async fn watch<K, M>(
    link: Connection,
    api: M,
    selection: Selection,
    rule: String,
    mut edge: Edge,
    sink: mpsc::Sender<Change<K>>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    M: Fn(Client) -> Api<K>,
{
    let mut place: Option<String> = None;
    let mut backoff = Backoff::default();
    let mut lost_network = false;
    loop {
        let begun = Instant::now();
        let listed = place.is_none();
        let mut round = Round {
            link: &link,
            selection: &selection,
            place: &mut place,
            backoff: &mut backoff,
            lost_network: &mut lost_network,
            edge: &mut edge,
            sink: &sink,
        };
        let trouble = match round.run(api(link.client())).await {
            End::Enough => return,
            End::Ended if begun.elapsed() >= BRIEF => continue,
            End::Ended => Trouble {
                kind: Kind::Network,
                text: "the watch ends as soon as it begins".into(),
            },
            End::Failed(t) => t,
        };
        lost_network |= matches!(trouble.kind, Kind::Network | Kind::Tls);
        if trouble.kind == Kind::Gone {
            // The place is forgotten: list again. A server that forgets what it has just listed is given time below.
            place = None;
            if !listed {
                continue;
            }
        }
        if matches!(trouble.kind, Kind::Unauthorized | Kind::Login)
            && let Err(e) = link.renew().await
        {
            tracing::debug!("renewal: {e}");
        }
        if trouble.kind == Kind::Forbidden {
            edge.set(EdgeState::Forbidden { rule: rule.clone() }).await;
            sleep(super::backoff::jitter(FORBIDDEN)).await;
            continue;
        }
        let wait = backoff.failed();
        let in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        edge.set(EdgeState::Retrying {
            why: trouble.text,
            in_ms,
        })
        .await;
        sleep(wait).await;
    }
}

enum End {
    /// Nobody takes the changes any more.
    Enough,
    /// The server ended the watch in order.
    Ended,
    Failed(Trouble),
}

/// One attempt and what outlives it.
struct Round<'a, K> {
    link: &'a Connection,
    selection: &'a Selection,
    place: &'a mut Option<String>,
    backoff: &'a mut Backoff,
    lost_network: &'a mut bool,
    edge: &'a mut Edge,
    sink: &'a mpsc::Sender<Change<K>>,
}

impl<K> Round<'_, K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// Lists if there is no place to resume from, then watches until the stream ends.
    async fn run(&mut self, api: Api<K>) -> End {
        let version = match self.place.clone() {
            Some(v) => v,
            None => match self.list(&api).await {
                Ok(v) => {
                    *self.place = Some(v.clone());
                    self.edge.set(EdgeState::Up).await;
                    v
                }
                Err(end) => return end,
            },
        };
        let params = WatchParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            send_initial_events: false,
        };
        let stream = match timeout(PATIENCE, api.watch(&params, &version)).await {
            Ok(Ok(s)) => s,
            Ok(Err(e)) => return End::Failed(Trouble::of(&e)),
            Err(_) => return End::Failed(Trouble::timeout(PATIENCE)),
        };
        self.edge.set(EdgeState::Up).await;
        if std::mem::take(self.lost_network) {
            self.link.network_back();
        }
        self.backoff.healthy();
        let mut stream = stream.into_stream().boxed();
        let silence = Duration::from_secs(u64::from(WATCH_SECONDS) + 5);
        loop {
            let item = match timeout(silence, stream.next()).await {
                Ok(Some(Ok(item))) => item,
                Ok(Some(Err(e))) => return End::Failed(Trouble::of(&e)),
                Ok(None) => return End::Ended,
                Err(_) => {
                    let text = "the connection to the API server went silent".into();
                    return End::Failed(Trouble {
                        kind: Kind::Network,
                        text,
                    });
                }
            };
            let (change, version) = match item {
                WatchEvent::Added(k) | WatchEvent::Modified(k) => {
                    let v = k.resource_version();
                    (Some(Change::Put(k)), v)
                }
                WatchEvent::Deleted(k) => {
                    let v = k.resource_version();
                    (Some(Change::Gone(k)), v)
                }
                WatchEvent::Bookmark(b) => (None, Some(b.metadata.resource_version)),
                WatchEvent::Error(s) => {
                    return End::Failed(Trouble::status(s.code, &s.reason, &s.message));
                }
            };
            if let Some(c) = change
                && self.sink.send(c).await.is_err()
            {
                return End::Enough;
            }
            // Only after the change was delivered: a place is what we are sure to have seen.
            if let Some(v) = version.filter(|v| !v.is_empty()) {
                *self.place = Some(v);
            }
        }
    }

    /// A whole list in pages; gives the place to watch from.
    async fn list(&mut self, api: &Api<K>) -> Result<String, End> {
        let mut params = ListParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let mut first = true;
        loop {
            let page = match timeout(PATIENCE, api.list(&params)).await {
                Ok(Ok(page)) => page,
                Ok(Err(e)) => return Err(End::Failed(Trouble::of(&e))),
                Err(_) => return Err(End::Failed(Trouble::timeout(PATIENCE))),
            };
            let begin = std::mem::take(&mut first).then_some(Change::Restart);
            for change in begin
                .into_iter()
                .chain(page.items.into_iter().map(Change::Put))
            {
                self.sink.send(change).await.map_err(|_| End::Enough)?;
            }
            if let Some(token) = page.metadata.continue_.filter(|c| !c.is_empty()) {
                params.continue_token = Some(token);
                continue;
            }
            let version = page
                .metadata
                .resource_version
                .filter(|v| !v.is_empty())
                .ok_or_else(|| {
                    let text =
                        "the API server's list has no resource version, it can't be watched".into();
                    End::Failed(Trouble {
                        kind: Kind::Other,
                        text,
                    })
                })?;
            self.sink
                .send(Change::Listed)
                .await
                .map_err(|_| End::Enough)?;
            return Ok(version);
        }
    }
}
