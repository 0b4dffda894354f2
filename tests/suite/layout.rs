//! How the job is cut, as pods are told it before they speak: command lines in all their spellings, environment,
//! launchers (`vllm.md` 4); where each rank belongs; who says what, and who disagrees.

#[path = "layout/file.rs"]
mod file;
#[path = "layout/ray.rs"]
mod ray;
#[path = "layout/words.rs"]
mod words;

use std::collections::BTreeMap;

use ncclscope::model::event::{
    Command as Key, ContainerView, Event, Feed, LogBlock, PodEvent, PodView, Session, SourceEvent,
    SourceId, SourceInfo, Stamped, WorkloadView,
};
use ncclscope::model::event::{ContainerKey, PodKey};
use ncclscope::model::screen::PaneId;
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::report::{Report, json};
use ncclscope::rules::layout::{Sizes, Voice};
use ncclscope::rules::scene::Scene;
use ncclscope::sources::sim;

use crate::screens::snapshot;
use crate::stage;

/// A job on a cluster of the test's own.
struct Job {
    model: Model,
    seq: u64,
}

fn pod(
    name: &str,
    labels: &[(&str, &str)],
    gpus: u32,
    argv: &[&str],
    env: &[(&str, &str)],
) -> PodView {
    let number: u32 = name
        .rsplit('-')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    PodView {
        namespace: "prod".into(),
        name: name.into(),
        node: Some(format!("node-{number}")),
        phase: "Running".into(),
        pod_ip: Some(format!("10.42.0.{}", 10 + number)),
        labels: labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        containers: vec![ContainerView {
            name: "vllm".into(),
            gpus,
            args: argv.iter().map(|a| (*a).to_owned()).collect(),
            env: env
                .iter()
                .map(|(k, v)| ((*k).to_owned(), Some((*v).to_owned())))
                .collect(),
            ..ContainerView::default()
        }],
        ..PodView::default()
    }
}

const LWS: &str = "leaderworkerset.sigs.k8s.io/name";
const INDEX: &str = "leaderworkerset.sigs.k8s.io/worker-index";

impl Job {
    fn of(pods: Vec<PodView>) -> Self {
        let mut job = Self {
            model: Model::default(),
            seq: 0,
        };
        job.send(Event::Session(Session {
            feed: Feed::Cluster,
            workload: Some("lws/llm".into()),
            ..Session::default()
        }));
        job.send(Event::Workloads(vec![WorkloadView {
            namespace: "prod".into(),
            kind: "lws".into(),
            name: "llm".into(),
            expected: u32::try_from(pods.len()).ok(),
            ..WorkloadView::default()
        }]));
        job.send(Event::Pod(PodEvent::Resync));
        for p in pods {
            job.send(Event::Pod(PodEvent::Upsert(Box::new(p))));
        }
        job.send(Event::Pod(PodEvent::Synced));
        job
    }

    fn send(&mut self, event: Event) {
        self.seq += 1;
        let at = 1_700_000_000_000_000_000;
        update(
            &mut self.model,
            Stamped {
                seq: self.seq,
                at,
                event,
            },
        );
    }

    fn says(&mut self, id: u32, pod: &str, log: &str) {
        let container = ContainerKey {
            pod: PodKey {
                namespace: "prod".into(),
                name: pod.into(),
            },
            container: "vllm".into(),
        };
        let source = SourceId(id);
        self.send(Event::Source(SourceEvent::Opened(
            source,
            SourceInfo {
                name: format!("prod/{pod}/vllm"),
                container: Some(container),
                previous: false,
                started: None,
            },
        )));
        let block = std::sync::Arc::new(Block::new(1, log.as_bytes().to_vec()));
        self.send(Event::Log(LogBlock { source, block }));
    }

    fn scene(&self) -> Scene {
        Scene::of(&self.model)
    }
}

