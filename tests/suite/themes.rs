//! Theme files: every one loads whole, says what it must, and a broken one costs only what is broken.

use std::collections::BTreeSet;

use ncclscope::theme::{BUNDLED, Depth, Rgb, Role, Terminal, Theme, contrast};
use ratatui::style::{Color, Style};

const TRUE: Terminal = Terminal {
    depth: Depth::True,
    ascii: false,
};

#[test]
fn the_list_is_the_directory() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/themes");
    let files: BTreeSet<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|f| {
            f.unwrap()
                .file_name()
                .into_string()
                .unwrap()
                .trim_end_matches(".yaml")
                .to_owned()
        })
        .collect();
    let listed: BTreeSet<String> = BUNDLED.iter().map(|(n, _)| (*n).to_owned()).collect();
    assert_eq!(files, listed);
}

#[test]
fn every_bundled_theme_is_whole() {
    for (name, text) in BUNDLED {
        let (theme, warnings) = Theme::load(name, text, TRUE);
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
        let style = |r: Role| theme.style(r);
        if *name != "mono" && *name != "terminal" {
            for role in Role::ALL.into_iter().filter(|r| {
                !r.is_overlay()
                    && !matches!(r, Role::Text | Role::Strong | Role::Title | Role::Input)
            }) {
                assert!(
                    style(role).fg.is_some(),
                    "{name} says nothing of {}",
                    role.name()
                );
            }
        }
        for overlay in [Role::Selected, Role::Cursor, Role::Match, Role::Downgrade] {
            assert_ne!(
                style(overlay),
                Style::new(),
                "{name}: {} can't be seen",
                overlay.name()
            );
        }
        let mut pairs = vec![
            (Role::Fail, Role::Ok),
            (Role::Warn, Role::Ok),
            (Role::Selected, Role::Cursor),
            (Role::Cursor, Role::Downgrade),
        ];
        if *name != "mono" {
            pairs.extend([
                (Role::P2p, Role::Net),
                (Role::P2p, Role::Tcp),
                (Role::Net, Role::Tcp),
                (Role::P2p, Role::Shm),
                (Role::Fail, Role::Warn),
            ]);
        }
        for (a, b) in pairs {
            assert_ne!(
                style(a),
                style(b),
                "{name}: {} looks like {}",
                a.name(),
                b.name()
            );
        }
    }
}

#[test]
fn text_can_be_read_on_its_background() {
    for (name, text) in BUNDLED {
        let (theme, _) = Theme::load(name, text, TRUE);
        let back = theme.background();
        assert!(contrast(theme.foreground(), back) >= 7.0, "{name}");
        for role in Role::ALL.into_iter().filter(|r| !r.is_overlay()) {
            let Some(Color::Rgb(r, g, b)) = theme.style(role).fg else {
                continue;
            };
            // Ornament may be faint; what is read may not.
            let least = if matches!(role, Role::Rule | Role::Missing | Role::BarRest) {
                2.0
            } else {
                4.5
            };
            let has = contrast(Rgb(r, g, b), back);
            assert!(
                has >= least,
                "{name}: {} has contrast {has:.1}",
                role.name()
            );
            if let Some(Color::Rgb(r2, g2, b2)) = theme.style(Role::Selected).bg {
                let has = contrast(Rgb(r, g, b), Rgb(r2, g2, b2));
                assert!(
                    least < 4.0 || has >= 3.0,
                    "{name}: {} on a selected line has {has:.1}",
                    role.name()
                );
            }
        }
    }
}

#[test]
fn deuteranopia_uses_neither_red_nor_green() {
    let (theme, _) = Theme::load(
        "deuteranopia",
        BUNDLED
            .iter()
            .find(|(n, _)| *n == "deuteranopia")
            .unwrap()
            .1,
        TRUE,
    );
    for role in Role::ALL {
        if let Some(Color::Rgb(r, g, b)) = theme.style(role).fg {
            let (r, g, b) = (i32::from(r), i32::from(g), i32::from(b));
            assert!(!(g > r + 40 && g > b + 40), "{} is green", role.name());
            assert!(!(r > g + 110 && r > b + 110), "{} is red", role.name());
        }
    }
}

#[test]
fn a_broken_entry_costs_itself() {
    let text = "inherits: dark\npalette:\n  sea: \"#00zz00\"\nroles:\n  p2p: { fg: sea }\n  fail: { fg: red, bold: 3 }\n  nonsense: { fg: red }\n  ok: { fg: \"#00ff00\", wobble: true }\ncolour: blue\n";
    let (theme, warnings) = Theme::load("mine", text, TRUE);
    let said: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    let places: Vec<(u64, &str)> = warnings
        .iter()
        .map(|w| (w.line, w.message.as_str()))
        .collect();
    for (line, word) in [
        (3, "#00zz00"),
        (5, "sea"),
        (6, "bold"),
        (7, "nonsense"),
        (8, "wobble"),
        (9, "colour"),
    ] {
        assert!(
            places.iter().any(|(l, m)| *l == line && m.contains(word)),
            "line {line} {word}: {said:#?}"
        );
    }
    assert_eq!(theme.style(Role::Ok).fg, Some(Color::Rgb(0, 255, 0)));
    assert_eq!(theme.style(Role::Fail).fg, Some(Color::Red));
    let dark = Theme::standard(TRUE);
    assert_eq!(
        theme.style(Role::Warn),
        dark.style(Role::Warn),
        "what it leaves out comes from its parent"
    );
}

#[test]
fn a_file_that_is_no_theme_still_gives_one() {
    for text in [
        "",
        "- a\n- b\n",
        "roles: [",
        "inherits: nowhere\n",
        "inherits: mine\n",
        "\u{0}",
    ] {
        let (theme, warnings) = Theme::load("mine", text, TRUE);
        assert_eq!(theme.name(), "mine");
        assert!(
            text.is_empty() || !warnings.is_empty(),
            "{text:?} is taken without a word"
        );
    }
}

#[test]
fn few_colours_are_enough() {
    for (name, _) in BUNDLED {
        for depth in [Depth::Indexed, Depth::Ansi] {
            let theme = Theme::bundled(
                name,
                Terminal {
                    depth,
                    ascii: false,
                },
            )
            .unwrap();
            for role in Role::ALL {
                for color in [theme.style(role).fg, theme.style(role).bg]
                    .into_iter()
                    .flatten()
                {
                    assert!(
                        !matches!(color, Color::Rgb(..)),
                        "{name}: {} sends 24 bits",
                        role.name()
                    );
                    assert!(
                        depth != Depth::Ansi || !matches!(color, Color::Indexed(_)),
                        "{name}: {}",
                        role.name()
                    );
                }
            }
            if *name != "mono" {
                assert_ne!(theme.style(Role::Ok), theme.style(Role::Fail), "{name}");
                assert_ne!(theme.style(Role::P2p), theme.style(Role::Tcp), "{name}");
            }
        }
    }
}

#[test]
fn the_environment_decides_the_depth() {
    let depth = |no_color, colorterm, term| Depth::detect(no_color, colorterm, term);
    assert_eq!(
        depth(Some("1"), Some("truecolor"), Some("xterm-256color")),
        Depth::None
    );
    assert_eq!(
        depth(Some(""), Some("truecolor"), Some("xterm-256color")),
        Depth::True,
        "empty NO_COLOR is not set"
    );
    assert_eq!(depth(None, None, Some("xterm-256color")), Depth::Indexed);
    assert_eq!(depth(None, None, Some("linux")), Depth::Ansi);
    assert_eq!(depth(None, None, Some("dumb")), Depth::None);
}
