//! The test as state and its grade: what the ranks say, folded.

use std::sync::Arc;

use ncclscope::model::event::SourceId;
use ncclscope::model::testrun::{Ending, Phase, Planned, TestEvent, TestRun};
use ncclscope::parse::Block;
use ncclscope::rules::busbw::{Grade, Table, beside, grade};
use ncclscope::rules::scene::Glyph;

pub const RUN: &str = "r1";

fn start() -> TestRun {
    let mut run = TestRun::default();
    let planned = Planned {
        run: RUN.into(),
        pods: 2,
        gpus: 8,
        ..Planned::default()
    };
    run.apply(TestEvent::Planned(Arc::new(planned)), 1);
    run
}

fn say(run: &mut TestRun, lines: &[String]) {
    let block = Arc::new(Block::new(1, lines.concat().into_bytes()));
    run.apply(
        TestEvent::Log {
            source: SourceId(0),
            block,
        },
        2,
    );
}

pub fn line(rank: u32, step: &str, status: &str, more: &str) -> String {
    format!(
        "#ncclscope {{\"v\": 1, \"t\": 1, \"run\": \"{RUN}\", \"rank\": {rank}, \"step\": \"{step}\", \"status\": \"{status}\"{more}}}\n"
    )
}

/// Facts of ranks on hosts: GPU name, RDMA rate of each of eight ports.
fn ranks(run: &mut TestRun, hosts: u32, per_host: u32, gpu: &str, gbit: u32) {
    let ports: Vec<String> = (0..8)
        .map(|p| format!("\"mlx5_{p}:1\": \"{gbit} Gb/sec (4X NDR)\""))
        .collect();
    let ports = if gbit == 0 {
        String::new()
    } else {
        ports.join(", ")
    };
    for rank in 0..hosts * per_host {
        let host = rank / per_host;
        say(
            run,
            &[
                line(
                    rank,
                    "env",
                    "ok",
                    &format!(
                        ", \"node\": \"gpu-{host}\", \"ib\": {{{ports}}}, \"net\": {{\"eth0\": {{\"mtu\": 1500, \"mbps\": 10000}}}}"
                    ),
                ),
                line(rank, "gpus", "ok", &format!(", \"name\": \"{gpu}\"")),
            ],
        );
    }
}

pub fn row(by: &str, bytes: u64, world: u32, busbw: f64, wrong: u64) -> String {
    line(
        0,
        by,
        "row",
        &format!(
            ", \"dtype\": \"float32\", \"bytes\": {bytes}, \"count\": {}, \"world\": {world}, \"iters\": 20, \"us\": 10.0, \"us_min\": 9.9, \"us_max\": 10.1, \"slowest\": 0, \"algbw\": {busbw}, \"busbw\": {busbw}, \"wrong\": {wrong}",
            bytes / 4
        ),
    )
}

fn ended(mut run: TestRun) -> (Grade, String) {
    run.apply(TestEvent::Ended(Ending::Complete), 3);
    let verdict = grade(&run, &Table::bundled());
    (verdict.grade, verdict.sentence)
}

#[test]
fn the_table_that_is_built_in_can_be_read() {
    let text = include_str!("../../assets/busbw.yaml");
    assert!(Table::read(text).is_ok());
    assert!(Table::read("hosts: [").is_err());
}

#[test]
fn measured_against_the_weaker_of_host_and_network() {
    for (busbw, wants) in [
        (440.0, Grade::Good),
        (330.0, Grade::Warn),
        (200.0, Grade::Below),
    ] {
        let mut run = start();
        ranks(&mut run, 2, 8, "NVIDIA H100 80GB HBM3", 400);
        say(
            &mut run,
            &[
                row("sweep", 8, 16, 0.0, 0),
                row("sweep", 1 << 30, 16, busbw, 0),
            ],
        );
        let (grade, sentence) = ended(run);
        assert_eq!(grade, wants, "{sentence}");
        assert!(
            sentence.contains("RDMA between nodes at 3200 Gb/s"),
            "{sentence}"
        );
    }
    let mut slow = start();
    ranks(&mut slow, 2, 8, "NVIDIA H100 80GB HBM3", 0);
    say(&mut slow, &[row("sweep", 1 << 30, 16, 1.1, 0)]);
    let (grade, sentence) = ended(slow);
    assert_eq!(grade, Grade::Good);
    assert!(
        sentence.contains("TCP between nodes at 10 Gb/s"),
        "{sentence}"
    );
    let mut one = start();
    ranks(&mut one, 1, 8, "NVIDIA H200", 400);
    say(&mut one, &[row("sweep", 1 << 30, 8, 470.0, 0)]);
    assert_eq!(ended(one).0, Grade::Good);
}

