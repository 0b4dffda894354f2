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

/// Themes whose colours are not ours to judge, and why.
const NOT_OURS: [(&str, &str); 2] = [
    ("mono", "it has none: attributes on the terminal's own two"),
    (
        "terminal",
        "the sixteen are the terminal's, which its owner tuned: what they look like is not known",
    ),
];

/// Roles that are ornament: what they draw says nothing that is not said beside it, and may be faint.
const ORNAMENT: [Role; 3] = [Role::Rule, Role::Missing, Role::BarRest];

fn seen(color: Option<Color>) -> Option<Rgb> {
    match color? {
        Color::Rgb(r, g, b) => Some(Rgb(r, g, b)),
        Color::Indexed(i) => Some(Rgb::of_index(i)),
        _ => None,
    }
}

/// WCAG's ratio of every role to what is behind it: the background, and each overlay that may lie there.
#[test]
fn text_can_be_read_on_its_background() {
    for (name, text) in BUNDLED {
        if NOT_OURS.iter().any(|(n, _)| n == name) {
            continue;
        }
        // The 256 have no more than the nearest: there a selected line may lose some.
        for (depth, laid) in [(Depth::True, 4.5), (Depth::Indexed, 3.0)] {
            let terminal = Terminal {
                depth,
                ascii: false,
            };
            let (theme, _) = Theme::load(name, text, terminal);
            let back = theme.background();
            assert!(contrast(theme.foreground(), back) >= 7.0, "{name}");
            for role in Role::ALL.into_iter().filter(|r| !r.is_overlay()) {
                let fg = seen(theme.style(role).fg).unwrap_or(theme.foreground());
                let ornament = ORNAMENT.contains(&role);
                let least = if ornament { 2.0 } else { 4.5 };
                let has = contrast(fg, back);
                let what = role.name();
                assert!(has >= least, "{name}: {what} has contrast {has:.1}");
                for over in Role::ALL.into_iter().filter(|r| r.is_overlay()) {
                    let style = theme.style(over);
                    let Some(bg) = seen(style.bg) else {
                        continue;
                    };
                    let has = contrast(seen(style.fg).unwrap_or(fg), bg);
                    let least = if ornament { 1.3 } else { laid };
                    let over = over.name();
                    assert!(
                        has >= least,
                        "{name}, {depth:?}: {what} under {over} has contrast {has:.1}"
                    );
                }
            }
        }
    }
}

