//! Commands in containers, over WebSocket (v5 of the protocol, v4 where the server knows no better).
//!
//! Nothing that we start outlives us: where the container has a shell, the command runs under [`LEASE`], which
//! ends it as soon as its standard input ends, and within a minute when nothing comes through any more although
//! the connection seems to stand. Without a shell only what ends by itself is run.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use kube::client::UpgradeConnectionError;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::access::{Leave, turned_away};
use super::client::{Connection, PATIENCE};
use super::one_line;
use super::trouble::{Kind, Trouble};
use crate::model::event::{ContainerKey, ProbeOutcome};
use crate::sources::gate::Action;

/// Runs `"$@"` for as long as somebody is there: ends it when standard input ends or brings nothing for 45 seconds.
///
/// Its last words are the exit code between two record separators: what comes without them was cut. Who waits for
/// the command gets no signal from a beat: bash (5.2) may lose an exit code when a signal interrupts its `wait`. The
/// beats go to a warden of their own; all that is ever signalled is the command, its group, and these two.
const LEASE: &str = r#"exec 3<&0 </dev/null
if command -v setsid >/dev/null 2>&1; then setsid "$@" 3<&- & else "$@" 3<&- & fi
cmd=$!
end() { kill -s "$1" -- "-$cmd" 2>/dev/null || kill -s "$1" "$cmd" 2>/dev/null; }
stop() { trap '' TERM; end TERM; sleep 2; end KILL; }
trap '' USR1
( idle=0
  trap 'idle=0' USR1
  while [ "$idle" -le 2 ]; do sleep 15; idle=$((idle+1)); done
  stop ) >/dev/null 2>&1 3<&- &
warden=$!
( while read -r beat <&3; do kill -USR1 "$warden" || exit; done; stop ) >/dev/null 2>&1 &
reader=$!
trap stop HUP TERM INT PIPE
exec 3<&-
wait "$cmd"; code=$?
trap '' HUP TERM INT PIPE
kill "$reader" "$warden" 2>/dev/null
printf '\036end %d\036\n' "$code"
exit "$code"
"#;
/// How often the lease is renewed.
const BEAT: Duration = Duration::from_secs(10);
/// Where a shell is looked for, in this order.
const SHELLS: &[&str] = &["sh", "bash", "/busybox/sh"];
/// Bytes of standard error kept.
const ERR: usize = 16 << 10;
/// Bytes under way between the socket and us; the library's own 1 KiB would crawl.
const PIPE: usize = 64 << 10;
/// A line longer than this is handed on in pieces.
const LINE: usize = 64 << 10;
/// How long the exit code may come after the last byte, or the other way round.
const STATUS: Duration = Duration::from_secs(5);
/// How long what arrived before a cut is read.
const DRAIN: Duration = Duration::from_millis(100);

/// A command for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSpec {
    /// Where.
    pub at: ContainerKey,
    /// The command. Where it is a shell's, the script is a constant of ours and every value an argument.
    pub argv: Vec<String>,
    /// The command as a person would type it.
    pub ran: String,
    /// Bytes of standard output kept, where it is kept.
    pub cap: usize,
    /// Longest run; `None`: until nobody takes its lines. Then it needs a shell.
    pub limit: Option<Duration>,
    /// Longest silence; what says nothing for longer has hung, or its connection has.
    pub quiet: Option<Duration>,
}

impl ExecSpec {
    /// What the gate is asked.
    #[must_use]
    pub fn action(&self) -> Action {
        Action::Exec {
            pod: self.at.pod.clone(),
            container: self.at.container.clone(),
            command: self.ran.clone(),
        }
    }
}

/// What becomes of standard output.
pub(super) enum Sink {
    /// Kept up to the cap.
    Keep,
    /// Whole lines, without their ends, as they come.
    Lines(mpsc::Sender<Vec<u8>>),
}

/// Which shell a container has; `None`: none. Asked once a container.
#[derive(Debug, Default)]
pub(super) struct Shells(Mutex<BTreeMap<ContainerKey, Option<usize>>>);

impl Shells {
    fn known(&self, at: &ContainerKey) -> Option<usize> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(at).copied().unwrap_or(Some(0))
    }

    fn learn(&self, at: &ContainerKey, shell: Option<usize>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(at.clone(), shell);
    }
}

