//! The help explains every sign that a pane can draw, and small terminals lose things in the order it states.

use std::collections::{BTreeMap, BTreeSet};

use ncclscope::model::event::{Command, Stamped};
use ncclscope::model::kiosk::{Kiosk, Plan};
use ncclscope::model::screen::PaneId;
use ncclscope::model::{Model, update};
use ncclscope::panes;
use ncclscope::rules::scene::Scene;
use ncclscope::sources::sim;
use ncclscope::theme::Theme;
use ratatui::layout::Rect;

use crate::stage;

/// A scenario as it stands at its end.
pub fn at_its_end(name: &str, (w, h): (u16, u16)) -> (Scene, Model) {
    let scenario = sim::load(name).unwrap();
    let mut model = stage::model(w, h);
    for (seq, (at, event)) in (1..).zip(sim::events(&scenario)) {
        update(&mut model, Stamped { seq, at, event });
    }
    (Scene::of(&model), model)
}

fn help() -> String {
    let mut model = stage::model(120, 400);
    let scene = stage::sockets();
    stage::act(&scene, &mut model, &[Command::Help]);
    stage::text(&stage::draw(&scene, &model, &Theme::probe(false))).join("\n")
}

#[test]
fn every_sign_on_screen_is_in_the_help() {
    let help = help();
    let known: BTreeSet<char> = help.chars().collect();
    let mut unknown: BTreeMap<char, String> = BTreeMap::new();
    let scenarios = [
        "healthy",
        "sockets-inside-host",
        "loading-slow",
        "leftover-memory",
        "rotated-away",
        "ib-without-gdr",
        "crashloop",
        "version-mismatch",
        "hang-after-init",
        "eight-nodes",
    ];
    for scenario in scenarios {
        for size in [(80, 24), (200, 50)] {
            let (scene, mut model) = at_its_end(scenario, size);
            for id in PaneId::ALL {
                let open: [&[Command]; 5] = [
                    &[],
                    &[Command::Enter],
                    &[Command::Toggle("nodes".into())],
                    &[
                        Command::Toggle("nodes".into()),
                        Command::Toggle("present".into()),
                    ],
                    &[Command::Point, Command::Toggle("present".into())],
                ];
                for commands in open {
                    stage::act(&scene, &mut model, &[Command::Pane(id.id().into())]);
                    stage::act(&scene, &mut model, commands);
                    see(&scene, &model, &known, &mut unknown, id.id());
                }
            }
            model.screen.kiosk = Some(Kiosk::new(Plan::default()));
            for at in 0..30 {
                model.screen.counts = panes::counts(&scene, &model);
                let at = model.now + at * 30_000_000_000;
                update(
                    &mut model,
                    Stamped {
                        seq: 1,
                        at,
                        event: ncclscope::model::event::Event::Tick,
                    },
                );
                see(&scene, &model, &known, &mut unknown, "the wall");
            }
        }
    }
    assert!(unknown.is_empty(), "not explained: {unknown:?}\n{help}");
}

fn see(
    scene: &Scene,
    model: &Model,
    known: &BTreeSet<char>,
    unknown: &mut BTreeMap<char, String>,
    place: &str,
) {
    let buf = stage::draw(scene, model, &Theme::probe(false));
    for cell in &buf.content {
        for c in cell
            .symbol()
            .chars()
            .filter(|c| !c.is_ascii() && !known.contains(c))
        {
            unknown.insert(c, place.to_owned());
        }
    }
}

#[test]
fn signs_stay_different_in_ascii_where_they_stand_side_by_side() {
    use ncclscope::panes::parts::plain;
    for together in ["█░┊▒", "PMpSRITC·?/!", "▶1", "─│┼"] {
        let drawn: BTreeSet<char> = together.chars().map(plain).collect();
        assert_eq!(
            drawn.len(),
            together.chars().count(),
            "{together}: {drawn:?}"
        );
        assert!(drawn.iter().all(char::is_ascii));
    }
}

