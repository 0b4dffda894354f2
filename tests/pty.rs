//! The real program in a pseudo-terminal: it starts, answers, survives, and gives the terminal back.
//!
//! A shell starts it and says afterwards what the terminal is like (`stty -a`), as the person's shell would find it.
//! Nothing here sleeps for a fixed time: a test waits for what it expects to see, and for quiet where it expects
//! nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests: what fails here fails the test"
)]

#[path = "pty/decisive.rs"]
mod decisive;
#[path = "pty/keys.rs"]
mod keys;
#[path = "pty/link.rs"]
mod link;
#[path = "pty/local.rs"]
mod local;
#[path = "pty/pace.rs"]
mod pace;
#[path = "pty/readme.rs"]
mod readme;
#[path = "pty/wall.rs"]
mod wall;

use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ncclscope");
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that the terminal takes at once, and how long it rests between.
#[derive(Default)]
struct Appetite {
    bite: AtomicUsize,
    rest_ms: AtomicU64,
    /// How long what was read is under way before it is seen.
    delay_ms: AtomicU64,
}

struct Shown {
    parser: vt100::Parser,
    raw: Vec<u8>,
    last: Instant,
    closed: bool,
}

struct Term {
    shown: Arc<(Mutex<Shown>, Condvar)>,
    appetite: Arc<Appetite>,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
}

impl Drop for Term {
    fn drop(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
    }
}

fn size(cols: u16, rows: u16) -> PtySize {
    PtySize {
        rows,
        cols,
        pixel_width: 0,
        pixel_height: 0,
    }
}

fn non_zero(n: u16) -> NonZero<u16> {
    NonZero::new(n).expect("a size")
}

impl Term {
    /// Runs a line of shell, where `$0` is the program.
    fn sh(line: &str, cols: u16, rows: u16) -> Self {
        Self::run("sh", &["-c", line, PROGRAM], cols, rows)
    }

    /// Runs the program with these arguments; afterwards the shell says how it ended and what the terminal is like.
    fn program(args: &str, cols: u16, rows: u16) -> Self {
        // Caught, not ignored: what a shell ignores, its children ignore too.
        Self::sh(
            &format!(
                "trap : TERM HUP INT; \"$0\" {args}; echo code $?; stty -a; echo that was all"
            ),
            cols,
            rows,
        )
    }

