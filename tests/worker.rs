//! `ncclscope worker` from its first line to its last, on stand-ins for libcuda and libnccl: GPUs that are none.
//!
//! What it shows is what the worker does with what the libraries answer; it says nothing of real GPUs, for which
//! `tests/gpu.rs` is. Without a C compiler no stand-in can be made: then every test is ignored, and that is said.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test"
)]

#[path = "listed.rs"]
mod listed;
#[path = "worker/node.rs"]
mod node;

use std::fs::File;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ncclscope::model::event::SourceId;
use ncclscope::model::testrun::{Ending, Phase, Planned, TestEvent, TestRun};
use ncclscope::parse::Block;
use ncclscope::parse::perf::{PREFIX, Said, Status, line};
use ncclscope::rules::busbw::{Grade, Table, grade};
use ncclscope::rules::scene::{CommState, Scene};
use node::Node;
use serde_json::Value;

const SCRIPT: &str = include_str!("../assets/allreduce.py");
/// What a run may take that is told to give up after two seconds.
const SOON: Duration = Duration::from_secs(20);

type Test = fn();

fn main() -> ExitCode {
    let tests: [(&str, Test); 14] = [
        (
            "its_rows_have_the_form_of_the_script",
            its_rows_have_the_form_of_the_script,
        ),
        ("a_wrong_element_is_told", a_wrong_element_is_told),
        (
            "an_error_of_nccl_has_rank_step_and_text",
            an_error_of_nccl_has_rank_step_and_text,
        ),
        (
            "an_error_that_comes_later_is_asked_for",
            an_error_that_comes_later_is_asked_for,
        ),
        ("a_hang_is_ended", a_hang_is_ended),
        ("it_ends_when_it_is_done", it_ends_when_it_is_done),
        ("memory_that_is_not_there", memory_that_is_not_there),
        ("a_driver_that_does_not_start", a_driver_that_does_not_start),
        (
            "an_old_nccl_is_used_as_far_as_it_goes",
            an_old_nccl_is_used_as_far_as_it_goes,
        ),
        (
            "a_library_that_is_too_old_is_one_sentence",
            a_library_that_is_too_old_is_one_sentence,
        ),
        (
            "an_image_without_nccl_is_one_sentence",
            an_image_without_nccl_is_one_sentence,
        ),
        (
            "nccl_is_found_in_an_environment_of_python",
            nccl_is_found_in_an_environment_of_python,
        ),
        ("the_log_of_nccl_stays_whole", the_log_of_nccl_stays_whole),
        ("what_allreduce_makes_of_it", what_allreduce_makes_of_it),
    ];
    let there = if node::compiler() {
        Ok("on stand-ins for libcuda and libnccl, which say nothing of real GPUs")
    } else {
        Err("no C compiler here")
    };
    listed::run(&tests, there, |test| {
        test();
        Ok(())
    })
}

/// What a run said and how it ended.
struct Ran {
    out: String,
    err: String,
    code: Option<i32>,
}

impl Ran {
    /// Its lines of JSON.
    fn lines(&self) -> Vec<Value> {
        let json = self.out.lines().filter_map(|l| l.strip_prefix(PREFIX));
        json.map(|l| serde_json::from_str(l).expect("JSON"))
            .collect()
    }

    /// Its last line of JSON.
    fn last(&self) -> Value {
        self.lines().pop().expect("a line")
    }

    /// As the side that reads them takes them in.
    fn fold(&self) -> TestRun {
        let mut run = TestRun::default();
        let planned = Planned {
            run: "r".into(),
            ..Planned::default()
        };
        run.apply(TestEvent::Planned(Arc::new(planned)), 1);
        let block = Arc::new(Block::new(1, self.out.clone().into_bytes()));
        let source = SourceId(0);
        run.apply(TestEvent::Log { source, block }, 2);
        let ending = match self.code {
            Some(0) => Ending::Complete,
            code => Ending::Failed(format!("exit code {}", code.unwrap_or(-1))),
        };
        run.apply(TestEvent::Ended(ending), 3);
        run
    }
}

