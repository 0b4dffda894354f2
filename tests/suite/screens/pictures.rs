//! Screens as pictures, and scenarios of the embedded cluster as screens.

use ncclscope::model::event::{Command, Stamped};
use ncclscope::model::screen::PaneId;
use ncclscope::model::update;
use ncclscope::rules::scene::Scene;
use ncclscope::theme::{Role, Terminal, Theme};
use ratatui::style::Color;

use super::{SIZES, pane, snapshot};
use crate::stage;

#[test]
fn a_screen_is_a_picture() {
    let scene = stage::sockets();
    let theme = Theme::standard(Terminal::default());
    let mut model = stage::model(120, 34);
    stage::act(&scene, &mut model, &[pane(PaneId::Matrix)]);
    let svg = ncclscope::panes::export::svg(&stage::draw(&scene, &model, &theme), &theme);
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    assert!(svg.contains(">DEGRADED</text>"));
    let (red, green, blue) = match theme.style(Role::Warn).fg {
        Some(Color::Rgb(r, g, b)) => (r, g, b),
        other => panic!("{other:?}"),
    };
    assert!(
        svg.contains(&format!("#{red:02x}{green:02x}{blue:02x}")),
        "colours are the theme's"
    );
    assert!(
        svg.contains("prod › lws/mixtral-0") && !svg.contains("0[0] -> 1"),
        "text is escaped"
    );
    if let Ok(dir) = std::env::var("NCCLSCOPE_PICTURES") {
        for (name, scene, (w, h), id, commands) in pictures() {
            let mut model = stage::model(w, h);
            stage::act(&scene, &mut model, &[pane(id)]);
            stage::act(&scene, &mut model, &commands);
            for theme in ["dark", "light", "mono", "deuteranopia"] {
                let theme = Theme::bundled(theme, Terminal::default()).unwrap();
                let svg =
                    ncclscope::panes::export::svg(&stage::draw(&scene, &model, &theme), &theme);
                std::fs::write(format!("{dir}/{name}-{}.svg", theme.name()), svg).unwrap();
            }
        }
    }
}

/// Two scenarios of the embedded cluster through the whole path: their log text, folded, judged and drawn.
#[test]
fn scenarios() {
    for (name, upto) in [("healthy", 45), ("sockets-inside-host", i64::MAX)] {
        let scenario = ncclscope::sources::sim::load(name).unwrap();
        let events = ncclscope::sources::sim::events(&scenario);
        let start = events.first().map_or(0, |(at, _)| *at);
        let mut model = stage::model(80, 24);
        let mut seq = 0;
        for (at, event) in events {
            if at - start <= upto.saturating_mul(1_000_000_000) {
                seq += 1;
                update(&mut model, Stamped { seq, at, event });
            }
        }
        let scene = Scene::of(&model);
        for (w, h) in SIZES {
            for id in [PaneId::Overview, PaneId::Matrix, PaneId::Logs] {
                if id == PaneId::Logs && (w, h) != SIZES[1] {
                    continue;
                }
                model.screen.size = (w, h);
                stage::act(&scene, &mut model, &[pane(id)]);
                snapshot(
                    &format!("scenario-{name}-{}-{w}x{h}", id.id()),
                    &stage::photograph(&scene, &model),
                );
            }
        }
    }
}

type Picture = (&'static str, Scene, (u16, u16), PaneId, Vec<Command>);

/// What is drawn when somebody asks for pictures.
fn pictures() -> Vec<Picture> {
    vec![
        (
            "overview",
            stage::sockets(),
            (120, 34),
            PaneId::Overview,
            vec![],
        ),
        (
            "matrix",
            stage::sockets(),
            (120, 34),
            PaneId::Matrix,
            vec![],
        ),
        (
            "matrix-1024",
            stage::thousand(),
            (120, 40),
            PaneId::Matrix,
            vec![],
        ),
        (
            "findings",
            stage::sockets(),
            (120, 34),
            PaneId::Findings,
            vec![],
        ),
        (
            "ranks",
            stage::sixty_four(),
            (120, 34),
            PaneId::Ranks,
            vec![Command::Down],
        ),
    ]
}
