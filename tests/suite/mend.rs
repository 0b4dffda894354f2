//! What a stranger stumbled over: each was once said wrongly, or not at all.

use std::sync::Arc;

use ncclscope::model::event::{
    Command, EdgeEvent, EdgeState, Event, Feed, LogBlock, SourceEvent, SourceId, SourceInfo,
    Stamped,
};
use ncclscope::model::kiosk::{Kiosk, Plan};
use ncclscope::model::screen::PaneId;
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::report::redact::Redactor;
use ncclscope::report::{FailOn, junit, markdown, text};
use ncclscope::rules::scene::{CheckVerdict, CheckView, Scene};
use ncclscope::sources::sim;

use crate::stage;

const SEC: i64 = 1_000_000_000;

fn open(pane: PaneId) -> Command {
    Command::Pane(pane.id().into())
}

/// A scenario at its end, `later` seconds on.
fn demo(name: &str, (w, h): (u16, u16), later: i64) -> (Scene, Model) {
    let scenario = sim::load(name).unwrap();
    let mut model = stage::model(w, h);
    let mut last = 0;
    for (seq, (at, event)) in (1..).zip(sim::events(&scenario)) {
        last = at;
        update(&mut model, Stamped { seq, at, event });
    }
    let (seq, at, event) = (u64::MAX, last + later * SEC, Event::Tick);
    update(&mut model, Stamped { seq, at, event });
    (Scene::of(&model), model)
}

fn shown(scene: &Scene, model: &mut Model, pane: PaneId) -> String {
    stage::act(scene, model, &[open(pane)]);
    stage::photograph(scene, model)
}

#[test]
fn what_was_cleaned_up_is_done_and_its_time_stands() {
    let (scene, mut model) = demo("allreduce-good", (200, 50), 3_600);
    let test = scene.test.as_deref().unwrap();
    assert_eq!(test.left, Some(Vec::new()), "it is removed");
    assert_eq!(test.phase(), Some("done"));
    assert!(test.phases.iter().all(|p| !p.open));
    let page = shown(&scene, &mut model, PaneId::Test);
    assert!(page.contains("done › cleaned up 1.9 s"), "{page}");
}

#[test]
fn a_bad_test_is_told_wherever_the_workload_is() {
    for (name, word, fails) in [
        ("allreduce-slow-link", "below", true),
        ("allreduce-wrong-result", "wrong result", true),
        ("allreduce-good", "good", false),
    ] {
        let (scene, mut model) = demo(name, (120, 40), 0);
        let overview = shown(&scene, &mut model, PaneId::Overview);
        assert!(
            overview.contains("HEALTHY"),
            "the workload's verdict is its own: {overview}"
        );
        assert!(
            overview.contains(&format!("ALL-REDUCE TEST  {word}  ")),
            "{overview}"
        );
        let sentence = &scene.test.as_deref().unwrap().sentence;

        let mut out = Vec::new();
        text::write(&mut out, &scene, text::Style::default()).unwrap();
        let said = String::from_utf8(out).unwrap();
        assert!(said.contains("ALL-REDUCE TEST"), "{said}");
        assert!(said.contains(&format!("{word}  {sentence}")), "{said}");

        let mut out = Vec::new();
        markdown::write(&mut out, &scene, &mut Redactor::off()).unwrap();
        let said = String::from_utf8(out).unwrap();
        assert!(
            said.contains(&format!("## All-reduce test: {word}\n")),
            "{said}"
        );

        let mut out = Vec::new();
        junit::write(&mut out, &scene, FailOn::Error, &mut Redactor::off()).unwrap();
        let said = String::from_utf8(out).unwrap();
        let case = said
            .lines()
            .find(|l| l.contains("classname=\"allreduce\""))
            .unwrap();
        assert_eq!(case.contains("<failure "), fails, "{case}");
    }
}

#[test]
fn a_test_that_decides_nothing_is_a_skipped_case() {
    let (mut scene, _) = demo("allreduce-good", (120, 40), 0);
    let test = scene.test.as_mut().unwrap();
    test.verdict = None;
    let mut out = Vec::new();
    junit::write(&mut out, &scene, FailOn::Error, &mut Redactor::off()).unwrap();
    let said = String::from_utf8(out).unwrap();
    let case = said
        .lines()
        .find(|l| l.contains("classname=\"allreduce\""))
        .unwrap();
    assert!(case.contains("<skipped "), "{case}");
}