/// The worker over sizes up to 4 KiB on a node, with these settings.
fn run(node: &Node, env: &[(&str, &str)]) -> Ran {
    let begun = Instant::now();
    // Files, because who hangs must not be waited for.
    let [out, err] = ["out", "err"].map(|name| node.path().join(name));
    let mut child = Command::new(env!("CARGO_BIN_EXE_ncclscope"))
        .args(["worker", "--run", "r", "--max-bytes", "4096"])
        .args(["--stall", "2"])
        .env("LD_LIBRARY_PATH", node.path())
        .env_remove("VLLM_NCCL_SO_PATH")
        .env_remove("NCCL_DEBUG")
        .env("HOME", node.path())
        .envs(env.iter().copied())
        .stdout(File::create(&out).expect("a file"))
        .stderr(File::create(&err).expect("a file"))
        .spawn()
        .expect("it runs");
    let code = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status.code();
        }
        if begun.elapsed() > SOON {
            child.kill().expect("killed");
            child.wait().expect("a child");
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |path| std::fs::read_to_string(path).expect("text");
    let (out, err) = (text(&out), text(&err));
    assert!(code.is_some(), "it hangs: {env:?}\n{out}{err}");
    Ran { out, err, code }
}

fn its_rows_have_the_form_of_the_script() {
    let node = Node::new(&[]);
    // What the script says in a row, by its own text.
    let (_, row) = SCRIPT.split_once("self.step, \"row\"").expect("a row");
    let (row, _) = row.split_once("\n            )").expect("its end");
    let fields = row.split([',', ' ', '\n']);
    let mut fields: Vec<&str> = fields
        .filter_map(|w| w.split_once('=').map(|(name, _)| name))
        .chain(["v", "t", "run", "rank", "step", "status"])
        .collect();
    fields.sort_unstable();
    for gpus in [1usize, 2, 8] {
        let ran = run(&node, &[("STANDIN_GPUS", &gpus.to_string())]);
        assert_eq!(ran.code, Some(0), "{} GPUs: {}{}", gpus, ran.out, ran.err);
        let rows: Vec<Value> = ran.lines();
        let rows = rows.iter().filter(|l| l["status"] == "row");
        for row in rows {
            let mut own: Vec<&String> = row.as_object().expect("an object").keys().collect();
            own.sort_unstable();
            assert_eq!(own, fields);
        }
        let test = ran.fold();
        assert_eq!(test.rows.len(), 20);
        for kind in ["float32", "bfloat16"] {
            let of = |r: &&ncclscope::parse::perf::Row| r.kind == kind;
            let sizes: Vec<u64> = test.rows.iter().filter(of).map(|r| r.bytes).collect();
            assert_eq!(sizes, (3..=12).map(|s| 1 << s).collect::<Vec<u64>>());
            let item = if kind == "float32" { 4 } else { 2 };
            let counted = |r: &&ncclscope::parse::perf::Row| r.count * item == r.bytes;
            assert!(test.rows.iter().filter(of).all(|r| counted(&r)));
        }
        let n = gpus as f64;
        for row in &test.rows {
            let half = row.best().expect("measured");
            assert_eq!((row.wrong(), row.world), (Some(0), Some(gpus as u32)));
            let factor = 2.0 * (n - 1.0) / n;
            let algbw = row.bytes as f64 / half.us / 1e3;
            // Both are rounded.
            assert!((half.algbw / algbw - 1.0).abs() < 0.02, "{row:?}");
            assert!((half.busbw - half.algbw * factor).abs() < 1e-4 * (1.0 + half.algbw));
        }
        // A person's row stands beside each line of JSON.
        let readable =
            |l: &&str| matches!(line(l.as_bytes()), Some(Said::Row(r)) if r.run.is_none());
        assert_eq!(ran.out.lines().filter(readable).count(), 20);
        assert!(ran.out.ends_with("# Out of bounds values : 0 OK\n"));
        assert_eq!((test.ranks.len(), test.gpu()), (gpus, Some("Stand-in")));
        assert_eq!(test.at(), Some(Phase::Sizes));
        let nccl = |l: &&Value| l["step"] == "nccl" && l["status"] == "ok";
        let lines = ran.lines();
        let joined = lines.iter().find(nccl).expect("joined");
        assert_eq!(joined["nccl"], "2.22.3");
        let library = joined["library"].as_str().expect("a path");
        assert!(library.starts_with(node.path().to_str().unwrap()));
    }
}

