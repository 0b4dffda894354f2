//! The key table.

use std::collections::BTreeSet;

use ncclscope::model::event::Command;
use ncclscope::model::keys::{self, BINDINGS, Code, Context, Key};
use ncclscope::model::screen::{Counts, PaneId, Screen};

fn screen() -> Screen {
    let mut screen = Screen::new(120, 40);
    screen.counts = Counts {
        rows: 10,
        page: 5,
        problems: vec![3],
        copy: Some("text".into()),
        ..Counts::default()
    };
    screen
}

#[test]
fn no_key_means_two_things_in_one_context() {
    let mut seen = BTreeSet::new();
    for b in BINDINGS {
        for key in b.keys {
            assert!(
                seen.insert((b.context, *key)),
                "{key} twice in {:?}",
                b.context
            );
        }
    }
}

#[test]
fn what_is_typed_reaches_the_line() {
    let typing = [
        Context::Always,
        Context::Typing,
        Context::Filter,
        Context::CommandLine,
    ];
    for b in BINDINGS.iter().filter(|b| typing.contains(&b.context)) {
        for key in b.keys {
            let plain = matches!(key.code, Code::Char(_)) && !key.ctrl && !key.alt;
            assert!(!plain, "{key} could not be typed because of `{}`", b.doc);
        }
    }
    let mut screen = screen();
    screen.apply(&Command::StartFilter);
    for c in "qdc:/? 0é".chars() {
        let command = keys::command(&screen, Key::char(c)).expect("typed");
        screen.apply(&command);
    }
    assert_eq!(screen.filter(), "qdc:/? 0é");
}

#[test]
fn every_pane_has_its_digit() {
    for pane in PaneId::ALL {
        let command = keys::command(&screen(), Key::char(pane.digit()));
        assert_eq!(command, Some(Command::Pane(pane.id().into())));
    }
}

#[test]
fn ctrl_c_quits_from_everywhere() {
    let openers = [
        None,
        Some(Command::StartFilter),
        Some(Command::StartCommand),
        Some(Command::Help),
        Some(Command::Explain),
        Some(Command::Enter),
        Some(Command::AskQuit),
    ];
    for opener in openers {
        let mut screen = screen();
        if let Some(command) = &opener {
            screen.apply(command);
        }
        assert_eq!(
            keys::command(&screen, Key::ctrl('c')),
            Some(Command::Quit),
            "after {opener:?}"
        );
    }
}

#[test]
fn the_help_lists_every_key_that_works_and_no_other() {
    for pane in PaneId::ALL {
        let mut screen = screen();
        screen.apply(&Command::Pane(pane.id().into()));
        let before = screen.clone();
        screen.apply(&Command::Help);
        let listed: BTreeSet<String> = keys::help(&screen)
            .iter()
            .flat_map(|l| l.keys.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let works: BTreeSet<String> = BINDINGS
            .iter()
            .flat_map(|b| b.keys)
            .filter(|k| keys::command(&before, **k).is_some())
            .map(ToString::to_string)
            .collect();
        assert_eq!(listed, works, "{pane:?}");
        for line in keys::help(&screen) {
            assert!(!line.doc.is_empty());
        }
    }
}

#[test]
fn the_footer_offers_only_what_does_something() {
    let mut empty = Screen::new(80, 24);
    let words = |s: &Screen| {
        keys::hints(s)
            .into_iter()
            .map(|(_, w)| w)
            .collect::<Vec<_>>()
    };
    assert_eq!(words(&empty), ["filter", "command", "keys"]);
    assert_eq!(
        words(&screen()),
        [
            "open", "explain", "copy", "problem", "filter", "command", "keys"
        ]
    );
    empty.apply(&Command::AskQuit);
    assert_eq!(words(&empty), ["yes", "no"]);
}

#[test]
fn the_table_for_the_readme_holds_every_binding() {
    let table = keys::markdown();
    assert_eq!(table.lines().count(), BINDINGS.len() + 2);
    assert!(table.contains("| matrix | `tab` | next communicator |"));
}
