//! One stream of a log: asked for, read, joined to what was read before.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::io::{AsyncBufRead, AsyncBufReadExt as _};
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::tail::{Resume, stamp};
use super::{End, Follower, Part, SLOW};
use crate::model::event::{Event, LogBlock};
use crate::parse::{Block, Nanos};
use crate::sources::cluster::{Trouble, TroubleKind};

/// Bytes of whole lines that are handed on at once.
const BLOCK: usize = 256 << 10;
/// Lines wait no longer than this for company.
const GATHER: Duration = Duration::from_millis(50);
/// A line longer than this is cut; the rest of it is lost and said so.
const LINE: usize = 4 << 20;
/// A log that gives nothing for so long has been caught up with.
const QUIET: Duration = Duration::from_millis(500);
/// A line that is no older than this when the log is opened has been caught up with: as far may clocks differ.
const YOUNG: Nanos = 30_000_000_000;
/// Leave to open is given back after so long: clocks may differ by more, and a log that never pauses would keep it.
const LEAVE: Duration = Duration::from_secs(10);
/// A log that has ended is read within this time, or not at all.
const SLOW_PREVIOUS: Duration = Duration::from_secs(30);
/// The pod watch may lag behind the log by so much.
const WATCH_LAG: Duration = Duration::from_secs(3);
/// Lines read of the end of a log whose middle is left out.
const END_LINES: u32 = 5_000;
/// A stream that was silent for so long when the network came back is opened anew.
const SUSPECT: Duration = Duration::from_secs(5);
/// What a kubelet answers instead of a log that is already gone, with status 200.
const NO_LOG: &[u8] = b"unable to retrieve container logs for ";

impl Follower {
    fn request(&self, part: Part) -> http::Request<Vec<u8>> {
        let (pod, container) = match &self.info.container {
            Some(c) => (&c.pod, c.container.as_str()),
            None => return http::Request::default(),
        };
        // Names are DNS labels: nothing in them needs escaping. The client's own parameters would round the second.
        let mut url = format!(
            "/api/v1/namespaces/{}/pods/{}/log?container={container}&timestamps=true",
            pod.namespace, pod.name
        );
        if part == Part::Follow {
            url.push_str("&follow=true");
        }
        if part.is_previous() {
            url.push_str("&previous=true");
        }
        if self.only_end {
            url.push_str(&format!("&tailLines={END_LINES}"));
        } else if let Some(since) = self
            .tail
            .since()
            .and_then(|s| Timestamp::from_nanosecond(s.into()).ok())
        {
            url.push_str(&format!("&sinceTime={since}"));
        }
        http::Request::get(url).body(Vec::new()).unwrap_or_default()
    }

    /// Opens the log and reads it to its end or its cut.
    pub(super) async fn read(&mut self, part: Part) -> End {
        let Ok(permit) = self.shared.opening.clone().acquire_owned().await else {
            return End::Closed;
        };
        let mut permit = Some(permit);
        let client = self.shared.link.client();
        let opened = client.request_stream(self.request(part));
        tokio::pin!(opened);
        let stream = tokio::select! {
            r = &mut opened => r,
            // A log without lines sends not even headers: nothing to wait for, nothing to worry about.
            () = sleep(SLOW) => {
                permit = None;
                self.turn = None;
                if part == Part::Follow {
                    self.is_up().await;
                    self.wait_for_headers(&mut opened).await
                } else {
                    match timeout(SLOW_PREVIOUS, &mut opened).await {
                        Ok(r) => r,
                        Err(_) => return End::Failed(Trouble::timeout(SLOW_PREVIOUS)),
                    }
                }
            }
        };
        let stream = match stream {
            Ok(s) => s,
            Err(e) => return End::Failed(Trouble::of(&e)),
        };
        self.is_up().await;
        let mut reading = Reading {
            resume: self.tail.resume(),
            checked: false,
            part,
            backlog: Some(Backlog::new(match self.tail.newest() {
                None => self.shared.head,
                // What came during a cut is read whole.
                Some(_) => u64::MAX,
            })),
            permit,
            buffer: Vec::new(),
            cut: false,
        };
        let end = self.pump(stream, &mut reading).await;
        self.joined = reading.resume.joined();
        self.only_end = false;
        end
    }

