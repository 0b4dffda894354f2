//! Every key of the table, in the place where it holds.

use std::cell::RefCell;
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
        // Nothing is asked in the demo that needs a word; the wall and recordings have tests below.
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

/// Where a recording stands, as the header says it.
fn place(text: &str) -> String {
    let header = text.lines().next().unwrap_or_default();
    let words = ["end of replay", "paused", "replay "];
    let at = words.iter().filter_map(|w| header.find(w)).min();
    let from = at.and_then(|at| header.get(at..));
    from.unwrap_or_default().to_owned()
}

/// Standing still, stepping both ways, jumping, another pace, the next finding: each key is seen in the header.
#[test]
fn every_key_of_a_recording_does_what_it_says() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("run.rec");
    // As a person makes one: on a dashboard, whose own clock is not that of what it shows.
    let demo = format!(
        "demo sockets-inside-host --speed 30 --record {}",
        file.display()
    );
    let mut term = Term::program(&demo, 200, 50);
    term.wait_for("reached serving");
    term.press(":q\r");
    term.restored(0);
    let mut term = Term::program(&format!("replay {}", file.display()), 200, 50);
    term.started();
    term.wait_for("replay 0:0");
    let pressed = RefCell::new(Vec::new());
    let press = |term: &mut Term, key: &str, what: &str, want: &dyn Fn(&str, &str) -> bool| {
        let before = place(&term.text());
        term.press(key);
        term.wait(what, |s| want(&before, &place(&s.contents())));
        pressed.borrow_mut().push(key.to_owned());
    };
    press(&mut term, "P", "pause", &|_, now| now.starts_with("paused"));
    press(&mut term, ">", "faster", &|_, now| now.contains("x2"));
    press(&mut term, "<", "slower", &|_, now| {
        now.starts_with("paused") && !now.contains(" x")
    });
    press(&mut term, ")", "ten seconds on", &|was, now| was != now);
    press(&mut term, "F", "the next finding", &|was, now| was != now);
    term.wait_for("talk to each other over TCP");
    press(&mut term, "(", "ten seconds back", &|was, now| was != now);
    // A step may be smaller than the second that the header shows: enough of them are not.
    for (key, what) in [(".", "one event on"), (",", "one event back")] {
        let before = place(&term.text());
        let start = Instant::now();
        while place(&term.text()) == before {
            assert!(start.elapsed() < PATIENCE, "{what}: still {before}");
            term.press_and_see(key);
        }
        pressed.borrow_mut().push(key.to_owned());
    }
    term.press(":seek 0:05\r");
    term.wait("0:05", |s| place(&s.contents()).contains("0:05"));
    term.press(":speed 30\r");
    term.wait("thirty times", |s| place(&s.contents()).contains("x30"));
    press(&mut term, "P", "going on", &|_, now| {
        now.starts_with("replay")
    });
    term.wait_for("end of replay");
    let pressed = pressed.into_inner();
    for binding in BINDINGS.iter().filter(|b| b.context == Context::Replay) {
        for key in binding.keys {
            assert!(pressed.contains(&bytes(*key)), "{key} was not pressed");
        }
    }
    term.press(":q\r");
    term.restored(0);
}

#[test]
fn both_keys_of_the_wall_end_it_and_no_other() {
    for binding in BINDINGS.iter().filter(|b| b.context == Context::Wall) {
        for key in binding.keys {
            let mut term = Term::program("demo --speed 0 --kiosk", 120, 40);
            term.wait_for("facts");
            term.press("j?:8/0 \x1b[A");
            term.press_and_see("\r");
            assert!(term.state().is_some(), "another key ended it");
            term.press(&bytes(*key));
            term.restored(0);
        }
    }
}