    fn run(program: &str, args: &[&str], cols: u16, rows: u16) -> Self {
        let pair = native_pty_system()
            .openpty(size(cols, rows))
            .expect("a pseudo-terminal");
        let mut command = CommandBuilder::new(program);
        command.args(args);
        command.env("TERM", "xterm-256color");
        command.env("LC_ALL", "C.UTF-8");
        command.env("RUST_BACKTRACE", "0");
        for name in [
            "NO_COLOR",
            "COLORTERM",
            "TMUX",
            "STY",
            "NCCLSCOPE_THEME",
            "NCCLSCOPE_PANE",
            "NCCLSCOPE_LOG",
        ] {
            command.env_remove(name);
        }
        // Somebody was here before: the first words have a test of their own.
        let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("state");
        let seen = state.join("ncclscope");
        std::fs::create_dir_all(&seen)
            .and_then(|()| std::fs::write(seen.join("welcomed"), ""))
            .expect("a folder");
        command.env("XDG_STATE_HOME", state);
        command.cwd(env!("CARGO_MANIFEST_DIR"));
        let child = pair.slave.spawn_command(command).expect("starts");
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().expect("a reader");
        let keys = pair.master.take_writer().expect("a writer");
        let parser = vt100::Parser::new(non_zero(rows), non_zero(cols), 0);
        let shown = Shown {
            parser,
            raw: Vec::new(),
            last: Instant::now(),
            closed: false,
        };
        let shown = Arc::new((Mutex::new(shown), Condvar::new()));
        let appetite = Arc::new(Appetite::default());
        let (theirs, hunger) = (Arc::clone(&shown), Arc::clone(&appetite));
        let (way, arrivals) = std::sync::mpsc::channel::<(Instant, Vec<u8>)>();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let bite = match hunger.bite.load(Ordering::SeqCst) {
                    0 => buffer.len(),
                    n => n,
                };
                std::thread::sleep(Duration::from_millis(hunger.rest_ms.load(Ordering::SeqCst)));
                let Ok(n @ 1..) = reader.read(&mut buffer[..bite]) else {
                    return;
                };
                let delay = Duration::from_millis(hunger.delay_ms.load(Ordering::SeqCst));
                if way
                    .send((Instant::now() + delay, buffer[..n].to_vec()))
                    .is_err()
                {
                    return;
                }
            }
        });
        std::thread::spawn(move || {
            for (due, bytes) in arrivals {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let mut state = theirs.0.lock().unwrap();
                state.parser.process(&bytes);
                state.raw.extend_from_slice(&bytes);
                state.last = Instant::now();
                theirs.1.notify_all();
            }
            theirs.0.lock().unwrap().closed = true;
            theirs.1.notify_all();
        });
        Self {
            shown,
            appetite,
            master: pair.master,
            keys,
            child,
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("typed");
        self.keys.flush().expect("typed");
    }

    /// Presses keys and waits until their effect has been drawn, or nothing came of them.
    fn press_and_see(&mut self, keys: &str) {
        let start = Instant::now();
        self.press(keys);
        let mut state = self.shown.0.lock().unwrap();
        loop {
            let drawn = state.last > start && state.last.elapsed() > Duration::from_millis(10);
            if drawn || state.closed || start.elapsed() > Duration::from_millis(250) {
                return;
            }
            state = self
                .shown
                .1
                .wait_timeout(state, Duration::from_millis(5))
                .unwrap()
                .0;
        }
    }

    /// Keys that are under way for so long.
    fn press_late(&mut self, keys: &str, delay: Duration) {
        std::thread::sleep(delay);
        self.press(keys);
    }

    /// What is read from now on is under way for so long.
    fn delay(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.appetite.delay_ms.store(ms, Ordering::SeqCst);
    }

    /// To the program and the shell that started it.
    fn signal(&self, name: &str) {
        if let Some(pid) = self.child.process_id() {
            let kill = format!("kill -{name} -{pid}");
            let _ = Command::new("sh")
                .args(["-c", &kill])
                .stderr(std::process::Stdio::null())
                .status();
        }
    }

    /// Process id and state letter of the program, which is a child of the shell; nothing once it ended.
    fn process(&self) -> Option<(u32, char)> {
        let shell = self.child.process_id()?;
        let children =
            std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).ok()?;
        children.split_whitespace().find_map(|child| {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
            let (_, rest) = stat.split_once("(ncclscope) ")?;
            Some((child.parse().ok()?, rest.chars().next()?))
        })
    }

    fn pid(&self) -> Option<u32> {
        self.process().map(|(pid, _)| pid)
    }

    fn state(&self) -> Option<char> {
        self.process().map(|(_, state)| state)
    }

    fn wait_until_stopped(&self) {
        let start = Instant::now();
        while self.state() != Some('T') {
            assert!(
                start.elapsed() < PATIENCE,
                "never stopped: {:?}",
                self.state()
            );
            std::thread::yield_now();
        }
    }

    fn resize(&self, cols: u16, rows: u16) {
        self.shown
            .0
            .lock()
            .unwrap()
            .parser
            .screen_mut()
            .set_size(non_zero(rows), non_zero(cols));
        self.master.resize(size(cols, rows)).expect("resized");
    }

    /// Reads no faster than this from now on.
    fn eat(&self, bite: usize, rest_ms: u64) {
        self.appetite.bite.store(bite, Ordering::SeqCst);
        self.appetite.rest_ms.store(rest_ms, Ordering::SeqCst);
    }

    fn text(&self) -> String {
        self.shown.0.lock().unwrap().parser.screen().contents()
    }

    fn bytes(&self) -> usize {
        self.shown.0.lock().unwrap().raw.len()
    }

    /// Waits until the screen is as expected; says how long that took.
    fn wait(&self, what: &str, want: impl Fn(&vt100::Screen) -> bool) -> Duration {
        let start = Instant::now();
        let mut state = self.shown.0.lock().unwrap();
        while !want(state.parser.screen()) {
            assert!(
                start.elapsed() < PATIENCE,
                "no {what} on\n{}",
                state.parser.screen().contents()
            );
            assert!(
                !state.closed,
                "ended without {what}:\n{}",
                state.parser.screen().contents()
            );
            state = self
                .shown
                .1
                .wait_timeout(state, Duration::from_millis(200))
                .unwrap()
                .0;
        }
        start.elapsed()
    }

    fn wait_for(&self, text: &str) -> Duration {
        self.wait(&format!("`{text}`"), |s| s.contents().contains(text))
    }

    /// Waits until nothing has come for so long.
    fn quiet(&self, millis: u64) {
        let start = Instant::now();
        let mut state = self.shown.0.lock().unwrap();
        while state.last.elapsed() < Duration::from_millis(millis) {
            assert!(
                start.elapsed() < PATIENCE,
                "never quiet:\n{}",
                state.parser.screen().contents()
            );
            state = self
                .shown
                .1
                .wait_timeout(state, Duration::from_millis(50))
                .unwrap()
                .0;
        }
    }

    /// The dashboard is there.
    fn started(&self) -> Duration {
        let header = self.wait("header", |s| {
            s.alternate_screen() && s.contents().contains("ncclscope")
        });
        assert!(self.shown.0.lock().unwrap().parser.screen().hide_cursor());
        header
    }

    /// The program ended with this code and left the terminal as it found it.
    fn restored(&self, code: u8) -> String {
        self.wait_for("that was all");
        let state = self.shown.0.lock().unwrap();
        let screen = state.parser.screen();
        let text = screen.contents();
        assert!(
            !screen.alternate_screen(),
            "the alternate screen was not left"
        );
        assert!(!screen.hide_cursor(), "the cursor is hidden");
        assert!(!screen.bracketed_paste(), "pasted text is still marked");
        assert!(text.contains(&format!("code {code}\n")), "{text}");
        for mode in ["icanon", "echo", "isig", "opost"] {
            assert!(
                text.split_whitespace().any(|word| word == mode),
                "{mode}: {text}"
            );
        }
        text
    }
}