/// As the help and the README state it.
#[test]
fn small_terminals_lose_things_in_the_stated_order() {
    let text = |w: u16, h: u16| {
        let scene = stage::sockets();
        let model = stage::model(w, h);
        stage::text(&stage::draw(&scene, &model, &Theme::probe(false)))
    };
    let has = |rows: &[String], what: &str| rows.iter().any(|r| r.contains(what));
    // Columns: the context first, then the facts; the verdict and what it is about stay.
    let order = ["gpu-eu", "TP 8 × PP 2", "16 ranks", "2 pods"];
    for w in (40..170).rev() {
        let rows = text(w, 30);
        let header = rows.first().cloned().unwrap_or_default();
        let first = order
            .iter()
            .position(|o| header.contains(o))
            .unwrap_or(order.len());
        for kept in order.iter().skip(first) {
            assert!(
                header.contains(kept),
                "{w} columns: {kept} went before {}: {header}",
                order[first]
            );
        }
        assert!(w < 150 || first == 0, "{header}");
        assert!(w > 80 || first > 0, "{header}");
    }
    for w in [40, 50, 60, 70, 80] {
        let small = text(w, 24);
        assert!(
            has(&small, "DEGRADED") && has(&small, "mixtral"),
            "{small:#?}"
        );
    }
    // Rows: the rule, then the tabs, then all but the verdict.
    for h in 1..40 {
        let parts = panes::regions(Rect::new(0, 0, 80, h));
        assert_eq!(
            (parts.rule.height, parts.tabs.height),
            (u16::from(h >= 16), u16::from(h >= 12))
        );
        let rows = text(80, h);
        assert!(h < 3 || has(&rows, "DEGRADED"), "{h} rows: {rows:#?}");
        assert_eq!(
            has(&rows, "needs 40x8"),
            (3..8).contains(&h),
            "{h} rows: {rows:#?}"
        );
    }
    assert!(has(&text(39, 24), "DEGRADED") && has(&text(39, 24), "needs 40x8"));
    // What goes is never the first finding.
    for (w, h) in [(80, 24), (80, 12), (60, 10), (40, 8)] {
        assert!(
            has(&text(w, h), "GPUs of mixtral-0-1"),
            "{w}x{h}: {:#?}",
            text(w, h)
        );
    }
}

/// The pictures of the README are the program's own export. `INSTA_UPDATE=always` draws them anew.
#[test]
fn the_pictures_of_the_readme_are_what_the_program_draws() {
    use ncclscope::panes::export;
    use ncclscope::theme::{Depth, Terminal};
    let theme = Theme::standard(Terminal {
        depth: Depth::True,
        ascii: false,
    });
    let draw = |pane: &str, wall: bool, size: (u16, u16)| {
        let (scene, mut model) = at_its_end("sockets-inside-host", size);
        stage::act(&scene, &mut model, &[Command::Pane(pane.into())]);
        if wall {
            model.screen.kiosk = Some(Kiosk::new(Plan::default()));
            let now = model.now;
            let stamped = |event| Stamped {
                seq: 1,
                at: now,
                event,
            };
            update(
                &mut model,
                stamped(ncclscope::model::event::Event::Pod(
                    ncclscope::model::event::PodEvent::Synced,
                )),
            );
            update(&mut model, stamped(ncclscope::model::event::Event::Tick));
        }
        model.screen.counts = panes::counts(&scene, &model);
        export::svg(&stage::draw(&scene, &model, &theme), &theme)
    };
    for (name, svg) in [
        ("overview", draw("overview", false, (126, 30))),
        ("matrix", draw("matrix", false, (100, 26))),
        ("wall", draw("overview", true, (100, 30))),
    ] {
        let path = format!("{}/snapshots/{name}.svg", env!("CARGO_MANIFEST_DIR"));
        if std::env::var("INSTA_UPDATE").is_ok_and(|v| v == "always") {
            std::fs::write(&path, &svg).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == svg,
            "snapshots/{name}.svg is not what is drawn; INSTA_UPDATE=always draws it anew"
        );
        let readme = include_str!("../../README.md");
        assert!(
            readme.contains(&format!("(snapshots/{name}.svg)")),
            "{name} is not in the README"
        );
    }
}