/// Pod and the ranks that belong into it, or why that is open.
fn seats(scene: &Scene) -> Vec<(String, String)> {
    let all = scene.layout.engines.iter().flat_map(|e| &e.seats);
    all.map(|s| {
        let ranks = match (&s.open, s.ranks.as_slice()) {
            (Some(why), _) => why.clone(),
            (None, [one]) => one.to_string(),
            (None, [first, .., last]) => format!("{first}-{last}"),
            (None, []) => "none".into(),
        };
        (s.pod.clone(), ranks)
    })
    .collect()
}

fn value(scene: &Scene, name: &str) -> (String, Voice, usize) {
    let t = scene.layout.engines[0]
        .values
        .iter()
        .find(|t| t.name == name);
    let t = t.unwrap_or_else(|| panic!("{name}: {:?}", scene.layout.engines[0].values));
    (t.value.clone(), t.voice, t.against.len())
}

/// The JSON report of a scene.
fn report(scene: &Scene) -> serde_json::Value {
    let mut out = Vec::new();
    let page = Report::of(scene, None);
    json::write(&mut out, &page, &std::cell::RefCell::default()).unwrap();
    serde_json::from_slice(&out).unwrap()
}

/// Two nodes of one engine: everything is known before anybody speaks, and the report carries it.
#[test]
fn pods_without_a_line_have_their_place() {
    let script = "exec vllm serve /models/m --tensor-parallel-size 8 -pp=2 --nnodes $(LWS_GROUP_SIZE) --node-rank $LWS_WORKER_INDEX --master-addr $LWS_LEADER_ADDRESS";
    let one = |i: &str| {
        let mut p = pod(
            &format!("llm-{i}"),
            &[(LWS, "llm"), (INDEX, i)],
            8,
            &["bash", "-c", script],
            &[
                ("LWS_LEADER_ADDRESS", "llm-0.llm.prod"),
                ("LWS_GROUP_SIZE", "2"),
            ],
        );
        // As the controller writes it: from the pod's own label.
        p.containers[0].env.push(("LWS_WORKER_INDEX".into(), None));
        p
    };
    let job = Job::of(vec![one("0"), one("1")]);
    let scene = job.scene();
    assert!(scene.processes.is_empty());
    assert_eq!(
        seats(&scene),
        [
            ("llm-0".into(), "0-7".into()),
            ("llm-1".into(), "8-15".into())
        ]
    );
    assert_eq!(value(&scene, "TP"), ("8".into(), Voice::CommandLine, 0));
    assert_eq!(value(&scene, "nodes"), ("2".into(), Voice::CommandLine, 0));
    assert_eq!(
        value(&scene, "master"),
        ("llm-0.llm.prod".into(), Voice::CommandLine, 0)
    );
    let w = &scene.workloads[0];
    assert_eq!(
        (w.sizes, w.expected_ranks),
        ([Some(8), Some(2), Some(1), None], Some(16))
    );
    let names: Vec<&str> = scene.groups.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(names.len(), 1 + 2 + 8, "{names:?}");
    let report = report(&scene);
    assert_eq!(report["workloads"][0]["sizes"]["tp"], 8);
    assert_eq!(report["groups"][1]["name"], "tp:0");
    assert_eq!(report["layout"][0]["pods"][1]["global_ranks"][0], 8);
    assert_eq!(report["layout"][0]["values"][0]["from"], "command-line");
    for (w, h) in [(80, 24), (200, 50)] {
        let mut model = stage::model(w, h);
        for key in [
            Key::Pane(PaneId::Ranks.id().into()),
            Key::Toggle("grid".into()),
        ] {
            stage::act(&scene, &mut model, &[key]);
        }
        snapshot(
            &format!("layout-before-a-line-{w}x{h}"),
            &stage::photograph(&scene, &model),
        );
    }
}