/// One element of one rank in one size: each test over that size finds it, in the type in which it has that place.
fn a_wrong_element_is_told() {
    let node = Node::new(&[]);
    let ran = run(
        &node,
        &[("STANDIN_WRONG", "1:77:1024"), ("STANDIN_GPUS", "4")],
    );
    assert_eq!(ran.code, Some(19), "{}{}", ran.out, ran.err);
    let test = ran.fold();
    assert_eq!(test.wrong(), 4, "two tests in two types");
    assert_eq!(test.first_wrong(), Some("seen by rank 1 in worker"));
    for row in &test.rows {
        assert_eq!(row.wrong(), Some(if row.bytes == 1024 { 2 } else { 0 }));
    }
    let all = ran.lines();
    let places: Vec<_> = all.iter().filter(|l| l["status"] == "wrong").collect();
    assert_eq!(places.len(), 4);
    for place in places {
        assert_eq!((&place["rank"], &place["index"]), (&1.into(), &77.into()));
        let (got, want) = (&place["got"], &place["want"]);
        let got: f64 = got.as_str().and_then(|g| g.parse().ok()).expect("a number");
        assert_eq!(Some(got), want.as_f64().map(|w| w + 1.0));
    }
    let verdict = grade(&test, &Table::bundled());
    assert_eq!(verdict.grade, Grade::Wrong, "{}", verdict.sentence);
}

/// Which call it was, who made it, and what NCCL says of it.
fn an_error_of_nccl_has_rank_step_and_text() {
    let node = Node::new(&[]);
    let ran = run(&node, &[("STANDIN_ERROR", "call:1:3:40")]);
    let cause = ran.fold().cause().cloned().expect("a cause");
    assert_eq!(
        cause.to_string(),
        "rank 1 failed in worker: NCCL: internal error - please report this issue to the NCCL developers (ncclInternalError) (at 16 B float32)"
    );
    assert_eq!(ran.code, Some(17));
    // The first call of all.
    let ran = run(&node, &[("STANDIN_ERROR", "call:0:2:1")]);
    let cause = ran.fold().cause().cloned().expect("a cause");
    assert_eq!(
        cause.to_string(),
        "rank 0 failed in nccl: NCCL: unhandled system error (run with NCCL_DEBUG=INFO for details) (ncclSystemError); last warning: socketStartConnect: Connect to 10.0.0.7<4791> failed : Connection refused (at the first call)"
    );
    assert_eq!(ran.code, Some(16));
    // One call joins all: NCCL does not say for whom it failed.
    let ran = run(&node, &[("STANDIN_ERROR", "init:1:2")]);
    let cause = ran.fold().cause().cloned().expect("a cause");
    assert_eq!((cause.rank, cause.step.as_str()), (None, "nccl"));
    let said = "NCCL: unhandled system error (run with NCCL_DEBUG=INFO for details) (ncclSystemError); last warning: socketStartConnect: Connect to 10.0.0.7<4791> failed : Connection refused (at ncclCommInitAll)";
    assert_eq!(cause.error, said);
    assert_eq!(ran.code, Some(16));
}

/// NCCL's threads and the network fail after the call has returned, and the kernels wait for ever.
fn an_error_that_comes_later_is_asked_for() {
    let node = Node::new(&[]);
    let settings = [("STANDIN_ERROR", "later:2:6:9"), ("STANDIN_GPUS", "4")];
    let ran = run(&node, &settings);
    let cause = ran.fold().cause().cloned().expect("a cause");
    assert_eq!(
        cause.to_string(),
        "rank 2 failed in worker: NCCL: remote process exited or there was a network error (ncclRemoteError) (at 8 B float32)"
    );
    assert_eq!(ran.code, Some(17));
}

fn a_hang_is_ended() {
    let node = Node::new(&[]);
    for (hang, code, said) in [
        ("init", 16, "nccl: no progress for 2 s at ncclCommInitAll"),
        ("call:1", 16, "nccl: no progress for 2 s at the first call"),
        ("call:9", 17, "worker: no progress for 2 s at 8 B float32"),
        // Two of three are not done: nobody alone is to blame.
        (
            "later:9",
            17,
            "worker: no progress for 2 s at 8 B float32, not done: ranks 1, 2",
        ),
    ] {
        let ran = run(&node, &[("STANDIN_HANG", hang), ("STANDIN_GPUS", "3")]);
        let test = ran.fold();
        let cause = test.cause().expect("a cause");
        assert_eq!(cause.to_string(), said, "{hang}");
        assert_eq!(ran.last()["hang"], true);
        assert_eq!(ran.code, Some(code), "{hang}");
    }
    // One that is waited for by the others is named.
    let ran = run(&node, &[("STANDIN_HANG", "later:9")]);
    let cause = ran.fold().cause().cloned().expect("a cause");
    assert_eq!(
        cause.to_string(),
        "rank 1 failed in worker: no progress for 2 s at 8 B float32, not done: rank 1"
    );
}

