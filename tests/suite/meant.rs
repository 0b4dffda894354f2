//! What stands on screen and on paper is what is meant: signs and their words, rows left out, lines that wrap.

use std::sync::Arc;

use ncclscope::model::event::{
    Command, ContainerState, ContainerView, Event, LogBlock, PodEvent, PodView, SourceEvent,
    SourceId, SourceInfo, Stamped,
};
use ncclscope::model::screen::PaneId;
use ncclscope::model::{Model, update};
use ncclscope::panes::parts;
use ncclscope::parse::Block;
use ncclscope::report::text;
use ncclscope::rules::scene::{Cell, Glyph, GpuView, Progress, Scene};
use ncclscope::sources::sim;
use ncclscope::theme::Theme;
use ratatui::buffer::Buffer;

use crate::pages::{page, ticket};
use crate::stage;

fn say(model: &mut Model, event: Event) {
    update(
        model,
        Stamped {
            seq: 1,
            at: 0,
            event,
        },
    );
}

fn photo(scene: &Scene, model: &Model) -> Buffer {
    stage::draw(scene, model, &Theme::probe(false))
}

#[test]
fn a_node_is_explained_by_the_sign_that_it_shows() {
    let mut scene = stage::sockets();
    let matrix = Arc::make_mut(&mut scene.matrices[0]);
    // Beside the sockets of the second node, lines in doubt.
    matrix.cells.push(Cell::blank(8, 12, Glyph::Doubt));
    matrix.cells.sort_by_key(|c| (c.from, c.to));
    let mut model = stage::model(120, 40);
    let commands = [
        Command::Pane("matrix".into()),
        Command::Toggle("nodes".into()),
        Command::Line("cell 1 1".into()),
        Command::Explain,
    ];
    stage::act(&scene, &mut model, &commands);
    let shown = stage::text(&photo(&scene, &model)).join("\n");
    assert!(shown.contains("node 1"), "{shown}");
    assert!(shown.contains("TCP sockets"), "{shown}");
    assert!(!shown.contains("who they are between"), "{shown}");
}

#[test]
fn a_table_that_was_not_cut_says_nothing_of_more_rows() {
    let mut scene = stage::sixty_four();
    for p in scene.processes.iter_mut().skip(40) {
        p.stage = None;
    }
    let more = scene.processes.clone();
    scene.processes.extend(more.into_iter().skip(40));
    let page = ticket(&scene);
    assert!(page.contains("## Start-up"), "{page}");
    assert!(!page.contains("more in the JSON report"), "{page}");
    let mut scene = stage::thousand();
    scene.processes.truncate(70);
    let page = ticket(&scene);
    assert!(page.contains("6 more in the JSON report"), "{page}");
    assert!(
        page.contains("64 more in the JSON report"),
        "of 128 pods: {page}"
    );
}

#[test]
fn a_container_that_waits_for_no_reason_says_just_that() {
    let waits = ContainerView {
        name: "vllm".into(),
        state: ContainerState::Waiting {
            reason: String::new(),
            message: None,
        },
        ..ContainerView::default()
    };
    let pod = PodView {
        namespace: "prod".into(),
        name: "llm-0".into(),
        uid: "u".into(),
        containers: vec![waits],
        ..PodView::default()
    };
    let mut model = stage::model(100, 50);
    say(&mut model, Event::Pod(PodEvent::Upsert(Box::new(pod))));
    let scene = Scene::of(&model);
    let commands = [Command::Pane("pods".into()), Command::Enter];
    stage::act(&scene, &mut model, &commands);
    let shown = stage::text(&photo(&scene, &model));
    let line = shown.iter().find(|l| l.contains("waiting")).unwrap();
    assert!(line.trim_end().ends_with("waiting"), "{line}");
}

#[test]
fn lines_of_one_text_are_not_glued_together() {
    assert_eq!(parts::wrap("first\nsecond", 40), ["first second"]);
    assert_eq!(parts::wrap("first\nsecond", 8), ["first", "second"]);
    assert_eq!(parts::columns("a\nb"), 3);
}