    /// Waits for a silent log; a network that was lost and came back ends the wait.
    async fn wait_for_headers<T>(
        &self,
        opened: &mut (impl Future<Output = kube::Result<T>> + Unpin),
    ) -> kube::Result<T> {
        let mut network = self.shared.link.network();
        network.mark_unchanged();
        tokio::select! {
            r = opened => r,
            _ = network.changed() => Err(kube::Error::ReadEvents(std::io::ErrorKind::ConnectionReset.into())),
        }
    }

    async fn pump(&mut self, stream: impl AsyncBufRead, r: &mut Reading) -> End {
        tokio::pin!(stream);
        let mut network = self.shared.link.network();
        network.mark_unchanged();
        let mut last_data = Instant::now();
        // When gathered lines must go, or when silence says that the log is caught up with.
        let mut flush_at: Option<Instant> = None;
        loop {
            let quiet = last_data + QUIET;
            let wake = flush_at.unwrap_or(quiet);
            let chunk = tokio::select! {
                biased;
                chunk = stream.fill_buf() => chunk,
                () = sleep_until(wake), if flush_at.is_some() || r.permit.is_some() || r.backlog.is_some() => {
                    if flush_at.take().is_some() {
                        match self.flush(r).await {
                            None => {}
                            Some(end) => return end,
                        }
                    } else {
                        r.permit = None;
                        r.backlog = None;
                        self.turn = None;
                        self.backoff.healthy();
                    }
                    continue;
                }
                Ok(()) = network.changed() => {
                    if last_data.elapsed() >= SUSPECT {
                        let text = "the network was lost and is back".into();
                        return End::Failed(Trouble { kind: TroubleKind::Network, text });
                    }
                    continue;
                }
            };
            let n = match chunk {
                Ok([]) => break,
                Ok(bytes) => {
                    r.take(bytes);
                    bytes.len()
                }
                Err(e) => {
                    // Whole lines are ours; the rest comes again.
                    if let Some(end) = self.flush(r).await {
                        return end;
                    }
                    return End::Failed(cut(&e));
                }
            };
            stream.consume_unpin(n);
            last_data = Instant::now();
            self.backoff.healthy();
            if r.buffer.len() >= BLOCK {
                flush_at = None;
                if let Some(end) = self.flush(r).await {
                    return end;
                }
            } else if flush_at.is_none() {
                flush_at = Some(last_data + GATHER);
            }
            if let Some(b) = &mut r.backlog {
                b.bytes += n as u64;
                if b.begun.elapsed() >= LEAVE {
                    r.permit = None;
                }
                if b.bytes > b.most {
                    return match self.flush(r).await {
                        Some(end) => end,
                        None => End::TooLong,
                    };
                }
            }
        }
        if r.part != Part::Follow && !r.buffer.is_empty() && !r.buffer.ends_with(b"\n") {
            // The last words of a run that ended, without a line end.
            r.buffer.push(b'\n');
        }
        self.flush(r).await.unwrap_or(End::Eof)
    }

    /// Hands on the whole lines that have gathered. Gives an end where reading can't go on.
    async fn flush(&mut self, r: &mut Reading) -> Option<End> {
        let Some(end) = memchr::memrchr(b'\n', &r.buffer) else {
            if r.buffer.len() > LINE {
                r.buffer.truncate(LINE);
                r.buffer.push(b'\n');
                r.cut = true;
                self.lost(
                    Some(0),
                    format!("a line longer than {} MiB was cut", LINE >> 20),
                )
                .await;
            }
            return None;
        };
        let rest = r.buffer.split_off(end + 1);
        let mut text = std::mem::replace(&mut r.buffer, rest);
        if text.starts_with(NO_LOG) {
            let why = "the kubelet no longer has this log".into();
            return Some(End::Failed(Trouble {
                kind: TroubleKind::NotFound,
                text: why,
            }));
        }
        if !r.resume.done() {
            text = match self.only_new(text, r).await {
                Ok(new) => new,
                Err(end) => return Some(end),
            };
        }
        if text.is_empty() {
            return None;
        }
        if let Some(b) = &r.backlog
            && b.caught_up(&text)
        {
            r.backlog = None;
            r.permit = None;
            self.turn = None;
        }
        self.tail.read(&text);
        let first = self.lines.load(Ordering::Relaxed);
        let block = Block::new(first, text);
        let count = memchr::memchr_iter(b'\n', &block.text).count() as u64;
        self.lines.store(first + count, Ordering::Relaxed);
        let event = Event::Log(LogBlock {
            source: self.id,
            block: Arc::new(block),
        });
        if self.shared.tx.send(event).await.is_err() {
            return Some(End::Closed);
        }
        None
    }