#[test]
fn a_slow_test_offers_the_next_step_and_says_which_type_it_graded() {
    let (scene, mut model) = demo("allreduce-slow-link", (200, 50), 0);
    let page = shown(&scene, &mut model, PaneId::Test);
    assert!(page.contains("--pairs"), "{page}");
    let kind = scene
        .test
        .as_deref()
        .and_then(|t| t.verdict.as_ref()?.kind.clone())
        .unwrap();
    assert!(page.contains(&format!("of {kind}, ")), "{page}");
    assert!(page.contains(&format!("{kind} us")), "{page}");
    let test = scene.test.as_deref().unwrap();
    let (bytes, half) = test.graded().unwrap().points.last_key_value().unwrap();
    let row = page
        .lines()
        .find(|l| l.contains(&ncclscope::rules::busbw::size(*bytes)) && l.contains('█'));
    let row = row.unwrap_or_else(|| panic!("{page}"));
    assert!(row.contains(&format!("{:.1}", half.0.us)), "{row}");
}

#[test]
fn a_warning_passes_and_what_was_not_decided_is_skipped() {
    let mut scene = stage::healthy();
    let check = |verdict| CheckView {
        id: "cluster.x",
        title: format!("{verdict:?}"),
        verdict,
        output: "what came back".into(),
        subject: String::new(),
        ran: String::new(),
        fix: Vec::new(),
        at: None,
    };
    scene.checks = vec![
        check(CheckVerdict::Warn),
        check(CheckVerdict::NotApplicable),
        check(CheckVerdict::Unknown),
        check(CheckVerdict::Waiting),
        check(CheckVerdict::Forbidden),
        check(CheckVerdict::Pass),
    ];
    let mut out = Vec::new();
    junit::write(&mut out, &scene, FailOn::Error, &mut Redactor::off()).unwrap();
    let said = String::from_utf8(out).unwrap();
    assert!(
        said.contains("failures=\"0\" errors=\"0\" skipped=\"4\""),
        "{said}"
    );
    let warn = said.lines().find(|l| l.contains("name=\"Warn\"")).unwrap();
    assert!(
        warn.ends_with("><system-out>what came back</system-out></testcase>"),
        "{warn}"
    );
    let pass = said.lines().find(|l| l.contains("name=\"Pass\"")).unwrap();
    assert!(pass.ends_with("name=\"Pass\"/>"), "{pass}");
}

#[test]
fn stamps_and_heads_do_not_eat_the_message() {
    let mut scene = stage::healthy();
    let text = "2026-03-02T03:11:24.858461767Z ERROR 03-02 03:11:24 [core.py:9] the engine died";
    scene.processes[1].first_error = Some(stage::line(1, 7, 60, text));
    let mut model = stage::model(200, 50);
    for pane in [PaneId::Overview, PaneId::Ranks] {
        let page = shown(&scene, &mut model, pane);
        assert!(page.contains("ERROR [core.py:9] the engine died"), "{page}");
        assert!(!page.contains(".858461767Z"), "{page}");
    }
}

#[test]
fn files_of_one_name_are_told_apart() {
    let mut model = stage::model(120, 40);
    model.session.feed = Feed::Files;
    let names = [
        "logs/prod/a/vllm.log",
        "logs/prod/b/vllm.log",
        "logs/prod/b/other.log",
    ];
    for (id, name) in (0..).zip(names) {
        let source = SourceId(id);
        let info = SourceInfo {
            name: name.into(),
            container: None,
            previous: false,
            started: None,
        };
        let block = Arc::new(Block::new(1, format!("line of {name}\n").into_bytes()));
        for event in [
            Event::Source(SourceEvent::Opened(source, info)),
            Event::Log(LogBlock { source, block }),
        ] {
            let (seq, at) = (1, 0);
            update(&mut model, Stamped { seq, at, event });
        }
    }
    let scene = Scene::of(&model);
    let page = shown(&scene, &mut model, PaneId::Logs);
    for label in ["a/vllm.log ", "b/vllm.log ", "other.log "] {
        let line = page.lines().find(|l| l.trim_start().starts_with(label));
        assert!(line.is_some(), "{label}: {page}");
    }
}