#[test]
fn a_wide_character_is_not_cut_in_half_where_a_line_wraps() {
    // An odd number of columns in front, so that one of the wide ones meets the edge.
    let text = format!("a{}z\n", "日".repeat(200));
    let mut model = stage::model(81, 24);
    let info = SourceInfo {
        name: "prod/llm-0/vllm".into(),
        container: None,
        previous: false,
        started: None,
    };
    say(
        &mut model,
        Event::Source(SourceEvent::Opened(SourceId(0), info)),
    );
    let block = Arc::new(Block::new(1, text.into_bytes()));
    let source = SourceId(0);
    say(&mut model, Event::Log(LogBlock { source, block }));
    let scene = Scene::of(&model);
    for odd in [81, 82] {
        model.screen.size = (odd, 24);
        model.screen.pane = PaneId::Logs;
        let wrapped = model.screen.is_on("wrap");
        let commands = [Command::Pane("logs".into()), Command::Toggle("wrap".into())];
        stage::act(&scene, &mut model, &commands[..if wrapped { 1 } else { 2 }]);
        let buf = photo(&scene, &model);
        let wide = |x: u16, y: u16| buf.cell((x, y)).is_some_and(|c| c.symbol() == "日");
        let rows = || buf.area.top()..buf.area.bottom();
        let seen: usize = rows()
            .map(|y| (0..odd).filter(|x| wide(*x, y)).count())
            .sum();
        assert_eq!(seen, 200, "none is lost at {odd} columns");
        // The last column belongs to the margin: nothing may begin there.
        assert!(
            rows().all(|y| !wide(odd - 1, y) && !wide(odd - 2, y)),
            "{odd} columns"
        );
        let all = stage::text(&buf).join("\n");
        assert!(all.contains('z'), "{all}");
    }
}

#[test]
fn ranks_without_a_communicator_share_none() {
    let scenario = sim::load("image-pull").unwrap();
    let mut model = stage::model(120, 40);
    for (seq, (at, event)) in (1..).zip(sim::events(&scenario)) {
        update(&mut model, Stamped { seq, at, event });
    }
    let scene = Scene::of(&model);
    assert!(scene.communicators.is_empty());
    let matrix = &scene.matrices[0];
    assert_eq!(matrix.slots.len(), 4);
    assert_eq!(matrix.shown(0, 1), None, "no sign stands for nothing");
    for (pane, wanted) in [("matrix", true), ("overview", false)] {
        stage::act(&scene, &mut model, &[Command::Pane(pane.into())]);
        let shown = stage::text(&photo(&scene, &model)).join("\n");
        let told = "No rank has reached NCCL yet.\n NCCL_DEBUG is set";
        assert_eq!(shown.contains(told), wanted, "{shown}");
        assert!(
            !shown.contains("/ · ·") && !shown.contains("MATRIX"),
            "{shown}"
        );
    }
}

#[test]
fn a_rank_that_is_not_there_is_said_to_be_none() {
    let scene = stage::sockets();
    let mut model = stage::model(120, 40);
    let line = |text: &str| Command::Line(text.into());
    stage::act(&scene, &mut model, &[line("nonsense"), line("cell 3 99")]);
    let shown = stage::text(&photo(&scene, &model)).join("\n");
    assert!(
        shown.contains("3 → 15   there is no rank 99 here, this is the nearest"),
        "{shown}"
    );
    assert!(
        !shown.contains("nonsense"),
        "of the command before: {shown}"
    );
    stage::act(&scene, &mut model, &[line("cell 3 4")]);
    let shown = stage::text(&photo(&scene, &model)).join("\n");
    assert!(!shown.contains("there is no rank"), "{shown}");
}

