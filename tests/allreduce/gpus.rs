//! The steps over GPUs, on GPUs that are none: torch of the test machine has no CUDA, so what stands for NCCL is gloo.
//! Which steps there are, in which order, and what is left when one fails is the same.

use std::path::Path;
use std::time::Instant;

use ncclscope::model::testrun::{Ending, TestEvent, TestRun};
use ncclscope::parse::perf::{Said, Status, line};
use ncclscope::rules::busbw::{Grade, Table, grade};

use super::{SCRIPT, SECONDS, fold, lines, pod_of, port, start};

/// Seconds in place of the three minutes that NCCL may stand still.
const STALL: u32 = 4;

/// A folder for `PYTHONPATH` with the stand-in, and `pynccl` as vLLM's module.
fn folder(pynccl: Option<&str>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("sitecustomize.py", include_str!("standin.py"));
    if let Some(text) = pynccl {
        for package in [
            "vllm",
            "vllm/distributed",
            "vllm/distributed/device_communicators",
        ] {
            write(&format!("{package}/__init__.py"), "");
        }
        write("vllm/distributed/device_communicators/pynccl.py", text);
    }
    folder
}

/// Two ranks on two GPUs; what they said, and the exit code.
fn run(python: &str, script: &Path, folder: &Path, wrong: &str) -> (TestRun, Vec<String>, i32) {
    let env = [
        ("PYTHONPATH", folder.to_str().unwrap()),
        ("STANDIN", wrong),
        ("NCCLSCOPE_NEED_GPUS", "1"),
    ];
    let args = ["--gloo-bytes", "4096", "--iters", "3", "--warmup", "1"];
    let mut pod = pod_of(script, python, port(), 1, 0, &args, &env);
    let (mut run, mut text) = (start(), Vec::new());
    for l in lines(&mut pod) {
        fold(&mut run, &l);
        text.push(l);
    }
    let code = pod.wait().unwrap().code().unwrap();
    let ending = match code {
        0 => Ending::Complete,
        code => Ending::Failed(format!("exit code {code}")),
    };
    run.apply(TestEvent::Ended(ending), 2);
    (run, text, code)
}

/// Steps of rank 0 with what became of them, in order.
fn steps(text: &[String]) -> Vec<(String, Status)> {
    let step = |l: &String| match line(l.as_bytes()) {
        Some(Said::Step(s)) if s.rank == Some(0) && s.status != Status::Start => {
            Some((s.step, s.status))
        }
        _ => None,
    };
    text.iter().filter_map(step).collect()
}

fn kinds(run: &TestRun) -> Vec<(&str, &str)> {
    let mut all: Vec<(&str, &str)> = Vec::new();
    for row in &run.rows {
        if !all.contains(&(row.by.as_str(), row.kind.as_str())) {
            all.push((&row.by, &row.kind));
        }
    }
    all
}

pub fn every_step_over_gpus_is_taken(python: &str) {
    let folder = folder(Some(include_str!("pynccl.py")));
    let (run, text, code) = run(python, Path::new(SCRIPT), folder.path(), "");
    assert_eq!(code, 0, "{text:#?}");
    let ok = |name: &str| (name.to_owned(), Status::Ok);
    let all = [
        "env",
        "dns",
        "rendezvous",
        "import",
        "gpus",
        "gloo",
        "nccl",
        "sweep",
        "pynccl",
        "graph",
        "end",
    ];
    assert_eq!(steps(&text), all.map(ok));
    assert_eq!(
        kinds(&run),
        [
            ("gloo", "float32"),
            ("sweep", "float32"),
            ("sweep", "bfloat16"),
            ("pynccl", "bfloat16")
        ]
    );
    // 30 % of 4 MiB that are free, as a power of two.
    for kind in ["float32", "bfloat16"] {
        let of = |r: &&ncclscope::parse::perf::Row| r.by == "sweep" && r.kind == kind;
        let sizes: Vec<u64> = run.rows.iter().filter(of).map(|r| r.bytes).collect();
        assert_eq!(
            sizes,
            (3..=20).map(|s| 1 << s).collect::<Vec<u64>>(),
            "{kind}"
        );
    }
    assert!(run.rows.iter().all(|r| r.wrong() == Some(0)));
    assert_eq!(run.gpu(), Some("Stand-in"));
    // A person's row stands beside each line of JSON.
    let readable = text
        .iter()
        .filter(|l| l.contains(" bfloat16 ") && !l.starts_with('#'));
    assert_eq!(readable.count(), 18 + 7, "{text:#?}");
}

