//! From the line that decides to the finding on the screen, and from the end of patience to the suspects.

use std::fs::File;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use ncclscope::model::event::Stamped;
use ncclscope::model::{Model, update};
use ncclscope::rules::scene::{Scene, Stage};
use ncclscope::sources::sim;

use super::Term;

/// Lines that decide, each by itself, and the words of the finding that only then stand on the screen.
const DECIDE: &[(&str, &str)] = &[
    (
        "misc/socket.cc:561 NCCL WARN socketPollConnect: connect to 10.42.3.7<41873> returned Connection timed out, exceeded error retry count after 35 attempts",
        "nccl.connect-timeout",
    ),
    (
        "misc/shmutils.cc:87 NCCL WARN Error: failed to extend /dev/shm/nccl-4Xk9aQ to 33030532 bytes, error: No space left on device (28)",
        "nccl.shm-too-small",
    ),
    (
        "misc/ibvwrap.cc:164 NCCL WARN Call to ibv_reg_mr_iova2 failed with error Cannot allocate memory",
        "nccl.memlock",
    ),
    (
        "bootstrap.cc:126 NCCL WARN Bootstrap : no socket interface found",
        "nccl.no-interface",
    ),
    (
        "init.cc:416 NCCL WARN Cuda failure 802 'system not yet initialized'",
        "nccl.cuda-failure",
    ),
    (
        "init.cc:974 NCCL WARN Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 3b000",
        "nccl.duplicate-gpu",
    ),
    (
        "mnnvl.cc:40 NCCL WARN MNNVL is not supported on this system",
        "nccl.mnnvl-imex",
    ),
];

#[test]
fn a_decisive_line_is_on_the_screen_within_a_second() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let line = format!("\"$0\" open - < '{}'", pipe.display());
    let mut term = Term::sh(&line, 200, 50);
    // Opens once the program reads.
    let mut log = File::options().write(true).open(&pipe).expect("a pipe");
    let mut say = |text: &str| {
        log.write_all(format!("llm-0:211:300 [1] {text}\n").as_bytes())
            .expect("written");
        Instant::now()
    };
    term.started();
    say("NCCL INFO Bootstrap : Using eth0:10.42.0.17<0>");
    term.press("6");
    term.wait_for("findings");
    let mut took = Vec::new();
    for (text, id) in DECIDE {
        term.quiet(300);
        let begun = say(text);
        term.wait_for(id);
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let (usual, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "from the decisive line to its finding on the terminal: usually {} ms, at worst {} ms of {}",
        usual.as_millis(),
        slowest.as_millis(),
        took.len()
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

/// Nanoseconds since the beginning of the scenario at which ranks load, and at which patience ends.
fn moments(name: &str) -> (i64, i64) {
    let scenario = sim::load(name).expect("shipped");
    let mut model = Model::default();
    let (mut loads, mut ends) = (None, None);
    let mut looked = 0;
    for (seq, (at, event)) in (1..).zip(sim::events(&scenario)) {
        update(&mut model, Stamped { seq, at, event });
        if at - looked < 500_000_000 {
            continue;
        }
        looked = at;
        let scene = Scene::of(&model);
        if scene
            .processes
            .iter()
            .any(|p| p.stage == Some(Stage::Weights))
        {
            loads.get_or_insert(at);
        }
        // Whoever is quiet too long, also those who turn out to wait for the one that hangs.
        let quiet = scene.processes.iter().filter_map(|p| p.still);
        if let Some(s) = quiet.min_by_key(|s| s.since.ns) {
            ends = Some(s.since.ns + i64::from(s.limit_s) * 1_000_000_000);
            break;
        }
    }
    let begin = scenario.start_ns();
    (
        loads.expect("they load") - begin,
        ends.expect("one stands still") - begin,
    )
}

/// Ten seconds of the job in one: what is measured is told in the job's seconds.
#[test]
fn suspects_are_on_the_screen_soon_after_patience_ends() {
    const SPEED: f64 = 10.0;
    let (loads, ends) = moments("hang-after-init");
    let mut term = Term::program("demo hang-after-init --speed 10 --pane findings", 200, 50);
    term.started();
    term.press("2");
    term.wait_for("weights");
    let loading = Instant::now();
    term.press("6");
    let between = Duration::from_secs_f64((ends - loads) as f64 / 1e9 / SPEED);
    term.wait_for("vllm.hung");
    let late = loading.elapsed().as_secs_f64() - between.as_secs_f64();
    println!(
        "from the quiet threshold to the suspects of a silent hang: {:.1} s of the job",
        (late * SPEED).max(0.0)
    );
    assert!(late * SPEED < 30.0, "{late}");
    term.press(":q\r");
}