/// How an attempt went.
enum Attempt {
    Over(ProbeOutcome),
    NoShell,
    Refused(Trouble),
}

/// Runs it to its end. Leave is taken to show that there is one.
pub(super) async fn run(
    link: &Connection,
    shells: &Shells,
    _leave: &Leave,
    spec: &ExecSpec,
    sink: Sink,
) -> ProbeOutcome {
    let begun = Instant::now();
    let mut again = true;
    let mut shell = shells.known(&spec.at);
    loop {
        if shell.is_none() && spec.limit.is_none() {
            let why = "the container has no shell, and what lasts is not run without one";
            return ProbeOutcome::Failed { why: why.into() };
        }
        let trouble = match attempt(link, spec, shell, &sink, begun).await {
            Attempt::Over(outcome) => {
                shells.learn(&spec.at, shell);
                return outcome;
            }
            Attempt::NoShell => {
                shell = shell.map(|n| n + 1).filter(|n| *n < SHELLS.len());
                continue;
            }
            Attempt::Refused(trouble) => trouble,
        };
        // Over WebSocket it is a GET; from 1.35 the API server asks for both.
        let rule = || {
            let namespace = &spec.at.pod.namespace;
            format!("get and create pods/exec in namespace {namespace}")
        };
        let why = "RBAC does not allow commands in pods";
        if let Some(outcome) = turned_away(link, trouble, &mut again, why, rule).await {
            return outcome;
        }
    }
}

async fn attempt(
    link: &Connection,
    spec: &ExecSpec,
    shell: Option<usize>,
    sink: &Sink,
    begun: Instant,
) -> Attempt {
    let leased = shell.and_then(|n| SHELLS.get(n));
    let mut argv: Vec<&str> = Vec::new();
    if let Some(shell) = leased {
        argv.extend([*shell, "-c", LEASE, "ncclscope"]);
    }
    argv.extend(spec.argv.iter().map(String::as_str));
    let params = AttachParams::default()
        .container(&spec.at.container)
        .stdin(leased.is_some())
        .stdout(true)
        .stderr(true)
        .max_stdin_buf_size(1024)
        .max_stdout_buf_size(PIPE)
        .max_stderr_buf_size(PIPE);
    let api: Api<Pod> = Api::namespaced(link.client(), &spec.at.pod.namespace);
    let opened = timeout(PATIENCE, api.exec(&spec.at.pod.name, argv, &params)).await;
    let process = match opened {
        Ok(Ok(process)) => process,
        Ok(Err(e)) => return Attempt::Refused(upgrade(&e)),
        Err(_) => return Attempt::Refused(Trouble::timeout(PATIENCE)),
    };
    let mut ear = Ear::new(spec.cap, leased.is_some());
    match listen(process, spec, sink, &mut ear, begun).await {
        Ok(status) => judge(status, ear, leased.copied(), spec, begun),
        Err(why) => Attempt::Over(ProbeOutcome::Failed { why }),
    }
}

