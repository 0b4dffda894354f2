//! The terminal: taken, given back whatever happens, and what comes from it.
//!
//! It is given back by [`Terminal`]'s drop, by the panic hook (log, then restore, then print) and before the process
//! stops; doing so twice does no harm.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, mpsc};
use std::time::{Duration, Instant};

use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use futures::{Stream, StreamExt, stream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::runloop::{Input, Signal};
use crate::model::keys::{Code, Key};

/// Alternate screen, no cursor, pasted text marked as such.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[0m\x1b[2J";
/// The way back. The first byte cancels a sequence that was cut in the middle.
const LEAVE: &[u8] = b"\x18\x1b[?2026l\x1b[0m\x1b[?2004l\x1b[?25h\x1b[?1049l";

/// How long the way back waits for a write that is under way.
const PATIENCE: Duration = Duration::from_millis(300);

/// The terminal as everybody shares it: the writer, the guard and the panic hook.
#[derive(Debug)]
pub struct Tty {
    file: Mutex<File>,
    /// The same for the way back, which can't wait for a lock.
    way_back: File,
    /// Ours now.
    ours: AtomicBool,
}

impl Tty {
    fn enter(&self) -> io::Result<()> {
        enable_raw_mode()?;
        self.ours.store(true, Ordering::SeqCst);
        self.file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(ENTER)
    }

    /// Gives it back; does nothing when it is not ours. Never panics, and never waits for long: a terminal that
    /// stopped reading must not keep a process alive that was told to end.
    pub fn leave(&self) {
        if !self.ours.swap(false, Ordering::SeqCst) {
            return;
        }
        // What can't be told any more (the terminal may be gone) is not worth an error.
        let _ = disable_raw_mode();
        let Ok(mut file) = self.way_back.try_clone() else {
            return;
        };
        let until = Instant::now() + PATIENCE;
        while matches!(self.file.try_lock(), Err(TryLockError::WouldBlock))
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        let (done, told) = mpsc::channel();
        let sent = std::thread::Builder::new().spawn(move || {
            let _ = file.write_all(LEAVE);
            let _ = done.send(());
        });
        if sent.is_ok() {
            let _ = told.recv_timeout(PATIENCE * 3);
        }
    }
}

/// The writer's end: refuses once the terminal is not ours, so that nothing follows the way back.
pub struct TtyWriter(Arc<Tty>);

impl Write for TtyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self
            .0
            .file
            .lock()
            .map_err(|_| io::Error::other("the terminal's lock is poisoned"))?;
        if self.0.ours.load(Ordering::SeqCst) {
            file.write(bytes)
        } else {
            Ok(bytes.len())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Holds the terminal while it lives.
pub struct Terminal {
    tty: Arc<Tty>,
}

impl Terminal {
    /// Takes the terminal and installs the panic hook; `crashed` is cancelled when something panics, anywhere.
    pub fn take(crashed: &CancellationToken) -> io::Result<Self> {
        let out = io::stdout();
        if !out.is_terminal() {
            return Err(io::Error::other(
                "standard output is not a terminal; `ncclscope report` prints without a screen",
            ));
        }
        let file = File::from(out.as_fd().try_clone_to_owned()?);
        let way_back = file.try_clone()?;
        let tty = Arc::new(Tty {
            file: Mutex::new(file),
            way_back,
            ours: AtomicBool::new(false),
        });
        hook(&tty, crashed.clone());
        // The guard exists before the first change: a failure half-way is undone too.
        let guard = Self { tty };
        guard.tty.enter()?;
        Ok(guard)
    }

    /// Columns and rows.
    #[must_use]
    pub fn size(&self) -> (u16, u16) {
        // Serial consoles don't say: the size every terminal once had.
        match crossterm::terminal::size() {
            Ok((w, h)) if w > 0 && h > 0 => (w, h),
            _ => (80, 24),
        }
    }

    /// For the writer.
    #[must_use]
    pub fn writer(&self) -> TtyWriter {
        TtyWriter(Arc::clone(&self.tty))
    }

    /// Gives the terminal back and stops the job, as the terminal driver would on ctrl-z. [`Terminal::resume`] follows
    /// on SIGCONT.
    pub fn stop(&self) {
        self.tty.leave();
        // To the whole job: in `kubectl logs -f … | ncclscope open -` the shell waits for both.
        #[expect(
            unsafe_code,
            reason = "kill(2) has no safe wrapper in std; it touches no memory"
        )]
        unsafe {
            libc::kill(0, libc::SIGSTOP);
        }
    }

    /// Takes the terminal again.
    pub fn resume(&self) -> io::Result<()> {
        self.tty.enter()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tty.leave();
    }
}

