//! Which lines belong together: several pods in one stream, one pod in several files, several lives in one file.

use std::fs;

use ncclscope::model::event::{Event, LogBlock, SourceEvent, SourceId, SourceInfo, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::report::Report;
use ncclscope::rules::scene::{Evidence, ProcessView, Scene, Severity, Verdict};
use ncclscope::sources::files::Inputs;
use serde_json::json;

/// Pids of the workers of any pod: in a namespace of their own they come out alike.
const PIDS: [u32; 4] = [402, 405, 408, 411];

/// The log of one of two pods that serve a model over eight GPUs; its ranks begin at `first`.
fn pod(name: &str, first: u32) -> Vec<String> {
    let mut out = Vec::new();
    let ip = format!("10.42.{}.17", first / 4);
    let workers = || (first..).zip(PIDS);
    let meet = "distributed_init_method=tcp://10.42.0.17:29501 backend=nccl";
    if first == 0 {
        out.push("(APIServer pid=1) INFO 03-11 02:00:00 [api_server.py:1351] vLLM API server version 0.14.1".into());
        out.push("(EngineCore_DP0 pid=271) INFO 03-11 02:00:12 [core.py:93] Initializing a V1 LLM engine (v0.14.1) with config: model='/models/q-72b', tensor_parallel_size=8, pipeline_parallel_size=1, data_parallel_size=1".into());
    } else {
        out.push("(APIServer pid=1) INFO 03-11 02:00:00 [serve.py:212] Launching vLLM (v0.14.1) headless multiproc executor, with head node address 10.42.0.17:29501 for torch.distributed process group.".into());
    }
    for (rank, pid) in workers() {
        let local = rank - first;
        out.push(format!("(Worker pid={pid}) INFO 03-11 02:00:20 [parallel_state.py:1400] world_size=8 rank={rank} local_rank={local} {meet}"));
    }
    for (rank, pid) in workers() {
        let local = rank - first;
        out.push(format!(
            "{name}:{pid}:{pid} [{local}] NCCL INFO Bootstrap: Using eth0:{ip}<0>"
        ));
        out.push(format!(
            "{name}:{pid}:{pid} [{local}] NCCL INFO NCCL version 2.27.5+cuda12.9"
        ));
        for at in ["- Init START", "- Init COMPLETE"] {
            out.push(format!("{name}:{pid}:{pid} [{local}] NCCL INFO ncclCommInitRank comm 0x558a1c0{rank} rank {rank} nranks 8 cudaDev {local} nvmlDev {local} busId {}b000 commId 0x9c0ffee1bb2d420f {at}", local + 1));
        }
    }
    for (rank, pid) in workers() {
        out.push(format!("(Worker pid={pid}) INFO 03-11 02:00:30 [parallel_state.py:1690] rank {rank} in world size 8 is assigned as DP rank 0, PP rank 0, PCP rank 0, TP rank {rank}, EP rank N/A"));
    }
    for (rank, pid) in workers() {
        out.push(format!("(Worker_TP{rank} pid={pid}) INFO 03-11 02:03:00 [gpu_model_runner.py:4130] Model loading took 17.2 GiB memory and 95.3 seconds"));
    }
    if first == 0 {
        out.push("(APIServer pid=1) INFO 03-11 02:03:57 [api_server.py:1970] Starting vLLM API server 0 on http://0.0.0.0:8000".into());
        out.push("(APIServer pid=1) INFO:     Application startup complete.".into());
    }
    out
}

/// Lines of both, by turns.
fn by_turns(a: Vec<String>, b: Vec<String>) -> Vec<String> {
    let (mut a, mut b) = (a.into_iter(), b.into_iter());
    let mut out = Vec::new();
    loop {
        match (a.next(), b.next()) {
            (None, None) => return out,
            (x, y) => out.extend(x.into_iter().chain(y)),
        }
    }
}

/// Both pods in one stream, each line as `dress` puts it for the number of its pod.
fn mixed(dress: &dyn Fn(u32, &str) -> String) -> String {
    let of = |n: u32| {
        let lines = pod(&format!("llm-{n}"), n * 4);
        lines.iter().map(|l| dress(n, l)).collect::<Vec<_>>()
    };
    by_turns(of(0), of(1)).join("\n") + "\n"
}

fn tell(model: &mut Model, event: Event) {
    let (seq, at) = (1, 0);
    update(model, Stamped { seq, at, event });
}

/// What is seen where these logs are all there is.
fn seen(logs: &[(&str, String)]) -> (Model, Scene) {
    let mut model = Model::default();
    let mut say = |event| tell(&mut model, event);
    for (id, (name, _)) in (0..).map(SourceId).zip(logs) {
        let info = SourceInfo {
            name: (*name).to_owned(),
            container: None,
            previous: false,
            started: None,
        };
        say(Event::Source(SourceEvent::Opened(id, info)));
    }
    for (id, (_, text)) in (0..).map(SourceId).zip(logs) {
        // Lines come in blocks of any size.
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for (n, some) in lines.chunks(7).enumerate() {
            let first = n as u64 * 7 + 1;
            let block = Block::new(first, some.concat().into_bytes()).into();
            say(Event::Log(LogBlock { source: id, block }));
        }
    }
    let scene = Scene::of(&model);
    (model, scene)
}

/// Eight ranks on two places, one job, every process once.
fn is_one_job(scene: &Scene, places: [&str; 2]) {
    let ranks = scene.processes.iter().filter_map(|p| {
        let nccl = p.nccl_step.is_some();
        Some((p.global_rank.filter(|_| nccl)?, p.place()))
    });
    let mut ranks: Vec<_> = ranks.collect();
    ranks.sort();
    let want = (0..8u32).map(|r| (r, places[r as usize / 4].to_owned()));
    assert_eq!(ranks, want.collect::<Vec<_>>());
    let workers = |p: &&ProcessView| p.global_rank.is_some() || p.nccl_step.is_some();
    assert_eq!(scene.processes.iter().filter(workers).count(), 8);
    assert_eq!(scene.workloads.len(), 1, "{:#?}", scene.workloads);
    assert_eq!(scene.workloads[0].expected_ranks, Some(8));
    assert_eq!(scene.verdict, Verdict::Healthy, "{}", scene.summary);
    assert_eq!(scene.summary, "all 8 ranks serve");
    assert!(!scene.workloads[0].summary.contains("not here"));
    assert!(!scene.matrices.is_empty());
    for matrix in &scene.matrices {
        assert_eq!(matrix.slots.len(), 8, "{}", matrix.name);
    }
}

#[test]
fn pods_in_one_stream_are_told_apart_by_the_name_in_front_of_their_lines() {
    type Dress = dyn Fn(u32, &str) -> String;
    let pods = ["llm-0", "llm-1"];
    let fluent = |n: u32, l: &str| {
        let (pod, log) = (format!("llm-{n}"), format!("{l}\n"));
        let place = json!({ "pod_name": pod, "namespace_name": "prod", "container_name": "vllm", "host": "node-a", "labels": { "app": "llm" } });
        json!({ "log": log, "stream": "stdout", "_p": "F", "kubernetes": place }).to_string()
    };
    let beat = |n: u32, l: &str| {
        let place = json!({ "pod": { "name": format!("llm-{n}"), "uid": "4f" }, "container": { "name": "vllm" } });
        json!({ "@timestamp": "2026-03-11T02:00:00.000Z", "message": l, "kubernetes": place })
            .to_string()
    };
    let loki = |n: u32, l: &str| {
        let labels = json!({ "container": "vllm", "namespace": "prod", "pod": format!("llm-{n}") });
        json!({ "labels": labels, "line": l, "timestamp": "2026-03-11T02:00:00Z" }).to_string()
    };
    let cloud = |n: u32, l: &str| {
        let labels = json!({ "container_name": "vllm", "pod_name": format!("llm-{n}") });
        json!({ "textPayload": l, "insertId": "x", "resource": { "type": "k8s_container", "labels": labels } })
            .to_string()
    };
    let dresses: [(&str, &Dress, [&str; 2]); 9] = [
        ("fluent-bit", &fluent, pods),
        ("filebeat", &beat, pods),
        ("Loki", &loki, pods),
        ("cloud", &cloud, pods),
        ("kubectl", &|n, l| format!("[pod/llm-{n}/vllm] {l}"), pods),
        ("stern", &|n, l| format!("llm-{n} vllm {l}"), pods),
        (
            "compose",
            &|n, l| format!("vllm-{n}  | {l}"),
            ["llm-0", "llm-1"],
        ),
        ("srun", &|n, l| format!("{n}: {l}"), ["llm-0", "llm-1"]),
        ("pdsh", &|n, l| format!("node{n}: {l}"), ["llm-0", "llm-1"]),
    ];
    for (who, dress, places) in dresses {
        println!("{who}");
        let (_, scene) = seen(&[("-", mixed(dress))]);
        is_one_job(&scene, places);
        // One stream was read, and its lines are counted in it.
        let report = serde_json::to_value(Report::of(&scene, None)).unwrap();
        let sources = report["sources"].as_array().unwrap();
        assert_eq!(sources.len(), 1, "{who}");
        assert_eq!(sources[0]["name"], "-");
        assert!(
            report["processes"]
                .as_array()
                .unwrap()
                .iter()
                .all(|p| p["source"] == "-")
        );
    }
}

#[test]
fn a_stream_that_opens_later_does_not_take_the_place_of_a_pod_in_another() {
    let mut model = Model::default();
    let mut say = |event| tell(&mut model, event);
    let open = |id, name: &str| {
        let info = SourceInfo {
            name: name.to_owned(),
            container: None,
            previous: false,
            started: None,
        };
        Event::Source(SourceEvent::Opened(SourceId(id), info))
    };
    let text = |id, text: String| {
        let block = Block::new(1, text.into_bytes()).into();
        Event::Log(LogBlock {
            source: SourceId(id),
            block,
        })
    };
    say(open(0, "all.log"));
    say(text(0, mixed(&|n, l| format!("[pod/llm-{n}/vllm] {l}"))));
    say(open(1, "late.log"));
    say(text(1, pod("other-0", 0).join("\n")));
    let scene = Scene::of(&model);
    let names: Vec<_> = scene.streams().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["all.log", "late.log"]);
    let of = |place: &str| {
        let here = scene.processes.iter().filter(|p| p.place() == place);
        here.filter(|p| p.nccl_step.is_some()).count()
    };
    assert_eq!([of("llm-0"), of("llm-1"), of("other-0")], [4, 4, 4]);
}

