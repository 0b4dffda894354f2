//! The all-reduce test in the embedded cluster: who asks for it, what it is asked, what comes of it.

use ncclscope::model::event::{Errand, Event, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::rules::scene::Scene;
use ncclscope::sources::sim::{self, Scenario};

use super::{all, scene};

/// A test that begins by itself is graded as the file says, and leaves the workload's own view alone.
#[test]
fn tests_of_scenarios_are_graded_as_expected() {
    let mut seen = 0;
    for s in all().iter().filter(|s| s.test.at.is_some()) {
        let scene = scene(s);
        let test = scene.test.expect("a test");
        let verdict = test.verdict.as_ref().expect("it has ended");
        assert_eq!(
            Some(verdict.grade.word()),
            s.expect.test.as_deref(),
            "{}: {}",
            s.name,
            verdict.sentence
        );
        assert_eq!(test.left.as_deref(), Some([].as_slice()), "{}", s.name);
        assert_eq!(test.compared.len(), 2, "inside and between hosts");
        assert_eq!(test.scene.communicators.len(), 1);
        assert_eq!(test.sizes().len(), 28);
        assert!(
            scene
                .processes
                .iter()
                .all(|p| !p.place().contains("ncclscope")),
            "{}",
            s.name
        );
        seen += 1;
    }
    assert_eq!(seen, 3);
}

/// The scene at the end of a scenario in which somebody typed a line, and said yes to what was asked back.
async fn asked(s: Scenario, line: &str) -> Scene {
    let (tx, mut rx) = tokio::sync::mpsc::channel(64);
    let (ask, errands) = tokio::sync::mpsc::unbounded_channel();
    ask.send(Errand::Line(line.into())).unwrap();
    let mut ask = Some(ask);
    tokio::spawn(sim::play(s, 50.0, tx, errands));
    let mut model = Model::default();
    while let Some(event) = rx.recv().await {
        if let Event::Ask(question) = &event {
            let number = question.number;
            let ask = ask.take().expect("one question");
            ask.send(Errand::Answer { number, yes: true }).unwrap();
        }
        let (seq, at) = (1, 1);
        update(&mut model, Stamped { seq, at, event });
    }
    Scene::of(&model)
}

/// Whatever is wrong with the network of a scenario, a test asked for there meets it, too.
#[tokio::test(start_paused = true)]
async fn a_test_asked_for_meets_the_faults_of_the_scenario() {
    for (name, grade, says) in [
        ("healthy", "good", "NCCL used NET/IB with GDR, P2P"),
        (
            "ib-without-gdr",
            "below",
            "GB/s that RDMA between nodes at 1600 Gb/s gives",
        ),
        (
            "socket-despite-rdma",
            "below",
            "NCCL used TCP between nodes at 10 Gb/s: 1.1 GB/s is all it can give",
        ),
        ("connect-timeout", "not decided", "no progress for 180 s"),
    ] {
        let s = sim::load(name).unwrap();
        let test = asked(s, "allreduce").await.test.expect("a test");
        let verdict = test.verdict.expect("it has ended");
        assert_eq!(verdict.grade.word(), grade, "{name}: {}", verdict.sentence);
        assert!(
            verdict.sentence.contains(says),
            "{name}: {}",
            verdict.sentence
        );
    }
}

/// Three pods, one slow: the pairs name it.
#[tokio::test(start_paused = true)]
async fn pairs_in_the_demo_name_the_slow_node() {
    let text = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/scenarios/allreduce-slow-link.yaml"
    ))
    .unwrap();
    let text = text
        .replace("pods: 2", "pods: 3")
        .replace("pp: 2", "pp: 3")
        .replace("test: { at: 65, ", "test: { ");
    let s = sim::parse("three", &text).unwrap();
    let scene = asked(s, "allreduce --pairs").await;
    let labels: Vec<&str> = scene.matrices.iter().map(|m| m.label.as_str()).collect();
    assert!(labels.ends_with(&["test", "test pairs"]), "{labels:?}");
    let test = scene.test.expect("a test");
    assert_eq!(test.judged.pods, [1]);
    let verdict = test.verdict.expect("it has ended");
    assert_eq!(
        verdict.sentence,
        "Guilty: gpu-02, each of its 2 pairs is slow or wrong."
    );
    assert_eq!(verdict.grade.code(), 1);
}