/// A log line goes before the command line, the command line before the environment; who disagrees is named.
#[test]
fn the_most_trusted_voice_wins_and_disagreement_is_said() {
    let one = |i: &str, rank: &str| {
        pod(
            &format!("llm-{i}"),
            &[(LWS, "llm"), (INDEX, i)],
            4,
            &[
                "vllm",
                "serve",
                "/models/m",
                "-tp",
                "8",
                "--nnodes",
                "2",
                "--node-rank",
                rank,
            ],
            &[
                ("LWS_GROUP_SIZE", "4"),
                ("LWS_WORKER_INDEX", i),
                ("MASTER_ADDR", "10.42.0.10"),
            ],
        )
    };
    let mut job = Job::of(vec![one("0", "0"), one("1", "0")]);
    let scene = job.scene();
    assert_eq!(value(&scene, "nodes"), ("2".into(), Voice::CommandLine, 1));
    assert_eq!(value(&scene, "master").1, Voice::Env);
    let said: Vec<String> = scene.layout.disputed().map(|t| t.dispute()).collect();
    assert_eq!(
        said,
        [
            "nodes: llm-0: --nnodes=2, but llm-0, llm-1: LWS_GROUP_SIZE=4 (environment)",
            "node rank: llm-1: --node-rank=0, but llm-1: LWS_WORKER_INDEX=1 (environment)",
        ]
    );
    job.says(
        0,
        "llm-0",
        "INFO 05-03 11:20:07 [parallel_state.py:1400] world_size=16 rank=0 local_rank=0 distributed_init_method=tcp://10.42.0.11:29501 backend=nccl\n\
         INFO 05-03 11:20:01 [core.py:77] Initializing a V1 LLM engine (v0.11.2) with config: model='/models/m', tensor_parallel_size=4, pipeline_parallel_size=4, dtype=torch.bfloat16\n",
    );
    let scene = job.scene();
    assert_eq!(value(&scene, "TP"), ("4".into(), Voice::Log, 1));
    assert_eq!(value(&scene, "PP"), ("4".into(), Voice::Log, 0));
    // Two addresses are compared as addresses; the log's is the other pod's.
    assert_eq!(
        value(&scene, "master"),
        ("10.42.0.11".into(), Voice::Log, 1)
    );
}

#[test]
fn data_parallel_pods_start_where_they_are_told() {
    let args = |i: u32| {
        let mut a: Vec<String> = [
            "vllm",
            "serve",
            "/m",
            "-dp",
            "8",
            "-dpl",
            "4",
            "-tp",
            "2",
            "-dpa",
            "10.42.0.10",
            "-ep",
        ]
        .map(String::from)
        .to_vec();
        if i > 0 {
            a.extend([
                "--headless".into(),
                "--data-parallel-start-rank".into(),
                (i * 4).to_string(),
            ]);
        }
        a
    };
    let pods = (0..2).map(|i| {
        let a = args(i);
        let words: Vec<&str> = a.iter().map(String::as_str).collect();
        pod(&format!("llm-{i}"), &[], 8, &words, &[])
    });
    let scene = Job::of(pods.collect()).scene();
    assert_eq!(
        seats(&scene),
        [
            ("llm-0".into(), "0-7".into()),
            ("llm-1".into(), "8-15".into())
        ]
    );
    assert_eq!(value(&scene, "DP head").0, "10.42.0.10");
    assert_eq!(value(&scene, "EP").0, "on");
    assert!(
        scene
            .groups
            .iter()
            .any(|g| g.name == "ep:0" && g.global_ranks.len() == 16)
    );
    // One rank a pod, by environment.
    let pods = (0..4).map(|i| {
        let rank = i.to_string();
        pod(
            &format!("dp-{i}"),
            &[],
            2,
            &[
                "python3",
                "-m",
                "vllm.entrypoints.openai.api_server",
                "--model",
                "/m",
                "-tp=2",
            ],
            &[
                ("VLLM_DP_SIZE", "4"),
                ("VLLM_DP_RANK", &rank),
                ("VLLM_DP_MASTER_IP", "10.42.0.10"),
            ],
        )
    });
    let scene = Job::of(pods.collect()).scene();
    assert_eq!(seats(&scene)[3], ("dp-3".into(), "6-7".into()));
    assert_eq!(value(&scene, "DP"), ("4".into(), Voice::Env, 0));
}