#[test]
fn pods_without_names_are_told_apart_by_host_and_rank_and_the_rest_is_said_to_be_unclear() {
    let mut text = mixed(&|_, l| l.to_owned());
    // A line of a worker's that may be either's.
    text.push_str(
        "(Worker pid=402) INFO 03-11 02:03:58 [pynccl.py:111] vLLM is using nccl==2.27.5\n",
    );
    let (_, scene) = seen(&[("all.log", text)]);
    is_one_job(&scene, ["llm-0", "llm-1"]);
    assert_eq!(scene.sources[0].unclear_lines, 1);
}

#[test]
fn what_is_plainly_no_log_is_passed_over_in_a_folder_and_read_where_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let log = pod("llm-0", 0).join("\n");
    put("llm-0.log", &log);
    put(
        "docker.json",
        "{\"log\":\"llm-0:1:1 [0] NCCL INFO Bootstrap: Using eth0:10.0.0.1<0>\\n\",\"stream\":\"stdout\",\"time\":\"2026-03-11T02:00:00.1Z\"}\n",
    );
    let (_, scene) = seen(&[("llm-0.log", log.clone())]);
    put("gen.py", &format!("LOG = '''{log}'''\n"));
    put(
        "page.html",
        "<!doctype html>\n<pre>llm-0:1:1 [0] NCCL WARN x</pre>\n",
    );
    put("conf.json", "{\n  \"a\": 1\n}\n");
    let saved = serde_json::to_string_pretty(&Report::of(&scene, None)).unwrap();
    put("r.json", &saved);
    put(
        "r.out",
        &serde_json::to_string(&Report::of(&scene, None)).unwrap(),
    );
    put(
        "r.txt",
        "FAILED  GPU 2 of llm-0 ran out of memory\n\n 1  error    GPU 2 of llm-0 ran out of memory\n",
    );
    put(
        "m.txt",
        "# FAILED: GPU 2 of llm-0 ran out of memory\n\n## 1. ERROR\n",
    );
    // A log may speak of what it is not.
    put(
        "own.txt",
        "FAILED  to open\nllm-0:1:1 [0] NCCL INFO Bootstrap: Using eth0:10.0.0.1<0>\n",
    );
    let found = Inputs::find(&[dir.path().to_owned()]).unwrap();
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let names: Vec<_> = found.list.iter().map(|i| name(&i.name)).collect();
    assert_eq!(names, ["docker.json", "llm-0.log", "own.txt"]);
    let skipped: Vec<_> = found.skipped.iter().map(|s| name(s)).collect();
    assert_eq!(
        skipped,
        [
            "conf.json: a JSON document, no log",
            "gen.py: source code",
            "m.txt: a report of this program",
            "page.html: a page, no log",
            "r.json: a report of this program",
            "r.out: a report of this program",
            "r.txt: a report of this program",
        ]
    );
    let named = Inputs::find(&[dir.path().join("gen.py"), dir.path().join("r.json")]).unwrap();
    assert_eq!(named.list.len(), 2);
}