fn file(lines: usize) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    for n in 0..lines {
        writeln!(
            file,
            "llm-0:10{}:10{} [{}] NCCL INFO Bootstrap: Using eth0:10.0.0.1<0>",
            n % 8,
            n % 8,
            n % 8
        )
        .unwrap();
    }
    file
}

fn helps(screen: &vt100::Screen) -> bool {
    screen.contents().contains("keys, signs and commands")
}

fn open(file: &tempfile::NamedTempFile) -> String {
    format!("open {}", file.path().display())
}

#[test]
fn it_starts_answers_and_gives_the_terminal_back() {
    let file = file(100);
    let mut term = Term::program(&open(&file), 120, 34);
    let first = term.started();
    println!(
        "first paint after {} ms, the shell's start included",
        first.as_millis()
    );
    assert!(first < Duration::from_secs(5));
    term.press("?");
    term.wait("the help", helps);
    term.press("\x1b");
    term.wait("the pane again", |s| !helps(s));
    term.press("q");
    term.wait("the question", |s| {
        s.contents().contains("Leave ncclscope?")
    });
    term.press("n");
    term.wait("no question", |s| {
        !s.contents().contains("Leave ncclscope?")
    });
    term.press(":");
    term.press("q\r");
    term.restored(0);
}

/// Once, and only where it can be remembered.
#[test]
fn who_is_here_for_the_first_time_is_told_the_keys() {
    let home = tempfile::tempdir().expect("a folder");
    let start = |state: &str| {
        let line = format!(
            "trap : TERM HUP INT; XDG_STATE_HOME={state} \"$0\" demo; echo code $?; stty -a; echo that was all"
        );
        let term = Term::sh(&line, 80, 24);
        term.started();
        term
    };
    let state = home.path().display().to_string();
    let mut term = start(&state);
    term.wait_for("first time here: ? keys and signs   : commands");
    term.press("?");
    term.wait("the help", helps);
    term.press("\x03");
    term.restored(0);
    for state in [state.as_str(), "/proc/nowhere"] {
        let mut term = start(state);
        term.wait_for("/ filter");
        assert!(!term.text().contains("first time"), "{state}");
        term.press("\x03");
        term.restored(0);
    }
}

#[test]
fn ctrl_c_quits_at_once() {
    let mut term = Term::program("demo", 80, 24);
    term.started();
    term.press("\x03");
    term.restored(0);
}

#[test]
fn signals_give_the_terminal_back() {
    for (name, code) in [("TERM", 143), ("HUP", 129), ("INT", 130)] {
        let term = Term::program("demo", 80, 24);
        term.started();
        term.signal(name);
        term.restored(code);
    }
}

