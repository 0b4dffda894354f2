//! `ncclscope replay`: a recording in the same dashboard.

use std::path::Path;
use std::process::ExitCode;

use super::cli::ScreenArgs;
use super::stage::Clock;
use crate::model::event::{Event, Feed, Session};
use crate::sources::recording::{self, Reader};

/// Plays `path`; 0 goes to its end at once.
///
/// # Errors
/// What can't be read, and what keeps a screen from being shown.
pub fn run(path: &Path, speed: f64, screen: &ScreenArgs) -> anyhow::Result<ExitCode> {
    // Before the terminal is taken: what can't be read is said on a line, not on a screen.
    let mut reader = Reader::open(path)?;
    let first = reader.next();
    let began = first.as_ref().map_or(0, |entry| entry.t);
    let session = match first.map(|entry| entry.event) {
        Some(Event::Session(session)) => session,
        _ => Session {
            feed: Feed::Replay,
            workload: Some(path.display().to_string()),
            ..Session::default()
        },
    };
    let path = path.to_owned();
    // Time comes with the events.
    super::screen(
        super::runtime()?,
        screen,
        session,
        Clock::Events(began),
        move |bus, errands| {
            recording::play(&path, speed, bus, errands)?;
            Ok(Box::new(()))
        },
    )
}
