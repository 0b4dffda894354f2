//! The program in a terminal of its own.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::plane::Plane;

pub struct Screen {
    parser: Arc<Mutex<vt100::Parser>>,
    keys: Box<dyn std::io::Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    master: Option<Box<dyn MasterPty + Send>>,
    eyes: Arc<Eyes>,
}

/// Whoever looks at the terminal.
#[derive(Default)]
struct Eyes {
    /// Takes nothing from it for now.
    shut: AtomicBool,
    /// Takes nothing from it any more.
    gone: AtomicBool,
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.eyes.gone.store(true, Ordering::SeqCst);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Screen {
    pub fn start(args: &[&str]) -> Self {
        Self::with(args, |_| {})
    }

    /// In a folder, with a kubeconfig that the environment names.
    pub fn start_in(args: &[&str], folder: &Path, kubeconfig: &Path) -> Self {
        Self::with(args, |command| {
            command.cwd(folder);
            command.env("KUBECONFIG", kubeconfig);
        })
    }

    fn with(args: &[&str], more: impl FnOnce(&mut CommandBuilder)) -> Self {
        let (rows, cols) = (40, 120);
        let size = PtySize {
            rows,
            cols,
            pixel_width: 0,
            pixel_height: 0,
        };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_ncclscope"));
        command.args(args);
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        // Somebody was here before.
        let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("state");
        std::fs::create_dir_all(state.join("ncclscope")).unwrap();
        std::fs::write(state.join("ncclscope/welcomed"), "").unwrap();
        command.env("XDG_STATE_HOME", state);
        more(&mut command);
        let child = pair.slave.spawn_command(command).unwrap();
        let cells = |n: u16| std::num::NonZero::new(n).unwrap();
        let parser = Arc::new(Mutex::new(vt100::Parser::new(cells(rows), cells(cols), 0)));
        let (mut reader, sink) = (pair.master.try_clone_reader().unwrap(), parser.clone());
        let eyes = Arc::new(Eyes::default());
        let theirs = Arc::clone(&eyes);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                sink.lock().unwrap().process(&buffer[..n]);
                while theirs.shut.load(Ordering::SeqCst) && !theirs.gone.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                if theirs.gone.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        let keys = pair.master.take_writer().unwrap();
        Self {
            parser,
            keys,
            child,
            master: Some(pair.master),
            eyes,
        }
    }

    /// The terminal takes nothing any more, and is full.
    pub async fn stall(&mut self) {
        self.eyes.shut.store(true, Ordering::SeqCst);
        // What the system keeps on the way is filled by frames, one pane after the other.
        for pane in ["1", "2", "3", "4", "5"].iter().cycle().take(100) {
            self.key(pane);
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The terminal is closed, as by a connection that was cut.
    pub fn close(&mut self) {
        self.eyes.gone.store(true, Ordering::SeqCst);
        // Whoever waits for the next bytes gets some, and lets go.
        self.key("?");
        self.keys = Box::new(std::io::sink());
        self.master = None;
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.process_id().unwrap().to_string();
        let sent = std::process::Command::new("kill")
            .args([name, &pid])
            .status();
        assert!(sent.unwrap().success());
    }

    pub fn key(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn text(&self) -> String {
        self.parser.lock().unwrap().screen().contents()
    }

    /// The program has taken the screen.
    pub fn is_taken(&self) -> bool {
        self.parser.lock().unwrap().screen().alternate_screen()
    }

    /// The header counts one pod of the workload. The tabs have similar words before anything was listed.
    pub async fn has_one_pod(&mut self) {
        self.until("one pod in the header", |s| {
            s.lines().next().is_some_and(|l| l.contains("   1 pod "))
        })
        .await;
    }

    pub async fn until(&mut self, what: &str, so: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !so(&self.text()) {
            assert!(
                Instant::now() < deadline,
                "never: {what}; the screen shows\n{}",
                self.text()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The program has ended well.
    pub async fn ended(&mut self) {
        assert_eq!(self.code(10).await, 0);
    }

    /// How the program ended, within so many seconds.
    pub async fn code(&mut self, seconds: u64) -> u32 {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.exit_code();
            }
            assert!(
                Instant::now() < deadline,
                "it does not end; the screen shows\n{}",
                self.text()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What two ranks on two nodes print until their communicator is complete.
pub fn nccl_lines(rank: u32) -> String {
    let head = format!("llm-{rank}:100:100 [0] NCCL INFO");
    let init = format!(
        "ncclCommInitRank comm 0x55{rank}0 rank {rank} nranks 2 cudaDev 0 nvmlDev 0 busId 1b000 commId 0xabcdef1234567890"
    );
    let peer = 1 - rank;
    let lines = [
        format!("{head} Bootstrap : Using eth0:10.0.0.{rank}<0>"),
        format!("{head} NCCL version 2.27.3+cuda12.9"),
        format!("{head} NET/Socket : Using [0]eth0:10.0.0.{rank}<0>"),
        format!("{head} Using network Socket"),
        format!("{head} {init} - Init START"),
        format!("{head} Channel 00/0 : {peer}[0] -> {rank}[0] [receive] via NET/Socket/0"),
        format!("{head} Channel 00/0 : {rank}[0] -> {peer}[0] [send] via NET/Socket/0"),
        format!("{head} {init} - Init COMPLETE"),
    ];
    lines.join("\n") + "\n"
}

/// A StatefulSet of two pods whose logs are read from files while they are looked at.
pub async fn two_ranks(p: &Plane, ns: &str, dir: &std::path::Path) {
    p.namespace(ns).await;
    for rank in 0..2 {
        std::fs::write(dir.join(format!("llm-{rank}.log")), nccl_lines(rank)).unwrap();
    }
    let log = json!({"file": dir.join("{pod}.log"), "rate": 4}).to_string();
    let note = json!({"cplane.test/log": log});
    p.create(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "llm", "namespace": ns}, "spec": {
        "replicas": 2, "serviceName": "llm", "podManagementPolicy": "Parallel", "selector": {"matchLabels": {"app": "llm"}},
        "template": {"metadata": {"labels": {"app": "llm"}, "annotations": note}, "spec": {"containers": [
            {"name": "vllm", "image": "vllm:1", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}}}}))
        .await;
}

pub async fn the_screen_shows_two_pods_and_how_their_ranks_talk(p: &Plane) {
    let dir = tempfile::tempdir().unwrap();
    two_ranks(p, "screen", dir.path()).await;
    let mut screen = Screen::start(&[
        "--kubeconfig",
        p.kubeconfig("admin").to_str().unwrap(),
        "-n",
        "screen",
        "llm",
    ]);
    // The sampler wants to run; whoever only looks says no.
    screen
        .until("the question about probes", |s| {
            s.contains("They only read")
        })
        .await;
    screen.key("n");
    screen
        .until("the overview", |s| {
            s.contains("2 pods") && s.contains("2 ranks") && s.contains("complete")
        })
        .await;
    screen.key("1");
    let row = |s: &str, pod: &str| {
        s.lines()
            .any(|l| l.contains(pod) && l.contains("1/1") && l.contains("Running"))
    };
    screen
        .until("the pods", |s| row(s, "llm-0") && row(s, "llm-1"))
        .await;
    screen.key("3");
    screen
        .until("the matrix", |s| {
            s.contains("NET/Socket/0") && s.contains("llm-0") && s.contains("llm-1")
        })
        .await;
    // The API server goes away and comes back: the screen says so and heals, and nothing was lost.
    p.tell(&json!({"cmd": "proxy", "action": "refuse"}));
    screen
        .until("reconnecting", |s| s.contains("again in"))
        .await;
    p.tell(&json!({"cmd": "proxy", "action": "resume"}));
    screen.until("healed", |s| !s.contains("again in")).await;
    screen.key(":q\r");
    screen.ended().await;
}
