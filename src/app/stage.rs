//! The real stage: scene, theme, panes and the writer.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tokio::sync::mpsc;

use super::output::{Output, Stats};
use super::record::{Recorder, Summary};
use super::runloop::{Outcome, Stage};
use super::terminal::Terminal;
use super::themes::{self, Themes};
use super::{bundle_cmd, effects, veil};
use crate::model::Model;
use crate::model::event::{Effect, Errand, Event, Stamped};
use crate::panes;
use crate::panes::export::Format;
use crate::parse::{At, Nanos};
use crate::report::redact::Redactor;
use crate::rules::checks;
use crate::rules::kept::Kept;
use crate::rules::scene::Scene;
use crate::theme::Theme;

/// A scene that takes longer than this to derive is not derived anew for a key: the key would come late.
const QUICK: Duration = Duration::from_millis(5);

/// How long leaving waits for a frame on its way.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where time comes from.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// From what comes: lines of files, events of a recording. It may be known when they began; 0 where it isn't.
    Events(Nanos),
    /// From the system: a cluster.
    Wall,
    /// From a scenario that began at `start` and runs `speed` times as fast as the world.
    Scenario {
        /// Its first moment.
        start: Nanos,
        /// When it was begun.
        begun: Instant,
        /// Above 0.
        speed: f64,
    },
}

impl Clock {
    /// When the first of what will be seen happened: where the time axis of a recording begins.
    #[must_use]
    pub fn began(&self) -> Nanos {
        match self {
            Self::Events(began) => *began,
            Self::Wall | Self::Scenario { .. } => self.now(),
        }
    }

    fn now(&self) -> Nanos {
        match self {
            Self::Events(_) => 0,
            Self::Wall => {
                let since = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                Nanos::try_from(since.as_nanos()).unwrap_or(Nanos::MAX)
            }
            Self::Scenario {
                start,
                begun,
                speed,
            } => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "`as` saturates, and a demo runs for no century"
                )]
                let passed = (begun.elapsed().as_secs_f64() * speed * 1e9) as Nanos;
                start.saturating_add(passed)
            }
        }
    }
}

/// See [`Stage`].
pub struct RealStage {
    terminal: Terminal,
    output: Output,
    clock: Clock,
    theme: Theme,
    themes: Themes,
    scene: Scene,
    kept: Kept,
    /// Revision of the model that the scene was derived from.
    rev: Option<u64>,
    /// What deriving it took.
    cost: Duration,
    doors: Doors,
}

/// What leads from the stage to elsewhere.
#[derive(Debug)]
pub struct Doors {
    /// To whoever feeds the screen.
    pub errands: mpsc::UnboundedSender<Errand>,
    /// Before the clipboard and before files.
    pub redactor: Redactor,
    /// To a recording, where one is made.
    pub recorder: Option<Recorder>,
    /// For what comes of work that takes longer than a key may.
    pub later: mpsc::Sender<Event>,
}

impl RealStage {
    /// Takes over a terminal.
    pub fn new(
        terminal: Terminal,
        clock: Clock,
        theme: Theme,
        themes: Themes,
        doors: Doors,
    ) -> std::io::Result<Self> {
        let output = Output::start(terminal.writer())?;
        Ok(Self {
            terminal,
            output,
            clock,
            theme,
            themes,
            scene: Scene::default(),
            kept: Kept::default(),
            rev: None,
            cost: Duration::ZERO,
            doors,
        })
    }

    /// Ends the writer, gives the terminal back, and ends the recording, if one was made.
    pub fn leave(self) -> (Stats, Option<std::io::Result<Summary>>) {
        let stats = self.output.close(PATIENCE);
        drop(self.terminal);
        (stats, self.doors.recorder.map(Recorder::close))
    }

    fn derive(&mut self, model: &Model) {
        if self.rev != Some(model.rev) {
            let start = Instant::now();
            self.scene = Scene::again(model, &mut self.kept);
            self.rev = Some(model.rev);
            self.cost = start.elapsed();
        }
    }

    /// Begins to make a bundle; what comes of it is said when it is done.
    fn bundle(&self, path: &str, model: &Model) -> Result<String, String> {
        let Some(args) = bundle_cmd::again(Path::new(path), &model.session) else {
            return Err("nothing of it was kept: --record FILE keeps what a bundle needs".into());
        };
        let later = self.doors.later.clone();
        tokio::spawn(async move {
            let (text, bad) = match bundle_cmd::make(args).await {
                Ok(text) => (text, false),
                Err(text) => (text, true),
            };
            // Nobody reads it any more where the screen is gone.
            let _ = later.send(Event::Note { text, bad }).await;
        });
        Ok(format!("{path} is being made"))
    }

