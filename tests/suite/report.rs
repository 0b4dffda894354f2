//! The report: the contract's fields and exit codes, the same bytes for the same input.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ncclscope::parse::At;
use ncclscope::report::{FailOn, Report, exit_code, json, text};
use ncclscope::rules::scene::{
    Attribution, CheckVerdict, CheckView, Class, CommState, Communicator, Edge, EdgeKind, Evidence,
    Family, Finding, LineRef, Member, NcclStep, PodRow, ProcessView, Progress, Rating, Ring, Scene,
    Severity, Side, SourceView, Stage, TreeView, Unattributed, Verdict, Workload,
};
use serde_json::Value;

use crate::generator::Stream;

const EXACT: Option<At> = Some(At {
    ns: 1_770_087_600_500_000_000,
    exact: true,
});

fn line(number: u64) -> LineRef {
    LineRef {
        source: 0,
        number,
        at: EXACT,
        text: Arc::from("the line"),
    }
}

/// One of everything.
fn scene() -> Scene {
    let mut finding = Finding::new(
        "nccl.same-host-net",
        "c0ffee/2:llm-0",
        Severity::Error,
        Class::Configuration,
        Evidence::Line(line(812)),
    );
    finding.title = "GPUs of llm-0 talk to each other over TCP".into();
    finding.communicator = Some("c0ffee/2".into());
    finding.ranks = vec![0, 1];
    finding.cause = "NCCL_P2P_DISABLE=1 and NCCL_SHM_DISABLE=1".into();
    finding.fix = vec!["unset NCCL_P2P_DISABLE".into()];
    finding.prove(Evidence::Object("pod/llm-0: spec".into()));
    let side = Side {
        device: 0,
        gdr: true,
        pxn_rank: Some(3),
        shared: false,
    };
    Scene {
        now: EXACT,
        verdict: Verdict::Degraded,
        summary: "GPUs of llm-0 talk over TCP".into(),
        sources: vec![SourceView {
            name: "llm-0.log".into(),
            bytes: 10,
            lines: 3,
            last_stamp: EXACT,
            ..SourceView::default()
        }],
        workloads: vec![Workload {
            verdict: Verdict::Degraded,
            summary: "GPUs of llm-0 talk over TCP".into(),
            processes: vec![0],
            communicators: vec![0],
            sizes: [Some(2), None, None, None],
            ..Workload::default()
        }],
        processes: vec![ProcessView {
            sources: vec![0],
            first_line: 1,
            incarnation: 1,
            host: Some("llm-0".into()),
            pid: Some(211),
            env: vec![("NCCL_SOCKET_IFNAME".into(), "eth0".into())],
            nccl_step: Some(NcclStep::Completion),
            stage: Some(Stage::DistributedInit),
            // Without a zone: orders lines, is no time of day.
            stage_since: Some(At {
                ns: 5,
                exact: false,
            }),
            progress: Some(Progress {
                done: 6,
                total: 59,
                unit: "shards",
                ..Progress::default()
            }),
            ..ProcessView::default()
        }],
        communicators: vec![Arc::new(Communicator {
            key: "c0ffee/2".into(),
            comm_id: Some("c0ffee".into()),
            parent: None,
            nranks: 2,
            nccl_version: Some("2.27.7".into()),
            group: None,
            state: CommState::Complete,
            unseen_ranks: vec![1],
            unseen_count: 1,
            missing_ranks: None,
            incomplete_ranks: vec![],
            ranks: vec![Member {
                rank: 0,
                process: 0,
                cuda_dev: Some(0),
                nvml_dev: None,
                bus_id: Some("3b000".into()),
                state: CommState::Starting,
                step: NcclStep::Completion,
                line: line(7),
            }],
            edges: vec![Edge {
                from: Some(0),
                to: Some(1),
                kind: Some(EdgeKind::Coll),
                transport: "NET/Socket/0".into(),
                via: None,
                family: Family::Net,
                network: Some("Socket".into()),
                gdr: Some(false),
                channels: vec![0, 1],
                same_host: Some(true),
                attribution: Attribution::Inferred,
                paths: vec![ncclscope::rules::scene::Path {
                    send: Some(side),
                    receive: None,
                    channels: vec![0, 1],
                }],
                line: line(812),
                lines: vec![],
                rating: Rating::Downgraded,
            }],
            rings: vec![Ring {
                channel: 0,
                order: vec![0, 1],
                complete: true,
            }],
            trees: vec![TreeView {
                channel: 0,
                rank: 0,
                up: None,
                down: vec![1],
            }],
            channel_counts: Some((16, None, 16, 8)),
            p2p_chunk_bytes: Some(524_288),
            init_seconds: Some(1.423_456),
            since: EXACT,
        })],
        unattributed: Arc::new(vec![Unattributed {
            source: 0,
            process: None,
            from: Some(0),
            to: Some(1),
            transport: "P2P/IPC".into(),
            candidates: vec!["c0ffee/2".into()],
            lines: 12,
            sample: line(90),
        }]),
        findings: vec![finding],
        pods: vec![PodRow {
            namespace: "prod".into(),
            name: "llm-0".into(),
            restarts: "2 (5m ago)".into(),
            restart_count: 2,
            image: Some("v0.11.2".into()),
            ..PodRow::default()
        }],
        checks: vec![CheckView {
            id: "check.pods",
            title: "Pods run".into(),
            verdict: CheckVerdict::NotApplicable,
            subject: "files".into(),
            ran: String::new(),
            output: String::new(),
            fix: vec![],
            at: None,
        }],
        ..Scene::default()
    }
}