/// What the workload's own transports can give stands beside what the test's gave.
#[test]
fn held_against_the_transports_of_the_workload() {
    let told = |busbw: f64, workload: Glyph, test: Glyph| {
        let mut run = start();
        ranks(&mut run, 2, 8, "NVIDIA H100 80GB HBM3", 400);
        say(&mut run, &[row("sweep", 1 << 30, 16, busbw, 0)]);
        run.apply(TestEvent::Ended(Ending::Complete), 3);
        let table = Table::bundled();
        let mut verdict = grade(&run, &table);
        beside(&mut verdict, &run, &table, workload, test);
        (verdict.workload, verdict.sentence)
    };
    let (gives, sentence) = told(440.0, Glyph::Tcp, Glyph::NetGdr);
    assert_eq!(gives, Some(1.1));
    assert!(
        sentence.ends_with("The workload itself goes over TCP between nodes at 10 Gb/s: 1.1 GB/s is all it can give; the test went over RDMA."),
        "{sentence}"
    );
    let (gives, sentence) = told(220.0, Glyph::NetGdr, Glyph::Net);
    assert_eq!(gives, Some(440.0));
    assert!(
        sentence.contains("50 % of the 440.0 GB/s that RDMA between nodes at 3200 Gb/s gives")
            && sentence.ends_with(" The workload goes the same way."),
        "{sentence}"
    );
    let (_, sentence) = told(1.0, Glyph::NetGdr, Glyph::Tcp);
    assert!(
        sentence.contains("the test went over TCP and says nothing of that"),
        "{sentence}"
    );
    // A transport between hosts that is no network leaves the sentence alone.
    let (gives, sentence) = told(440.0, Glyph::Mnnvl, Glyph::NetGdr);
    assert!(
        gives.is_none() && !sentence.contains("workload"),
        "{sentence}"
    );
}

#[test]
fn a_wrong_element_outweighs_every_number() {
    let mut run = start();
    ranks(&mut run, 1, 8, "NVIDIA H200", 400);
    let wrong = line(
        3,
        "sweep",
        "wrong",
        ", \"index\": 7, \"got\": \"9\", \"want\": 8",
    );
    say(&mut run, &[wrong, row("sweep", 1 << 30, 8, 470.0, 12)]);
    let (grade, sentence) = ended(run);
    assert_eq!(grade, Grade::Wrong);
    assert!(
        sentence.starts_with("12 elements were wrong, first seen by rank 3 in sweep"),
        "{sentence}"
    );
    assert_eq!(grade.code(), 1);
}

#[test]
fn without_a_row_to_compare_nothing_is_decided() {
    let mut unknown = start();
    ranks(&mut unknown, 1, 8, "Some GPU", 400);
    say(&mut unknown, &[row("sweep", 1 << 30, 8, 470.0, 0)]);
    assert_eq!(ended(unknown).0, Grade::Undecided);
    let mut small = start();
    ranks(&mut small, 1, 8, "NVIDIA H200", 400);
    say(&mut small, &[row("sweep", 1 << 20, 8, 40.0, 0)]);
    assert_eq!(ended(small).0.code(), 3);
    let mut gloo = start();
    say(&mut gloo, &[row("gloo", 1 << 20, 2, 1.0, 0)]);
    assert_eq!(ended(gloo).0, Grade::Undecided);
    let none = grade(&start(), &Table::bundled());
    assert_eq!(none.grade, Grade::Failed);
}

