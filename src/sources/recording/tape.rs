//! Playing a recording: at its own pace or another, step by step, from any place.
//!
//! Going forward reads on; going back starts over and reads up to the place, so that memory is bounded by the model
//! and not by the recording.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{Entry, Loss, Reader, RecordingError};
use crate::model::event::{Errand, Event, Position, Stamped};
use crate::model::{Model, update};
use crate::parse::Nanos;
use crate::rules::scene::Scene;

/// Steps of `:speed` without a number.
const SPEEDS: &[f64] = &[0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0];
/// Between two looks for new findings on the time axis.
const LOOK: Nanos = 1_000_000_000;
/// A pause in the recording that is not waited for longer than this, divided by the speed.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What the person wants.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wish {
    Pause,
    Speed(f64),
    Faster(bool),
    Step(i64),
    Seek(Nanos),
    NextFinding,
}

struct Tape {
    path: PathBuf,
    reader: Reader,
    /// The entry to come.
    next: Option<Entry>,
    /// Entries given out.
    given: usize,
    /// First and last moment.
    ends: (Nanos, Nanos),
    /// Moment of the last entry given out.
    here: Nanos,
    speed: f64,
    paused: bool,
    /// Real time and moment that the pace is counted from.
    since: (Instant, Nanos),
    bus: mpsc::Sender<Event>,
    /// What was said of the place last.
    said: Option<Position>,
    loss: Loss,
}

/// Plays a recording into a channel until nobody listens. Orders come as [`Errand::Line`]: `pause`, `speed 2`, `step`,
/// `seek 1:30`, `next-finding`.
///
/// # Errors
/// What can't be read.
pub fn play(
    path: &Path,
    speed: f64,
    bus: mpsc::Sender<Event>,
    errands: mpsc::UnboundedReceiver<Errand>,
) -> Result<(), RecordingError> {
    let (ends, loss) = Reader::open(path)?.end();
    let mut reader = Reader::open(path)?;
    let next = reader.next();
    let first = next.as_ref().map_or(0, |e| e.t);
    let tape = Tape {
        path: path.to_owned(),
        reader,
        next,
        given: 0,
        ends: ends.unwrap_or((first, first)),
        here: first,
        speed: if speed > 0.0 { speed } else { 1.0 },
        paused: false,
        since: (Instant::now(), first),
        bus,
        said: None,
        loss,
    };
    tokio::spawn(tape.run(errands, speed <= 0.0));
    Ok(())
}

/// Nobody listens any more.
struct Over;