fn written(scene: &Scene) -> String {
    let mut out = Vec::new();
    json::write(&mut out, &Report::of(scene, None), &RefCell::default()).unwrap();
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn fields(value: &Value, want: &str) {
    let have: BTreeSet<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let want: BTreeSet<&str> = want.split_whitespace().collect();
    assert_eq!(have, want);
}

/// The contract names four families and says that unknown is null.
#[test]
fn a_transport_that_nobody_knows_has_no_family() {
    let mut scene = scene();
    let edge = &mut Arc::make_mut(&mut scene.communicators[0]).edges[0];
    edge.family = Family::Unknown;
    edge.transport = "CXL/direct/2".into();
    let report: Value = serde_json::from_str(&written(&scene)).unwrap();
    let edge = &report["communicators"][0]["edges"][0];
    assert_eq!(edge["family"], Value::Null);
    assert_eq!(edge["transport"], "CXL/direct/2");
}

/// The contract's fields, and behind them those that were added to it.
#[test]
fn json_has_exactly_the_fields_of_the_contract() {
    let report: Value = serde_json::from_str(&written(&scene())).unwrap();
    fields(
        &report,
        "schema program_version observed_at verdict summary sources workloads processes communicators \
         unattributed groups pods gpus checks tests findings \
         layout",
    );
    assert_eq!(report["schema"], "ncclscope.report/v1");
    fields(
        &report["sources"][0],
        "name log pod bytes lines nccl_lines vllm_lines dropped_lines head_missing last_stamp",
    );
    fields(
        &report["workloads"][0],
        "name verdict summary processes communicators expected_ranks model sizes",
    );
    fields(&report["workloads"][0]["sizes"], "tp pp dp ep pcp dcp");
    fields(
        &report["processes"][0],
        "source sources first_line incarnation pod namespace container node ip host pid alive nccl_versions \
         cuda_version cuda_driver network bootstrap_interface bootstrap_address env vllm_label vllm_version \
         global_rank local_rank dp pp tp ep nccl_step stage stage_since stage_progress \
         pcp dcp",
    );
    fields(&report["processes"][0]["stage_progress"], "done total unit");
    let comm = &report["communicators"][0];
    fields(
        comm,
        "key comm_id parent nranks nccl_version group state unseen_ranks unseen_count missing_ranks \
         incomplete_ranks ranks edges rings trees channel_counts p2p_chunk_bytes init_seconds",
    );
    fields(
        &comm["ranks"][0],
        "rank source host pid cuda_dev nvml_dev bus_id state",
    );
    fields(
        &comm["edges"][0],
        "from to kind transport family network gdr channels same_host attribution paths line",
    );
    fields(&comm["edges"][0]["paths"][0], "channels send receive");
    fields(
        &comm["edges"][0]["paths"][0]["send"],
        "device gdr pxn_rank shared",
    );
    fields(&comm["edges"][0]["line"], "source number at");
    fields(&comm["rings"][0], "channel order complete");
    fields(&comm["trees"][0], "channel rank up down");
    fields(&comm["channel_counts"], "coll nvls p2p p2p_per_peer");
    fields(
        &report["unattributed"][0],
        "source from to transport candidates lines sample",
    );
    fields(
        &report["pods"][0],
        "namespace name uid index node ip status ready restarts gpus_requested image_digest reason",
    );
    fields(
        &report["checks"][0],
        "id title verdict subject ran output fix at",
    );
    fields(
        &report["findings"][0],
        "key id severity class confidence title since ranks hosts pods gpus communicator evidence cause fix \
         consequence_of \
         global_ranks",
    );
    fields(&report["findings"][0]["evidence"][0], "source line at text");
    fields(&report["findings"][0]["evidence"][1], "object");
}

#[test]
fn json_says_null_where_nothing_is_known_and_times_only_where_they_are_exact() {
    let report: Value = serde_json::from_str(&written(&scene())).unwrap();
    assert_eq!(report["observed_at"], Value::Null);
    assert_eq!(report["processes"][0]["alive"], Value::Null);
    assert_eq!(report["processes"][0]["stage"], "distributed-init");
    assert_eq!(report["processes"][0]["stage_since"], Value::Null);
    assert_eq!(report["communicators"][0]["missing_ranks"], Value::Null);
    assert_eq!(report["sources"][0]["last_stamp"], "2026-02-03T03:00:00.5Z");
    assert_eq!(report["communicators"][0]["init_seconds"], 1.423);
    assert_eq!(report["communicators"][0]["ranks"][0]["state"], "started");
    assert_eq!(report["pods"][0]["restarts"], 2);
    assert_eq!(report["pods"][0]["image_digest"], Value::Null);
    assert_eq!(report["checks"][0]["verdict"], "not-applicable");
}

#[test]
fn json_and_text_are_written_as_people_read_them() {
    let mut page = Vec::new();
    text::write(&mut page, &scene(), text::Style::default()).unwrap();
    insta::with_settings!({
        snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"),
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("report-json", written(&scene()).replace(env!("CARGO_PKG_VERSION"), "VERSION"));
        insta::assert_snapshot!("report-text", String::from_utf8(page).unwrap());
    });
}

#[test]
fn text_passes_no_control_character_on() {
    let mut scene = scene();
    scene.summary = "red \x1b[31m bell \x07 title \x1b]0;x\x07".into();
    scene.sources[0].name = "\x1b[2Jx.log".into();
    scene.processes[0].host = Some("h\x1b[5mi".into());
    let mut page = Vec::new();
    text::write(&mut page, &scene, text::Style::default()).unwrap();
    assert!(
        page.iter().all(|&b| b == b'\n' || b >= 0x20),
        "{:?}",
        String::from_utf8_lossy(&page)
    );
}

#[test]
fn exit_code_follows_verdict_and_threshold() {
    let mut s = scene();
    assert_eq!(
        [FailOn::Warning, FailOn::Error, FailOn::Failed].map(|f| exit_code(&s, f)),
        [1, 1, 0]
    );
    s.findings = vec![Finding::new(
        "x.y",
        "z",
        Severity::Warning,
        Class::Network,
        Evidence::Line(line(1)),
    )];
    assert_eq!(
        [FailOn::Warning, FailOn::Error, FailOn::Failed].map(|f| exit_code(&s, f)),
        [1, 0, 0]
    );
    for (verdict, code) in [
        (Verdict::Failed, 1),
        (Verdict::Unknown, 3),
        (Verdict::Starting, 0),
        (Verdict::Healthy, 0),
    ] {
        s.verdict = verdict;
        assert_eq!(exit_code(&s, FailOn::Failed), code);
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ncclscope"));
    command
        .arg("report")
        .stdin(Stdio::null())
        .env_remove("NO_COLOR");
    command
}

fn run(args: &[&str], paths: &[&Path]) -> Output {
    program().args(paths).args(args).output().unwrap()
}

fn put(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// Two ranks on two hosts, complete.
fn pair(last: &str) -> [String; 2] {
    [0, 1].map(|rank| {
        let head = format!("llm-{rank}:21{rank}:30{rank} [0] NCCL INFO ");
        let comm = format!(
            "ncclCommInitRank comm 0x55d{rank} rank {rank} nranks 2 cudaDev 0 nvmlDev 0 busId 3b000 commId 0xc0ffee123456789a - "
        );
        let peer = 1 - rank;
        let mut log = String::new();
        for (second, words) in [
            (0, "Bootstrap: Using eth0:10.42.0.17<0>".to_owned()),
            (1, "NCCL version 2.27.7+cuda12.8".to_owned()),
            (2, format!("{comm}Init START")),
            (3, format!("Channel 00/0 : {peer}[0] -> {rank}[0] [receive] via NET/IB/0/GDRDMA")),
            (4, format!("Channel 00/0 : {rank}[0] -> {peer}[0] [send] via NET/IB/0/GDRDMA")),
            (5, format!("{comm}Init COMPLETE")),
            (6, last.replace("{comm}", &comm)),
        ] {
            if !words.is_empty() {
                log.push_str(&format!("2026-02-03T03:00:0{second}.500000000Z {head}{words}\n"));
            }
        }
        log
    })
}

#[test]
fn the_program_ends_with_the_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let [a, b] = pair("");
    let (healthy, failed, unknown) = (d.join("healthy"), d.join("failed"), d.join("unknown"));
    for sub in [&healthy, &failed, &unknown] {
        fs::create_dir(sub).unwrap();
    }
    put(&healthy, "llm-0.log", &a);
    put(&healthy, "llm-1.log", &b);
    let [a, b] = pair("{comm}Abort COMPLETE");
    put(&failed, "llm-0.log", &a);
    put(&failed, "llm-1.log", &b);
    put(&unknown, "nginx.log", "GET / 200\n");
    put(&unknown, "empty.log", "");
    for (folder, verdict, code) in [
        (&healthy, "healthy", 0),
        (&failed, "failed", 1),
        (&unknown, "unknown", 3),
    ] {
        let out = run(&["--format", "json"], &[folder]);
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(report["verdict"], verdict, "{report:#}");
        assert_eq!(out.status.code(), Some(code), "{verdict}");
        let out = run(&[], &[folder]);
        assert!(out.stdout.starts_with(verdict.to_uppercase().as_bytes()));
        assert_eq!(out.status.code(), Some(code));
    }
}

#[test]
fn what_cannot_run_ends_with_two_and_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let elf = put(d, "prog", "\x7fELF\x02\x01");
    let missing = d.join("nope.log");
    for (path, words) in [
        (&missing, "no such file or folder"),
        (&elf, "not a log: it looks like an ELF"),
    ] {
        let out = run(&["--format", "json"], &[path]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2));
        assert!(out.stdout.is_empty());
        assert_eq!(said.lines().count(), 1);
        assert!(
            said.contains(words) && said.contains(path.to_str().unwrap()),
            "{said}"
        );
    }
    let out = run(&["--format", "nonsense"], &[d]);
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn what_could_not_be_read_is_not_called_empty() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a.log", "one line\n");
    // A gzip head and nothing behind it.
    std::fs::write(
        dir.path().join("torn.gz"),
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
    )
    .unwrap();
    let out = run(&[], &[dir.path()]);
    let (said, noted) = (
        String::from_utf8(out.stdout).unwrap(),
        String::from_utf8(out.stderr).unwrap(),
    );
    let row = said.lines().find(|l| l.contains("torn.gz")).unwrap();
    assert!(
        row.contains("in the middle of its compressed data"),
        "{row}"
    );
    assert!(!row.contains("empty"), "{row}");
    assert!(noted.contains("torn.gz: can't be read: it ends"), "{noted}");
    assert!(said.contains("no NCCL line in 1 line:"), "{said}");
}

