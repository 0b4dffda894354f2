//! The all-reduce script for real: several processes, gloo on loopback, a killed rank, a wrong result.
//!
//! Needs a Python with torch. Where there is none, the tests are counted as ignored and never as passed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test"
)]

#[path = "allreduce/gpus.rs"]
mod gpus;
#[path = "listed.rs"]
mod listed;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ncclscope::model::event::SourceId;
use ncclscope::model::testrun::{Planned, TestEvent, TestRun};
use ncclscope::parse::Block;
use ncclscope::parse::perf::{Said, Status, line};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/allreduce.py");
/// What a killed rank may take to be named by the others.
const SECONDS: Duration = Duration::from_secs(8);
const RUN: &str = "here";

type Test = fn(&str);

fn main() -> ExitCode {
    let tests: [(&str, Test); 11] = [
        ("two_pods_of_two_agree", two_pods_of_two_agree),
        (
            "a_killed_rank_is_named_by_the_others",
            a_killed_rank_is_named_by_the_others,
        ),
        ("a_wrong_element_is_found", a_wrong_element_is_found),
        (
            "a_rank_that_never_comes_is_named",
            a_rank_that_never_comes_is_named,
        ),
        ("pairs_convict_the_slow_pod", pairs_convict_the_slow_pod),
        (
            "inside_a_pod_it_ends_when_we_vanish",
            inside_a_pod_it_ends_when_we_vanish,
        ),
        (
            "every_step_over_gpus_is_taken",
            gpus::every_step_over_gpus_is_taken,
        ),
        (
            "a_vllm_that_can_not_be_loaded_is_left_out",
            gpus::a_vllm_that_can_not_be_loaded_is_left_out,
        ),
        (
            "without_vllm_its_steps_are_left_out",
            gpus::without_vllm_its_steps_are_left_out,
        ),
        (
            "a_hang_of_nccl_leaves_what_gloo_measured",
            gpus::a_hang_of_nccl_leaves_what_gloo_measured,
        ),
        (
            "an_error_of_nccl_is_quoted",
            gpus::an_error_of_nccl_is_quoted,
        ),
    ];
    let python = python();
    let there = python.as_ref().map(|_| "");
    listed::run(&tests, there.ok_or("no python with torch here"), |test| {
        test(python.as_deref().unwrap_or_default());
        Ok(())
    })
}

/// A Python that has torch with gloo: the first in PATH, else the system's.
fn python() -> Option<String> {
    let has = "import torch.distributed as d; assert d.is_available() and d.is_gloo_available() if hasattr(d, 'is_gloo_available') else d.is_available()";
    ["python3", "/usr/bin/python3"]
        .iter()
        .find(|p| {
            Command::new(p)
                .args(["-c", has])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|s| s.success())
        })
        .map(|p| (*p).to_owned())
}

/// Two ports in a row that nobody uses.
fn port() -> u16 {
    for _ in 0..100 {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
    panic!("no free ports");
}

/// One pod: a process that starts its ranks.
fn pod(
    python: &str,
    port: u16,
    nodes: u32,
    index: u32,
    args: &[&str],
    env: &[(&str, &str)],
) -> Child {
    pod_of(Path::new(SCRIPT), python, port, nodes, index, args, env)
}

/// One pod that runs this very file.
fn pod_of(
    script: &Path,
    python: &str,
    port: u16,
    nodes: u32,
    index: u32,
    args: &[&str],
    env: &[(&str, &str)],
) -> Child {
    let mut command = Command::new(python);
    command
        .arg(script)
        .args([
            "--nodes",
            &nodes.to_string(),
            "--node-rank",
            &index.to_string(),
            "--nproc",
            "2",
            "--master-port",
            &port.to_string(),
        ])
        .args(args)
        .env("NCCLSCOPE_RUN", RUN)
        .env("GLOO_SOCKET_IFNAME", "lo")
        .env_remove("MASTER_ADDR")
        .envs(env.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.spawn().expect("python starts")
}

fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().expect("a pipe"))
        .lines()
        .map_while(Result::ok)
}

fn fold(run: &mut TestRun, text: &str) {
    let block = Arc::new(Block::new(1, format!("{text}\n").into_bytes()));
    run.apply(
        TestEvent::Log {
            source: SourceId(0),
            block,
        },
        1,
    );
}

fn start() -> TestRun {
    let mut run = TestRun::default();
    let planned = Planned {
        run: RUN.into(),
        ..Planned::default()
    };
    run.apply(TestEvent::Planned(Arc::new(planned)), 1);
    run
}