impl Tape {
    async fn run(mut self, mut errands: mpsc::UnboundedReceiver<Errand>, to_end: bool) {
        if let Some(text) = self.loss.sentence() {
            let text = format!("the recording is not whole: {text}");
            let _ = self.bus.send(Event::Note { text, bad: true }).await;
        }
        if to_end && self.forward(|_, _| true).await.is_err() {
            return;
        }
        loop {
            if self.tell().await.is_err() {
                return;
            }
            let due = self.due();
            let done = tokio::select! { biased;
                errand = errands.recv() => match errand {
                    None => return,
                    Some(Errand::Line(line)) => match self.wish(&line) {
                        Ok(wish) => self.grant(wish).await,
                        Err(text) => self.note(text).await,
                    },
                    Some(Errand::Recheck(_)) => {
                        self.note("a recording can't run a check again: it shows what was seen".into()).await
                    }
                    Some(Errand::Choose | Errand::Watch(_)) => {
                        self.note("a recording holds one workload: there is no other to choose".into()).await
                    }
                    Some(_) => self.note("a recording can't do that".into()).await,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let now = self.now();
                    self.forward(|entry, n| entry.t <= now && n < 512).await
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn send(&mut self, event: Event) -> Result<(), Over> {
        self.bus.send(event).await.map_err(|_| Over)
    }

    async fn note(&mut self, text: String) -> Result<(), Over> {
        self.send(Event::Note { text, bad: true }).await
    }

    /// Says where it is, if that is news to the person.
    async fn tell(&mut self) -> Result<(), Over> {
        let position = Position {
            at_ms: millis(self.here - self.ends.0),
            of_ms: millis(self.ends.1 - self.ends.0),
            speed_percent: percent(self.speed),
            paused: self.paused,
            over: self.next.is_none(),
            missing: self.loss.unknown + self.loss.damaged + self.loss.lost.events,
        };
        let second = |p: &Position| Position {
            at_ms: p.at_ms / 1_000,
            ..p.clone()
        };
        if self.said.as_ref().map(second) == Some(second(&position)) {
            return Ok(());
        }
        self.said = Some(position.clone());
        self.send(Event::Position(position)).await
    }

    /// The moment that is due now.
    fn now(&self) -> Nanos {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "`as` saturates, and nothing plays for a century"
        )]
        let passed = (self.since.0.elapsed().as_secs_f64() * self.speed * 1e9) as Nanos;
        self.since.1.saturating_add(passed)
    }

    /// When the next entry is due.
    fn due(&self) -> Option<Instant> {
        let entry = self.next.as_ref().filter(|_| !self.paused)?;
        let wait = (entry.t - self.now()).max(0) as f64 / 1e9 / self.speed;
        let longest = LONGEST_WAIT.as_secs_f64();
        Some(Instant::now() + Duration::from_secs_f64(wait.min(longest)))
    }

    fn reckon(&mut self) {
        self.since = (Instant::now(), self.here);
    }

    /// Gives out entries as long as `wanted` says so of the next one and of how many were given.
    async fn forward(&mut self, wanted: impl Fn(&Entry, usize) -> bool) -> Result<(), Over> {
        let mut n = 0;
        while let Some(entry) = self.next.take_if(|entry| wanted(entry, n)) {
            n += 1;
            self.given += 1;
            self.here = self.here.max(entry.t);
            self.send(Event::At(entry.at, Box::new(entry.event)))
                .await?;
            self.next = self.reader.next();
        }
        Ok(())
    }

    async fn rewind(&mut self) -> Result<(), Over> {
        match Reader::open(&self.path) {
            Ok(mut reader) => {
                self.next = reader.next();
                self.reader = reader;
                self.given = 0;
                self.here = self.ends.0;
                self.send(Event::Rewind).await
            }
            Err(e) => self.note(e.to_string()).await,
        }
    }

    fn wish(&self, line: &str) -> Result<Wish, String> {
        let mut words = line.split_whitespace();
        let (verb, arg) = (words.next().unwrap_or_default(), words.next());
        match (verb, arg) {
            ("pause", None) => Ok(Wish::Pause),
            ("speed", Some("+")) => Ok(Wish::Faster(true)),
            ("speed", Some("-")) => Ok(Wish::Faster(false)),
            ("speed", Some(text)) => match text.trim_matches('x').parse::<f64>() {
                Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(Wish::Speed(speed)),
                _ => Err(format!("no pace `{text}`: :speed FACTOR, for instance 10")),
            },
            ("step", None) => Ok(Wish::Step(1)),
            ("step", Some(n)) => n
                .parse()
                .map(Wish::Step)
                .map_err(|_| format!("no number of events `{n}`: :step [N]")),
            ("seek", Some(text)) => {
                let to = self.moment(text).ok_or_else(|| {
                    format!("no moment `{text}`: :seek 1:30, +10s, -10s, 50%, start or end")
                })?;
                let (start, end) = self.ends;
                // A step beyond the end is one to the end; a moment beyond it is none.
                if to > end && !text.starts_with('+') {
                    let s = (end - start) / 1_000_000_000;
                    let long = format!("{}:{:02}", s / 60, s % 60);
                    return Err(format!("no moment `{text}`: the recording is {long} long"));
                }
                Ok(Wish::Seek(to.clamp(start, end)))
            }
            ("next-finding", None) => Ok(Wish::NextFinding),
            _ => Err(format!(
                "a recording can't do `:{line}`: it only shows what was seen"
            )),
        }
    }

    /// `1:30` from the start, `+10s` from here, `50%` of the whole.
    fn moment(&self, text: &str) -> Option<Nanos> {
        let (start, end) = self.ends;
        let ns = |seconds: f64| {
            #[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
            let ns = (seconds * 1e9) as Nanos;
            ns
        };
        let to = match text {
            "start" => start,
            "end" => end,
            _ => {
                if let Some(part) = text.strip_suffix('%') {
                    let part: f64 = part.parse().ok().filter(|p: &f64| p.is_finite())?;
                    start + ns((end - start) as f64 / 1e9 * part / 100.0)
                } else if let Some(by) = text.strip_prefix('+') {
                    self.here.saturating_add(ns(seconds(by)?))
                } else if let Some(by) = text.strip_prefix('-') {
                    self.here.saturating_sub(ns(seconds(by)?))
                } else {
                    start.saturating_add(ns(seconds(text)?))
                }
            }
        };
        Some(to)
    }

    async fn grant(&mut self, wish: Wish) -> Result<(), Over> {
        match wish {
            Wish::Pause => {
                self.paused = !self.paused;
                // From its end it starts over.
                if !self.paused && self.next.is_none() {
                    self.rewind().await?;
                }
            }
            Wish::Speed(speed) => self.speed = speed,
            Wish::Faster(yes) => {
                let next = if yes {
                    SPEEDS.iter().find(|s| **s > self.speed)
                } else {
                    SPEEDS.iter().rev().find(|s| **s < self.speed)
                };
                self.speed = next.copied().unwrap_or(self.speed);
            }
            Wish::Step(n) => {
                self.paused = true;
                if n < 0 {
                    let to = self.given.saturating_sub(n.unsigned_abs() as usize);
                    self.rewind().await?;
                    self.forward(|_, given| given < to).await?;
                } else {
                    let n = usize::try_from(n).unwrap_or(1);
                    self.forward(|_, given| given < n).await?;
                }
            }
            Wish::Seek(to) => {
                if to < self.here {
                    self.rewind().await?;
                }
                self.forward(|entry, _| entry.t <= to).await?;
                self.here = to;
            }
            Wish::NextFinding => {
                let (path, given) = (self.path.clone(), self.given);
                let found = tokio::task::spawn_blocking(move || next_finding(&path, given)).await;
                match found {
                    Ok(Some((to, title))) => {
                        let more = to.saturating_sub(self.given);
                        self.forward(|_, n| n < more).await?;
                        self.paused = true;
                        let text = format!("new: {title}");
                        self.send(Event::Note { text, bad: false }).await?;
                    }
                    _ => self.note("no finding joins after this".into()).await?,
                }
            }
        }
        self.reckon();
        Ok(())
    }
}

/// Seconds of `90`, `90s`, `1:30`, `1m30s`, `2m`.
fn seconds(text: &str) -> Option<f64> {
    if text.contains(':') {
        return text.split(':').try_fold(0.0, |sum, part| {
            Some(sum * 60.0 + f64::from(part.parse::<u32>().ok()?))
        });
    }
    let mut sum = 0.0;
    let mut digits = String::new();
    for c in text.chars() {
        let unit = match c {
            'h' => 3_600.0,
            'm' => 60.0,
            's' => 1.0,
            '0'..='9' | '.' => {
                digits.push(c);
                continue;
            }
            _ => return None,
        };
        sum += std::mem::take(&mut digits).parse::<f64>().ok()? * unit;
    }
    if !digits.is_empty() {
        sum += digits.parse::<f64>().ok()?;
    }
    (!text.is_empty() && sum.is_finite()).then_some(sum)
}

fn percent(speed: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates"
    )]
    let percent = (speed * 100.0).round() as u32;
    percent
}