#[test]
fn a_pane_and_a_count_are_one_thing() {
    let (scene, mut model) = demo("sockets-inside-host", (40, 14), 0);
    let page = shown(&scene, &mut model, PaneId::Overview);
    let tabs = page
        .lines()
        .find(|l| l.contains("0 overview 1 2 "))
        .unwrap_or_else(|| panic!("{page}"));
    let tabs = tabs.split('│').next().unwrap_or_default();
    let numbers: Vec<&str> = tabs.split_whitespace().skip(2).collect();
    let panes: Vec<&str> = numbers
        .iter()
        .map(|n| n.split(':').next().unwrap())
        .collect();
    assert_eq!(
        panes,
        ["1", "2", "3", "4", "5", "6", "7", "8", "9"][..panes.len()],
        "{tabs}"
    );
    assert!(tabs.contains(':'), "{tabs}");
}

/// A cluster that refuses.
fn refused(kiosk: bool) -> String {
    let mut model = stage::model(100, 30);
    model.session.feed = Feed::Cluster;
    model.session.server = Some("https://10.9.8.7:6443".into());
    model.session.context = Some("prod".into());
    model.session.kubeconfig = Some("/home/ops/.kube/config".into());
    if kiosk {
        model.screen.kiosk = Some(Kiosk::new(Plan::default()));
    }
    let state = EdgeState::Retrying {
        why: "the API server refuses the connection: is it running, is the address right".into(),
        in_ms: 4_000,
    };
    let edge = "discovery".into();
    for event in [Event::Edge(EdgeEvent { edge, state }), Event::Tick] {
        let (seq, at) = (1, 1_800_000_000 * SEC);
        update(&mut model, Stamped { seq, at, event });
    }
    let scene = Scene::of(&model);
    stage::photograph(&scene, &model)
}

#[test]
fn a_cluster_that_can_not_be_reached_is_said_to_be_so() {
    for kiosk in [false, true] {
        let page = refused(kiosk);
        let flat = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            flat.contains("The API server can't be reached: it refuses the connection"),
            "{page}"
        );
        let tried = "Tried: https://10.9.8.7:6443, context prod of /home/ops/.kube/config.";
        assert!(flat.contains(tried), "{page}");
        assert!(flat.contains("no facts yet"), "{page}");
        for wrong in ["nothing read yet", "no rank has said", "facts 0.0 s"] {
            assert!(!flat.contains(wrong), "{page}");
        }
    }
}

#[test]
fn old_facts_are_a_warning() {
    let (scene, mut model) = demo("healthy", (120, 40), 55 * 60);
    let page = shown(&scene, &mut model, PaneId::Overview);
    let head = page.lines().next().unwrap();
    assert!(head.contains("facts 5") && head.contains("m old"), "{head}");
    model.session.feed = Feed::Replay;
    let page = shown(&scene, &mut model, PaneId::Overview);
    assert!(!page.lines().next().unwrap().contains(" old"), "{page}");
}

#[test]
fn a_test_that_begins_by_itself_is_foretold_on_the_pane() {
    let mut model = stage::model(80, 24);
    model.session.feed = Feed::Demo;
    model.session.test_at = Some(1_772_421_085 * SEC);
    let scene = stage::healthy();
    let page = shown(&scene, &mut model, PaneId::Test);
    let flat = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("One begins by itself at 03:11:25"), "{page}");
    assert!(flat.contains(":allreduce cancel takes it back"), "{page}");
}

#[test]
fn a_curve_says_of_what() {
    let (scene, mut model) = demo("loading-slow", (200, 50), 0);
    let page = shown(&scene, &mut model, PaneId::Vram);
    let line = page
        .lines()
        .find(|l| l.contains("   since "))
        .unwrap_or_else(|| panic!("{page}"));
    assert!(line.contains(" GB of "), "{line}");
    assert!(!line.contains("top "), "{line}");
}