/// Log first, while the screen is still as it was; then restore; then print, where it can be read.
fn hook(tty: &Arc<Tty>, crashed: CancellationToken) {
    let tty = Arc::clone(tty);
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tracing::error!(panic = %info, "panic");
        tty.leave();
        print(info);
        crashed.cancel();
    }));
}

/// Signals that concern the screen.
pub fn signals(crashed: CancellationToken) -> io::Result<impl Stream<Item = Signal> + Unpin> {
    let mut all = Vec::new();
    for (kind, meaning) in [
        (SignalKind::terminate(), Signal::Quit(128 + 15)),
        (SignalKind::hangup(), Signal::Quit(128 + 1)),
        (SignalKind::interrupt(), Signal::Quit(128 + 2)),
        (SignalKind::from_raw(libc::SIGTSTP), Signal::Suspend),
        (SignalKind::from_raw(libc::SIGCONT), Signal::Resume),
    ] {
        let source = signal(kind)?;
        let source = stream::unfold(source, move |mut s| async move {
            s.recv().await.map(|()| (meaning, s))
        });
        all.push(source.boxed());
    }
    // The code that Rust itself ends with.
    all.push(
        stream::once(async move { crashed.cancelled_owned().await })
            .map(|()| Signal::Quit(101))
            .boxed(),
    );
    Ok(stream::select_all(all))
}

/// What the person does. Keys come from the terminal also where standard input is a pipe.
pub fn inputs() -> impl Stream<Item = Input> + Unpin {
    // An error of the terminal repeats for ever: the stream ends with it, and SIGHUP says the rest.
    EventStream::new()
        .take_while(|event| std::future::ready(event.is_ok()))
        .filter_map(|event| std::future::ready(event.ok().and_then(input)))
}

fn input(event: Event) -> Option<Input> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => self::key(key).map(Input::Key),
        Event::Paste(text) => Some(Input::Paste(text)),
        Event::Resize(w, h) => Some(Input::Resize(w, h)),
        _ => None,
    }
}

fn key(event: KeyEvent) -> Option<Key> {
    let code = match event.code {
        KeyCode::Char(c) => Code::Char(c),
        KeyCode::Enter => Code::Enter,
        KeyCode::Esc => Code::Esc,
        KeyCode::Backspace => Code::Backspace,
        KeyCode::Delete => Code::Delete,
        KeyCode::Tab if event.modifiers.contains(KeyModifiers::SHIFT) => Code::BackTab,
        KeyCode::Tab => Code::Tab,
        KeyCode::BackTab => Code::BackTab,
        KeyCode::Up => Code::Up,
        KeyCode::Down => Code::Down,
        KeyCode::Left => Code::Left,
        KeyCode::Right => Code::Right,
        KeyCode::PageUp => Code::PageUp,
        KeyCode::PageDown => Code::PageDown,
        KeyCode::Home => Code::Home,
        KeyCode::End => Code::End,
        _ => return None,
    };
    Some(Key {
        code,
        ctrl: event.modifiers.contains(KeyModifiers::CONTROL),
        alt: event.modifiers.contains(KeyModifiers::ALT),
    })
}