/// Reads until both streams end; then the status, if one comes.
async fn listen(
    mut process: AttachedProcess,
    spec: &ExecSpec,
    sink: &Sink,
    ear: &mut Ear,
    begun: Instant,
) -> Result<Option<Status>, String> {
    let _beats = process.stdin().map(|mut stdin| {
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut clock = interval(BEAT);
            loop {
                clock.tick().await;
                if stdin.write_all(b"\n").await.is_err() {
                    // Kept: closing it would close the connection of the older protocol.
                    std::future::pending::<()>().await;
                }
            }
        }))
    });
    let mut status = process.take_status().map(Box::pin);
    // The library ends the streams of a command that ended, but not those of a connection that was cut: that its
    // status will never come is the only sign.
    let mut told: Option<Status> = None;
    let mut drained = None;
    let (mut out, mut err) = (process.stdout(), process.stderr());
    let (mut out_bytes, mut err_bytes) = (vec![0; PIPE], vec![0; 4096]);
    let end = spec.limit.map(|limit| begun + limit);
    let mut heard = Instant::now();
    while out.is_some() || err.is_some() {
        let silence = spec.quiet.map(|quiet| heard + quiet);
        let gone = async {
            match sink {
                Sink::Lines(lines) => lines.closed().await,
                Sink::Keep => std::future::pending().await,
            }
        };
        tokio::select! {
            n = read(&mut out, &mut out_bytes), if out.is_some() => match n {
                Some(bytes) => {
                    heard = Instant::now();
                    ear.out(bytes);
                    if let Sink::Lines(lines) = sink {
                        for line in ear.lines() {
                            if lines.send(line).await.is_err() {
                                return Err("nobody listens any more".into());
                            }
                        }
                    }
                }
                None => out = None,
            },
            n = read(&mut err, &mut err_bytes), if err.is_some() => match n {
                Some(bytes) => ear.err(bytes),
                None => err = None,
            },
            s = answer(&mut status), if drained.is_none() => {
                let wait = if s.is_some() { STATUS } else { DRAIN };
                told = s;
                drained = Some(Instant::now() + wait);
            }
            () = at(drained) => break,
            () = at(end) => {
                let limit = spec.limit.unwrap_or_default().as_secs();
                return Err(format!("it did not end within {limit} s and was ended"));
            }
            () = at(silence) => {
                let quiet = spec.quiet.unwrap_or_default().as_secs();
                return Err(format!("it said nothing for {quiet} s and was ended"));
            }
            () = gone => return Err("nobody listens any more".into()),
        }
    }
    if drained.is_none() {
        told = timeout(STATUS, answer(&mut status)).await.ok().flatten();
    }
    Ok(told)
}

async fn answer<F: Future<Output = Option<Status>> + Unpin>(
    status: &mut Option<F>,
) -> Option<Status> {
    match status {
        Some(status) => status.await,
        None => None,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

async fn read<'a, R: AsyncRead + Unpin>(
    from: &mut Option<R>,
    bytes: &'a mut [u8],
) -> Option<&'a [u8]> {
    let n = from.as_mut()?.read(bytes).await.ok()?;
    bytes.get(..n).filter(|read| !read.is_empty())
}

