//! The loop: the only `select!`, the only place where sequence numbers and time are given out.
//!
//! Signals come first, then keys, which draw at once; then frames, at most 30 a second and only when something
//! changed and the terminal took the one before; then data, in bounded turns. So a flood delays neither keys nor
//! frames, and nothing is drawn when nothing changed.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::model::event::{Command, Effect, Event, Stamped};
use crate::model::keys::{self, Key};
use crate::model::kiosk::Kiosk;
use crate::model::{Model, update};
use crate::parse::Nanos;

/// Shortest time between two frames that data asked for.
pub const FRAME: Duration = Duration::from_millis(33);

/// Events taken from the sources at once.
pub const BATCH: usize = 2048;

/// Longest time that applying events may keep a key waiting: a quarter of the 16 ms from key to paint.
const TURN: Duration = Duration::from_millis(4);

/// Keys that are applied before one frame shows them all: a held key or a paste must not draw once a character.
const KEYS_A_FRAME: usize = 64;

/// From the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A key.
    Key(Key),
    /// Text was pasted.
    Paste(String),
    /// Another size.
    Resize(u16, u16),
}

/// From the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Leave with this exit code.
    Quit(u8),
    /// Stop, job-control style.
    Suspend,
    /// Go on after a stop.
    Resume,
}

/// What an effect led to.
#[derive(Debug, Default)]
pub enum Outcome {
    /// Nothing that concerns the loop.
    #[default]
    Done,
    /// Something for the model.
    Answer(Box<Event>),
    /// The screen has to be drawn again.
    Dirty,
    /// Leave with this exit code.
    Quit(u8),
}

/// What the loop plays on: the screen and the hands of the program. Tests have their own.
pub trait Stage {
    /// The terminal took the last frame.
    fn ready(&self) -> bool;
    /// Brings what keys act on up to date with the model.
    fn refresh(&mut self, model: &mut Model);
    /// Draws. `hurry`: a key waits, so that an expensive scene may be a frame old.
    fn draw(&mut self, model: &mut Model, hurry: bool);
    /// Does what the model can't.
    fn perform(&mut self, effect: Effect, model: &Model) -> Outcome;
    /// The process goes on after a stop.
    fn resume(&mut self);
    /// Sees every event before it is applied.
    fn observe(&mut self, _stamped: &Stamped) {}
    /// Nanoseconds since the Unix epoch; 0 where time comes from the lines.
    fn now(&self) -> Nanos;
}

/// What changes beside the scene: the message, how many keys are shown, the time on the wall.
fn passing(model: &Model) -> (Option<String>, usize, Nanos) {
    (
        model.screen.note.as_ref().map(|note| note.text.clone()),
        model.screen.pressed().count(),
        model.screen.kiosk.as_ref().map_or(0, Kiosk::now),
    )
}

struct Loop<'a, S> {
    model: &'a mut Model,
    stage: &'a mut S,
    seq: u64,
    /// Time of the last look at the clock. Keys don't look: they must not make a scene older than it is.
    at: Nanos,
    dirty: bool,
    quit: Option<u8>,
}

impl<S: Stage> Loop<'_, S> {
    fn apply(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.seq += 1;
            let stamped = Stamped {
                seq: self.seq,
                at: self.at,
                event,
            };
            self.stage.observe(&stamped);
            for effect in update(self.model, stamped) {
                match self.stage.perform(effect, self.model) {
                    Outcome::Done => {}
                    Outcome::Answer(event) => events.push_back(*event),
                    Outcome::Dirty => self.dirty = true,
                    Outcome::Quit(code) => self.quit = Some(code),
                }
            }
        }
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Key(key) => {
                self.stage.refresh(self.model);
                if self.model.screen.presenting() {
                    self.apply(Event::Pressed(key));
                }
                if let Some(command) = keys::command(&self.model.screen, key) {
                    self.apply(Event::Do(command));
                }
            }
            Input::Paste(text) => self.apply(Event::Do(Command::Paste(text))),
            Input::Resize(w, h) => self.apply(Event::Resize { w, h }),
        }
    }

    fn draw(&mut self, hurry: bool) {
        self.dirty = false;
        self.stage.draw(self.model, hurry);
    }
}

/// Runs until somebody leaves; returns the exit code.
pub async fn run<S: Stage>(
    model: &mut Model,
    stage: &mut S,
    mut inputs: impl Stream<Item = Input> + Unpin,
    mut signals: impl Stream<Item = Signal> + Unpin,
    mut bus: mpsc::Receiver<Event>,
) -> u8 {
    let at = stage.now();
    let mut this = Loop {
        model,
        stage,
        seq: 0,
        at,
        dirty: false,
        quit: None,
    };
    let mut batch: Vec<Event> = Vec::with_capacity(BATCH);
    let mut pending: VecDeque<Event> = VecDeque::new();
    let (mut listening, mut typing) = (true, true);
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first frame comes before the first event: whoever started the program sees that it runs.
    this.draw(false);
    let mut next_frame = Instant::now() + FRAME;
    loop {
        tokio::select! { biased;
            signal = signals.next() => match signal {
                None => return 0,
                Some(Signal::Quit(code)) => this.quit = Some(code),
                Some(Signal::Suspend) => this.apply(Event::Do(Command::Suspend)),
                Some(Signal::Resume) => {
                    this.stage.resume();
                    this.draw(true);
                }
            },
            input = inputs.next(), if typing => match input {
                None => typing = false,
                Some(input) => {
                    this.input(input);
                    for _ in 1..KEYS_A_FRAME {
                        match inputs.next().now_or_never() {
                            Some(Some(input)) if this.quit.is_none() => this.input(input),
                            _ => break,
                        }
                    }
                    if this.quit.is_none() {
                        // Data that changed meanwhile keeps its claim to a frame of its own.
                        let dirty = this.dirty;
                        this.draw(true);
                        this.dirty = dirty;
                        next_frame = next_frame.max(Instant::now() + FRAME);
                    }
                }
            },
            () = sleep_until(next_frame), if this.dirty => {
                if this.stage.ready() {
                    let start = Instant::now();
                    this.draw(false);
                    // Frames of a huge job may cost more than they may take: a quarter of the time goes into drawing.
                    next_frame = Instant::now() + FRAME.max(start.elapsed() * 3);
                } else {
                    next_frame = Instant::now() + FRAME;
                }
            }
            _ = seconds.tick() => {
                this.at = this.stage.now();
                let rev = this.model.rev;
                let passing = passing(this.model);
                this.apply(Event::Tick);
                this.dirty |= this.model.rev != rev || passing != self::passing(this.model);
            }
            () = std::future::ready(()), if !pending.is_empty() => {
                this.at = this.stage.now();
                let (start, rev) = (Instant::now(), this.model.rev);
                let passing = passing(this.model);
                while let Some(event) = pending.pop_front() {
                    this.apply(event);
                    if start.elapsed() >= TURN {
                        break;
                    }
                }
                // An answer to the person is news, too, where nothing else changes.
                this.dirty |= this.model.rev != rev || passing != self::passing(this.model);
                // Lets the sources, which may share this thread, go on.
                tokio::task::yield_now().await;
            }
            n = bus.recv_many(&mut batch, BATCH), if listening && pending.is_empty() => {
                listening = n > 0;
                pending.extend(batch.drain(..));
            }
        }
        if let Some(code) = this.quit {
            return code;
        }
    }
}
