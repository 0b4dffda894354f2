//! Panes as people see them: snapshots hold text and roles, so that a theme can't change them and a wrong role does.

use std::sync::Arc;

use ncclscope::model::event::{Command, SourceEvent, SourceId, SourceInfo, Stamped};
use ncclscope::model::event::{Event, Level, LogBlock, Question};
use ncclscope::model::screen::PaneId;
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::rules::scene::*;
use ncclscope::theme::{Depth, Terminal, Theme};
use ratatui::style::{Color, Modifier};

use crate::stage::{self, Job};

#[path = "screens/pictures.rs"]
mod pictures;

fn pane(id: PaneId) -> Command {
    Command::Pane(id.id().into())
}

pub fn snapshot(name: &str, content: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, content));
}

/// A picture of a pane after some commands.
fn photo(name: &str, scene: &Scene, (w, h): (u16, u16), id: PaneId, commands: &[Command]) {
    let mut model = stage::model(w, h);
    stage::act(scene, &mut model, &[pane(id)]);
    stage::act(scene, &mut model, commands);
    snapshot(
        &format!("{name}-{w}x{h}"),
        &stage::photograph(scene, &model),
    );
}

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 50)];

#[test]
fn overview() {
    for size in SIZES {
        photo(
            "overview-sockets",
            &stage::sockets(),
            size,
            PaneId::Overview,
            &[],
        );
    }
    photo(
        "overview-healthy",
        &stage::healthy(),
        (80, 24),
        PaneId::Overview,
        &[],
    );
    photo(
        "overview-1024",
        &stage::thousand(),
        (120, 40),
        PaneId::Overview,
        &[],
    );
    photo(
        "overview-empty",
        &Scene::default(),
        (80, 24),
        PaneId::Overview,
        &[],
    );
}

#[test]
fn matrix() {
    for size in SIZES {
        photo(
            "matrix-sockets",
            &stage::sockets(),
            size,
            PaneId::Matrix,
            &[],
        );
    }
    photo(
        "matrix-64",
        &stage::sixty_four(),
        (120, 40),
        PaneId::Matrix,
        &[],
    );
    photo(
        "matrix-1024",
        &stage::thousand(),
        (120, 40),
        PaneId::Matrix,
        &[],
    );
    photo(
        "matrix-1024-zoomed",
        &stage::thousand(),
        (120, 40),
        PaneId::Matrix,
        &[Command::Up, Command::Enter],
    );
    photo(
        "matrix-one",
        &stage::sockets(),
        (80, 24),
        PaneId::Matrix,
        &[Command::NextTab, Command::Toggle("rings".into())],
    );
    photo(
        "matrix-drill",
        &stage::sockets(),
        (120, 40),
        PaneId::Matrix,
        &[Command::Enter],
    );
    photo(
        "matrix-explain",
        &stage::sockets(),
        (80, 24),
        PaneId::Matrix,
        &[Command::Explain],
    );
    photo(
        "matrix-empty",
        &Scene::default(),
        (80, 24),
        PaneId::Matrix,
        &[],
    );
}

#[test]
fn what_follows_from_a_finding_is_folded_under_it() {
    let mut scene = stage::sockets();
    let mut echo = scene.findings[0].clone();
    echo.consequence_of = Some(scene.findings[0].key.clone());
    echo.key.push_str("#2");
    echo.title = "rank 5 gave up".into();
    scene.findings.push(echo);
    let mut model = stage::model(120, 40);
    stage::act(&scene, &mut model, &[pane(PaneId::Findings)]);
    let row = "follows 1: rank 5 gave up";
    let folded = stage::photograph(&scene, &model);
    assert!(!folded.contains(row), "{folded}");
    assert!(
        folded.contains("1 more follows from what is listed"),
        "{folded}"
    );

    let unfold = Command::Toggle("echoes".into());
    stage::act(&scene, &mut model, std::slice::from_ref(&unfold));
    let each = stage::photograph(&scene, &model);
    assert!(each.contains(row), "{each}");
    stage::act(&scene, &mut model, &[unfold]);

    // It is called by its number all the same, whatever the list was filtered for.
    let name = [
        Command::StartFilter,
        Command::Paste("TCP".into()),
        Command::Submit,
        Command::Line("finding 2".into()),
    ];
    stage::act(&scene, &mut model, &name);
    let page = stage::photograph(&scene, &model);
    assert!(page.contains("finding 2   rank 5 gave up"), "{page}");
    // And a filter finds it where it is folded.
    let look = [
        Command::Back,
        Command::Toggle("echoes".into()),
        Command::StartFilter,
        Command::Paste("gave up".into()),
        Command::Submit,
    ];
    stage::act(&scene, &mut model, &look);
    let found = stage::photograph(&scene, &model);
    assert!(found.contains(row), "{found}");
}