/// What libraries do when a process ends may wait for what never comes.
fn it_ends_when_it_is_done() {
    let node = Node::new(&[]);
    let ran = run(&node, &[("STANDIN_HANG", "exit")]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
}

fn memory_that_is_not_there() {
    let node = Node::new(&[]);
    let ran = run(&node, &[("STANDIN_OOM", "1")]);
    let cause = ran.fold().cause().cloned().expect("a cause");
    assert_eq!(
        cause.to_string(),
        "rank 1 failed in nccl: CUDA: out of memory (CUDA_ERROR_OUT_OF_MEMORY): 4096 B were asked for (at memory for 4096 B)"
    );
    assert_eq!(ran.code, Some(16));
    // The fullest GPU decides: 30 % of what it has free, as a power of two.
    let ran = run(&node, &[("STANDIN_TIGHT", "1:4000")]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let test = ran.fold();
    assert_eq!(test.rows.iter().map(|r| r.bytes).max(), Some(1024));
}

fn a_driver_that_does_not_start() {
    let node = Node::new(&[]);
    let ran = run(&node, &[("STANDIN_DRIVER", "803")]);
    let cause = ran.fold().cause().cloned().expect("a cause");
    assert_eq!(
        cause.to_string(),
        "gpus: CUDA: system has unsupported display driver / cuda driver combination (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH) (at cuInit)"
    );
    assert_eq!(ran.code, Some(12));
    let ran = run(&node, &[("STANDIN_GPUS", "0")]);
    let cause = ran.fold().cause().cloned().expect("a cause");
    assert_eq!(cause.to_string(), "gpus: CUDA sees no GPU here (at cuInit)");
    assert_eq!(ran.code, Some(12));
}

fn an_old_nccl_is_used_as_far_as_it_goes() {
    // Before 2.13: no last warning.
    let node = Node::new(&["-DOLD"]);
    let ran = run(&node, &[("STANDIN_ERROR", "call:1:2:40")]);
    let cause = ran.fold().cause().cloned().expect("a cause");
    assert_eq!(
        cause.error,
        "NCCL: unhandled system error (run with NCCL_DEBUG=INFO for details) (ncclSystemError) (at 16 B float32)"
    );
    // Before 2.10: no bfloat16.
    let ran = run(&node, &[("STANDIN_VERSION", "2804")]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let test = ran.fold();
    assert!(test.rows.len() == 10 && test.rows.iter().all(|r| r.kind == "float32"));
    let why = test.skipped.values().next().map(String::as_str);
    assert_eq!(why, Some("NCCL 2.8.4 has no bfloat16"));
}

fn a_library_that_is_too_old_is_one_sentence() {
    let node = Node::new(&["-DANCIENT"]);
    let ran = run(&node, &[]);
    let library = node.path().join("libnccl.so");
    assert_eq!(
        ran.err,
        format!(
            "ncclscope worker: {} is too old for this: it has no ncclCommGetAsyncError\n",
            library.display()
        )
    );
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    // A driver's library with nothing in it.
    let bare = Node::new(&[]);
    let built = Command::new("cc")
        .args(["-shared", "-xc", "/dev/null", "-o"])
        .arg(bare.path().join("libcuda.so.1"))
        .status();
    assert!(built.expect("a C compiler").success());
    let ran = run(&bare, &[]);
    assert_eq!(
        ran.err,
        "ncclscope worker: libcuda here is too old for this: it has no cuInit\n"
    );
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
}

/// The driver comes from the node, NCCL from the image: an image without it is told from a node without a driver.
fn an_image_without_nccl_is_one_sentence() {
    let node = Node::without_nccl();
    let path = node.path().to_str().unwrap();
    let ran = run(&node, &[("PATH", path)]);
    assert_eq!(
        ran.err,
        "ncclscope worker: libnccl is not here: the image brings no NCCL\n"
    );
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    // And neither.
    let bare = tempfile::tempdir().expect("a folder");
    let ran = run(&node, &[("LD_LIBRARY_PATH", bare.path().to_str().unwrap())]);
    assert_eq!(
        ran.err,
        "ncclscope worker: libcuda is not here: this container has no NVIDIA driver\n"
    );
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
}

/// Where pip puts it, which no loader knows; and what is there but is no library.
fn nccl_is_found_in_an_environment_of_python() {
    let node = Node::new(&[]);
    let hidden = node.hide("venv/lib/python3.12/site-packages/nvidia/nccl/lib");
    let path = node.path().join("venv/bin");
    let own = [("PATH", path.to_str().unwrap()), ("TMPDIR", "")];
    let scratch = tempfile::tempdir().expect("a folder");
    let own = own.map(|(k, v)| {
        (
            k,
            if k == "TMPDIR" {
                scratch.path().to_str().unwrap()
            } else {
                v
            },
        )
    });
    let ran = run(&node, &own);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let all = ran.lines();
    let joined = all
        .iter()
        .find(|l| l["step"] == "nccl" && l["status"] == "ok");
    assert_eq!(joined.and_then(|l| l["library"].as_str()), hidden.to_str());
    let left = std::fs::read_dir(scratch.path()).expect("a folder").count();
    assert_eq!(left, 0, "the link that led to it is gone");
    std::fs::write(&hidden, "no library").expect("written");
    let ran = run(&node, &own);
    assert_eq!(
        ran.err,
        format!(
            "ncclscope worker: {} can't be loaded: file too short\n",
            hidden.display()
        )
    );
    assert_eq!(ran.code, Some(2));
}

/// NCCL writes through C's buffer, we do not: its lines must neither be torn nor lost, whatever the end.
fn the_log_of_nccl_stays_whole() {
    let node = Node::new(&[]);
    let info = ("NCCL_DEBUG", "INFO");
    for (settings, code) in [
        (vec![info, ("STANDIN_GPUS", "8")], 0),
        (
            vec![info, ("STANDIN_GPUS", "8"), ("STANDIN_HANG", "call:9")],
            17,
        ),
    ] {
        let ran = run(&node, &settings);
        assert_eq!(ran.code, Some(code), "{}{}", ran.out, ran.err);
        let log: Vec<&str> = ran
            .out
            .lines()
            .filter(|l| l.contains(" NCCL INFO "))
            .collect();
        let whole = |l: &&&str| l.ends_with("Init START") || l.ends_with("Init COMPLETE");
        assert_eq!((log.len(), log.iter().filter(whole).count()), (16, 16));
        let scene = Scene::of(&ran.fold().world);
        let [one] = scene.communicators.as_slice() else {
            panic!("one communicator: {:?}", scene.communicators);
        };
        assert_eq!((one.nranks, &one.state), (8, &CommState::Complete));
        // They come before the line that says that all have met.
        let of = |what: &str| ran.out.lines().position(|l| l.contains(what));
        assert!(of("Init COMPLETE") < of("\"step\":\"worker\""));
    }
}

/// What a person reads who tests with `--worker-image`: good as far as it goes, wrong, failed, or cut short.
fn what_allreduce_makes_of_it() {
    let node = Node::new(&[]);
    let test = run(&node, &[("STANDIN_GPUS", "8")]).fold();
    assert!(test.failures.is_empty() && test.skipped.is_empty());
    let steps = test.ranks.values().map(|r| (r.step.as_str(), r.status));
    let steps: Vec<_> = steps.collect();
    assert_eq!(steps[0], ("worker", Some(Status::Ok)));
    // One thread speaks for all.
    assert!(steps[1..].iter().all(|s| *s == ("gpus", Some(Status::Ok))));
    let judged = |test: &TestRun| {
        let verdict = grade(test, &Table::bundled());
        (verdict.grade, verdict.sentence)
    };
    let (good, said) = judged(&test);
    assert_eq!(good, Grade::Undecided);
    let why = "GB/s at 4 KiB, correct; below 256 MiB latency decides, so there is no grade.";
    assert!(said.ends_with(why), "{said}");
    let of = |settings: &[(&str, &str)]| judged(&run(&node, settings).fold());
    let wrong = of(&[("STANDIN_WRONG", "1:77:1024")]);
    let said = "4 elements were wrong, first seen by rank 1 in worker: no number counts before that is mended.";
    assert_eq!(wrong, (Grade::Wrong, said.into()));
    let (failed, said) = of(&[("STANDIN_ERROR", "init:0:2")]);
    assert_eq!(failed, Grade::Failed);
    assert!(
        said.starts_with("nccl: NCCL: unhandled system error"),
        "{said}"
    );
    let (cut, said) = of(&[("STANDIN_HANG", "later:99")]);
    assert_eq!(cut, Grade::Undecided);
    let why = "rank 1 failed in worker: no progress for 2 s at 64 B float32, not done: rank 1. Before that ";
    assert!(
        said.starts_with(why) && said.ends_with(" GB/s at 32 B were measured over NCCL, correct."),
        "{said}"
    );
}
