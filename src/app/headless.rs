//! A session over a cluster without a screen: events into a model until somebody has seen enough.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::args::StallArgs;
use super::record::{Keeper, now};
use crate::model::event::{EdgeState, Event, Stamped};
use crate::model::sources::Flow;
use crate::model::{Model, update};
use crate::parse::Nanos;
use crate::sources::cluster::{self, ClusterOptions, Connection, Director, Helper};
use crate::sources::gate::{Policy, Setup};
use crate::sources::podlogs::debugfile;
use crate::sources::{endpoints, sampler};

/// Events under way.
const BUS: usize = 32;
/// Events applied before somebody looks.
const BATCH: usize = 256;
/// How often somebody looks, where nothing happens.
const LOOK: Duration = Duration::from_millis(250);

/// How it stands with the news.
#[derive(Debug, Clone, Copy)]
pub struct News {
    /// Since the session began.
    pub elapsed: Duration,
    /// Since something came that says more than that time passes.
    pub quiet: Duration,
}

/// Runs a session until `look` breaks; `None` when it ended by itself. Nobody is asked anything: what needs an answer
/// is not done. The model's time is that of the system.
pub async fn session<T>(
    link: Connection,
    options: ClusterOptions,
    setup: Setup,
    helpers: Vec<Helper>,
    model: &mut Model,
    keeper: &mut Keeper,
    mut look: impl FnMut(&Model, News) -> ControlFlow<T>,
) -> Option<T> {
    let setup = Setup {
        attended: false,
        ..setup
    };
    let (tx, mut events) = mpsc::channel(BUS);
    let (_nobody, errands) = mpsc::unbounded_channel();
    let cancel = CancellationToken::new();
    let _cancel = cancel.clone().drop_guard();
    let director = Director::new(link, options, setup, helpers, tx);
    tokio::spawn(director.run(errands, cancel));
    let begun = Instant::now();
    let (mut last, mut seq) = (begun, 0);
    let mut clock = interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            n = events.recv_many(&mut batch, BATCH) => {
                if n == 0 {
                    return None;
                }
                let at = now();
                for event in batch.drain(..) {
                    if is_news(&event) {
                        last = Instant::now();
                    }
                    seq += 1;
                    // What the model wants done is for a screen.
                    let stamped = Stamped { seq, at, event };
                    keeper.keep(&stamped);
                    update(model, stamped);
                }
            }
            _ = clock.tick() => {
                seq += 1;
                let stamped = Stamped { seq, at: now(), event: Event::Tick };
                keeper.keep(&stamped);
                update(model, stamped);
            }
        }
        let news = News {
            elapsed: begun.elapsed(),
            quiet: last.elapsed(),
        };
        if let ControlFlow::Break(end) = look(model, news) {
            return Some(end);
        }
    }
}

/// Attempts that fail again and again are none.
pub(super) fn is_news(event: &Event) -> bool {
    use crate::model::event::{EdgeState, SourceEvent};
    match event {
        // Samples never end.
        Event::Session(_) | Event::Tick | Event::Note { .. } | Event::Sample(_) => false,
        Event::Edge(e) => !matches!(e.state, EdgeState::Retrying { .. }),
        Event::Source(e) => !matches!(e, SourceEvent::Retrying { .. }),
        _ => true,
    }
}

/// What is there is read, then nothing new may come for so long.
const QUIET: Duration = Duration::from_secs(2);
/// With probes, as long as it takes until the next of them are due.
const PROBED: Duration = Duration::from_secs(5);
/// How long the API server may take to say who it is.
const HELLO: Duration = Duration::from_secs(10);

/// Who asks of objects beside the pods; inside the pods, where that is allowed from the start: nobody is here to
/// say yes.
fn helpers(setup: &Setup) -> Vec<Helper> {
    if setup.probes != Policy::Always || setup.locked {
        return vec![cluster::configfile::helper()];
    }
    vec![
        cluster::configfile::helper(),
        cluster::checks::helper(),
        sampler::helper(),
        debugfile::helper(),
        endpoints::helper(),
    ]
}

