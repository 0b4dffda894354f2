//! A job that begins anew inside one log: `>>`, `docker logs`, a shell loop. What is shown is the present run, as if
//! its log stood alone; the run before it is a run before.

use std::collections::BTreeMap;

use ncclscope::model::event::{Event, LogBlock, SourceEvent, SourceId, SourceInfo, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::report::Report;
use ncclscope::rules::scene::{Evidence, Scene, Severity, Verdict};
use ncclscope::sources::sim;
use serde_json::Value;

use crate::stages::eras::ERAS;

/// The logs of a job, a file a pod.
type Logs = Vec<String>;

/// NCCL and vLLM of each way in which processes begin.
const YEARS: [(&str, &str); 3] = [
    ("2.27.5", "0.11.2"),
    ("2.27.7", "0.14.0"),
    ("2.29.7", "0.19.0"),
];

/// The logs of a scenario's pods, without what the kubelet puts in front of lines.
fn played(scenario: &str, (nccl, vllm): (&str, &str)) -> Logs {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/scenarios");
    let text = std::fs::read_to_string(format!("{folder}/{scenario}.yaml")).unwrap();
    let text = text.replace(
        "versions: { vllm: 0.11.2, nccl: 2.27.5 }",
        &format!("versions: {{ vllm: {vllm}, nccl: {nccl} }}"),
    );
    let s = sim::parse(scenario, &text).unwrap();
    let mut logs: BTreeMap<String, String> = BTreeMap::new();
    let mut names: BTreeMap<SourceId, String> = BTreeMap::new();
    for (_, event) in sim::events(&s) {
        match event {
            Event::Source(SourceEvent::Opened(id, info)) => {
                names.insert(id, info.name);
            }
            Event::Log(LogBlock { source, block }) => {
                let log = logs.entry(names[&source].clone()).or_default();
                log.push_str(std::str::from_utf8(&block.text).unwrap());
            }
            _ => {}
        }
    }
    logs.into_values().collect()
}

/// The same a day later.
fn later(log: &str) -> String {
    [
        ("2026-03-02T", "2026-03-03T"),
        ("2026-03-02 ", "2026-03-03 "),
        (" 03-02 ", " 03-03 "),
        ("0302 ", "0303 "),
    ]
    .iter()
    .fold(log.to_owned(), |log, (a, b)| log.replace(a, b))
}

/// Its first lines: it was killed there.
fn cut(logs: &Logs, part: f64) -> Logs {
    let head = |log: &String| {
        let lines: Vec<&str> = log.split_inclusive('\n').collect();
        let n = (lines.len() as f64 * part) as usize;
        lines[..n].concat()
    };
    logs.iter().map(head).collect()
}

/// One run after the other in the same files.
fn after(first: &Logs, second: &Logs) -> Logs {
    first
        .iter()
        .zip(second)
        .map(|(a, b)| a.clone() + b)
        .collect()
}

/// What is seen of these logs, which come in blocks of so many lines.
fn seen(logs: &Logs, lines: usize) -> (Model, Scene) {
    let mut model = Model::default();
    let mut say = |event| {
        let (seq, at) = (1, 0);
        update(&mut model, Stamped { seq, at, event });
    };
    for id in 0..u32::try_from(logs.len()).unwrap() {
        let info = SourceInfo {
            name: format!("llm-{id}.log"),
            container: None,
            previous: false,
            started: None,
        };
        say(Event::Source(SourceEvent::Opened(SourceId(id), info)));
    }
    for (id, log) in (0..).map(SourceId).zip(logs) {
        let all: Vec<&str> = log.split_inclusive('\n').collect();
        for (n, some) in all.chunks(lines).enumerate() {
            let first = (n * lines) as u64 + 1;
            let block = Block::new(first, some.concat().into_bytes()).into();
            say(Event::Log(LogBlock { source: id, block }));
        }
    }
    let scene = Scene::of(&model);
    (model, scene)
}

/// A report without what tells of former runs, and without the numbers of lines.
fn present(scene: &Scene) -> Value {
    let mut report = serde_json::to_value(Report::of(scene, None)).unwrap();
    let all = report.as_object_mut().unwrap();
    all.remove("former");
    let processes = all["processes"].as_array_mut().unwrap();
    processes.truncate(scene.processes.len());
    let findings = all["findings"].as_array_mut().unwrap();
    findings.retain(|f| {
        !f["title"]
            .as_str()
            .unwrap()
            .starts_with("an earlier run in ")
    });
    strip(&mut report);
    // How many lines a log holds is no news of the present run.
    for check in report["checks"].as_array_mut().unwrap() {
        let output = check["output"].as_str().unwrap_or_default();
        if let Some((_, rest)) = output.split_once(" NCCL lines in ") {
            check["output"] = rest.into();
        }
    }
    report
}

fn strip(value: &mut Value) {
    const NUMBERS: [&str; 8] = [
        "bytes",
        "lines",
        "nccl_lines",
        "vllm_lines",
        "first_line",
        "incarnation",
        "line",
        "number",
    ];
    match value {
        Value::Object(map) => {
            map.retain(|k, v| !(NUMBERS.contains(&k.as_str()) && v.is_u64()));
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

/// Where two reports differ first.
fn differs(a: &Value, b: &Value, path: &str) -> Option<String> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let keys: std::collections::BTreeSet<_> = x.keys().chain(y.keys()).collect();
            let none = Value::Null;
            keys.into_iter().find_map(|k| {
                let of =
                    |m: &serde_json::Map<String, Value>| m.get(k).cloned().unwrap_or(none.clone());
                differs(&of(x), &of(y), &format!("{path}.{k}"))
            })
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            let pairs = x.iter().zip(y).enumerate();
            pairs
                .into_iter()
                .find_map(|(i, (p, q))| differs(p, q, &format!("{path}[{i}]")))
        }
        (a, b) => {
            let short = |v: &Value| v.to_string().chars().take(300).collect::<String>();
            (a != b).then(|| format!("{path}: {} for {}", short(a), short(b)))
        }
    }
}

/// Runs by which a log may begin.
fn firsts(year: (&str, &str)) -> Vec<(String, Logs)> {
    let mut out: Vec<(String, Logs)> = Vec::new();
    for name in [
        "cuda-oom-loading",
        "connect-timeout",
        "dead-rank-cascade",
        "hang-after-init",
    ] {
        out.push((name.into(), played(name, year)));
    }
    let healthy = played("healthy", year);
    for part in [0.3, 0.6, 0.9, 1.0] {
        out.push((format!("healthy killed at {part}"), cut(&healthy, part)));
    }
    let mut asked = healthy;
    for log in &mut asked {
        log.push_str("(APIServer pid=1) INFO 03-02 05:00:01 [launcher.py:110] Shutting down FastAPI HTTP server.\n");
    }
    out.push(("healthy and asked to end".into(), asked));
    out
}

const SECONDS: [&str; 6] = [
    "healthy",
    "hang-after-init",
    "cuda-oom-loading",
    "missing-rank",
    "sockets-inside-host",
    "quiet",
];

#[test]
fn the_present_run_is_told_as_if_it_stood_alone() {
    let mut wrong = Vec::new();
    for year in YEARS {
        for second in SECONDS {
            let second_run: Logs = played(second, year).iter().map(|l| later(l)).collect();
            let alone = seen(&second_run, 61).1;
            assert!(
                alone.former.is_empty(),
                "{second}: {:?}",
                alone
                    .former
                    .iter()
                    .map(|f| (f.sentence(), f.next.clone()))
                    .collect::<Vec<_>>()
            );
            for (first, run) in firsts(year) {
                if run.len() != second_run.len() {
                    wrong.push(format!("{first}: {} logs", run.len()));
                    continue;
                }
                for lines in [61, 100_000] {
                    let (_, both) = seen(&after(&run, &second_run), lines);
                    if let Some(what) = differs(&present(&both), &present(&alone), "") {
                        wrong.push(format!(
                            "{year:?} {first}, then {second}, by {lines}: {what}"
                        ));
                    } else if both.former.len() != 1 {
                        wrong.push(format!(
                            "{first}, then {second}: {} former",
                            both.former.len()
                        ));
                    }
                }
            }
        }
    }
    let n = wrong.len();
    wrong.truncate(12);
    assert!(wrong.is_empty(), "{n}:\n{}", wrong.join("\n"));
}
#[test]
fn zz_dump() {
    for n in ["healthy", "cuda-oom-loading", "connect-timeout"] {
        for (y, year) in YEARS.iter().enumerate() {
            for (i, l) in played(n, *year).iter().enumerate() {
                std::fs::write(format!("/tmp/lv-{n}-{y}-{i}.log"), l).unwrap();
            }
        }
    }
}
