//! Screens that are written to files.

use ncclscope::app::effects;
use ncclscope::model::event::{Command, Effect};
use ncclscope::model::keys::{self, Key};
use ncclscope::model::screen::{PaneId, Screen};
use ncclscope::panes::export::{self, Format};
use ncclscope::theme::{Depth, Terminal, Theme};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::stage;

fn typed(line: &str) -> Vec<Effect> {
    Screen::new(80, 24).apply(&Command::Line(line.into()))
}

#[test]
fn a_key_and_a_command_save_the_screen() {
    let mut screen = Screen::new(80, 24);
    for mode in [Command::Redraw, Command::Help, Command::StartFilter] {
        screen.apply(&mode);
        let command = keys::command(&screen, Key::ctrl('s')).unwrap();
        assert_eq!(screen.apply(&command), [Effect::SaveScreen(None)]);
    }
    assert_eq!(typed("save"), [Effect::SaveScreen(None)]);
    let named = |n: &str| [Effect::SaveScreen(Some(n.into()))];
    assert_eq!(typed("save a.svg"), named("a.svg"));
    assert_eq!(Format::of(Some("SVG")), Format::Svg);
    assert_eq!(Format::of(Some("ans")), Format::Ansi);
    assert_eq!(Format::of(Some("txt")), Format::Text);
    assert_eq!(Format::of(None), Format::Text);
}

#[test]
fn every_pane_is_the_same_in_every_format() {
    let scene = stage::sockets();
    for ascii in [false, true] {
        let can = Terminal {
            depth: Depth::Indexed,
            ascii,
        };
        let theme = Theme::standard(can);
        for id in PaneId::ALL {
            let mut model = stage::model(100, 30);
            stage::act(&scene, &mut model, &[Command::Pane(id.id().into())]);
            let buf = stage::draw(&scene, &model, &theme);
            let text = export::text(&buf);
            assert_eq!(text, stage::text(&buf).join("\n") + "\n");
            // What a terminal shows of the ANSI file is the text, in more than one colour.
            let ansi = export::ansi(&buf);
            let size = |n| std::num::NonZero::new(n).unwrap();
            let mut terminal = vt100::Parser::new(size(31), size(100), 0);
            terminal.process(ansi.replace('\n', "\r\n").as_bytes());
            let shown = terminal.screen().contents();
            let shown: Vec<&str> = shown.lines().map(str::trim_end).collect();
            let drawn: Vec<&str> = text.trim_end().lines().collect();
            assert_eq!(shown, drawn, "{}", id.id());
            assert!(ansi.contains("\x1b[0;38;5;"), "{}: no colour", id.id());
            for line in ansi.lines() {
                let open = line.rfind("\x1b[").map_or("", |at| &line[at..]);
                assert!(
                    open.is_empty() || open.starts_with("\x1b[0m"),
                    "a line that colours the next one: {line:?}"
                );
            }
            let svg = export::svg(&buf, &theme);
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
            assert_eq!(
                svg.matches("<text ").count(),
                svg.matches("</text>").count()
            );
            assert!(svg.contains("mixtral-0"));
        }
    }
}

/// A wide character takes its two columns in a picture, and no blank comes after it.
#[test]
fn wide_characters_stand_where_they_stand_on_screen() {
    let mut buf = Buffer::empty(Rect::new(0, 0, 16, 2));
    buf.set_string(0, 0, "rank 模型 ok", Style::new());
    buf.set_string(0, 1, "加x載", Style::new());
    let theme = Theme::standard(Terminal::default());
    let svg = export::svg(&buf, &theme);
    let texts = svg.lines().filter(|l| l.starts_with("<text "));
    let of = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
        rest.split('"').next().unwrap().parse::<u32>().unwrap() / 9
    };
    let drawn: Vec<(u32, u32, &str)> = texts
        .map(|line| {
            let (_, said) = line.trim_end_matches("</text>").split_once('>').unwrap();
            (of(line, " x"), of(line, "textLength"), said)
        })
        .collect();
    let wanted = [
        (0, 5, "rank "),
        (5, 4, "模型"),
        (9, 7, " ok    "),
        (0, 2, "加"),
        (2, 1, "x"),
        (3, 2, "載"),
    ];
    assert_eq!(drawn, wanted, "{svg}");
}

#[test]
fn what_has_no_name_gets_one_that_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("ncclscope-matrix");
    let name = name.to_str().unwrap();
    let say = |text: &str| effects::save_as(name, "txt", text).unwrap();
    assert!(say("one").ends_with("ncclscope-matrix.txt"));
    assert!(say("two").ends_with("ncclscope-matrix-2.txt"));
    // A link that leads nowhere is a name that is taken.
    std::os::unix::fs::symlink("/nowhere", format!("{name}-3.txt")).unwrap();
    assert!(say("four").ends_with("ncclscope-matrix-4.txt"));
    let read = |n: &str| std::fs::read_to_string(format!("{name}{n}.txt")).unwrap();
    assert_eq!(
        (read(""), read("-2"), read("-4")),
        ("one".into(), "two".into(), "four".into())
    );
}