fn two_pods_of_two_agree(python: &str) {
    let port = port();
    let mut pods: Vec<Child> = (0..2)
        .map(|i| pod(python, port, 2, i, &["--gloo-bytes", "262144"], &[]))
        .collect();
    let mut run = start();
    for pod in &mut pods {
        lines(pod).for_each(|l| fold(&mut run, &l));
        assert_eq!(pod.wait().unwrap().code(), Some(0));
    }
    let sizes: Vec<u64> = run.rows.iter().map(|r| r.bytes).collect();
    assert_eq!(sizes, [8, 64, 512, 4096, 32768, 262_144]);
    assert!(
        run.rows
            .iter()
            .all(|r| r.wrong() == Some(0) && r.world == Some(4) && r.by == "gloo")
    );
    let largest = run.rows.last().and_then(|r| r.best()).unwrap();
    // busbw = algbw * 2 (n - 1) / n.
    assert!((largest.busbw / largest.algbw - 1.5).abs() < 1e-3);
    assert_eq!(run.ranks.len(), 4);
    assert!(run.failures.is_empty() && run.skipped.contains_key("nccl"));
}

fn a_killed_rank_is_named_by_the_others(python: &str) {
    let port = port();
    // Long enough that it can't end before the shot.
    let args = ["--gloo-bytes", "268435456", "--iters", "100000"];
    let mut other = pod(python, port, 2, 0, &args, &[]);
    let mut own = pod(python, port, 2, 1, &args, &[]);
    let (mut run, mut victim) = (start(), None);
    let mut of_own = lines(&mut own);
    for l in of_own.by_ref() {
        if let Some(Said::Step(s)) = line(l.as_bytes()) {
            if s.rank == Some(3) && s.pid.is_some() {
                victim = s.pid;
            }
            if s.step == "gloo" && s.rank == Some(3) {
                break;
            }
        }
    }
    // The others are in the collective, or on their way into it.
    let mut of_other = lines(&mut other);
    for l in of_other.by_ref() {
        fold(&mut run, &l);
        if !run.rows.is_empty() {
            break;
        }
    }
    let victim = victim.expect("a process id").to_string();
    let shot = Instant::now();
    assert!(
        Command::new("kill")
            .args(["-9", &victim])
            .status()
            .unwrap()
            .success()
    );
    of_other.for_each(|l| fold(&mut run, &l));
    of_own.for_each(|l| fold(&mut run, &l));
    assert!(shot.elapsed() < SECONDS, "{:?}", shot.elapsed());
    let cause = run.cause().expect("a cause");
    assert_eq!(
        (cause.rank, cause.error.as_str()),
        (Some(3), "killed by SIGKILL")
    );
    for rank in 0..3 {
        let told = |f: &&ncclscope::model::testrun::Failure| f.rank == Some(rank) && f.echo;
        assert!(
            run.failures.iter().any(|f| told(&f)),
            "rank {rank} said nothing: {:?}",
            run.failures
        );
    }
    assert_eq!(own.wait().unwrap().code(), Some(22));
    assert_eq!(other.wait().unwrap().code(), Some(21));
}

fn a_wrong_element_is_found(python: &str) {
    // Spoils one element of what rank 1 gets, as a broken link would.
    let folder = tempfile::tempdir().unwrap();
    let spoil = "import os\nif os.environ.get('NCCLSCOPE_LOCAL_RANK') == '1':\n    import torch.distributed as d\n    own = d.all_reduce\n    def all_reduce(t, *a, **k):\n        own(t, *a, **k)\n        if t.numel() == 128:\n            t[77] += 1\n    d.all_reduce = all_reduce\n";
    std::fs::write(folder.path().join("sitecustomize.py"), spoil).unwrap();
    let path = folder.path().to_string_lossy().into_owned();
    let mut pod = pod(
        python,
        port(),
        1,
        0,
        &["--gloo-bytes", "4096"],
        &[("PYTHONPATH", &path)],
    );
    let mut run = start();
    let mut places = Vec::new();
    for l in lines(&mut pod) {
        if let Some(Said::Step(s)) = line(l.as_bytes())
            && s.status == Status::Wrong
        {
            places.push((s.rank, l.clone()));
        }
        fold(&mut run, &l);
    }
    assert_eq!(pod.wait().unwrap().code(), Some(19));
    // Both tests of that size, on one rank.
    assert_eq!(run.wrong(), 2);
    assert!(
        places
            .iter()
            .all(|(rank, l)| *rank == Some(1) && l.contains("\"index\": 77")),
        "{places:?}"
    );
    assert!(
        run.rows
            .iter()
            .all(|r| (r.wrong() == Some(2)) == (r.bytes == 512))
    );
}