/// A pod's log up to where its ranks wait for the others in NCCL's rendezvous.
fn waiting(name: &str, first: u32) -> Vec<String> {
    let all = pod(name, first).into_iter();
    all.take_while(|l| !l.contains("assigned as"))
        .filter(|l| !l.contains("Init COMPLETE"))
        .collect()
}

const WAITS: [&str; 4] = ["02:01:30", "02:02:30", "02:03:30", "02:04:30"];

fn waits(log: &mut Vec<String>) {
    log.extend(WAITS.map(|at| format!("(EngineCore_DP0 pid=271) INFO 03-11 {at} [shm_broadcast.py:681] No available shared memory broadcast block found in 60 seconds. This typically happens when some processes are hanging.")));
}

/// The same with a stamp of the kubelet's that grows by a second per line, and by what the log's own says.
fn stamped(log: &[String]) -> String {
    let stamp = |(n, l): (usize, &String)| {
        let at = WAITS.iter().find(|at| l.contains(*at));
        let at = at.map_or_else(|| format!("02:00:{:02}", n.min(59)), |at| (*at).to_owned());
        format!("2026-03-11T{at}.000001Z {l}\n")
    };
    log.iter().enumerate().map(stamp).collect()
}

#[test]
fn a_pod_whose_ranks_never_come_is_found_in_its_log_of_one_line() {
    let mut head = waiting("llm-0", 0);
    waits(&mut head);
    let late = waiting("llm-1", 4)[..1].to_vec();
    for stamps in [false, true] {
        let text = |log: &[String]| match stamps {
            true => stamped(log),
            false => log.join("\n") + "\n",
        };
        let (_, scene) = seen(&[("llm-0.log", text(&head)), ("llm-1.log", text(&late))]);
        assert_eq!(scene.workloads.len(), 1);
        assert_eq!(scene.workloads[0].expected_ranks, Some(8));
        let comm = &scene.communicators[0];
        assert_eq!(comm.missing_ranks.as_deref(), Some(&[4, 5, 6, 7][..]));
        let f = scene.findings.iter().find(|f| f.id == "nccl.missing-ranks");
        let f = f.unwrap_or_else(|| panic!("not found: {}", scene.summary));
        assert_eq!(f.severity, Severity::Error, "{f:#?}");
        assert!(f.title.contains("ranks 4-7 of 8"), "{}", f.title);
        assert!(f.cause.contains("llm-1.log"), "{}", f.cause);
        assert!(
            f.cause.contains("4 of 8 ranks printed Init START"),
            "{}",
            f.cause
        );
        let lines = f.evidence().iter().filter_map(|e| match e {
            Evidence::Line(l) => Some((scene.sources[l.source as usize].name.as_str(), l)),
            _ => None,
        });
        // What should hold them says so itself.
        assert!(
            lines
                .clone()
                .any(|(name, l)| name == "llm-1.log" && l.text.contains("headless"))
        );
        assert_eq!(scene.verdict, Verdict::Degraded, "{}", scene.summary);
        assert!(
            !scene.summary.contains("no rank has spoken"),
            "{}",
            scene.summary
        );
    }
}

