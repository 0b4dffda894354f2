//! What NCCL writes to a file of its own (`NCCL_DEBUG_FILE`) instead of the container's log: followed inside the
//! container, where probes are allowed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::model::event::{
    ContainerKey, ContainerState, Event, LogBlock, ProbeOutcome, SourceEvent, SourceId, SourceInfo,
};
use crate::model::pods::debug_file;
use crate::parse::Block;
use crate::sources::cluster::{Access, Backoff, ExecSpec, Helper, Seen};

/// Waits for the files of a pattern, gives the ranks that start later a moment, follows them all with their names.
const TAIL: &str = r#"while :; do for f in $1; do [ -e "$f" ] && break 2; done; sleep 5; done
sleep 3
exec tail -v -n +1 -F -- $1
"#;
/// Lines under way.
const LINES: usize = 1024;
/// Lines of one file that are handed on at once.
const BATCH: usize = 512;

/// What the shell begins with each workload.
#[must_use]
pub fn helper() -> Helper {
    Box::new(|access, _| Box::pin(run(access)))
}

/// Follows what every container of the workload writes, for as long as the workload is on screen.
async fn run(access: Access) {
    let mut seen = access.seen();
    // By container: its present run and who follows its files.
    let mut tails: BTreeMap<ContainerKey, (Option<String>, AbortOnDropHandle<()>)> =
        BTreeMap::new();
    loop {
        let wanted = wanted(&seen.borrow_and_update());
        tails.retain(|at, (run, _)| wanted.get(at).is_some_and(|(r, _)| r == run));
        for (at, (run, file)) in wanted {
            tails.entry(at.clone()).or_insert_with(|| {
                let tail = Tail::new(access.clone(), at, file);
                (run, AbortOnDropHandle::new(tokio::spawn(tail.run())))
            });
        }
        if seen.changed().await.is_err() {
            return;
        }
    }
}

/// Running containers that are told to write to a file: the run and the file.
fn wanted(seen: &Seen) -> BTreeMap<ContainerKey, (Option<String>, String)> {
    let mut all = BTreeMap::new();
    for (pod, view) in &seen.pods {
        for c in &view.containers {
            let running = matches!(c.state, ContainerState::Running { .. });
            if let Some(file) = debug_file(c).filter(|_| running) {
                let at = ContainerKey {
                    pod: pod.clone(),
                    container: c.name.clone(),
                };
                all.insert(at, (c.container_id.clone(), file.to_owned()));
            }
        }
    }
    all
}

/// The pattern that finds what NCCL makes of a name: `%h` is the host, `%p` the process. `None` where the name holds
/// anything that a shell would read as more than a name.
fn pattern(file: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = file.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => match chars.next()? {
                '%' => out.push('%'),
                _ => out.push('*'),
            },
            c if c.is_ascii_alphanumeric() || "/._-+,:@=".contains(c) => out.push(c),
            _ => return None,
        }
    }
    out.starts_with('/').then_some(out)
}

/// One file that is followed.
struct File {
    id: SourceId,
    /// Lines handed on in all.
    lines: u64,
    /// Lines of this reading that are known already.
    known: u64,
    batch: Vec<u8>,
}

/// The files of one run of a container.
struct Tail {
    access: Access,
    at: ContainerKey,
    file: String,
    files: BTreeMap<String, File>,
}

impl Tail {
    fn new(access: Access, at: ContainerKey, file: String) -> Self {
        Self {
            access,
            at,
            file,
            files: BTreeMap::new(),
        }
    }

