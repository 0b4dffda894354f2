//! The screen as others see it over a shoulder, a shared screen, a projector.

use ncclscope::model::event::{Command, Event, Stamped};
use ncclscope::model::keys::{Code, Key};
use ncclscope::model::screen::{Mark, PaneId};
use ncclscope::model::{Model, update};
use ncclscope::rules::scene::Scene;
use ncclscope::theme::{Depth, Role, Terminal, Theme};
use ratatui::style::Modifier;

use crate::screens::snapshot;
use crate::stage;

fn line(text: &str) -> Command {
    Command::Line(text.into())
}

/// A model that presents a pane, after some commands.
fn presented(scene: &Scene, (w, h): (u16, u16), commands: &[Command]) -> Model {
    let mut model = stage::model(w, h);
    stage::act(scene, &mut model, &[line("present")]);
    stage::act(scene, &mut model, commands);
    model
}

fn send(model: &mut Model, event: Event) {
    let stamped = Stamped {
        seq: 1,
        at: 0,
        event,
    };
    update(model, stamped);
}

#[test]
fn layouts() {
    let scene = stage::sockets();
    let shown: [(&str, (u16, u16), Vec<Command>); 5] = [
        ("overview", (200, 50), vec![]),
        ("overview", (80, 24), vec![]),
        (
            "matrix",
            (120, 40),
            vec![line("cell 9 8"), Command::Point, line("rank 3")],
        ),
        (
            "findings",
            (80, 24),
            vec![line("pane findings"), Command::Point],
        ),
        (
            "pods",
            (120, 40),
            vec![line("pane pods"), line("row 2"), Command::Point],
        ),
    ];
    for (name, (w, h), commands) in shown {
        let mut model = presented(&scene, (w, h), &commands);
        for key in [Key::char('3'), Key::plain(Code::Down), Key::char('p')] {
            send(&mut model, Event::Pressed(key));
        }
        snapshot(
            &format!("present-{name}-{w}x{h}"),
            &stage::photograph(&scene, &model),
        );
    }
}

#[test]
fn nothing_is_dim_while_presenting() {
    let scene = stage::sockets();
    for (name, _) in ncclscope::theme::BUNDLED {
        let can = Terminal {
            depth: Depth::True,
            ascii: false,
        };
        let theme = Theme::bundled(name, can).unwrap();
        let quiet = theme.style(Role::Quiet).fg;
        let text = theme.style(Role::Text).fg;
        for id in PaneId::ALL {
            let model = presented(&scene, (120, 40), &[Command::Pane(id.id().into())]);
            let buf = stage::draw(&scene, &model, &theme);
            let dim = buf.content.iter().filter(|c| {
                let faint = c.modifier.contains(Modifier::DIM);
                faint || (quiet != text && Some(c.fg) == quiet && c.symbol().trim() != "")
            });
            // Rules and the empty part of a bar are no facts.
            let dim: Vec<&str> = dim
                .map(|c| c.symbol())
                .filter(|s| !matches!(*s, "─" | "│" | "┼" | "░"))
                .collect();
            assert!(dim.is_empty(), "{name}, {}: {dim:?}", id.id());
        }
    }
}

#[test]
fn fewer_facts_with_more_space() {
    let scene = stage::sockets();
    let filled = |present: bool| {
        let mut model = stage::model(200, 50);
        if present {
            stage::act(&scene, &mut model, &[line("present")]);
        }
        let rows = stage::text(&stage::draw(&scene, &model, &Theme::probe(false)));
        rows.iter().filter(|r| !r.trim().is_empty()).count()
    };
    let (usual, presented) = (filled(false), filled(true));
    assert!(presented < usual, "{presented} rows of {usual}");
    // What matters most is still there.
    let model = presented_text(&scene, (80, 24));
    for fact in ["DEGRADED", "GPUs of mixtral-0-1", "START-UP"] {
        assert!(model.contains(fact), "{fact} is gone:\n{model}");
    }
}

fn presented_text(scene: &Scene, size: (u16, u16)) -> String {
    let model = presented(scene, size, &[]);
    stage::text(&stage::draw(scene, &model, &Theme::probe(false))).join("\n")
}

#[test]
fn what_is_said_aloud_is_where_one_lands() {
    let scene = stage::sockets();
    let mut model = presented(&scene, (120, 40), &[line("pane pods"), line("row 2")]);
    assert_eq!(model.screen.cursor().row(0, 2), Some(1));
    stage::act(&scene, &mut model, &[Command::Point]);
    assert_eq!(model.screen.pointed(), Some(Mark::Row(1)));
    // The mark stays where it is when the selection goes elsewhere, and belongs to its pane.
    stage::act(&scene, &mut model, &[Command::Up]);
    assert_eq!(model.screen.pointed_row(), Some(1));
    stage::act(&scene, &mut model, &[line("cell 3 11")]);
    assert_eq!(model.screen.pointed(), None);
    stage::act(&scene, &mut model, &[Command::Point]);
    let cell = Mark::Cell {
        from: 3,
        to: 11,
        folded: false,
    };
    assert_eq!(model.screen.pointed(), Some(cell));
    stage::act(&scene, &mut model, &[Command::Point]);
    assert_eq!(model.screen.pointed(), None, "again: no more");
    stage::act(&scene, &mut model, &[line("row 1")]);
    assert!(
        model
            .screen
            .note
            .as_ref()
            .is_some_and(|n| n.bad && n.text.contains(":rank"))
    );
    stage::act(&scene, &mut model, &[line("pane pods"), line("row 9")]);
    let note = model.screen.note.as_ref().unwrap();
    assert_eq!(note.text, "no row 9: there are 1 to 2");
    stage::act(
        &scene,
        &mut model,
        &[line("finding 1"), line("row 3"), Command::Point],
    );
    assert_eq!(
        model.screen.pointed_row(),
        Some(2),
        "lines of a page have numbers too"
    );
}

#[test]
fn keys_are_shown_and_fade() {
    let scene = stage::sockets();
    let mut model = presented(&scene, (100, 30), &[]);
    for n in 0..12 {
        send(&mut model, Event::Pressed(Key::char(char::from(b'a' + n))));
    }
    let shown: Vec<&str> = model.screen.pressed().collect();
    assert_eq!(shown, ["e", "f", "g", "h", "i", "j", "k", "l"]);
    for _ in 0..5 {
        send(&mut model, Event::Tick);
    }
    assert_eq!(model.screen.pressed().count(), 0);
    // What is typed into a line is seen there, and a screen that nobody looks on at shows none.
    stage::act(&scene, &mut model, &[Command::StartCommand]);
    send(&mut model, Event::Pressed(Key::char('x')));
    assert_eq!(model.screen.pressed().count(), 0);
    stage::act(&scene, &mut model, &[Command::Back, line("present")]);
    send(&mut model, Event::Pressed(Key::char('x')));
    assert_eq!(model.screen.pressed().count(), 0);
}