#[test]
fn launchers_by_environment_and_ray() {
    // PyTorchJob: the controller's RANK and WORLD_SIZE count pods.
    let script = "torchrun --nproc-per-node=4 --nnodes=$WORLD_SIZE --node-rank=$RANK --master-addr=$MASTER_ADDR serve.py --tensor-parallel-size=4 --pipeline-parallel-size=2 --distributed-executor-backend=external_launcher";
    let names = ["job-master-0", "job-worker-0"];
    let pods = names.iter().enumerate().map(|(i, name)| {
        let rank = i.to_string();
        let kind = if i == 0 { "master" } else { "worker" };
        pod(
            name,
            &[
                ("training.kubeflow.org/job-name", "job"),
                (
                    "training.kubeflow.org/operator-name",
                    "pytorchjob-controller",
                ),
                ("training.kubeflow.org/replica-type", kind),
                ("training.kubeflow.org/replica-index", "0"),
            ],
            4,
            &["sh", "-c", script],
            &[
                ("RANK", &rank),
                ("WORLD_SIZE", "2"),
                ("MASTER_ADDR", "job-master-0"),
                ("MASTER_PORT", "23456"),
            ],
        )
    });
    let scene = Job::of(pods.collect()).scene();
    assert_eq!(
        seats(&scene),
        [
            ("job-master-0".into(), "0-3".into()),
            ("job-worker-0".into(), "4-7".into())
        ]
    );
    assert_eq!(
        value(&scene, "master"),
        ("job-master-0".into(), Voice::CommandLine, 0)
    );
    assert_eq!(
        value(&scene, "master port"),
        ("23456".into(), Voice::Env, 0)
    );
    // JobSet: an Indexed Job's index is the node rank.
    let pods = (0..2).map(|i: u32| {
        let index = i.to_string();
        let mut p = pod(
            &format!("js-{i}"),
            &[
                ("jobset.sigs.k8s.io/jobset-name", "js"),
                ("jobset.sigs.k8s.io/replicatedjob-name", "w"),
                ("batch.kubernetes.io/job-completion-index", &index),
            ],
            8,
            &["bash", "-c", "vllm serve /m -tp 16 --nnodes 2 --node-rank ${JOB_COMPLETION_INDEX} --master-addr js-w-0-0.js"],
            &[],
        );
        p.containers[0].env.push(("JOB_COMPLETION_INDEX".into(), None));
        p
    });
    assert_eq!(
        seats(&Job::of(pods.collect()).scene())[1],
        ("js-1".into(), "8-15".into())
    );
    // Ray decides when it starts; nobody guesses.
    let head = "bash multi-node-serving.sh leader --ray_cluster_size=2; vllm serve /m -tp 8 -pp 2";
    let pods = [
        ("0", head),
        (
            "1",
            "bash multi-node-serving.sh worker --ray_address=$LWS_LEADER_ADDRESS",
        ),
    ]
    .map(|(i, script)| {
        pod(
            &format!("llm-{i}"),
            &[(LWS, "llm"), (INDEX, i)],
            8,
            &["sh", "-c", script],
            &[("LWS_LEADER_ADDRESS", "llm-0.llm"), ("LWS_GROUP_SIZE", "2")],
        )
    });
    let scene = Job::of(pods.into()).scene();
    assert_eq!(
        seats(&scene),
        [
            (
                "llm-0".into(),
                "head of the Ray cluster: Ray numbers the ranks when they start".into()
            ),
            (
                "llm-1".into(),
                "joins the Ray cluster: Ray numbers the ranks when they start".into()
            ),
        ]
    );
    assert_eq!(value(&scene, "nodes"), ("2".into(), Voice::CommandLine, 0));
    assert_eq!(value(&scene, "Ray head").0, "llm-0.llm");
    assert_eq!(scene.workloads[0].expected_ranks, Some(16));
}