/// Reads what exists of a workload: until nothing new comes for two seconds and every probe has answered, or for
/// `limit` at most. Gives what was seen, when, and sentences about what was not reached.
pub async fn observe(
    options: ClusterOptions,
    setup: Setup,
    limit: Duration,
    stall: &StallArgs,
    keeper: &mut Keeper,
) -> Result<(Model, Nanos, Vec<String>), String> {
    let link = cluster::connect(&options)
        .await
        .map_err(|e| e.to_string())?;
    match timeout(HELLO.min(limit), link.check()).await {
        Ok(known) => known.map_err(|e| e.to_string())?,
        Err(_) => return Err("the API server does not answer".into()),
    }
    let mut model = Model::default();
    stall.set(&mut model, &mut keeper.recorder);
    let helpers = helpers(&setup);
    let settle = if helpers.is_empty() { QUIET } else { PROBED };
    let look = |model: &Model, news: News| {
        if model.choosing {
            return ControlFlow::Break(Err(to_be_named(model, &options)));
        }
        let asked = model.probes.iter().any(|(_, _, p)| p.since.is_some());
        let settled = news.quiet >= settle && !asked && model.pods.synced();
        let enough = news.elapsed >= limit || settled;
        match model.edges.get("pods").or(model.edges.get("discovery")) {
            Some(EdgeState::Forbidden { rule }) => {
                ControlFlow::Break(Err(format!("not allowed to {rule}")))
            }
            Some(EdgeState::Down { why } | EdgeState::Retrying { why, .. })
                if enough && !model.pods.synced() =>
            {
                ControlFlow::Break(Err(why.clone()))
            }
            _ if enough && !model.pods.synced() => {
                let limit = limit.as_secs_f32();
                ControlFlow::Break(Err(format!(
                    "the pods could not be listed within {limit} s"
                )))
            }
            _ if enough => ControlFlow::Break(Ok(())),
            _ => ControlFlow::Continue(()),
        }
    };
    let seen = session(
        link,
        options.clone(),
        setup,
        helpers,
        &mut model,
        keeper,
        look,
    )
    .await;
    seen.unwrap_or_else(|| Err("the cluster can't be watched".into()))?;
    let notes = unreached(&model);
    Ok((model, now(), notes))
}

/// Why a workload can't be watched, however long one waits: nobody chooses one, or its pods may not be read.
pub fn unwatchable(model: &Model, options: &ClusterOptions) -> Option<String> {
    if model.choosing {
        return Some(to_be_named(model, options));
    }
    match model.edges.get("pods").or(model.edges.get("discovery"))? {
        EdgeState::Forbidden { rule } => Some(format!("not allowed to {rule}")),
        EdgeState::Down { why } if !model.pods.synced() => Some(why.clone()),
        _ => None,
    }
}

fn to_be_named(model: &Model, options: &ClusterOptions) -> String {
    if let Some(EdgeState::Down { why }) = model.edges.get("discovery") {
        return why.clone();
    }
    let names: Vec<String> = model
        .workloads
        .iter()
        .take(8)
        .map(|w| format!("{}/{}", w.kind, w.name))
        .collect();
    let place = match &options.namespace {
        Some(n) if !options.all_namespaces => format!("in namespace {n}"),
        _ => "there".into(),
    };
    if names.is_empty() {
        return format!("no workload {place}");
    }
    format!("several workloads {place}, name one: {}", names.join(", "))
}

/// What there was and could not be read.
pub fn unreached(model: &Model) -> Vec<String> {
    let mut notes = Vec::new();
    for (edge, state) in &model.edges {
        let why = match state {
            EdgeState::Up => continue,
            // Nothing needs them.
            _ if edge == "nodes" => continue,
            EdgeState::Forbidden { rule } => format!("not allowed to {rule}"),
            EdgeState::Down { why } | EdgeState::Retrying { why, .. } => why.clone(),
        };
        notes.push(format!("not reached: {edge}: {why}"));
    }
    for (_, source) in model.sources.iter() {
        let name = &source.info.name;
        match &source.flow {
            Flow::Opening => notes.push(format!("not reached: {name}: it was not opened in time")),
            Flow::Retrying(why) => notes.push(format!("not reached: {name}: {why}")),
            Flow::Up | Flow::Ended(_) => {}
        }
    }
    notes
}

/// A time as people write it: `500ms`, `20s`, `2m`, `1h`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a time like 20s, 2m or 1h".to_owned();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(wrong()),
    };
    if seconds <= 0.0 {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}