    fn count(&self, model: &mut Model) {
        let counts = panes::counts(&self.scene, model);
        model.screen.counts = counts;
        model.screen.recording = self.doors.recorder.as_ref().map(Recorder::status);
    }
}

/// `ncclscope-matrix-20261121-031407`: the pane, and when what it shows was true (UTC).
fn file_name(model: &Model, now: Option<At>) -> String {
    let pane = model.screen.pane.id();
    let at = now.map(|at| at.ns).filter(|ns| *ns > 0);
    let stamp = at.and_then(|ns| jiff::Timestamp::from_nanosecond(i128::from(ns)).ok());
    match stamp {
        Some(stamp) => format!("ncclscope-{pane}-{}", stamp.strftime("%Y%m%d-%H%M%S")),
        None => format!("ncclscope-{pane}"),
    }
}

impl Stage for RealStage {
    fn ready(&self) -> bool {
        self.output.is_free()
    }

    fn refresh(&mut self, model: &mut Model) {
        if self.rev.is_none() || self.cost < QUICK {
            self.derive(model);
        }
        self.count(model);
    }

    fn draw(&mut self, model: &mut Model, hurry: bool) {
        if !hurry || self.rev.is_none() || self.cost < QUICK {
            self.derive(model);
        }
        self.count(model);
        let (w, h) = model.screen.size;
        let area = Rect::new(0, 0, w, h);
        let mut frame = self.output.canvas(area);
        panes::view(&self.scene, model, &self.theme, area, &mut frame);
        self.output.post(frame);
    }

    fn perform(&mut self, effect: Effect, model: &Model) -> Outcome {
        let answer = |result: Result<String, String>| {
            let (text, bad) = match result {
                Ok(text) => (text, false),
                Err(text) => (text, true),
            };
            Outcome::Answer(Box::new(Event::Note { text, bad }))
        };
        match effect {
            Effect::Quit => Outcome::Quit(0),
            Effect::Copy(text) => {
                let text = self.doors.redactor.text(&text);
                match effects::clipboard(&text) {
                    Ok(bytes) => {
                        self.output.send(&bytes);
                        Outcome::Done
                    }
                    // It must be somewhere.
                    Err(why) => answer(
                        effects::save_as("ncclscope-copied", "txt", &text)
                            .map(|saved| format!("{why}: {saved}")),
                    ),
                }
            }
            Effect::Save(path, text) => {
                answer(effects::save(&path, &self.doors.redactor.text(&text)))
            }
            Effect::SaveScreen(path) => {
                // Drawn anew: without the line that was typed to save it.
                let area = Rect::new(0, 0, model.screen.size.0, model.screen.size.1);
                let mut frame = Buffer::empty(area);
                panes::view(&self.scene, model, &self.theme, area, &mut frame);
                veil::draw(&mut frame, &mut self.doors.redactor);
                let ending = path.as_deref().and_then(Path::extension);
                let format = Format::of(ending.and_then(OsStr::to_str));
                let text = format.write(&frame, &self.theme);
                answer(match path {
                    Some(path) => effects::save(&path, &text),
                    None => effects::save_as(&file_name(model, self.scene.now), "txt", &text),
                })
            }
            Effect::Theme(name) => match self.themes.load(&name) {
                Ok((theme, warnings)) => {
                    self.theme = theme;
                    for warning in &warnings {
                        tracing::warn!("{warning}");
                    }
                    match themes::said(&warnings) {
                        Some(said) => answer(Err(said)),
                        None => Outcome::Dirty,
                    }
                }
                Err(why) => answer(Err(why)),
            },
            Effect::Redraw => {
                self.output.repaint();
                Outcome::Dirty
            }
            Effect::Suspend => {
                self.output.settle(PATIENCE);
                self.terminal.stop();
                Outcome::Done
            }
            Effect::Errand(Errand::Line(line)) if line.starts_with("bundle ") => {
                answer(self.bundle(line.trim_start_matches("bundle ").trim(), model))
            }
            Effect::Errand(Errand::Recheck(Some(name))) if !checks::known(&name) => {
                answer(Err(format!("no check `{name}`: 5 lists them")))
            }
            Effect::Errand(errand) => {
                if self.doors.errands.send(errand).is_ok() {
                    Outcome::Done
                } else {
                    answer(Err("nothing here can do that".into()))
                }
            }
        }
    }

    fn resume(&mut self) {
        if let Err(error) = self.terminal.resume() {
            tracing::error!(%error, "the terminal was not taken again");
        }
        self.output.repaint();
    }

    fn observe(&mut self, stamped: &Stamped) {
        veil::hear(&stamped.event, &mut self.doors.redactor);
        if let Some(recorder) = &mut self.doors.recorder {
            recorder.keep(stamped);
        }
    }

    fn now(&self) -> Nanos {
        self.clock.now()
    }
}