#[test]
fn same_input_same_bytes_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = String::new();
    Stream::new(6 << 20).read_to_string(&mut log).unwrap();
    put(dir.path(), "all.log", &log);
    let [a, b] = pair("");
    put(dir.path(), "llm-0.log", &a);
    put(dir.path(), "llm-1.log", &b);
    let first = run(&["--format", "json"], &[dir.path()]).stdout;
    assert!(first.len() > 10_000);
    for threads in ["1", "2", "7"] {
        let again = run(&["--format", "json", "--threads", threads], &[dir.path()]).stdout;
        assert!(again == first, "{threads} threads print another report");
    }
}

#[test]
fn standard_input_is_a_source_like_any_other() {
    let [a, b] = pair("");
    let mut child = program()
        .args(["-", "--format", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all((a + &b).as_bytes())
        .unwrap();
    let out = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(report["sources"][0]["name"], "-");
    assert_eq!(report["communicators"][0]["key"], "c0ffee123456789a/2");
    assert_eq!(report["verdict"], "healthy");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = String::new();
    Stream::new(4 << 20).read_to_string(&mut log).unwrap();
    let path = put(dir.path(), "all.log", &log);
    let mut child = program()
        .arg(&path)
        .args(["--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::with_capacity(16, child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_interrupt_ends_with_130_even_while_a_pipe_is_silent() {
    let mut child = program()
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The handler stands once the program waits in a read; asking /proc avoids guessing how long that takes.
    let threads = format!("/proc/{}/task", child.id());
    for _ in 0..200 {
        let waiting = fs::read_dir(&threads)
            .unwrap()
            .filter_map(|t| fs::read_to_string(t.ok()?.path().join("comm")).ok())
            .filter(|name| name.starts_with("signals") || name.starts_with("parse"))
            .count();
        if waiting >= 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(100));
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