#[test]
fn another_word_than_the_one_asked_for_is_answered() {
    let scene = stage::sockets();
    let mut model = stage::model(80, 24);
    let long = "beside what runs there ".repeat(8);
    model.screen.ask(Question {
        number: 1,
        level: Level::Act,
        text: "Run it?".into(),
        body: format!("{long}to the last word"),
        word: Some("mixtral".into()),
    });
    let typed = [
        Command::Confirm(true),
        Command::Paste("mixtra".into()),
        Command::Submit,
    ];
    stage::act(&scene, &mut model, &typed);
    let page = stage::photograph(&scene, &model);
    assert!(
        page.contains("type mixtral to go on, or press esc"),
        "{page}"
    );
    assert!(
        page.contains("last word"),
        "a long line is read whole: {page}"
    );
}

#[test]
fn the_other_panes() {
    let mut scene = stage::sockets();
    for (i, p) in scene.processes.iter_mut().enumerate() {
        p.env = vec![
            ("NCCL_DEBUG".into(), "INFO".into()),
            ("NCCL_SOCKET_IFNAME".into(), "eth0".into()),
        ];
        if i >= 8 {
            p.env.push(("NCCL_P2P_DISABLE".into(), "1".into()));
        }
    }
    scene.pods[1].status = "CrashLoopBackOff".into();
    scene.pods[1].ready = "0/1".into();
    scene.pods[1].restarts = "3 (12s ago)".into();
    scene.pods[1].restart_count = 3;
    scene.pods[1].bad = true;
    scene.pods[1].why = Some("vllm exited with 1 three times, last 12s ago".into());
    let check = |id: &'static str, title: &str, verdict, output: &str, fix: &[&str]| CheckView {
        id,
        title: title.into(),
        verdict,
        subject: "lws/mixtral-0".into(),
        ran: "get pods".into(),
        output: output.into(),
        fix: fix.iter().map(|f| (*f).to_owned()).collect(),
        at: None,
    };
    scene.checks = vec![
        check(
            "check.pods",
            "pods",
            CheckVerdict::Pass,
            "2 of 2 Running and Ready",
            &[],
        ),
        check(
            "check.reach",
            "reachability",
            CheckVerdict::Fail,
            "timed out after 5 s",
            &["allow port 29500"],
        ),
        check(
            "check.model-files",
            "model files",
            CheckVerdict::Waiting,
            "listing /models …",
            &[],
        ),
        check(
            "check.model-access",
            "file permissions",
            CheckVerdict::Forbidden,
            "needs create on pods/exec",
            &[],
        ),
    ];
    photo("pods-sockets", &scene, (120, 40), PaneId::Pods, &[]);
    photo("pods-sockets", &scene, (80, 24), PaneId::Pods, &[]);
    photo(
        "ranks-sockets",
        &scene,
        (80, 24),
        PaneId::Ranks,
        &[Command::Down],
    );
    photo("checks-sockets", &scene, (80, 24), PaneId::Checks, &[]);
    photo("findings-sockets", &scene, (120, 40), PaneId::Findings, &[]);
    photo("env-sockets", &scene, (80, 24), PaneId::Env, &[]);
}

#[test]
fn what_lies_above_a_pane() {
    let scene = stage::sockets();
    photo("help", &scene, (80, 24), PaneId::Matrix, &[Command::Help]);
    photo(
        "quit",
        &scene,
        (80, 24),
        PaneId::Overview,
        &[Command::AskQuit],
    );
    let typed: Vec<Command> = [Command::StartCommand]
        .into_iter()
        .chain("ra".chars().map(Command::Insert))
        .collect();
    photo("command", &scene, (80, 24), PaneId::Matrix, &typed);
    let typed: Vec<Command> = [Command::StartFilter]
        .into_iter()
        .chain("0-1".chars().map(Command::Insert))
        .collect();
    photo("filter", &scene, (80, 24), PaneId::Pods, &typed);
    photo("too-small", &scene, (30, 7), PaneId::Matrix, &[]);
}