#[test]
fn a_rank_that_prints_nothing_beside_three_that_wait_is_found_by_the_place_it_leaves() {
    let quiet = |first| {
        let mut log = waiting("llm-1", first);
        log.retain(|l| !l.contains("pid=405") && !l.contains(":405:"));
        log
    };
    let head = waiting("llm-0", 0);
    let scene = |head: &[String], text: &dyn Fn(&[String]) -> String| {
        seen(&[("llm-0.log", text(head)), ("llm-1.log", text(&quiet(4)))]).1
    };
    let plain = |log: &[String]| log.join("\n") + "\n";
    let found = |scene: &Scene| {
        let all = scene.findings.iter();
        let mut all = all.filter(|f| f.id == "nccl.missing-ranks");
        all.next().map(|f| (f.severity, f.title.clone()))
    };
    // Nothing says how long they have been waiting: what is known is said, and nobody is accused.
    let one = scene(&head, &plain);
    assert_eq!(
        one.communicators[0].missing_ranks.as_deref(),
        Some(&[5][..])
    );
    let said = "rank 5 of 8 has printed nothing; 7 ranks wait for it";
    assert_eq!(found(&one), Some((Severity::Info, said.to_owned())));
    assert_eq!(one.verdict, Verdict::Starting);
    // A few seconds of waiting are none.
    assert_eq!(found(&scene(&head, &stamped)), None);
    let mut long = head.clone();
    waits(&mut long);
    for text in [&plain as &dyn Fn(&[String]) -> String, &stamped] {
        let long = scene(&long, text);
        let (severity, title) = found(&long).unwrap();
        assert_eq!(severity, Severity::Error);
        assert_eq!(title, "rank 5 of 8 has not come to the rendezvous");
    }
    // The other pod's log is not here: whose ranks are missing can't be told.
    let (_, alone) = seen(&[("llm-0.log", plain(&long))]);
    assert_eq!(found(&alone), None);
}