/// The shell around the script inside a workload's pod: takes it from standard input, hands its lines on, ends it with us.
fn inside_a_pod_it_ends_when_we_vanish(python: &str) {
    use std::io::{Read as _, Write as _};
    let script = std::fs::read(SCRIPT).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let own = Command::new(python)
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .unwrap();
    let own = String::from_utf8(own.stdout).unwrap();
    std::os::unix::fs::symlink(own.trim(), folder.path().join("python3")).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let begin = |pods: u32, index: u32, port: u16| {
        let settings = [
            format!("NCCLSCOPE_RUN={RUN}"),
            format!("NCCLSCOPE_NODES={pods}"),
            "NCCLSCOPE_NPROC=1".into(),
            "NCCLSCOPE_MAX_BYTES=4096".into(),
            format!("JOB_COMPLETION_INDEX={index}"),
            "MASTER_ADDR=127.0.0.1".into(),
            format!("MASTER_PORT={port}"),
            "GLOO_SOCKET_IFNAME=lo".into(),
        ];
        let mut child = Command::new("/bin/sh")
            .args([
                "-c",
                ncclscope::jobs::inside::RUN,
                "sh",
                &script.len().to_string(),
            ])
            .args(settings)
            .env("PATH", &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&script).unwrap();
        stdin.flush().unwrap();
        (child, stdin)
    };
    let first = port();
    let both = [begin(2, 0, first), begin(2, 1, first)];
    let mut run = start();
    for (mut child, stdin) in both {
        let mut text = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert!(text.ends_with("\u{1e}end 0\u{1e}\n"), "{text}");
        text.lines().for_each(|l| fold(&mut run, l));
        drop(stdin);
        child.wait().unwrap();
    }
    assert_eq!(
        (run.rows.len(), run.ranks.len(), run.failures.len()),
        (4, 2, 0)
    );
    // One that waits for another, and then for nobody.
    let (mut child, stdin) = begin(2, 0, port());
    let mut of_child = lines(&mut child);
    assert!(of_child.any(|l| l.contains("\"rendezvous\"")));
    let vanished = Instant::now();
    drop(stdin);
    assert!(of_child.any(|l| l.contains("\u{1e}end 143")));
    assert!(vanished.elapsed() < SECONDS, "{:?}", vanished.elapsed());
    child.wait().unwrap();
}

/// Four pods, the third slow in whatever it takes part in; then one slow link alone.
fn pairs_convict_the_slow_pod(python: &str) {
    let folder = tempfile::tempdir().unwrap();
    // Every pair takes a fiftieth of a second, so that a busy machine's hiccups are small beside it, and those of the
    // slow one take ten times that.
    let spoil = "import os\nif os.environ.get('NCCLSCOPE_LOCAL_RANK') and os.environ.get('SLOW'):\n    import time, torch.distributed as d\n    own = d.all_reduce\n    who = {int(x) for x in os.environ['SLOW'].split(',')}\n    here = int(os.environ['JOB_COMPLETION_INDEX'])\n    def all_reduce(t, *a, **k):\n        group = k.get('group')\n        if group is not None:\n            ranks = set(d.distributed_c10d._pg_group_ranks[group])\n            time.sleep(0.2 if ranks == who or who == {here} else 0.02)\n        own(t, *a, **k)\n    d.all_reduce = all_reduce\n";
    std::fs::write(folder.path().join("sitecustomize.py"), spoil).unwrap();
    let path = folder.path().to_string_lossy().into_owned();
    for (slow, pods, links) in [("2", vec![2], vec![]), ("1,3", vec![], vec![(1, 3)])] {
        let port = port();
        let args = ["--gloo-bytes", "4096", "--pairs", "--nproc", "1"];
        let mut all: Vec<Child> = (0..4)
            .map(|i| {
                let index = i.to_string();
                let env = [
                    ("PYTHONPATH", path.as_str()),
                    ("SLOW", slow),
                    ("JOB_COMPLETION_INDEX", index.as_str()),
                ];
                pod(python, port, 4, i, &args, &env)
            })
            .collect();
        let mut run = start();
        for child in &mut all {
            lines(child).for_each(|l| fold(&mut run, &l));
            assert_eq!(child.wait().unwrap().code(), Some(0));
        }
        assert_eq!(run.pairs.len(), 6);
        let judged = ncclscope::rules::pairs::judge(&run.pairs);
        assert_eq!(
            (judged.pods, judged.links),
            (pods, links),
            "{:?}",
            run.pairs
        );
    }
}

fn a_rank_that_never_comes_is_named(python: &str) {
    let mut pod = pod(python, port(), 2, 0, &["--rendezvous-timeout", "4"], &[]);
    let mut run = start();
    lines(&mut pod).for_each(|l| fold(&mut run, &l));
    assert_eq!(pod.wait().unwrap().code(), Some(14));
    let cause = run.cause().expect("a cause");
    assert_eq!((cause.rank, cause.step.as_str()), (Some(0), "rendezvous"));
    assert!(
        cause.error.contains("ranks 2, 3 did not come within 4 s"),
        "{}",
        cause.error
    );
}