    /// Drops what was read before a cut. `Err` where the lines are another run's.
    async fn only_new(&mut self, text: Vec<u8>, r: &mut Reading) -> Result<Vec<u8>, End> {
        let mut new = Vec::with_capacity(text.len());
        for line in text.split_inclusive(|b| *b == b'\n') {
            let bare = line.strip_suffix(b"\n").unwrap_or(line);
            if !r.resume.is_new(bare) {
                continue;
            }
            if !std::mem::replace(&mut r.checked, true) {
                let loose = std::mem::take(&mut self.loose);
                if !loose && !r.resume.joined() {
                    self.no_join(r).await?;
                }
            }
            new.extend_from_slice(line);
        }
        Ok(new)
    }

    /// Nothing came back of what was read: rotated away, or already the next run's log.
    async fn no_join(&mut self, r: &mut Reading) -> Result<(), End> {
        if r.part == Part::Join {
            return Err(End::Other);
        }
        if r.part.is_previous() {
            self.lost(
                None,
                "the kubelet rotated the log away before the run ended".into(),
            )
            .await;
            return Ok(());
        }
        // Leave to open is asked for again below: holding it, all could wait for each other.
        r.permit = None;
        // The pod watch may not know yet of a restart; the log of the run before knows.
        let end = timeout(SLOW_PREVIOUS, Box::pin(self.read(Part::Join))).await;
        if matches!(end, Ok(End::Eof)) && self.joined {
            self.tail.restart();
            return Ok(());
        }
        let before = self.now.borrow().run.clone();
        if timeout(WATCH_LAG, self.now.wait_for(|n| n.run != before))
            .await
            .is_ok()
        {
            return Err(End::Other);
        }
        self.lost(
            None,
            "the kubelet rotated the log away during the cut".into(),
        )
        .await;
        Ok(())
    }
}

fn cut(e: &std::io::Error) -> Trouble {
    let mut text = e.to_string();
    let mut next = std::error::Error::source(e);
    for _ in 0..8 {
        let Some(s) = next else { break };
        text = s.to_string();
        next = s.source();
    }
    Trouble {
        kind: TroubleKind::Network,
        text: format!(
            "the log stream was cut: {}",
            crate::sources::cluster::one_line(&text)
        ),
    }
}

/// One opened stream.
struct Reading {
    resume: Resume,
    /// The first new line was looked at: does it join what was read before?
    checked: bool,
    part: Part,
    /// Reading what was there before; `None` once caught up.
    backlog: Option<Backlog>,
    permit: Option<OwnedSemaphorePermit>,
    /// Bytes not handed on: the end of it may be half a line.
    buffer: Vec<u8>,
    /// In the rest of a line that was cut.
    cut: bool,
}

impl Reading {
    fn take(&mut self, mut bytes: &[u8]) {
        if self.cut {
            match memchr::memchr(b'\n', bytes) {
                None => return,
                Some(i) => {
                    bytes = bytes.get(i + 1..).unwrap_or_default();
                    self.cut = false;
                }
            }
        }
        self.buffer.extend_from_slice(bytes);
    }
}

/// How much was read of what was there at the opening.
struct Backlog {
    bytes: u64,
    /// More than this is not read.
    most: u64,
    opened: Nanos,
    begun: Instant,
}

impl Backlog {
    fn new(most: u64) -> Self {
        let now = Nanos::try_from(Timestamp::now().as_nanosecond()).unwrap_or(Nanos::MAX);
        Self {
            bytes: 0,
            most,
            opened: now,
            begun: Instant::now(),
        }
    }

    /// The newest line is as young as the opening, by clocks that may differ.
    fn caught_up(&self, text: &[u8]) -> bool {
        let body = text.strip_suffix(b"\n").unwrap_or(text);
        let last = body.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        stamp(last).is_some_and(|(at, _)| at >= self.opened - YOUNG)
    }
}