/// What the status and the last words say together.
fn judge(
    status: Option<Status>,
    ear: Ear,
    shell: Option<&str>,
    spec: &ExecSpec,
    begun: Instant,
) -> Attempt {
    let (code, message) = match &status {
        None => (None, String::new()),
        Some(s) if s.status.as_deref() == Some("Success") => (Some(0), String::new()),
        Some(s) => (exit_code(s), s.message.clone().unwrap_or_default()),
    };
    let absent = ["executable file not found", "no such file or directory"]
        .iter()
        .any(|text| message.contains(text));
    let heard_nothing = ear.end.is_none() && ear.heard == 0;
    if let Some(shell) = shell
        && heard_nothing
        && (absent && message.contains(shell) || matches!(code, Some(126 | 127)))
    {
        return Attempt::NoShell;
    }
    let Some(code) = ear.end.or(code).or(absent.then_some(127)) else {
        let why = if status.is_none() {
            "the connection was cut before it ended".into()
        } else {
            idle(&message)
                .unwrap_or_else(|| format!("it could not be started: {}", one_line(&message)))
        };
        return Attempt::Over(ProbeOutcome::Failed { why });
    };
    // The server may lose the end of the output without a word; the last words tell.
    let lost = shell.is_some() && ear.end.is_none();
    let mut err = ear.err;
    if absent && err.is_empty() {
        err = one_line(&message).into_bytes();
    }
    let kept = ear.kept.get(..spec.cap).unwrap_or(&ear.kept);
    Attempt::Over(ProbeOutcome::Answered {
        code,
        out: String::from_utf8_lossy(kept).into_owned(),
        err: String::from_utf8_lossy(&err).into_owned(),
        cut: ear.over || lost || ear.kept.len() > spec.cap,
        ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn exit_code(status: &Status) -> Option<i32> {
    let causes = status.details.as_ref()?.causes.as_ref()?;
    let cause = causes
        .iter()
        .find(|c| c.reason.as_deref() == Some("ExitCode"))?;
    cause.message.as_ref()?.parse().ok()
}

/// What is said of a container that does not run.
fn idle(message: &str) -> Option<String> {
    ["container not found", "not running", "stopped", "completed"]
        .iter()
        .any(|text| message.contains(text))
        .then(|| format!("the container does not run: {}", one_line(message)))
}

/// Reads a refusal to begin.
fn upgrade(error: &kube::Error) -> Trouble {
    match error {
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)) => Trouble {
            kind: Kind::Other,
            text: format!(
                "exec needs WebSockets, and something on the way to the API server does not pass them (it answered {})",
                code.as_u16()
            ),
        },
        kube::Error::UpgradeConnection(e) => Trouble {
            kind: Kind::Other,
            text: format!("no exec over WebSocket: {}", one_line(&e.to_string())),
        },
        kube::Error::Api(s) if idle(&s.message).is_some() => Trouble {
            kind: Kind::Other,
            text: idle(&s.message).unwrap_or_default(),
        },
        other => Trouble::of(other),
    }
}

/// What was heard.
struct Ear {
    cap: usize,
    /// Last words are expected.
    leased: bool,
    /// Output that was not handed on; at its end may be half a line, or half of the last words.
    kept: Vec<u8>,
    /// Bytes heard in all.
    heard: u64,
    err: Vec<u8>,
    /// More came than is kept.
    over: bool,
    /// Exit code by the last words.
    end: Option<i32>,
}

/// Longest last words.
const WORDS: usize = 24;

impl Ear {
    fn new(cap: usize, leased: bool) -> Self {
        Self {
            cap,
            leased,
            kept: Vec::new(),
            heard: 0,
            err: Vec::new(),
            over: false,
            end: None,
        }
    }

    fn out(&mut self, bytes: &[u8]) {
        self.heard += bytes.len() as u64;
        self.kept.extend_from_slice(bytes);
        if self.leased
            && let Some((at, code)) = last_words(&self.kept)
        {
            self.end = Some(code);
            self.kept.truncate(at);
        }
        // The end stays, it may be half of the last words.
        if self.kept.len() > self.cap.saturating_add(LINE) {
            self.over = true;
            let tail = self.kept.split_off(self.kept.len() - WORDS);
            self.kept.truncate(self.cap);
            self.kept.extend_from_slice(&tail);
        }
    }

    fn err(&mut self, bytes: &[u8]) {
        let room = ERR.saturating_sub(self.err.len());
        self.err
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// Takes the whole lines out, without their ends; after the last words also what is no whole line.
    fn lines(&mut self) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut rest = std::mem::take(&mut self.kept);
        while let Some(end) = memchr::memchr(b'\n', &rest) {
            let after = rest.split_off(end + 1);
            rest.truncate(end);
            lines.push(std::mem::replace(&mut rest, after));
        }
        if rest.len() > LINE || (self.end.is_some() && !rest.is_empty()) {
            lines.push(std::mem::take(&mut rest));
        }
        self.kept = rest;
        lines
    }
}

/// The last words at the end of what was heard: where they begin and the code they name.
fn last_words(heard: &[u8]) -> Option<(usize, i32)> {
    let body = heard.strip_suffix(b"\x1e\n")?;
    let begin = memchr::memrchr(0x1e, body)?;
    let code = body.get(begin + 1..)?.strip_prefix(b"end ")?;
    let code = std::str::from_utf8(code).ok()?.parse().ok()?;
    Some((begin, code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    /// Runs a command under the lease while as many beats come as the shell can take; its code, twice told.
    fn under(shell: &str, script: &str) -> (Option<i32>, Option<i32>) {
        let mut lease = Command::new(shell)
            .args(["-c", LEASE, "ncclscope", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut beats = lease.stdin.take().unwrap();
        // Who ends early doesn't read them all.
        let _ = beats.write_all(&b"\n".repeat(64));
        let mut out = Vec::new();
        let mut heard = lease.stdout.take().unwrap();
        heard.read_to_end(&mut out).unwrap();
        let code = lease.wait().unwrap().code();
        drop(beats);
        (last_words(&out).map(|(_, code)| code), code)
    }

    #[test]
    fn a_beat_is_no_exit_code() {
        for shell in ["dash", "bash"] {
            for code in [0, 9, 127].repeat(20) {
                let said = under(shell, &format!("exit {code}"));
                assert_eq!(said, (Some(code), Some(code)), "{shell}");
            }
            // A command that a signal ends says which.
            assert_eq!(under(shell, "kill -KILL $$").0, Some(137), "{shell}");
        }
    }
}