/// What is said in the first moments of a demo in which somebody typed `:allreduce`, answered so.
async fn said(
    line: &str,
    yes: Option<bool>,
) -> (Vec<Event>, Option<ncclscope::model::event::Question>) {
    let (tx, mut rx) = tokio::sync::mpsc::channel(64);
    let (ask, errands) = tokio::sync::mpsc::unbounded_channel();
    ask.send(Errand::Line(line.into())).unwrap();
    let player = tokio::spawn(sim::play(sim::load("healthy").unwrap(), 50.0, tx, errands));
    let (mut events, mut question) = (Vec::new(), None);
    let mut ask = Some(ask);
    while let Some(event) = rx.recv().await {
        if let Event::Ask(q) = &event {
            let number = q.number;
            question = Some(q.clone());
            let ask = ask.take().expect("one question");
            if let Some(yes) = yes {
                ask.send(Errand::Answer { number, yes }).unwrap();
            }
        }
        events.push(event);
    }
    player.await.unwrap();
    (events, question)
}

/// The same question as on a real cluster; what is not answered, or with no, creates nothing.
#[tokio::test(start_paused = true)]
async fn the_demo_asks_with_the_manifest_before_a_test() {
    for (yes, runs) in [(Some(true), true), (Some(false), false), (None, false)] {
        let (events, question) = said("allreduce", yes).await;
        let question = question.expect("it asks");
        assert!(
            question.text.starts_with("Create job/"),
            "{}",
            question.text
        );
        assert!(question.text.ends_with('?'), "{}", question.text);
        assert!(question.body.contains("kind: Job"), "{}", question.body);
        assert_eq!(question.level, ncclscope::model::event::Level::Act);
        let tests = events
            .iter()
            .filter(|e| matches!(e, Event::Test(_)))
            .count();
        assert_eq!(tests > 0, runs, "{yes:?}");
        let declined = events
            .iter()
            .any(|e| matches!(e, Event::Note { text, bad: true } if text == "no test: declined"));
        assert_eq!(declined, yes == Some(false));
    }
}

/// On a wall nobody can say yes: no question covers it, and nothing runs.
#[tokio::test(start_paused = true)]
async fn on_a_wall_no_test_is_run() {
    let (tx, mut rx) = tokio::sync::mpsc::channel(64);
    let (ask, errands) = tokio::sync::mpsc::unbounded_channel();
    ask.send(Errand::Line("allreduce".into())).unwrap();
    let s = sim::load("healthy").unwrap();
    tokio::spawn(sim::forever::play_forever(vec![s], 50.0, tx, errands));
    let mut refused = false;
    for _ in 0..4_000 {
        match rx.recv().await.expect("it goes on") {
            Event::Ask(_) | Event::Test(_) => panic!("asked, or run"),
            Event::Note { text, bad } => {
                assert!(bad && text.contains("nobody can be asked here"), "{text}");
                refused = true;
            }
            _ => {}
        }
    }
    assert!(refused);
}

/// A scenario with a test of its own says so before it begins; who does not want it takes it back.
#[tokio::test(start_paused = true)]
async fn a_test_that_begins_by_itself_is_foretold() {
    let s = sim::load("allreduce-slow-link").unwrap();
    let begins = s.origin_ns() + 65_000_000_000;
    assert_eq!(sim::session(&s).test_at, Some(begins));
    assert_eq!(sim::session(&sim::load("healthy").unwrap()).test_at, None);
    let (tx, mut rx) = tokio::sync::mpsc::channel(64);
    let (ask, errands) = tokio::sync::mpsc::unbounded_channel();
    ask.send(Errand::Line("allreduce".into())).unwrap();
    ask.send(Errand::Line("allreduce cancel".into())).unwrap();
    drop(ask);
    tokio::spawn(sim::play(s, 50.0, tx, errands));
    let (mut notes, mut sessions) = (Vec::new(), Vec::new());
    while let Some(event) = rx.recv().await {
        match event {
            Event::Note { text, .. } => notes.push(text),
            Event::Session(session) => sessions.push(session.test_at),
            Event::Test(_) | Event::Ask(_) => panic!("it was taken back"),
            _ => {}
        }
    }
    assert_eq!(
        notes,
        ["this scenario begins a test by itself; :allreduce cancel takes it back"]
    );
    assert_eq!(sessions.last(), Some(&None), "{sessions:?}");
}