/// What was asked for and is none is answered with what there is.
#[test]
fn a_cell_that_is_none_is_answered_with_those_there_are() {
    let line = |text: &str| Command::Line(text.into());
    let said = |scene: &Scene, commands: &[Command]| {
        let mut model = stage::model(120, 40);
        stage::act(scene, &mut model, commands);
        let note = model.screen.note.clone().map(|n| n.text);
        (note.unwrap_or_default(), model)
    };
    let scene = stage::sockets();
    for (typed, words) in [
        ("cell 7 7", &["rank 7", "itself", "`:cell 7 N`", "0-15"][..]),
        ("cell 3 99", &["no rank 99", "0-15"]),
        ("rank 99", &["no rank 99", "0-15"]),
        ("cell 3 4", &[]),
        ("rank 3", &[]),
    ] {
        let (note, model) = said(&scene, &[line(typed)]);
        assert_eq!(model.screen.pane, PaneId::Matrix);
        assert_eq!(note.is_empty(), words.is_empty(), "{typed}: {note}");
        for word in words {
            assert!(note.contains(word), "{typed}: {note}");
        }
    }
    // One of another communicator is among all.
    let (note, model) = said(&scene, &[line("tab tp:1"), line("rank 12")]);
    assert_eq!(model.screen.matrix.tab, 0);
    assert!(note.contains("tp:1, which has 0-7"), "{note}");
    let (note, _) = said(&Scene::default(), &[line("rank 12")]);
    assert!(note.contains("none is known yet"), "{note}");
    // Where nodes are drawn a rank is looked for in its node.
    let scene = stage::thousand();
    let (note, model) = said(&scene, &[line("cell 620 621")]);
    assert_eq!(model.screen.matrix.zoom, Some((77, 77)), "{note}");
    let shown = stage::text(&photo(&scene, &model)).join("\n");
    assert!(shown.contains("620 → 621"), "{shown}");
    // Numbers on the axes are those that are said.
    let (_, model) = said(&scene, &[Command::Pane("matrix".into()), line("cell 3 77")]);
    let shown = stage::text(&photo(&scene, &model)).join("\n");
    assert!(shown.contains("node 3 → node 77"), "{shown}");
}

#[test]
fn of_a_gpu_that_nobody_measured_nothing_is_said_to_be_well() {
    let mut scene = stage::healthy();
    scene.gpus = vec![GpuView {
        bus_id: Some("3b000".into()),
        node: Some("gpu-01".into()),
        global_rank: Some(0),
        ..GpuView::default()
    }];
    let mut model = stage::model(120, 60);
    let commands = [Command::Pane("vram".into()), Command::Enter];
    stage::act(&scene, &mut model, &commands);
    let shown = stage::text(&photo(&scene, &model));
    for field in ["held down by", "against group"] {
        let line = shown.iter().find(|l| l.contains(field)).unwrap();
        assert!(line.ends_with(" -"), "{line}");
    }
}

#[test]
fn who_has_ended_has_no_time_left() {
    let scenario = sim::load("leftover-memory").unwrap();
    let mut model = stage::model(160, 50);
    for (seq, (at, event)) in (1..).zip(sim::events(&scenario)) {
        update(&mut model, Stamped { seq, at, event });
    }
    let scene = Scene::of(&model);
    assert!(scene.processes.iter().all(|p| p.alive == Some(false)));
    for pane in ["overview", "ranks"] {
        stage::act(&scene, &mut model, &[Command::Pane(pane.into())]);
        let shown = stage::text(&photo(&scene, &model));
        let line = shown.iter().find(|l| l.contains("/19 shards"));
        if let Some(line) = line {
            assert!(line.trim_end().ends_with("shards"), "{pane}: {line}");
        }
        assert!(pane != "overview" || line.is_some(), "{shown:?}");
        let all = shown.join("\n");
        // NCCL's own stamp stands beside ours once only.
        assert!(!all.contains("[2026-"), "{all}");
    }
}

#[test]
fn bytes_are_told_as_people_count_them() {
    let mut scene = stage::healthy();
    for p in &mut scene.processes {
        p.progress = Some(Progress {
            done: 1_400_000_000,
            total: 15_246_827_520,
            unit: "bytes",
            ..Progress::default()
        });
    }
    let mut plain = Vec::new();
    text::write(&mut plain, &scene, text::Style::default()).unwrap();
    for told in [
        String::from_utf8(plain).unwrap(),
        ticket(&scene),
        page(&scene),
    ] {
        assert!(told.contains("1.4/15.2 GB"), "{told}");
        assert!(!told.contains("1400000000"), "{told}");
    }
}
