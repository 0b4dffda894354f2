//! Every key of the table, in the place where it holds.

use std::time::Instant;

use ncclscope::model::keys::{BINDINGS, Code, Context, Key};

use super::{PATIENCE, Term};

/// What a terminal sends for a key.
fn bytes(key: Key) -> String {
    match key.code {
        Code::Char(c) if key.ctrl => char::from(c as u8 & 0x1f).to_string(),
        Code::Char(c) => c.to_string(),
        Code::Enter => "\r".into(),
        Code::Esc => "\x1b".into(),
        Code::Backspace => "\x7f".into(),
        Code::Delete => "\x1b[3~".into(),
        Code::Tab => "\t".into(),
        Code::BackTab => "\x1b[Z".into(),
        Code::Up => "\x1b[A".into(),
        Code::Down => "\x1b[B".into(),
        Code::Right => "\x1b[C".into(),
        Code::Left => "\x1b[D".into(),
        Code::PageUp => "\x1b[5~".into(),
        Code::PageDown => "\x1b[6~".into(),
        Code::Home => "\x1b[H".into(),
        Code::End => "\x1b[F".into(),
    }
}

/// How one gets to where a binding holds, from the overview; nothing where the demo never is.
fn way(context: Context) -> Option<Vec<String>> {
    let keys: &[&str] = match context {
        Context::Always | Context::Anywhere => &[],
        Context::In(pane) => {
            return Some(vec![":".into(), format!("pane {}", pane.id()), "\r".into()]);
        }
        Context::Details => &["6", "\r"],
        Context::Help => &["?"],
        Context::Confirm => &["q"],
        Context::Typing | Context::Filter => &["/"],
        Context::CommandLine => &[":", "p"],
        // Nothing is asked in the demo that needs a word; the wall and recordings have tests of their own.
        Context::Word | Context::Wall | Context::Replay => return None,
    };
    Some(keys.iter().map(|k| (*k).to_owned()).collect())
}

/// Keys that end or stop the program: other tests press them.
fn leaves(context: Context, key: Key) -> bool {
    let yes = context == Context::Confirm && matches!(key.code, Code::Char('y' | 'Y'));
    yes || key == Key::ctrl('c') || key == Key::ctrl('z')
}

/// The overview, with nothing on it.
fn at_the_top(text: &str) -> bool {
    text.contains("START-UP") && text.contains("/ filter") && !text.contains("Leave ncclscope?")
}

#[test]
fn every_key_of_the_table_is_pressed() {
    let dir = tempfile::tempdir().expect("a folder");
    // ctrl-s writes into the current folder.
    let line = format!(
        "cd '{}'; trap : TERM HUP INT; \"$0\" demo sockets-inside-host --speed 0; echo code $?; stty -a; echo that was all",
        dir.path().display()
    );
    let mut term = Term::sh(&line, 120, 34);
    term.started();
    term.wait_for("DEGRADED");
    let (mut pressed, mut said) = (0, String::new());
    for binding in BINDINGS {
        let Some(way) = way(binding.context) else {
            continue;
        };
        for key in binding
            .keys
            .iter()
            .filter(|k| !leaves(binding.context, **k))
        {
            for step in &way {
                term.press_and_see(step);
            }
            term.press_and_see(&bytes(*key));
            assert!(
                term.state().is_some(),
                "{key} in {} ended it:\n{}",
                binding.context.title(),
                term.text()
            );
            pressed += 1;
            if *key == Key::ctrl('s') {
                said = term.text();
            }
            // Back to the overview: out of what is typed, what lies on top, a filter, a zoom, the pane.
            let start = Instant::now();
            while !at_the_top(&term.text()) {
                assert!(
                    start.elapsed() < PATIENCE,
                    "no way back from {key}:\n{}",
                    term.text()
                );
                term.press_and_see("\x1b");
            }
        }
    }
    term.quiet(300);
    println!("{pressed} keys pressed");
    let start = Instant::now();
    let saved = || std::fs::read_dir(dir.path()).expect("readable").count();
    while saved() == 0 && start.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    assert!(saved() >= 1, "ctrl-s saved nothing:\n{said}");
    // After all of it the screen is what a fresh paint shows.
    term.quiet(200);
    let shown = term.text();
    term.press("\x0c");
    term.quiet(300);
    assert_eq!(term.text(), shown);
    term.press(":q\r");
    term.restored(0);
}