    async fn run(mut self) {
        let Some(pattern) = pattern(&self.file) else {
            return;
        };
        let mut backoff = Backoff::default();
        loop {
            let spec = ExecSpec {
                at: self.at.clone(),
                argv: ["sh", "-c", TAIL, "ncclscope", &pattern]
                    .map(str::to_owned)
                    .to_vec(),
                ran: format!("tail -F {pattern}"),
                cap: 0,
                limit: None,
                quiet: None,
            };
            // Whoever reads again begins at the first line: what was handed on before is passed over.
            for file in self.files.values_mut() {
                file.known = file.lines;
            }
            let (tx, rx) = mpsc::channel(LINES);
            let access = self.access.clone();
            let (outcome, ()) = tokio::join!(access.follow(spec, tx), self.read(rx));
            let why = match outcome {
                // Asked again by nobody: a no is a no until the workload is opened anew.
                ProbeOutcome::Refused { .. } => return,
                // What lasts is not run without a shell, and none will come.
                ProbeOutcome::Failed { why } if why.contains("no shell") => return,
                ProbeOutcome::Failed { why } => why,
                ProbeOutcome::Answered { code, err, .. } => {
                    format!("tail ended with {code}: {err}")
                }
                ProbeOutcome::Began => String::new(),
            };
            let wait = backoff.failed().max(Duration::from_secs(5));
            let in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            for file in self.files.values() {
                let event = SourceEvent::Retrying {
                    id: file.id,
                    why: why.clone(),
                    in_ms,
                };
                self.access.tell(Event::Source(event)).await;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes lines until nobody sends any; names of files stand between them.
    async fn read(&mut self, mut rx: mpsc::Receiver<Vec<u8>>) {
        let mut name: Option<String> = None;
        // An empty line stands before each name; whether it is one is known with the next.
        let mut blank = false;
        let mut batch = Vec::with_capacity(BATCH);
        while rx.recv_many(&mut batch, BATCH).await > 0 {
            for line in batch.drain(..) {
                if let Some(path) = header(&line) {
                    blank = false;
                    self.open(&path).await;
                    name = Some(path);
                    continue;
                }
                let Some(file) = name.as_ref().and_then(|n| self.files.get_mut(n)) else {
                    continue;
                };
                if std::mem::take(&mut blank) {
                    file.take(b"");
                }
                if line.is_empty() {
                    blank = true;
                } else {
                    file.take(&line);
                }
            }
            for file in self.files.values_mut() {
                if let Some(event) = file.block()
                    && !self.access.tell(event).await
                {
                    return;
                }
            }
        }
    }

    async fn open(&mut self, path: &str) {
        if let Some(file) = self.files.get(path) {
            self.access
                .tell(Event::Source(SourceEvent::Up(file.id)))
                .await;
            return;
        }
        let id = self.access.source();
        let (pod, container) = (&self.at.pod, &self.at.container);
        let info = SourceInfo {
            name: format!("{}/{}/{container}:{path}", pod.namespace, pod.name),
            container: Some(self.at.clone()),
            previous: false,
            started: None,
        };
        let file = File {
            id,
            lines: 0,
            known: 0,
            batch: Vec::new(),
        };
        self.files.insert(path.to_owned(), file);
        self.access
            .tell(Event::Source(SourceEvent::Opened(id, info)))
            .await;
    }
}

impl File {
    fn take(&mut self, line: &[u8]) {
        if self.known > 0 {
            self.known -= 1;
            return;
        }
        self.batch.extend_from_slice(line);
        self.batch.push(b'\n');
    }

    /// What has gathered, as an event.
    fn block(&mut self) -> Option<Event> {
        if self.batch.is_empty() {
            return None;
        }
        let text = std::mem::take(&mut self.batch);
        let lines = memchr::memchr_iter(b'\n', &text).count() as u64;
        let block = Block::new(self.lines + 1, text);
        self.lines += lines;
        Some(Event::Log(LogBlock {
            source: self.id,
            block: Arc::new(block),
        }))
    }
}

/// The name in `==> /tmp/nccl.log <==`.
fn header(line: &[u8]) -> Option<String> {
    let path = line.strip_prefix(b"==> ")?.strip_suffix(b" <==")?;
    let path = std::str::from_utf8(path).ok()?;
    path.starts_with('/').then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_pattern_or_nothing() {
        assert_eq!(pattern("/tmp/nccl.%h.%p").as_deref(), Some("/tmp/nccl.*.*"));
        assert_eq!(pattern("/tmp/a%%b").as_deref(), Some("/tmp/a%b"));
        for hostile in [
            "/tmp/$(id)",
            "/tmp/a b",
            "/tmp/`id`",
            "relative.log",
            "/tmp/x;id",
            "/tmp/*",
            "/tmp/x%",
        ] {
            assert_eq!(pattern(hostile), None, "{hostile}");
        }
    }

    #[test]
    fn lines_that_are_known_are_passed_over() {
        let mut file = File {
            id: SourceId(3),
            lines: 2,
            known: 2,
            batch: Vec::new(),
        };
        for line in ["one", "two", "three"] {
            file.take(line.as_bytes());
        }
        let Some(Event::Log(log)) = file.block() else {
            panic!("a block")
        };
        assert_eq!(
            (log.block.first_line, log.block.text.as_slice()),
            (3, b"three\n".as_slice())
        );
        assert!(file.block().is_none());
        assert_eq!(header(b"==> /tmp/n.log <==").as_deref(), Some("/tmp/n.log"));
        assert_eq!(header(b"==> standard input <=="), None);
    }
}