#[test]
fn the_rank_that_failed_first_explains_the_others() {
    let mut run = start();
    say(
        &mut run,
        &[
            row("gloo", 1 << 20, 2, 1.0, 0),
            line(
                0,
                "nccl",
                "peer",
                ", \"peer\": 3, \"error\": \"rank 3 is gone: its connection was closed\"",
            ),
            line(
                1,
                "nccl",
                "fail",
                ", \"error\": \"RuntimeError: NCCL error\", \"after_rank\": 3",
            ),
            line(
                3,
                "process",
                "fail",
                ", \"error\": \"killed by SIGKILL\", \"signal\": 9",
            ),
        ],
    );
    assert_eq!(
        run.cause().map(|f| (f.rank, f.echo)),
        Some((Some(3), false))
    );
    assert_eq!(run.at(), Some(Phase::Planned));
    run.apply(TestEvent::Ended(Ending::Failed("Pod failed".into())), 3);
    let verdict = grade(&run, &Table::bundled());
    assert_eq!(verdict.grade, Grade::Undecided);
    assert!(
        verdict
            .sentence
            .contains("rank 3 failed in process: killed by SIGKILL"),
        "{}",
        verdict.sentence
    );
    assert!(
        verdict
            .sentence
            .contains("Over gloo on CPU the same ranks reach each other"),
        "{}",
        verdict.sentence
    );
}

#[test]
fn lines_that_come_twice_or_from_another_run_change_nothing() {
    let mut run = start();
    say(&mut run, &[row("sweep", 1 << 20, 8, 4.0, 1)]);
    say(
        &mut run,
        &[
            row("sweep", 1 << 20, 8, 4.0, 1),
            row("sweep", 1 << 21, 8, 4.0, 0).replace("\"r1\"", "\"r2\""),
        ],
    );
    say(
        &mut run,
        &["1048576 262144 float32 sum -1 10.00 4.00 4.00 1\n".to_owned()],
    );
    assert_eq!((run.rows.len(), run.wrong()), (1, 1));
}

/// nccl-tests name no steps: their banner is NCCL's init, their first row the sweep, their footer counts what rows hid.
#[test]
fn the_output_of_nccl_tests_is_a_test_like_any() {
    let mut run = start();
    let row = " 1073741824     268435456     float     sum      -1   4213.7  254.82  470.10      0   4201.1  255.59  471.23      0\n";
    let lines = |text: &[&str]| -> Vec<String> { text.iter().map(|l| (*l).to_owned()).collect() };
    say(
        &mut run,
        &lines(&["# Collective test starting: all_reduce_perf\n"]),
    );
    assert_eq!(run.at(), Some(Phase::Nccl));
    for rank in 0..8 {
        say(
            &mut run,
            &[format!(
                "#  Rank  {rank} Group  0 Pid   4711 on      gpu-1 device  {rank} [0000:5d:00] NVIDIA H200\n"
            )],
        );
    }
    say(
        &mut run,
        &lines(&[
            "# Reducing maxBytes to 1073741824 due to memory limitation\n",
            row,
        ]),
    );
    assert_eq!(run.at(), Some(Phase::Sizes));
    assert!(run.skipped["the largest sizes"].contains("memory limitation"));
    let mut wrong = run.clone();
    let footer = [
        "# Out of bounds values : 0 OK\n",
        "# Avg bus bandwidth    : 93.1421\n",
        "# Collective test concluded: all_reduce_perf\n",
    ];
    say(&mut run, &lines(&footer));
    let (grade, sentence) = ended(run);
    assert_eq!(grade, Grade::Good, "{sentence}");
    say(
        &mut wrong,
        &lines(&["# Out of bounds values : 12 FAILED\n"]),
    );
    let (grade, sentence) = ended(wrong);
    assert_eq!(grade, Grade::Wrong);
    assert!(sentence.starts_with("12 elements were wrong"), "{sentence}");
}

/// What fails after the sweep takes nothing from what was measured before.
#[test]
fn what_was_measured_before_a_failure_is_said() {
    let mut run = start();
    ranks(&mut run, 1, 8, "NVIDIA H200", 400);
    say(
        &mut run,
        &[
            row("sweep", 1 << 30, 8, 470.0, 0),
            line(
                2,
                "graph",
                "fail",
                ", \"error\": \"RuntimeError: operation not permitted when stream is capturing\"",
            ),
        ],
    );
    run.apply(TestEvent::Ended(Ending::Failed("Pod failed".into())), 3);
    let verdict = grade(&run, &Table::bundled());
    assert_eq!(verdict.grade, Grade::Undecided);
    assert_eq!(
        verdict.sentence,
        "rank 2 failed in graph: RuntimeError: operation not permitted when stream is capturing. Before that 470.00 GB/s at 1 GiB were measured over NCCL, correct."
    );
}
