//! A job that begins anew inside one log: `>>`, `docker logs`, a shell loop. What is shown is the present run, as if
//! its log stood alone; the run before it is a run before.

use std::collections::{BTreeMap, BTreeSet};

use ncclscope::model::event::{
    ContainerKey, Event, LogBlock, PodKey, SourceEvent, SourceId, SourceInfo, Stamped,
};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::report::Report;
use ncclscope::rules::scene::{Evidence, ProcessView, Scene, Severity, Verdict};
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
    let mut over = BTreeSet::new();
    for (_, event) in sim::events(&s) {
        match event {
            Event::Source(SourceEvent::Opened(id, info)) => {
                names.insert(id, info.name);
            }
            // The container begins anew, and each of its lives is told apart by Kubernetes.
            Event::Source(SourceEvent::Retrying { id, .. }) => {
                over.insert(id);
            }
            Event::Log(LogBlock { source, block }) if !over.contains(&source) => {
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
            let keys: BTreeSet<_> = x.keys().chain(y.keys()).collect();
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

/// What is told otherwise of a run behind others in its log than of the same run alone.
fn behind(second: &str, run: &Logs, firsts: Vec<(String, Logs)>) -> Vec<String> {
    let alone = seen(run, 61).1;
    assert!(alone.former.is_empty(), "{second}");
    let mut wrong = Vec::new();
    for (first, logs) in firsts {
        if logs.len() != run.len() {
            wrong.push(format!("{first}: {} logs", logs.len()));
            continue;
        }
        // Blocks of any size: the boundary stands in the middle of one or between two.
        let lines = if first.len() % 2 == 0 { 61 } else { 100_000 };
        let (_, both) = seen(&after(&logs, run), lines);
        if let Some(what) = differs(&present(&both), &present(&alone), "") {
            wrong.push(format!("{first}, then {second}, by {lines}: {what}"));
        } else if both.former.len() != 1 {
            let n = both.former.len();
            wrong.push(format!("{first}, then {second}: {n} former"));
        }
    }
    wrong
}

/// Nothing is told otherwise, in any year.
fn as_alone(
    second_runs: &[&str],
    told: impl Fn(&str, (&'static str, &'static str)) -> Vec<String>,
) {
    let all = YEARS.iter().flat_map(|year| {
        let of = |second: &&str| told(second, *year);
        let wrong = second_runs.iter().flat_map(of).collect::<Vec<_>>();
        wrong
            .into_iter()
            .map(move |what| format!("{year:?} {what}"))
    });
    let mut wrong: Vec<String> = all.collect();
    let n = wrong.len();
    wrong.truncate(12);
    assert!(wrong.is_empty(), "{n}:\n{}", wrong.join("\n"));
}

#[test]
fn the_present_run_is_told_as_if_it_stood_alone() {
    as_alone(&SECONDS, |second, year| {
        let run: Logs = played(second, year).iter().map(|l| later(l)).collect();
        behind(second, &run, firsts(year))
    });
}

/// NCCL's lines alone, of processes with these pids.
fn nccl(logs: &Logs, pids: u64) -> Logs {
    let of = |log: &String| {
        let lines = log
            .split_inclusive('\n')
            .filter(|l| l.contains(" NCCL INFO ") || l.contains(" NCCL WARN "));
        let line = |l: &str| {
            if pids == 0 {
                return l.to_owned();
            }
            // Another run has other pids: `host:pid:tid [dev]`.
            let (head, rest) = l.split_once(" [").unwrap_or((l, ""));
            let mut parts: Vec<String> = head.split(':').map(str::to_owned).collect();
            let n = parts.len();
            for part in parts.iter_mut().skip(n.saturating_sub(2)) {
                if let Ok(pid) = part.parse::<u64>() {
                    *part = (pid + pids).to_string();
                }
            }
            let line = format!("{} [{rest}", parts.join(":"));
            // The id of a communicator is thrown anew each time.
            let Some((head, id)) = line.split_once("commId 0x") else {
                return line;
            };
            let first = id.chars().next().and_then(|c| c.to_digit(16)).unwrap();
            let other = (u64::from(first) + pids / 1000) % 15 + 1;
            format!("{head}commId 0x{other:x}{}", &id[1..])
        };
        lines.map(line).collect()
    };
    logs.iter().map(of).collect()
}

#[test]
fn nccl_alone_tells_a_new_run_by_who_takes_the_place_of_whom() {
    let seconds = ["healthy", "hang-after-init", "sockets-inside-host"];
    as_alone(&seconds, |second, year| {
        let run: Logs = played(second, year).iter().map(|l| later(l)).collect();
        let firsts = firsts(year).into_iter();
        let firsts = firsts
            .map(|(first, logs)| (first, nccl(&logs, 0)))
            .collect();
        behind(second, &nccl(&run, 5000), firsts)
    });
}

/// What stands alone has no past, wherever it is cut.
#[test]
fn no_run_alone_has_one_before_it() {
    for (name, _) in sim::list() {
        let s = sim::load(&name).unwrap();
        if s.world() > 64 {
            continue;
        }
        for (n, year) in YEARS.into_iter().enumerate() {
            let logs = played(&name, year);
            for part in [[0.2, 0.4, 1.0], [0.3, 0.6, 0.8], [0.5, 0.7, 0.9]][n] {
                let scene = seen(&cut(&logs, part), 997).1;
                let what: Vec<_> = scene.former.iter().map(|f| f.sentence()).collect();
                assert!(what.is_empty(), "{name} {year:?}, {part}: {what:?}");
            }
        }
    }
}

#[test]
fn whatever_the_era_the_second_run_is_the_present_one() {
    // Each has a date of its own; a month later is later.
    let day = |text: &str| {
        let days = ["01-30", "04-20", "05-02", "08-10", "08-28", "11-20"];
        days.iter().fold(text.to_owned(), |text, day| {
            let month: u32 = day[..2].parse().unwrap();
            text.replace(
                &format!(" {day} "),
                &format!(" {:02}{} ", month + 1, &day[2..]),
            )
        })
    };
    let mut told = 0;
    for (era, lines) in ERAS {
        let run = |n: usize| {
            let lines = lines.iter().take(n).map(|(l, _)| format!("{l}\n"));
            lines.collect::<String>()
        };
        let whole = run(lines.len());
        for n in (1..=lines.len()).step_by(2) {
            assert!(
                seen(&vec![run(n)], 5).1.former.is_empty(),
                "{era}, {n} lines"
            );
        }
        let next = day(&whole);
        let alone = seen(&vec![next.clone()], 5).1;
        let (_, both) = seen(&vec![whole.clone() + &next], 5);
        if let Some(what) = differs(&present(&both), &present(&alone), "") {
            panic!("{era}: {what}");
        }
        told += both.former.len();
    }
    assert_eq!(told, ERAS.len());
}

/// A run as each kind of process begins it.
fn server(pid: u32, port: Option<u32>, hour: u32) -> String {
    let port = port.map_or(String::new(), |p| format!(", 'port': {p}"));
    let api = format!("(APIServer pid={pid}) INFO 03-11 {hour:02}");
    let (core, worker) = (pid + 90, pid + 200);
    format!(
        "{api}:00:00 [api_server.py:1977] vLLM API server version 0.11.2\n\
         {api}:00:00 [utils.py:233] non-default args: {{'model_tag': '/models/q', 'tensor_parallel_size': 2{port}}}\n\
         (EngineCore_DP0 pid={core}) INFO 03-11 {hour:02}:00:12 [core.py:93] Initializing a V1 LLM engine (v0.11.2) with config: model='/models/q', tensor_parallel_size=2, pipeline_parallel_size=1, data_parallel_size=1\n\
         (Worker pid={worker}) INFO 03-11 {hour:02}:00:20 [parallel_state.py:1208] world_size=2 rank=0 local_rank=0 distributed_init_method=tcp://127.0.0.1:{worker}01 backend=nccl\n\
         (Worker pid={}) INFO 03-11 {hour:02}:00:20 [parallel_state.py:1208] world_size=2 rank=1 local_rank=1 distributed_init_method=tcp://127.0.0.1:{worker}01 backend=nccl\n\
         (Worker_TP0 pid={worker}) INFO 03-11 {hour:02}:00:30 [gpu_model_runner.py:2876] Starting to load model /models/q...\n",
        worker + 1
    )
}

/// It serves.
fn serves(pid: u32, hour: u32) -> String {
    format!(
        "(EngineCore_DP0 pid={}) INFO 03-11 {hour:02}:02:00 [core.py:210] init engine (profile, create kv cache, warmup model) took 20.71 seconds\n\
         (APIServer pid={pid}) INFO 03-11 {hour:02}:02:05 [api_server.py:1970] Starting vLLM API server 0 on http://0.0.0.0:8000\n\
         (APIServer pid={pid}) INFO:     Application startup complete.\n",
        pid + 90
    )
}

fn lives(log: &str) -> Vec<String> {
    let scene = seen(&vec![log.to_owned()], 1000).1;
    scene.former.iter().map(|f| f.sentence()).collect()
}

#[test]
fn a_run_that_was_killed_is_told_apart_by_what_takes_its_place() {
    let killed = server(1, None, 2);
    // In a container all pids come again, in a shell loop none does.
    for pid in [1, 4000] {
        let log = killed.clone() + &server(pid, None, 5) + &serves(pid, 5);
        let scene = seen(&vec![log.clone()], 1000).1;
        assert_eq!(scene.verdict, Verdict::Healthy, "{}", scene.summary);
        assert_eq!(scene.summary, "all 2 ranks serve");
        let [former] = scene.former.as_slice() else {
            panic!("{:?}", lives(&log));
        };
        assert_eq!(former.verdict, Verdict::Failed);
        assert_eq!(
            former.sentence(),
            "the run before this one, before llm-0.log:7: it ended without a word, on its way up: weights"
        );
        let end = former.end.as_ref().unwrap();
        assert_eq!((end.id, end.severity), ("vllm.worker-died", Severity::Info));
        assert!(scene.findings.contains(end));
        // The last line that it came to, and where the next run begins.
        let at = end.evidence().iter().map(|e| match e {
            Evidence::Line(l) => l.number,
            other => panic!("{other:?}"),
        });
        assert_eq!(at.collect::<Vec<_>>(), [6, 7]);
        // Every process once, those of the run that is over behind the others, and ended.
        let report = serde_json::to_value(Report::of(&scene, None)).unwrap();
        let all = report["processes"].as_array().unwrap();
        let all: Vec<_> = all
            .iter()
            .map(|p| (p["alive"].as_bool(), p["incarnation"].as_u64()))
            .collect();
        let (now, then) = (vec![(None, Some(2)); 4], vec![(Some(false), Some(1)); 4]);
        assert_eq!(all, [now, then].concat());
        assert_eq!(report["former"][0]["stage"], "weights");
        assert_eq!(report["former"][0]["next"]["number"], 7);
    }
}

#[test]
fn the_first_words_of_others_are_no_new_run() {
    let first = server(1, None, 2) + &serves(1, 2);
    // Two servers side by side listen on two ports.
    let beside = first.clone() + &server(4000, Some(8001), 5);
    assert_eq!(lives(&beside), [""; 0]);
    // Another pod's log behind it tells of the same time.
    let copy = first.clone() + &server(1, None, 2).replace(":00:", ":01:");
    assert_eq!(lives(&copy), [""; 0]);
    // The one before goes on.
    let stats = "(APIServer pid=1) INFO 03-11 05:00:03 [loggers.py:248] Engine 000: Avg prompt throughput: 812.4 tokens/s, Avg generation throughput: 240.1 tokens/s, Running: 12 reqs, Waiting: 0 reqs, GPU KV cache usage: 8.3%, Prefix cache hit rate: 41.0%\n";
    let other = server(4000, None, 5);
    let (words, rest) = other.split_once('\n').unwrap();
    assert_eq!(lives(&format!("{first}{words}\n{stats}{rest}")), [""; 0]);
    // A banner that is said twice, and a log that ends there.
    let banner = first.lines().next().unwrap();
    assert_eq!(lives(&format!("{banner}\n{first}")), [""; 0]);
    assert_eq!(lives(&format!("{first}{words}\n")), [""; 0]);
    // Data-parallel engines begin one after the other, and so do several servers of one job.
    let mut many = String::new();
    for i in 0..4 {
        many += &format!(
            "(ApiServer_{i} pid={}) INFO 03-11 02:00:0{i} [api_server.py:1977] vLLM API server version 0.11.2\n",
            10 + i
        );
        many += &format!(
            "(EngineCore_DP{i} pid={}) INFO 03-11 02:01:1{i} [core.py:93] Initializing a V1 LLM engine (v0.11.2) with config: model='/models/q', tensor_parallel_size=1, data_parallel_size=4\n",
            100 + i
        );
        many += &format!(
            "(Worker pid={}) INFO 03-11 02:01:2{i} [parallel_state.py:1208] world_size=4 rank={i} local_rank={i} distributed_init_method=tcp://127.0.0.1:4001 backend=nccl\n",
            200 + i
        );
    }
    assert_eq!(lives(&many), [""; 0]);
    // Pods that are told apart by what stands in front of their lines.
    let of = |pod: &str, log: &str| {
        log.lines()
            .map(|l| format!("[pod/{pod}/vllm] {l}\n"))
            .collect::<String>()
    };
    let pods = of("a-0", &first) + &of("b-0", &server(1, None, 5));
    assert_eq!(lives(&pods), [""; 0]);
}

#[test]
fn a_pod_among_others_in_one_stream_begins_anew_alone() {
    let of = |pod: &str, log: &str| {
        log.lines()
            .map(|l| format!("[pod/{pod}/vllm] {l}\n"))
            .collect::<String>()
    };
    let a = of("a-0", &(server(1, None, 2) + &serves(1, 2)));
    let log =
        of("b-0", &server(1, None, 2)) + &a + &of("b-0", &(server(1, None, 5) + &serves(1, 5)));
    let scene = seen(&vec![log], 4).1;
    assert_eq!(scene.former.len(), 1, "{:?}", scene.former);
    let place = |p: &ProcessView| p.place();
    assert!(scene.former[0].processes.iter().all(|p| place(p) == "b-0"));
    assert_eq!(scene.verdict, Verdict::Healthy, "{}", scene.summary);
}

#[test]
fn who_restarts_all_night_is_told_of_in_few_words() {
    let mut log = String::new();
    for hour in 1..20 {
        log += &server(1, None, hour);
        log += &format!(
            "(EngineCore_DP0 pid=91) ERROR 03-11 {hour:02}:00:40 [core.py:844] EngineCore failed to start.\n"
        );
        log += &format!(
            "(EngineCore_DP0 pid=91) ERROR 03-11 {hour:02}:00:40 [core.py:844] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 0.10 GiB is free.\n"
        );
    }
    let scene = seen(&vec![log], 7).1;
    let ago: Vec<u32> = scene.former.iter().map(|f| f.ago).collect();
    assert_eq!(ago, [1, 2, 3], "{}", scene.summary);
    assert!(scene.processes.iter().all(|p| p.incarnation == 19));
    assert_eq!(scene.verdict, Verdict::Failed);
    for former in scene.former.iter() {
        let end = former.end.as_ref().unwrap();
        assert!(end.title.contains("ran out of memory"), "{}", end.title);
    }
    let mut keys: Vec<&str> = scene.findings.iter().map(|f| f.key.as_str()).collect();
    keys.dedup();
    assert_eq!(keys.len(), scene.findings.len(), "{keys:?}");
}

/// What a container said before it was started again proves nothing of what it is now.
#[test]
fn a_server_of_the_life_before_is_not_ready_now() {
    let whole = played("healthy", YEARS[1]);
    // No two runs have one id, pointers and pids may be the same again.
    let another = |log: &String| {
        let mut parts = later(log)
            .split("commId 0x")
            .map(str::to_owned)
            .collect::<Vec<_>>();
        for id in parts.iter_mut().skip(1) {
            let digit = if id.starts_with('a') { "b" } else { "a" };
            id.replace_range(..1, digit);
        }
        parts.join("commId 0x")
    };
    let begun = cut(&whole, 0.5).iter().map(another).collect();
    let mut model = Model::default();
    let mut say = |event| {
        let (seq, at) = (1, 0);
        update(&mut model, Stamped { seq, at, event });
    };
    let mut id = SourceId(0);
    for (logs, previous) in [(&whole, true), (&begun, false)] {
        for (pod, log) in logs.iter().enumerate() {
            let pod = PodKey {
                namespace: "ml".to_owned(),
                name: format!("llm-{pod}"),
            };
            let info = SourceInfo {
                name: format!("{}{previous}", pod.name),
                container: Some(ContainerKey {
                    pod,
                    container: "vllm".to_owned(),
                }),
                previous,
                started: None,
            };
            say(Event::Source(SourceEvent::Opened(id, info)));
            let block = Block::new(1, log.clone().into_bytes()).into();
            say(Event::Log(LogBlock { source: id, block }));
            id.0 += 1;
        }
    }
    let scene = Scene::of(&model);
    let alone = seen(&begun, 1000).1;
    let stages = |scene: &Scene| -> Vec<_> {
        let present = scene.processes.iter().filter(|p| !p.replaced);
        present.map(|p| (p.global_rank, p.stage)).collect()
    };
    assert_eq!(stages(&scene), stages(&alone));
    assert_eq!(scene.verdict, alone.verdict);
}
