//! The embedded cluster: every scenario loads, plays the same each time, and shows what it says it shows.

use std::collections::BTreeSet;

use ncclscope::model::event::{Event, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::rules::KNOWN;
use ncclscope::rules::findings::global_ranks;
use ncclscope::rules::scene::{Scene, Severity, Verdict};
use ncclscope::sources::sim::{self, Scenario, ScenarioError};

#[path = "scenarios/asked.rs"]
mod asked;

fn all() -> Vec<Scenario> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/scenarios");
    sim::list()
        .iter()
        .map(|(name, _)| {
            // From the folder: what is being written needs no build to be tried.
            let text = std::fs::read_to_string(format!("{folder}/{name}.yaml")).unwrap();
            sim::parse(name, &text).unwrap_or_else(|e| panic!("{e}"))
        })
        .collect()
}

/// The text of every source, concatenated.
fn log(events: &[(i64, Event)]) -> String {
    let text: Vec<u8> = events
        .iter()
        .filter_map(|(_, e)| match e {
            Event::Log(l) => Some(l.block.text.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    String::from_utf8(text).unwrap()
}

#[test]
fn the_shipped_list_is_the_folder() {
    let folder: BTreeSet<String> =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/scenarios"))
            .unwrap()
            .map(|e| {
                e.unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
    let listed: BTreeSet<String> = sim::list().into_iter().map(|(name, _)| name).collect();
    assert_eq!(listed, folder);
}

#[test]
fn the_same_file_gives_the_same_stream() {
    for s in all().iter().filter(|s| s.world() <= 64) {
        assert_eq!(
            format!("{:?}", sim::events(s)),
            format!("{:?}", sim::events(s)),
            "{}",
            s.name
        );
    }
}

/// A name that is neither shipped nor a file is answered with the one that was meant, and with where all are named.
#[test]
fn an_unknown_scenario_names_the_nearest() {
    for (asked, near) in [
        ("helthy", "; the nearest is healthy;"),
        ("nothing-of-the-kind", ""),
    ] {
        let e = sim::load(asked).unwrap_err();
        assert!(matches!(e, ScenarioError::Unknown { .. }));
        let text = e.to_string();
        assert!(
            text.contains(asked) && text.contains("demo --list"),
            "{text}"
        );
        assert_eq!(text.contains("the nearest"), !near.is_empty(), "{text}");
        assert!(text.contains(near), "{text}");
    }
}

#[test]
fn a_broken_file_is_answered_with_line_and_column() {
    let good = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/scenarios/healthy.yaml"
    ))
    .unwrap();
    let text = sim::parse("mine.yaml", &good.replace("seed: 7", "sead: 7"))
        .unwrap_err()
        .to_string();
    assert!(
        text.starts_with("mine.yaml: line 5, column 1: ") && text.contains("sead"),
        "{text}"
    );
    let text = sim::parse("mine.yaml", &good.replace("tp: 4", "tp: 3"))
        .unwrap_err()
        .to_string();
    assert!(text.contains("does not fit 2 pods of 4 GPUs"), "{text}");
}

/// Blocks are whole lines, numbered without a gap, stamped in order.
#[test]
fn blocks_are_whole_lines_in_order() {
    for s in all().iter().filter(|s| s.world() <= 64) {
        let mut next = std::collections::BTreeMap::new();
        let mut last = std::collections::BTreeMap::new();
        for (at, event) in sim::events(s) {
            let Event::Log(l) = event else { continue };
            let line = next.entry(l.source).or_insert(1u64);
            assert_eq!(l.block.first_line, *line, "{}", s.name);
            assert_eq!(l.block.text.last(), Some(&b'\n'));
            for text in l
                .block
                .text
                .strip_suffix(b"\n")
                .unwrap()
                .split(|b| *b == b'\n')
            {
                *line += 1;
                let stamp = String::from_utf8_lossy(text.get(..30).unwrap()).into_owned();
                let ns = i64::try_from(stamp.parse::<jiff::Timestamp>().unwrap().as_nanosecond())
                    .unwrap();
                assert!(ns <= at, "{}: a line from the future", s.name);
                let before = last.insert(l.source, ns);
                assert!(
                    before.is_none_or(|b| b <= ns),
                    "{}: stamps run backwards at {stamp}",
                    s.name
                );
            }
        }
    }
}

/// A minute from scheduled to serving, as the demo promises.
#[test]
fn the_healthy_start_serves_within_about_a_minute() {
    let s = sim::load("healthy").unwrap();
    let text = log(&sim::events(&s));
    let up = text
        .lines()
        .find(|l| l.contains("Application startup complete."))
        .unwrap();
    let at = i64::try_from(
        up.get(..30)
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
            .as_nanosecond(),
    )
    .unwrap();
    let took = (at - s.start_ns()) as f64 / 1e9;
    assert!((50.0..70.0).contains(&took), "{took} s");
}

/// Played at speed, in order, on a paused clock: the pace is that of the file.
#[tokio::test(start_paused = true)]
async fn playing_keeps_the_pace_and_the_order() {
    let s = sim::load("healthy").unwrap();
    let (want, lasts) = (sim::events(&s), s.lasts);
    let (tx, mut rx) = tokio::sync::mpsc::channel(1);
    let begun = tokio::time::Instant::now();
    let (_, errands) = tokio::sync::mpsc::unbounded_channel();
    let player = tokio::spawn(sim::play(s, 10.0, tx, errands));
    let mut seen = 0;
    while let Some(event) = rx.recv().await {
        assert_eq!(format!("{event:?}"), format!("{:?}", want[seen].1));
        seen += 1;
    }
    player.await.unwrap();
    assert_eq!(seen, want.len());
    let took = begun.elapsed().as_secs_f64();
    assert!(
        (took - lasts / 10.0).abs() < 0.01,
        "{took} s for {lasts} s at ×10"
    );
}

/// The scene at the end of a scenario.
fn scene(s: &Scenario) -> Scene {
    let mut model = Model::default();
    for (seq, (at, event)) in (1..).zip(sim::events(s)) {
        update(&mut model, Stamped { seq, at, event });
    }
    Scene::of(&model)
}

/// Every finding that a rule knows is raised where the file says so, and nowhere else.
#[test]
fn each_scenario_shows_what_it_expects_and_nothing_else() {
    let mut wrong = Vec::new();
    for s in all() {
        let scene = scene(&s);
        let ids = |info: bool| -> BTreeSet<&str> {
            scene
                .findings
                .iter()
                .filter(|f| (f.severity == Severity::Info) == info)
                .map(|f| f.id)
                .collect()
        };
        for (list, info) in [(&s.expect.findings, false), (&s.expect.info, true)] {
            let (want, got): (BTreeSet<&str>, _) =
                (list.iter().map(String::as_str).collect(), ids(info));
            if want != got {
                wrong.push(format!("{}: expected {want:?}, found {got:?}", s.name));
            }
        }
        // Sentences are for people: a stamp is no part of them.
        for f in &scene.findings {
            if [&f.title, &f.cause]
                .iter()
                .any(|t| t.contains("2026-03-02T"))
            {
                wrong.push(format!("{}: {}: {} {}", s.name, f.id, f.title, f.cause));
            }
        }
        for (id, want) in &s.expect.checks {
            let got = scene.checks.iter().find(|c| c.id == id);
            let word = got.map(|c| format!("{:?}", c.verdict).to_lowercase());
            if word.as_deref() != Some(want) {
                wrong.push(format!(
                    "{}: {id} should {want}: {word:?} {:?}",
                    s.name,
                    got.map(|c| &c.output)
                ));
            }
        }
        let verdict = format!("{:?}", scene.verdict).to_lowercase();
        if verdict != s.expect.verdict {
            wrong.push(format!(
                "{}: expected {}, judged {verdict}: {}",
                s.name, s.expect.verdict, scene.summary
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Whatever can be raised can be seen without a cluster; what only probes prove, too: scenarios answer them.
#[test]
fn every_finding_has_a_scenario() {
    let all = all();
    let shown: BTreeSet<&str> = all
        .iter()
        .flat_map(|s| s.expect.findings.iter().chain(&s.expect.info))
        .map(String::as_str)
        .collect();
    let explained = ncclscope::rules::explain::FINDINGS.iter().map(|e| e.id);
    for id in explained.chain(KNOWN.iter().copied()) {
        assert!(shown.contains(id), "{id} has no scenario");
        assert!(KNOWN.contains(&id), "{id} is explained and never raised");
    }
}

/// A policy that closes NCCL's ports is why connections time out and workers die: one cause to mend.
#[test]
fn a_policy_explains_what_it_keeps_apart() {
    let scene = scene(&sim::load("network-policy").unwrap());
    let roots: Vec<_> = scene
        .findings
        .iter()
        .filter(|f| f.consequence_of.is_none())
        .map(|f| f.id)
        .collect();
    assert_eq!(roots, ["pod.network-policy"]);
    let root = &scene.findings[0];
    assert_eq!(root.id, "pod.network-policy", "the cause stands first");
    assert!(
        scene
            .findings
            .iter()
            .any(|f| f.id == "nccl.connect-timeout")
    );
    assert!(
        scene.summary.contains(&root.title),
        "the sentence names the cause: {}",
        scene.summary
    );
}

/// Expectations are written in the contract's words.
#[test]
fn expectations_use_the_words_of_the_contract() {
    for s in all() {
        assert!(
            ["healthy", "starting", "degraded", "failed", "unknown"]
                .contains(&s.expect.verdict.as_str())
        );
        assert!(
            s.expect
                .findings
                .iter()
                .chain(&s.expect.info)
                .all(|id| id.split_once('.').is_some())
        );
    }
}

/// NCCL lines that say nothing about the questions asked of a log.
const SILENT: &[&str] = &[
    "CC Off, workFifoBytes ",
    "Check P2P Type ",
    "DMA-BUF is available on GPU device ",
    "NCCL git version ",
    "Setting affinity for GPU ",
    "TUNER/Plugin: Could not find: ",
    "[Proxy Service",
    "ncclTopoGetCpuAffinity: ",
];

/// The NCCL lines of a stream that gave no fact and should have.
fn dumb(events: &[(i64, Event)]) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for (_, event) in events {
        let Event::Log(l) = event else { continue };
        let spoken: BTreeSet<u32> = l.block.recs.iter().map(|r| r.line).collect();
        for (i, line) in (0..).zip(String::from_utf8_lossy(&l.block.text).lines()) {
            let Some((_, text)) = line.split_once(" NCCL ") else {
                continue;
            };
            let text = text.trim_start_matches("INFO ").trim_start_matches("WARN ");
            if !spoken.contains(&i) && !SILENT.iter().any(|s| text.starts_with(s)) {
                out.insert(text.to_owned());
            }
        }
    }
    out
}

#[test]
fn no_nccl_line_of_ours_is_unknown() {
    for s in all().iter().filter(|s| s.world() <= 64) {
        let dumb = dumb(&sim::events(s));
        assert!(dumb.is_empty(), "{}: {dumb:#?}", s.name);
    }
}

/// Whatever the versions, the healthy start is understood, joined and judged alike.
#[test]
fn the_healthy_start_is_read_alike_in_every_version() {
    let healthy = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/scenarios/healthy.yaml"
    ))
    .unwrap();
    let shape = |s: &Scenario| {
        let scene = scene(s);
        let comms: BTreeSet<_> = scene
            .communicators
            .iter()
            .map(|c| {
                (
                    c.group.clone(),
                    c.nranks,
                    c.ranks.len(),
                    format!("{:?}", c.state),
                    c.edges.len(),
                )
            })
            .collect();
        (
            scene.verdict,
            scene.communicators.len(),
            comms,
            scene.unattributed.len(),
            scene.findings.len(),
        )
    };
    let usual = shape(&sim::parse("healthy", &healthy).unwrap());
    assert_eq!(
        usual.1, 9,
        "tp, pp and ep groups, and the logits of the last stage"
    );
    for nccl in [
        "2.18.3", "2.19.4", "2.20.5", "2.21.5", "2.22.3", "2.23.4", "2.24.3", "2.25.1", "2.26.2",
        "2.27.7", "2.28.9", "2.29.7", "2.30.7",
    ] {
        let s = sim::parse(
            "healthy",
            &healthy.replace("nccl: 2.27.5", &format!("nccl: {nccl}")),
        )
        .unwrap();
        assert_eq!(dumb(&sim::events(&s)), BTreeSet::new(), "NCCL {nccl}");
        assert_eq!(shape(&s), usual, "NCCL {nccl}");
    }
    for vllm in [
        "0.11.1", "0.12.0", "0.13.0", "0.14.0", "0.17.0", "0.18.0", "0.19.0", "0.20.0",
    ] {
        let s = sim::parse(
            "healthy",
            &healthy.replace("vllm: 0.11.2", &format!("vllm: {vllm}")),
        )
        .unwrap();
        assert_eq!(shape(&s), usual, "vLLM {vllm}");
    }
}

/// People look for the rank of a title in the ranks pane and in the matrix, where ranks have their global numbers.
#[test]
fn a_rank_in_a_title_is_the_one_that_everybody_means() {
    let scene = scene(&sim::load("rank-stuck").unwrap());
    let stuck = scene
        .findings
        .iter()
        .find(|f| f.id == "nccl.rank-stuck")
        .unwrap();
    let comm = scene
        .communicators
        .iter()
        .find(|c| Some(&c.key) == stuck.communicator.as_ref())
        .unwrap();
    let [own] = stuck.ranks.as_slice() else {
        panic!("{:?}", stuck.ranks)
    };
    let member = comm.ranks.iter().find(|m| m.rank == *own).unwrap();
    let global = scene.processes[member.process as usize]
        .global_rank
        .unwrap();
    assert_ne!(global, *own, "a rank whose two numbers differ");
    assert_eq!(global_ranks(&scene, stuck), Some(vec![global]));
    let group = comm.group.as_deref().unwrap();
    assert!(
        stuck
            .title
            .starts_with(&format!("rank {global} ({own} of {group}) ")),
        "{}",
        stuck.title
    );
}

/// What a world says that goes on after its scenario: each source's text, and everything else.
fn spoken(events: Vec<(i64, Event)>) -> (std::collections::BTreeMap<u32, String>, Vec<String>) {
    let (mut logs, mut others) = (std::collections::BTreeMap::new(), Vec::new());
    for (at, event) in events {
        match event {
            Event::Log(log) => {
                let text: &mut String = logs.entry(log.source.0).or_default();
                let next = text.lines().count() as u64 + 1;
                assert_eq!(log.block.first_line, next, "no line is lost or told twice");
                text.push_str(std::str::from_utf8(&log.block.text).unwrap());
            }
            Event::Tick => {}
            other => others.push(format!("{at} {other:?}")),
        }
    }
    (logs, others)
}

#[test]
fn a_world_that_goes_on_says_what_a_longer_scenario_says() {
    for name in [
        "healthy",
        "hang-after-init",
        "crashloop",
        "sockets-inside-host",
        "oom-killed",
    ] {
        let s = sim::load(name).unwrap();
        let mut in_parts = sim::events(&s);
        in_parts.extend(sim::beyond(&s, 60.0));
        let longer = Scenario {
            lasts: s.lasts + 60.0,
            ..s
        };
        let (logs, others) = spoken(in_parts);
        let (want, rest) = spoken(sim::events(&longer));
        assert_eq!(logs, want, "{name}");
        assert_eq!(others, rest, "{name}");
    }
}

/// Who looks at a demo that is over sees a world that lives: its samples are young.
#[tokio::test(start_paused = true)]
async fn a_demo_that_somebody_looks_at_goes_on() {
    let s = sim::load("healthy").unwrap();
    let (start, lasts) = (s.start_ns(), s.lasts);
    let (tx, mut rx) = tokio::sync::mpsc::channel(64);
    let (ask, errands) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(sim::play(s, 10.0, tx, errands));
    let begun = tokio::time::Instant::now();
    let mut model = Model::default();
    let mut now = start;
    while now < start + ((lasts + 300.0) * 1e9) as i64 {
        let event = rx.recv().await.expect("it goes on");
        now = start + (begun.elapsed().as_secs_f64() * 10.0 * 1e9) as i64;
        let (seq, at) = (1, now);
        update(&mut model, Stamped { seq, at, event });
    }
    let scene = Scene::of(&model);
    assert_eq!(scene.verdict, Verdict::Healthy, "{}", scene.summary);
    assert_eq!(scene.findings.len(), 0, "{:?}", scene.findings.first());
    for gpu in &scene.gpus {
        let age = now - gpu.at.unwrap().ns;
        assert!(age < 5_000_000_000, "a sample is {age} ns old");
    }
    // Nobody asks for anything any more: it ends.
    drop(ask);
    while rx.recv().await.is_some() {}
}