/// Kubelet-stamped lines of two pods, whose order over pods is that of the stamps.
fn logged(w: u16, h: u16) -> Model {
    let mut model = stage::model(w, h);
    let mut seq = 0;
    let mut send = |model: &mut Model, event: Event| {
        seq += 1;
        update(model, Stamped { seq, at: 0, event });
    };
    for (id, name) in [(0, "prod/mixtral-0-0/vllm"), (1, "prod/mixtral-0-1/vllm")] {
        let info = SourceInfo {
            name: name.into(),
            container: None,
            previous: false,
            started: None,
        };
        send(
            &mut model,
            Event::Source(SourceEvent::Opened(SourceId(id), info)),
        );
    }
    let text = |pod: u32, second: u32, text: &str| {
        format!("2026-11-21T03:14:{second:02}.{pod}00000000Z {text}\n")
    };
    for pod in 0..2u32 {
        let mut all = String::new();
        all += &text(
            pod,
            1,
            &format!(
                "(Worker_TP{pod} pid=20{pod}) INFO 11-21 03:14:01 [parallel_state.py:1325] rank {pod} in world size 2 is assigned"
            ),
        );
        for channel in 0..4 {
            let line = format!(
                "mixtral-0-{pod}:20{pod}:900 [{pod}] NCCL INFO Channel 0{channel}/0 : {pod}[0] -> {}[0] [send] via NET/Socket/0",
                1 - pod
            );
            all += &text(pod, 2 + channel, &line);
        }
        if pod == 1 {
            all += &text(
                pod,
                8,
                "mixtral-0-1:201:900 [1] NCCL WARN socketStartConnect: Connect to 10.42.0.17<40121> failed : Connection refused",
            );
            all += &text(
                pod,
                9,
                "\x1b[31m(Worker_TP1 pid=201) ERROR\x1b[0m 11-21 03:14:09 [worker.py:12] \u{202e}sredro\u{7} 模型 failed",
            );
        }
        let block = Arc::new(Block::new(1, all.into_bytes()));
        send(
            &mut model,
            Event::Log(LogBlock {
                source: SourceId(pod),
                block,
            }),
        );
    }
    model
}

#[test]
fn logs() {
    let scene = Job {
        pods: 2,
        gpus: 1,
        tp: 2,
        broken: None,
    }
    .scene();
    let picture = |commands: &[Command]| {
        let mut model = logged(100, 16);
        stage::act(&scene, &mut model, &[pane(PaneId::Logs)]);
        for command in commands {
            model.screen.counts = ncclscope::panes::counts(&scene, &model);
            update(
                &mut model,
                Stamped {
                    seq: 99,
                    at: 0,
                    event: Event::Do(command.clone()),
                },
            );
        }
        stage::photograph(&scene, &model)
    };
    snapshot("logs-100x16", &picture(&[]));
    let filter: Vec<Command> = [Command::StartFilter]
        .into_iter()
        .chain("!channel & in:0-1".chars().map(Command::Insert))
        .chain([Command::Submit, Command::Home])
        .collect();
    snapshot("logs-filter-100x16", &picture(&filter));
    snapshot(
        "logs-unfold-100x16",
        &picture(&[Command::Toggle("unfold".into()), Command::NextProblem]),
    );
    snapshot(
        "logs-drill-100x16",
        &picture(&[Command::PrevProblem, Command::Enter]),
    );
}

#[test]
fn every_pane_survives_every_size() {
    let model = logged(1, 1);
    let scenes = [Scene::default(), stage::healthy(), stage::sixty_four()];
    let above: [&[Command]; 5] = [
        &[],
        &[Command::Help],
        &[Command::Enter],
        &[Command::Explain],
        &[Command::StartCommand, Command::NextTab],
    ];
    let theme = Theme::probe(false);
    for scene in &scenes {
        for id in PaneId::ALL {
            for commands in above {
                for size in [
                    (0, 0),
                    (1, 1),
                    (20, 5),
                    (40, 8),
                    (41, 13),
                    (60, 17),
                    (300, 90),
                ] {
                    let mut model = model.clone();
                    model.screen.size = size;
                    stage::act(scene, &mut model, &[pane(*id)]);
                    stage::act(scene, &mut model, commands);
                    let buf = stage::draw(scene, &model, &theme);
                    assert_eq!(buf.content.len(), usize::from(size.0) * usize::from(size.1));
                }
            }
        }
    }
}

#[test]
fn nothing_hostile_reaches_the_screen() {
    let evil = "\x1b]0;owned\x07\x1b[2J\u{9b}31m\u{202e}\u{200b}\r\nname\u{7f}\t模型模型模型";
    let mut scene = stage::sockets();
    scene.summary = evil.into();
    for p in &mut scene.pods {
        (p.name, p.status, p.why) = (evil.into(), evil.into(), Some(evil.into()));
    }
    for m in scene.matrices.iter_mut().map(Arc::make_mut) {
        (m.label, m.headline) = (evil.into(), evil.into());
        for s in &mut m.slots {
            s.host = evil.into();
        }
    }
    for f in &mut scene.findings {
        (f.title, f.cause) = (evil.into(), evil.into());
    }
    for (ascii, id) in PaneId::ALL.iter().flat_map(|id| [(false, id), (true, id)]) {
        let mut model = stage::model(97, 31);
        model.session.workload = Some(evil.into());
        stage::act(&scene, &mut model, &[pane(*id)]);
        let buf = stage::draw(&scene, &model, &Theme::probe(ascii));
        for cell in &buf.content {
            let bad = |c: char| {
                c.is_control() || unicode_width::UnicodeWidthChar::width(c).unwrap_or(0) == 0
            };
            assert!(
                !cell.symbol().chars().any(bad),
                "{:?} in {}",
                cell.symbol(),
                id.id()
            );
            assert!(
                !ascii || cell.symbol().is_ascii(),
                "{:?} is not ASCII in {}",
                cell.symbol(),
                id.id()
            );
        }
    }
}