fn millis(ns: Nanos) -> u64 {
    u64::try_from(ns / 1_000_000).unwrap_or(0)
}

/// How many entries to read until a finding joins that is not there after the first `given` ones, and its title.
fn next_finding(path: &Path, given: usize) -> Option<(usize, String)> {
    let reader = Reader::open(path).ok()?;
    let mut model = Model::default();
    let mut known: Option<Vec<String>> = None;
    let mut looked = Nanos::MIN;
    let mut count = 0;
    let mut last = false;
    let mut entries = reader.peekable();
    while let Some(entry) = entries.next() {
        let t = entry.t;
        count += 1;
        let seq = count as u64;
        update(
            &mut model,
            Stamped {
                seq,
                at: entry.at,
                event: entry.event,
            },
        );
        last |= entries.peek().is_none();
        if count < given {
            continue;
        }
        let Some(before) = &known else {
            let scene = Scene::of(&model);
            known = Some(scene.findings.iter().map(|f| f.key.clone()).collect());
            looked = t;
            continue;
        };
        if t.saturating_sub(looked) < LOOK && !last {
            continue;
        }
        looked = t;
        let scene = Scene::of(&model);
        if let Some(new) = scene.findings.iter().find(|f| !before.contains(&f.key)) {
            return Some((count, new.title.clone()));
        }
        // A finding that went and comes again is news.
        known = Some(scene.findings.iter().map(|f| f.key.clone()).collect());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, expected) in [
            ("90", Some(90.0)),
            ("90s", Some(90.0)),
            ("1:30", Some(90.0)),
            ("1m30s", Some(90.0)),
            ("2m", Some(120.0)),
            ("1:00:01", Some(3601.0)),
            ("", None),
            ("x", None),
            ("1:x", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