/// What is left to a file or a shell has no default, and it is said where the sizes stand; a line tells them.
#[test]
fn an_open_command_line_says_nothing() {
    let file =
        "llm-0: the sizes are in /etc/vllm.yaml, which --config names and nothing here has read";
    let serve = ["vllm", "serve", "/m"];
    for (more, why) in [
        (&["--config", "/etc/vllm.yaml"][..], Some(file)),
        // What the file says beside it is not known either.
        (&["--config=/etc/vllm.yaml", "-tp", "8"], Some(file)),
        (
            &["-tp", "$TP"],
            Some("llm-0: --tensor-parallel-size=$TP is left to a shell"),
        ),
        (
            &["-tp", "8", "-dp=$DP"],
            Some("llm-0: --data-parallel-size=$DP is left to a shell"),
        ),
    ] {
        let argv: Vec<&str> = serve.iter().chain(more).copied().collect();
        let mut job = Job::of(vec![pod("llm-0", &[], 8, &argv, &[])]);
        let scene = job.scene();
        assert_eq!(scene.layout.sizes, None, "{more:?}");
        assert_eq!(scene.layout.engines[0].open.as_deref(), why, "{more:?}");
        assert_eq!(seats(&scene)[0].1, why.unwrap(), "{more:?}");
        let report = report(&scene);
        assert_eq!(report["layout"][0]["open"].as_str(), why, "{more:?}");
        assert!(report["workloads"].as_array().unwrap().is_empty());
        let mut model = stage::model(120, 40);
        for key in [
            Key::Pane(PaneId::Ranks.id().into()),
            Key::Toggle("grid".into()),
        ] {
            stage::act(&scene, &mut model, &[key]);
        }
        let shot = stage::photograph(&scene, &model);
        assert!(shot.contains(why.unwrap()), "{shot}");
        job.says(
            0,
            "llm-0",
            "(EngineCore pid=150) INFO 06-02 10:00:20 [core.py:115] Initializing a V1 LLM engine (v0.22.0) with config: model='/m', tensor_parallel_size=4, pipeline_parallel_size=2, data_parallel_size=1\n",
        );
        let scene = job.scene();
        assert_eq!(scene.layout.sizes.map(|s| (s.tp, s.pp)), Some((4, 2)));
        assert_eq!(scene.layout.engines[0].open, None);
    }
    // A command line that says all of it needs no file.
    let argv: Vec<&str> = "vllm serve /m --config f.yaml -tp 4 -pp 2 -dp 1"
        .split(' ')
        .collect();
    let scene = Job::of(vec![pod("llm-0", &[], 8, &argv, &[])]).scene();
    assert_eq!(scene.layout.sizes.map(Sizes::world), Some(8));
    let scene = Job::of(vec![pod(
        "llm-0",
        &[],
        8,
        &["python3", "/app/main.py"],
        &[],
    )])
    .scene();
    assert_eq!(scene.layout.sizes, None);
    let scene = Job::of(vec![pod("llm-0", &[], 1, &["vllm", "serve", "/m"], &[])]).scene();
    assert_eq!(scene.layout.sizes.map(Sizes::world), Some(1));
}