#[test]
fn without_colour_nothing_is_lost() {
    let scene = stage::sockets();
    for name in ["dark", "light", "deuteranopia", "terminal", "mono"] {
        let theme = Theme::bundled(
            name,
            Terminal {
                depth: Depth::None,
                ascii: true,
            },
        )
        .unwrap();
        let mut model = stage::model(120, 40);
        stage::act(&scene, &mut model, &[pane(PaneId::Matrix)]);
        let buf = stage::draw(&scene, &model, &theme);
        for cell in &buf.content {
            assert_eq!(
                (cell.fg, cell.bg),
                (Color::Reset, Color::Reset),
                "{name} paints without colours"
            );
        }
        // Downgraded cells are reversed and marked; the cursor's cell differs from its neighbours.
        let cell = |x: u16, y: u16| buf.cell((x, y)).unwrap();
        let rows = stage::text(&buf);
        let marks: Vec<(u16, u16)> = rows
            .iter()
            .zip(0..)
            .skip(6)
            .flat_map(|(row, y)| {
                row.match_indices("T!")
                    .map(move |(x, _)| (x as u16, y))
                    .collect::<Vec<_>>()
            })
            .filter(|(x, _)| *x > 20)
            .collect();
        assert!(marks.len() >= 16, "{name}: {rows:#?}");
        let looks: Vec<Modifier> = marks.iter().map(|(x, y)| cell(*x, *y).modifier).collect();
        assert!(
            looks.iter().all(|m| m.contains(Modifier::REVERSED)),
            "{name}"
        );
        assert!(
            looks.iter().any(|m| *m != looks[1]),
            "{name}: the cursor can't be seen"
        );
    }
    let verdicts = [
        Verdict::Healthy,
        Verdict::Starting,
        Verdict::Unknown,
        Verdict::Degraded,
        Verdict::Failed,
    ];
    let words: std::collections::BTreeSet<&str> = verdicts
        .map(|v| ncclscope::panes::parts::verdict(v).0)
        .into();
    assert_eq!(words.len(), verdicts.len(), "each verdict has its own word");
}

#[test]
fn the_cursor_moves_by_what_is_drawn() {
    let scene = stage::thousand();
    let mut model = stage::model(120, 40);
    stage::act(&scene, &mut model, &[pane(PaneId::Matrix)]);
    assert!(model.screen.counts.folded, "1,024 ranks open node by node");
    assert_eq!(model.screen.counts.axis.len(), 128);
    assert_eq!(
        model.screen.matrix.at(&model.screen.counts),
        Some((77, 77)),
        "the cursor starts at the first problem"
    );
    stage::act(&scene, &mut model, &[Command::Enter]);
    assert!(!model.screen.counts.folded, "enter looks into the nodes");
    assert_eq!(model.screen.counts.axis, (616..624).collect::<Vec<u32>>());
    assert_eq!(model.screen.counts.bad_cells.len(), 16);
    let text = model.screen.counts.copy.clone().unwrap();
    assert!(
        text.contains("via NET/Socket/0"),
        "c copies the line behind the cell: {text}"
    );
    stage::act(&scene, &mut model, &[Command::Back]);
    assert!(model.screen.counts.folded, "back is node by node again");
}

#[test]
fn filters_keep_what_they_name() {
    let scene = stage::sixty_four();
    let mut model = stage::model(120, 40);
    let typed: Vec<Command> = [Command::StartFilter]
        .into_iter()
        .chain("0-7".chars().map(Command::Insert))
        .collect();
    for (id, rows) in [(PaneId::Pods, 1), (PaneId::Ranks, 1), (PaneId::Matrix, 8)] {
        stage::act(&scene, &mut model, &[pane(id)]);
        stage::act(&scene, &mut model, &typed);
        assert_eq!(model.screen.counts.rows, rows, "{}", id.id());
        stage::act(&scene, &mut model, &[Command::Submit]);
    }
}

#[test]
fn panes_have_their_place() {
    let ids: Vec<PaneId> = ncclscope::panes::PANES.iter().map(|p| p.id).collect();
    assert_eq!(
        ids,
        PaneId::ALL,
        "the registry and the keys know the same panes in the same order"
    );
    for pane in ncclscope::panes::PANES {
        assert!(
            pane.min.0 <= 40 && pane.min.1 <= 6,
            "{} can't be drawn at 40x8",
            pane.id.id()
        );
    }
}