#[test]
fn it_stops_and_goes_on() {
    let mut term = Term::program("demo", 80, 24);
    term.started();
    term.press("\x1a");
    term.wait("the shell's screen", |s| {
        !s.alternate_screen() && !s.hide_cursor()
    });
    term.wait_until_stopped();
    term.signal("CONT");
    term.started();
    term.press("\x03");
    term.restored(0);
}

#[test]
fn what_cannot_be_read_is_one_sentence_and_no_screen() {
    let term = Term::program("open /nowhere/at/all.log", 100, 24);
    let text = term.restored(2);
    assert!(
        text.contains("ncclscope: /nowhere/at/all.log: no such file or folder"),
        "{text}"
    );
    assert!(!String::from_utf8_lossy(&term.shown.0.lock().unwrap().raw).contains("1049"));
}

#[test]
fn without_a_terminal_it_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("run.rec");
    let out = Command::new(PROGRAM)
        .args(["demo", "--record"])
        .arg(&file)
        .output()
        .expect("runs");
    assert_eq!(out.status.code(), Some(2));
    assert!(
        !file.exists(),
        "nothing was seen, and the next try would fail"
    );
    assert!(String::from_utf8_lossy(&out.stderr).contains("not a terminal"));
    assert!(out.stdout.is_empty());
}

/// Not tests of their own: the tests below start this binary again to run one of these in a pseudo-terminal.
mod children {
    use super::*;
    use ncclscope::app::terminal::Terminal;
    use tokio_util::sync::CancellationToken;

    #[test]
    #[ignore = "run by a_panic_anywhere_gives_the_terminal_back"]
    fn panics_while_the_terminal_is_taken() {
        let _terminal = Terminal::take(&CancellationToken::new()).expect("run in a terminal");
        panic!("a defect on the main thread");
    }

    #[test]
    #[ignore = "run by a_panic_anywhere_gives_the_terminal_back"]
    fn panics_in_a_thread() {
        let crashed = CancellationToken::new();
        let terminal = Terminal::take(&crashed).expect("run in a terminal");
        let _ = std::thread::spawn(|| panic!("a defect in a thread")).join();
        assert!(crashed.is_cancelled());
        // The way back was taken once: dropping the guard must not take it again.
        let mut late = terminal.writer();
        assert!(late.write(b"\x1b[31mwritten after the panic").is_ok());
    }
}

#[test]
fn a_panic_anywhere_gives_the_terminal_back() {
    let me = std::env::current_exe().expect("this test");
    for (child, words) in [
        (
            "children::panics_while_the_terminal_is_taken",
            "a defect on the main thread",
        ),
        ("children::panics_in_a_thread", "a defect in a thread"),
    ] {
        let line = format!(
            "{} --ignored --exact {child} --nocapture; stty -a; echo that was all",
            shell_quoted(&me)
        );
        let term = Term::run("sh", &["-c", &line], 120, 40);
        term.wait_for("that was all");
        let state = term.shown.0.lock().unwrap();
        let (screen, raw) = (
            state.parser.screen(),
            String::from_utf8_lossy(&state.raw).into_owned(),
        );
        assert!(!screen.alternate_screen() && !screen.hide_cursor());
        assert!(
            screen.contents().contains(" icanon "),
            "{}",
            screen.contents()
        );
        let (left, printed) = (raw.find("\x1b[?1049l"), raw.find(words));
        assert!(
            left.is_some() && left < printed,
            "restored first, printed then: {raw:?}"
        );
        assert!(!raw.contains("written after the panic"), "{raw:?}");
        assert_eq!(raw.matches("\x1b[?1049l").count(), 1, "{raw:?}");
    }
}

fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

#[test]
fn a_resize_storm_is_survived() {
    let file = file(1000);
    let mut term = Term::program(&open(&file), 120, 34);
    term.started();
    for n in 0..300u16 {
        term.resize(1 + (n * 37) % 250, 1 + (n * 17) % 70);
    }
    term.resize(100, 30);
    term.quiet(500);
    term.wait_for("ncclscope");
    let storm = term.text();
    // Repainting everything must change nothing: what is shown is what was drawn.
    term.press("\x0c");
    term.quiet(300);
    assert_eq!(term.text(), storm);
    term.press("\x03");
    term.restored(0);
}

/// An endless flood of channel lines through a pipe; keys come from the terminal device.
const FLOOD: &str = "trap : TERM HUP INT; yes 'llm-0:100:100 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM' \
     | \"$0\" open - ; echo code $?; stty -a; echo that was all";