/// Context parallelism: groups as vLLM names them, in the order in which it makes them.
#[test]
fn context_parallel_groups_are_groups() {
    let argv = [
        "vllm",
        "serve",
        "/m",
        "-tp",
        "4",
        "-pcp",
        "2",
        "-dcp=2",
        "--nnodes=2",
        "--node-rank",
    ];
    let pods = (0..2).map(|i: u32| {
        let rank = i.to_string();
        let mut words = argv.to_vec();
        words.push(&rank);
        pod(&format!("llm-{i}"), &[], 4, &words, &[])
    });
    let mut job = Job::of(pods.collect());
    let scene = job.scene();
    let groups: BTreeMap<&str, &[u32]> = scene
        .groups
        .iter()
        .map(|g| (g.name.as_str(), g.global_ranks.as_slice()))
        .collect();
    assert_eq!(groups["tp:1"], [4, 5, 6, 7]);
    assert_eq!(groups["dcp:1"], [2, 3]);
    assert_eq!(groups["pcp:3"], [3, 7]);
    let kinds: Vec<&str> = scene.groups.iter().map(|g| g.kind).collect();
    assert_eq!(kinds.iter().filter(|k| **k == "dcp").count(), 4);
    assert!(kinds.iter().position(|k| *k == "dcp") < kinds.iter().position(|k| *k == "pcp"));
    assert_eq!(
        scene.workloads[0].cut(),
        ["TP 4", "PP 1", "DP 1", "PCP 2", "DCP 2"]
    );
    job.says(
        0,
        "llm-1",
        "(Worker_PCP1_TP3_DCP1 pid=77) INFO 11-03 11:20:07 [parallel_state.py:1400] world_size=8 rank=7 local_rank=3 distributed_init_method=tcp://10.42.0.10:29501 backend=nccl\n\
         (Worker_PCP1_TP3_DCP1 pid=77) INFO 11-03 11:20:09 [parallel_state.py:1713] rank 7 in world size 8 is assigned as DP rank 0, PP rank 0, PCP rank 1, TP rank 3, EP rank N/A\n",
    );
    let scene = job.scene();
    let p = scene
        .processes
        .iter()
        .find(|p| p.global_rank == Some(7))
        .unwrap();
    assert_eq!((p.pcp, p.tp, p.dcp), (Some(1), Some(3), Some(1)));
    let report = report(&scene);
    assert_eq!(report["workloads"][0]["sizes"]["pcp"], 2);
    assert_eq!(report["workloads"][0]["sizes"]["dcp"], 2);
    assert!(
        report["groups"]
            .as_array()
            .unwrap()
            .iter()
            .any(|g| g["name"] == "dcp:0")
    );
    let mut model = stage::model(120, 40);
    for key in [
        Key::Pane(PaneId::Ranks.id().into()),
        Key::Toggle("grid".into()),
    ] {
        stage::act(&scene, &mut model, &[key]);
    }
    snapshot(
        "layout-context-parallel-120x40",
        &stage::photograph(&scene, &model),
    );
}

/// In the demo the logs confirm what the command lines say, and nobody disagrees where nobody should.
#[test]
fn logs_confirm_the_command_lines_of_the_demo() {
    let s = sim::load("healthy").unwrap();
    let mut model = Model::default();
    let mut early = None;
    for (seq, (at, event)) in (1..).zip(sim::events(&s)) {
        if early.is_none() && matches!(event, Event::Log(_)) {
            early = Some(Scene::of(&model));
        }
        update(&mut model, Stamped { seq, at, event });
    }
    let early = early.unwrap();
    let late = Scene::of(&model);
    assert!(early.processes.is_empty());
    // Whether the model has experts, only the ranks say.
    let cut = |s: &Scene| s.layout.sizes.map(|s| (s.tp, s.pp, s.dp, s.pcp, s.dcp));
    assert_eq!(cut(&early), cut(&late));
    assert_eq!(value(&early, "TP").1, Voice::CommandLine);
    let tp = late.layout.engines[0]
        .values
        .iter()
        .find(|t| t.name == "TP")
        .unwrap();
    assert_eq!(
        (tp.voice, tp.also.as_slice()),
        (Voice::Log, &[Voice::CommandLine][..])
    );
    let said: Vec<String> = late.layout.disputed().map(|t| t.dispute()).collect();
    assert!(said.is_empty(), "{said:?}");
    // Every rank that spoke is where its pod's command line puts it.
    for p in late.processes.iter().filter(|p| p.global_rank.is_some()) {
        let seats = late.layout.engines.iter().flat_map(|e| &e.seats);
        let seat = seats
            .into_iter()
            .find(|s| Some(&s.pod) == p.pod.as_ref())
            .unwrap();
        assert!(
            seat.ranks.contains(&p.global_rank.unwrap()),
            "{:?} {:?}",
            p.pod,
            p.global_rank
        );
    }
}