/// Which of a terminal's sixteen colours can be read on which nobody knows: an overlay there brings both, or swaps
/// what is there.
#[test]
fn among_sixteen_colours_nothing_is_laid_behind_a_stranger() {
    let terminal = Terminal {
        depth: Depth::Ansi,
        ascii: false,
    };
    for (name, text) in BUNDLED {
        let (theme, _) = Theme::load(name, text, terminal);
        for role in Role::ALL.into_iter().filter(|r| r.is_overlay()) {
            let style = theme.style(role);
            let what = role.name();
            assert!(
                style.bg.is_none() || style.fg.is_some(),
                "{name}: {what} has a background and no text"
            );
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

/// What two colours are to an eye, as a distance in CIE L*a*b*; `eye` mixes linear red, green and blue.
fn distance(a: Rgb, b: Rgb, eye: &[[f64; 3]; 3]) -> f64 {
    let lab = |Rgb(r, g, b): Rgb| {
        let linear = [r, g, b].map(|v| {
            let v = f64::from(v) / 255.0;
            if v <= 0.040_45 {
                v / 12.92
            } else {
                ((v + 0.055) / 1.055).powf(2.4)
            }
        });
        let mix = |row: &[f64; 3]| -> f64 {
            let sum: f64 = row.iter().zip(linear).map(|(m, v)| m * v).sum();
            sum.clamp(0.0, 1.0)
        };
        let seen = [mix(&eye[0]), mix(&eye[1]), mix(&eye[2])];
        let axis = |weights: [f64; 3], white: f64| {
            let t: f64 = weights.iter().zip(seen).map(|(w, v)| w * v).sum::<f64>() / white;
            if t > 0.008_856 {
                t.cbrt()
            } else {
                7.787 * t + 16.0 / 116.0
            }
        };
        let x = axis([0.4124, 0.3576, 0.1805], 0.950_47);
        let y = axis([0.2126, 0.7152, 0.0722], 1.0);
        let z = axis([0.0193, 0.1192, 0.9505], 1.088_83);
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    };
    let (a, b) = (lab(a), lab(b));
    a.iter()
        .zip(b)
        .map(|(p, q)| (p - q).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// Dichromats by Machado, Oliveira and Fernandes (2009), full severity.
const NORMAL: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
const PROTANOPE: [[f64; 3]; 3] = [
    [0.152_286, 1.052_583, -0.204_868],
    [0.114_503, 0.786_281, 0.099_216],
    [-0.003_882, -0.048_116, 1.051_998],
];
const DEUTERANOPE: [[f64; 3]; 3] = [
    [0.367_322, 0.860_646, -0.227_968],
    [0.280_085, 0.672_501, 0.047_413],
    [-0.011_820, 0.042_940, 0.968_881],
];
const TRITANOPE: [[f64; 3]; 3] = [
    [1.255_528, -0.076_749, -0.178_779],
    [-0.078_411, 0.930_809, 0.147_602],
    [0.004_733, 0.691_367, 0.303_900],
];

#[test]
fn states_are_told_apart_by_the_eyes_that_a_theme_is_for() {
    // What is well against what is not, and what is bad against what is worse.
    let states = [
        (Role::Ok, Role::Warn),
        (Role::Ok, Role::Fail),
        (Role::Ok, Role::Waiting),
        (Role::Ok, Role::Unknown),
        (Role::Warn, Role::Fail),
        (Role::Waiting, Role::Warn),
        (Role::Waiting, Role::Fail),
        (Role::P2p, Role::Tcp),
        (Role::P2p, Role::Net),
        (Role::P2p, Role::Shm),
        (Role::Net, Role::Tcp),
        (Role::NetGdr, Role::Tcp),
        (Role::BarDone, Role::BarRest),
    ];
    let near = [(Role::NetGdr, Role::Net), (Role::P2p, Role::NetGdr)];
    for (name, text) in BUNDLED {
        let (theme, _) = Theme::load(name, text, TRUE);
        let color = |role: Role| match theme.style(role).fg {
            Some(Color::Rgb(r, g, b)) => Some(Rgb(r, g, b)),
            _ => None,
        };
        let eyes: &[(&str, [[f64; 3]; 3])] = match *name {
            // Nothing but attributes; the terminal's own colours are not known.
            "mono" | "terminal" => continue,
            "deuteranopia" => &[
                ("normal", NORMAL),
                ("protanope", PROTANOPE),
                ("deuteranope", DEUTERANOPE),
            ],
            "tritanopia" => &[("normal", NORMAL), ("tritanope", TRITANOPE)],
            _ => &[("normal", NORMAL)],
        };
        for (eye, mix) in eyes {
            for (pairs, least) in [(states.as_slice(), 20.0), (near.as_slice(), 15.0)] {
                for (a, b) in pairs {
                    let (x, y) = color(*a).zip(color(*b)).unwrap();
                    let far = distance(x, y, mix);
                    let (a, b) = (a.name(), b.name());
                    assert!(
                        far >= least,
                        "{name}: {a} and {b} are {far:.0} apart to a {eye} eye"
                    );
                }
            }
        }
    }
}

#[test]
fn high_contrast_is_seven_to_one_everywhere() {
    let (theme, _) = Theme::load(
        "high-contrast",
        BUNDLED
            .iter()
            .find(|(n, _)| *n == "high-contrast")
            .unwrap()
            .1,
        TRUE,
    );
    for role in Role::ALL.into_iter().filter(|r| !r.is_overlay()) {
        let style = theme.style(role);
        let Some(Color::Rgb(r, g, b)) = style.fg else {
            panic!("{} has no colour of its own", role.name());
        };
        let back = match style.bg {
            Some(Color::Rgb(r, g, b)) => Rgb(r, g, b),
            _ => theme.background(),
        };
        let has = contrast(Rgb(r, g, b), back);
        assert!(has >= 7.0, "{}: {has:.1}", role.name());
    }
}

/// Without colour a state is its word or its glyph: no two may share one.
#[test]
fn states_are_told_apart_without_colour() {
    use ncclscope::panes::{matrix, parts};
    use ncclscope::rules::scene::{CheckVerdict as C, CommState as S, Severity, Verdict as V};
    fn different(what: &str, words: &[&str]) {
        let set: BTreeSet<&str> = words.iter().copied().collect();
        assert_eq!(set.len(), words.len(), "{what}: {words:?}");
    }
    let verdicts = [V::Healthy, V::Starting, V::Unknown, V::Degraded, V::Failed];
    different("verdicts", &verdicts.map(|v| parts::verdict(v).0));
    let checks = [
        C::Pass,
        C::Warn,
        C::Fail,
        C::Waiting,
        C::Unknown,
        C::NotApplicable,
        C::Forbidden,
    ];
    different("checks", &checks.map(|v| parts::outcome(v).0));
    let severities = [Severity::Info, Severity::Warning, Severity::Error];
    different("severities", &severities.map(|v| parts::severity(v).0));
    let states = [
        S::Starting,
        S::Complete,
        S::Destroyed,
        S::Revoked,
        S::Aborted,
        S::Failed,
    ];
    different("communicators", &states.map(|v| parts::comm_state(v).0));
    use ncclscope::rules::scene::Glyph as G;
    let glyphs = [
        G::Mnnvl,
        G::P2p,
        G::P2pWeak,
        G::CollNet,
        G::NetGdr,
        G::Shm,
        G::Net,
        G::Tcp,
        G::Doubt,
        G::Missing,
    ];
    for ascii in [false, true] {
        let drawn = glyphs.map(|g| {
            let c = matrix::sign(g).0;
            if ascii { parts::plain(c) } else { c }
        });
        let set: BTreeSet<char> = drawn.iter().copied().collect();
        assert_eq!(set.len(), drawn.len(), "{drawn:?}");
    }
    for bar in ['█', '░', '┊', '▒'] {
        let same = ['█', '░', '┊', '▒']
            .iter()
            .filter(|c| parts::plain(**c) == parts::plain(bar));
        assert_eq!(same.count(), 1, "{bar} in ASCII");
    }
}

#[test]
fn own_themes_go_by_name_and_mistakes_have_places() {
    use ncclscope::app::themes::{self, Themes};
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "mine.yaml",
        "inherits: light\nroles:\n  ok: { fg: nothing }\n  warn: { fg: red }\n",
    );
    write("dark.yaml", "roles:\n  ok: { fg: blue }\n");
    write("notes.txt", "not a theme");
    let mine = Themes::new(Some(dir.path().into()), TRUE);
    let names = mine.names();
    assert!(names.contains(&"mine".to_owned()) && !names.contains(&"notes".to_owned()));
    assert_eq!(names.iter().filter(|n| *n == "dark").count(), 1);
    let (theme, warnings) = mine.load("mine").unwrap();
    assert_eq!(theme.style(Role::Warn).fg, Some(Color::Red));
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].ends_with(
            "mine.yaml: line 3, column 13: no colour nothing: #rrggbb, #rrggbb/green, green, default, or a palette name"
        ),
        "{warnings:?}"
    );
    assert_eq!(themes::said(&warnings), Some(warnings[0].clone()));
    let (dark, _) = mine.load("dark").unwrap();
    assert_eq!(
        dark.style(Role::Ok).fg,
        Some(Color::Blue),
        "one's own goes first"
    );
    assert!(mine.load("high-contrast").unwrap().1.is_empty());
    for name in ["pink", "../mine", "", ".hidden", "/etc/passwd"] {
        let why = mine.load(name).unwrap_err();
        assert!(why.contains("no theme") && why.contains("mine"), "{why}");
    }
    assert!(Themes::new(None, TRUE).load("light").is_ok());
}