/// A vLLM whose communicator can't be loaded takes nothing from what NCCL itself did.
pub fn a_vllm_that_can_not_be_loaded_is_left_out(python: &str) {
    let folder = folder(Some("raise ImportError('no such symbol')\n"));
    let (run, text, code) = run(python, Path::new(SCRIPT), folder.path(), "");
    assert_eq!(code, 0, "{text:#?}");
    assert!(run.failures.is_empty(), "{:?}", run.failures);
    assert!(
        run.skipped["pynccl"].contains("no such symbol"),
        "{:?}",
        run.skipped
    );
    assert!(run.skipped.contains_key("graph"));
    assert!(run.rows.iter().any(|r| r.by == "sweep"));
}

pub fn without_vllm_its_steps_are_left_out(python: &str) {
    let folder = folder(None);
    let (run, text, code) = run(python, Path::new(SCRIPT), folder.path(), "");
    assert_eq!(code, 0, "{text:#?}");
    let why = "vllm is not installed here";
    assert_eq!(run.skipped["pynccl"], why);
    assert_eq!(run.skipped["graph"], why);
}

/// NCCL stands still: the watchdog ends it, names the rank, and what gloo measured before stands.
pub fn a_hang_of_nccl_leaves_what_gloo_measured(python: &str) {
    let folder = folder(None);
    let text = std::fs::read_to_string(SCRIPT).unwrap();
    let hasty = text.replace("\"nccl\": 180", &format!("\"nccl\": {STALL}"));
    assert_ne!(text, hasty, "the limit is where it was");
    let script = folder.path().join("allreduce.py");
    std::fs::write(&script, hasty).unwrap();
    let begun = Instant::now();
    let (run, text, code) = run(python, &script, folder.path(), "hang");
    // What comes before NCCL takes its time on a busy machine.
    assert!(begun.elapsed() < 5 * SECONDS, "{:?}", begun.elapsed());
    assert_eq!(code, 16, "{text:#?}");
    assert!(
        run.rows
            .iter()
            .all(|r| r.by == "gloo" && r.wrong() == Some(0))
    );
    assert_eq!(run.rows.len(), 4);
    let cause = run.cause().expect("a cause");
    assert_eq!(cause.step, "nccl");
    assert!(
        cause
            .error
            .starts_with(&format!("no progress for {STALL} s")),
        "{cause}"
    );
    let verdict = grade(&run, &Table::bundled());
    assert_eq!(verdict.grade, Grade::Undecided);
    assert!(
        verdict.sentence.ends_with(
            "Over gloo on CPU the same ranks reach each other: names, TCP and torch work."
        ),
        "{}",
        verdict.sentence
    );
}

/// An error of NCCL comes with its rank, its step and NCCL's own words.
pub fn an_error_of_nccl_is_quoted(python: &str) {
    let folder = folder(None);
    let (run, text, code) = run(python, Path::new(SCRIPT), folder.path(), "error");
    assert_eq!(code, 16, "{text:#?}");
    let cause = run.cause().expect("a cause");
    assert_eq!((cause.rank, cause.step.as_str()), (Some(1), "nccl"));
    assert_eq!(
        cause.error,
        "RuntimeError: NCCL error in: /torch/csrc/NCCLUtils.cpp:77, unhandled system error Last error: socketStartConnect: Connect failed"
    );
    assert!(
        run.failures.iter().any(|f| f.rank == Some(0) && f.echo),
        "{:?}",
        run.failures
    );
}
