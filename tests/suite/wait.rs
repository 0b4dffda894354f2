//! `wait`: reached, lost or out of time, on the embedded cluster at its own pace, on a paused clock.

use std::time::Duration;

use ncclscope::app::record::{Keeper, Recorder, create};
use ncclscope::app::wait_cmd::{Goal, Outcome, Wish, until};
use ncclscope::model::Model;
use ncclscope::model::event::Session;
use ncclscope::model::event::{EdgeEvent, EdgeState, Event, Stamped};
use ncclscope::model::update;
use ncclscope::report::redact::Redactor;
use ncclscope::rules::scene::{Scene, Stage};
use ncclscope::sources::recording::{Header, Reader};
use ncclscope::sources::sim;

/// Waits on a scenario; what came of it, how long it took on the scenario's clock, and what was said.
async fn wait(name: &str, goal: Goal, timeout: u64) -> (Outcome, f64, String) {
    kept(name, goal, timeout, &mut Keeper::default()).await
}

/// The same, with what was seen kept.
async fn kept(name: &str, goal: Goal, timeout: u64, keeper: &mut Keeper) -> (Outcome, f64, String) {
    let s = sim::load(name).unwrap();
    let (start, session) = (s.start_ns(), sim::session(&s));
    let begun = tokio::time::Instant::now();
    let now = move || start + i64::try_from(begun.elapsed().as_nanos()).unwrap();
    let (tx, bus) = tokio::sync::mpsc::channel(64);
    let (_errands, chores) = tokio::sync::mpsc::unbounded_channel();
    let player = tokio::spawn(sim::play(s, 1.0, tx, chores));
    let mut out = Vec::new();
    let wish = Wish {
        goal,
        timeout: Duration::from_secs(timeout),
        session,
        stall: Default::default(),
    };
    let outcome = until(wish, bus, keeper, |_| None, now, &mut out).await;
    player.abort();
    (
        outcome,
        begun.elapsed().as_secs_f64(),
        String::from_utf8(out).unwrap(),
    )
}

#[tokio::test(start_paused = true)]
async fn serving_is_reached_and_the_way_there_is_told() {
    let (outcome, took, said) = wait("healthy", Goal::Serving, 300).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!((50.0..70.0).contains(&took), "{took} s");
    for word in ["in nccl-init", "in weights", "/19 shards"] {
        assert!(said.contains(word), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn nccl_is_reached_before_the_weights_are_there() {
    let (outcome, took, _) = wait("healthy", Goal::Nccl, 300).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!((15.0..35.0).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn what_has_died_is_not_waited_for() {
    let (outcome, _, _) = wait("cuda-oom-loading", Goal::Serving, 3000).await;
    assert!(
        matches!(&outcome, Outcome::Lost(why) if why.contains("memory")),
        "{outcome:?}"
    );
    assert_eq!(outcome.code(), 1);
    let (outcome, _, _) = wait("cuda-oom-loading", Goal::Failed, 3000).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn time_passes() {
    let (outcome, took, _) = wait("healthy", Goal::Serving, 20).await;
    assert_eq!(outcome.code(), 3, "{outcome:?}");
    assert!((20.0..21.0).contains(&took), "{took} s");
    let (outcome, took, _) = wait("healthy", Goal::Failed, 90).await;
    assert_eq!(outcome.code(), 3, "{outcome:?}");
    assert!(took >= 90.0);
}

/// What can't be watched at all is said at once, and is no time-out.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_watched_is_not_waited_for() {
    let (_tx, bus) = tokio::sync::mpsc::channel(1);
    let broken = |_: &Model| Some("not allowed to list pods".to_owned());
    let wish = Wish {
        goal: Goal::Serving,
        timeout: Duration::from_secs(60),
        session: Session::default(),
        stall: Default::default(),
    };
    let mut out = Vec::new();
    let outcome = until(wish, bus, &mut Keeper::default(), broken, || 0, &mut out).await;
    assert_eq!(outcome.code(), 2, "{outcome:?}");
}

/// A time-out over a cluster that never answered says so.
#[tokio::test(start_paused = true)]
async fn a_time_out_says_what_was_not_reached() {
    let (tx, bus) = tokio::sync::mpsc::channel(1);
    let why = "the API server refuses the connection".to_owned();
    let state = EdgeState::Retrying { why, in_ms: 500 };
    let edge = "pods".into();
    tx.send(Event::Edge(EdgeEvent { edge, state }))
        .await
        .unwrap();
    let wish = Wish {
        goal: Goal::Serving,
        timeout: Duration::from_secs(5),
        session: Session::default(),
        stall: Default::default(),
    };
    let mut out = Vec::new();
    let outcome = until(wish, bus, &mut Keeper::default(), |_| None, || 0, &mut out).await;
    drop(tx);
    assert!(
        matches!(&outcome, Outcome::TimedOut(text) if text.contains("refuses the connection")),
        "{outcome:?}"
    );
}

/// `--record`: what was waited for can be looked at again.
#[tokio::test(start_paused = true)]
async fn what_was_waited_for_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wait.rec");
    let header = Header::new("wait", 1, true);
    let recorder = Recorder::start(create(&path).unwrap(), &header, Redactor::new()).unwrap();
    let mut keeper = Keeper {
        recorder: Some(recorder),
        ..Keeper::default()
    };
    let (outcome, ..) = kept("healthy", Goal::Serving, 300, &mut keeper).await;
    let Outcome::Reached(summary) = outcome else {
        panic!("{outcome:?}");
    };
    let summary_of_file = keeper.recorder.unwrap().close().unwrap();
    assert_eq!(summary_of_file.lost, 0);
    let mut model = Model::default();
    let mut reader = Reader::open(&path).unwrap();
    for (seq, entry) in (1..).zip(&mut reader) {
        let (at, event) = (entry.at, entry.event);
        if seq == 1 {
            assert!(matches!(event, Event::Session(_)), "who was looked at");
        }
        update(&mut model, Stamped { seq, at, event });
    }
    assert_eq!(reader.loss().sentence(), None);
    let scene = Scene::of(&model);
    assert_eq!(scene.summary, summary);
    let serve = scene
        .processes
        .iter()
        .filter(|p| p.global_rank.is_some() && p.stage == Some(Stage::Serving));
    assert_eq!(serve.count(), 8);
}
