//! What stands in the file that `vllm serve --config` names (`vllm.md` 4.5): read in the pod by a script, or in the
//! ConfigMap that it is mounted from; the command line counts more.

use std::process::Command as Shell;
use std::time::Duration;

use ncclscope::model::event::{
    ContainerKey, ContainerView, Event, Mount, PodKey, ProbeEvent, ProbeOutcome, Stamped,
};
use ncclscope::model::{Model, update};
use ncclscope::parse::probe::config::{LARGEST, kept};
use ncclscope::parse::probe::{Answer, ServeConfig, answer};
use ncclscope::rules::layout::{Sizes, Voice};
use ncclscope::rules::probes::{FILE, FILE_MAP, get};
use ncclscope::rules::scene::{CheckVerdict, Scene};
use ncclscope::sources::cluster::{ClusterOptions, Director, configfile, connect};
use ncclscope::sources::gate::Setup;
use proptest::prelude::*;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Job, pod, report, seats, value};
use crate::cluster;
use crate::fakeapi::{Answer as Reply, FakeApi};

const PATH: &str = "/etc/vllm.yaml";
const CUT: &str = "# the cut\nmodel: /models/m\ntensor-parallel-size: 4 # a node\npipeline_parallel_size: 2\ndata_parallel_size: 1\n\
    enable-expert-parallel: true\nheadless: false\ngpu-memory-utilization: 0.85\napi-key: sk-verysecret\n\
    compilation-config:\n  tensor-parallel-size: 64\nlora-modules:\n- a\n- b\n";

fn key() -> ContainerKey {
    ContainerKey {
        pod: PodKey {
            namespace: "prod".into(),
            name: "llm-0".into(),
        },
        container: "vllm".into(),
    }
}

impl Job {
    fn probed(&mut self, probe: &str, outcome: ProbeOutcome) {
        self.send(Event::Probe(ProbeEvent {
            probe: probe.into(),
            container: Some(key()),
            ran: probe.into(),
            outcome,
        }));
    }
}

fn answered(out: String) -> ProbeOutcome {
    ProbeOutcome::Answered {
        code: 0,
        out,
        err: String::new(),
        cut: false,
        ms: 1,
    }
}

fn job(more: &[&str]) -> Job {
    let mut argv = vec!["vllm", "serve", "--config", PATH];
    argv.extend(more);
    Job::of(vec![pod("llm-0", &[], 8, &argv, &[])])
}

fn why(scene: &Scene) -> String {
    scene.layout.engines[0].open.clone().unwrap_or_default()
}

/// What the script says of a file of this text.
fn run(text: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.yaml");
    std::fs::write(&path, text).unwrap();
    let said = script(path.to_str().unwrap());
    said.replace(path.to_str().unwrap(), PATH)
}

fn script(path: &str) -> String {
    let out = Shell::new("sh")
        .args(["-c", get(FILE).unwrap().script, "ncclscope", path])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    String::from_utf8(out.stdout).unwrap()
}

fn read(out: &str) -> ServeConfig {
    match answer(FILE, out) {
        Some(Answer::ServeConfig(file)) => file,
        other => panic!("{other:?}"),
    }
}

/// Sizes come from the file where the command line is silent, and say so; what the command line says wins.
#[test]
fn the_file_says_what_the_command_line_does_not() {
    for (probe, more, tp, from) in [
        (FILE, &[][..], 4, Voice::ConfigFile),
        (FILE_MAP, &[], 4, Voice::ConfigFile),
        (FILE, &["-tp", "2"], 2, Voice::CommandLine),
    ] {
        let mut job = job(more);
        assert!(why(&job.scene()).ends_with("nothing here has read"));
        job.probed(probe, answered(kept(PATH, CUT)));
        let scene = job.scene();
        assert_eq!(
            scene.layout.sizes.map(Sizes::world),
            Some(tp * 2),
            "{more:?}"
        );
        assert_eq!(value(&scene, "TP"), (tp.to_string(), from, 0));
        assert_eq!(value(&scene, "PP"), ("2".into(), Voice::ConfigFile, 0));
        assert_eq!(value(&scene, "EP").0, "on");
        assert_eq!(scene.layout.engines[0].open, None);
        assert_eq!(seats(&scene)[0].1, format!("0-{}", tp * 2 - 1));
        let report = report(&scene);
        let told = report["layout"][0]["values"].as_array().unwrap();
        let pp = told.iter().find(|t| t["name"] == "PP").unwrap();
        assert_eq!(pp["from"], "config-file", "{pp}");
        assert_eq!(
            pp["by"],
            format!("llm-0: pipeline-parallel-size: 2 in {PATH}")
        );
        assert_eq!(scene.workloads[0].model.as_deref(), Some("/models/m"));
    }
    // A log line still goes before all of them.
    let mut job = job(&[]);
    job.probed(FILE, answered(kept(PATH, CUT)));
    job.says(0, "llm-0", "(EngineCore pid=150) INFO 06-02 10:00:20 [core.py:115] Initializing a V1 LLM engine (v0.22.0) with config: model='/m', tensor_parallel_size=8, pipeline_parallel_size=1, data_parallel_size=1\n");
    let scene = job.scene();
    assert_eq!(value(&scene, "TP"), ("8".into(), Voice::Log, 1));
}

/// A file that was not read whole gives no defaults: why is said, and nothing is concluded.
#[test]
fn what_was_not_read_whole_has_no_defaults() {
    let failed = |why: &str| ProbeOutcome::Failed { why: why.into() };
    for (outcome, said) in [
        (
            answered("absent\t/etc/vllm.yaml\n".into()),
            "it is not there",
        ),
        (
            answered("denied\t/etc/vllm.yaml\n".into()),
            "it may not be read",
        ),
        (
            answered("at\t/etc/vllm.yaml\t300000\nlong\n".into()),
            "it is larger than 256 KiB",
        ),
        (
            answered("at\t/etc/vllm.yaml\t9\nline\ttensor-parallel-size: 8\n".into()),
            "its end did not come",
        ),
        (
            answered(kept(PATH, "{tensor-parallel-size: 8}\n")),
            "1 line of it is no plain `name: value`",
        ),
        (
            answered(kept(
                PATH,
                "<<: *all\ntensor-parallel-size: 8\n---\nmodel: x\n",
            )),
            "2 lines of it are no plain `name: value`",
        ),
        (
            answered(kept(PATH, "tensor-parallel-size: *tp\n")),
            "it is no YAML that can be read line by line",
        ),
        (
            answered(kept(PATH, "tensor-parallel-size: [8, 4]\n")),
            "its tensor-parallel-size is no plain value",
        ),
        (
            answered(kept(PATH, "tensor-parallel-size:\n  8\n")),
            "its tensor-parallel-size is no plain value",
        ),
        (failed("timed out after 15 s"), "timed out after 15 s"),
    ] {
        let mut job = job(&[]);
        job.probed(FILE, outcome);
        let scene = job.scene();
        assert_eq!(scene.layout.sizes, None, "{said}");
        assert_eq!(
            why(&scene),
            format!("llm-0: the sizes are in {PATH}, which --config names: {said}")
        );
    }
    // Nobody counts ranks against GPUs meanwhile; once the file is read, it counts.
    let ranks = |job: &Job| {
        let scene = job.scene();
        let check = scene.checks.iter().find(|c| c.id == "check.ranks");
        check.map(|c| (c.verdict, c.output.clone())).unwrap()
    };
    let mut counted = job(&[]);
    assert_eq!(ranks(&counted).0, CheckVerdict::Unknown);
    counted.probed(FILE, answered(kept(PATH, CUT)));
    assert_eq!(ranks(&counted).0, CheckVerdict::Pass);
    counted.probed(FILE, answered(kept(PATH, "tensor-parallel-size: 16\n")));
    let (verdict, text) = ranks(&counted);
    assert_eq!(verdict, CheckVerdict::Fail, "{text}");
    assert!(text.contains("= 16, the pods have 8 GPUs"), "{text}");
    // One of the two places is enough.
    let mut job = job(&[]);
    job.probed(FILE, failed("pods/exec is forbidden"));
    job.probed(FILE_MAP, answered(kept(PATH, "model: m\n")));
    assert_eq!(
        job.scene().layout.sizes.map(Sizes::world),
        Some(1),
        "all by default"
    );
}

/// The script reads what is there, and nothing but what tells of the cut leaves the container.
#[test]
fn the_script_says_what_is_kept_and_no_more() {
    let out = run(CUT.as_bytes());
    assert!(!out.contains("verysecret") && !out.contains("64"), "{out}");
    let file = read(&out);
    assert_eq!(file.open, None);
    let said: Vec<(&str, &str)> = file
        .settings
        .pairs
        .iter()
        .map(|(n, v)| (*n, v.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            ("data_parallel_size", "1"),
            ("enable_expert_parallel", "true"),
            ("gpu_memory_utilization", "0.85"),
            ("model", "/models/m"),
            ("pipeline_parallel_size", "2"),
            ("tensor_parallel_size", "4"),
        ]
    );
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    assert_eq!(
        read(&script(&at("none.yaml"))).open.as_deref(),
        Some("it is not there")
    );
    // A folder, a pipe that nobody writes into, a device without an end: none of them is waited for.
    assert!(
        Shell::new("mkfifo")
            .arg(at("pipe"))
            .status()
            .unwrap()
            .success()
    );
    for odd in [at("."), at("pipe"), "/dev/zero".into()] {
        assert_eq!(
            read(&script(&odd)).open.as_deref(),
            Some("it may not be read"),
            "{odd}"
        );
    }
    let long = format!("tensor-parallel-size: 8\n{}", "x: y\n".repeat(LARGEST / 4));
    assert_eq!(
        read(&run(long.as_bytes())).open.as_deref(),
        Some("it is larger than 256 KiB")
    );
    assert_eq!(run(long.as_bytes()).lines().count(), 2);
}

fn a_line() -> impl Strategy<Value = String> {
    let keys = [
        "tensor-parallel-size",
        "tensor_parallel_size",
        "\"model\"",
        "'port'",
        "api-key",
        "max-model-len",
        "dtype ",
        "{a",
        "<<",
        "? x",
        "- tp",
        "-",
        "",
        " ",
        "\tdtype",
        "# x",
        "---",
        "--- x",
        "nnodes",
        "model.x",
        "%YAML",
        "x y",
        "-tensor-parallel-size",
        "\"model",
        "$(touch PWNED)",
        "`id`",
    ];
    let values = [
        ": 8",
        ":8",
        ":",
        ": 'x'",
        ": \"a: b\"",
        "",
        ": # c",
        " : 4",
        ":\t5",
        ": é",
        ": $HOME",
        ": \\n",
        "\r",
    ];
    (
        prop::sample::select(keys.to_vec()),
        prop::sample::select(values.to_vec()),
    )
        .prop_map(|(k, v)| format!("{k}{v}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    /// The script in the pod and the reader of a ConfigMap say the same of the same text.
    #[test]
    fn both_ways_to_the_file_say_the_same(lines in prop::collection::vec(a_line(), 0..12), end in any::<bool>()) {
        let text = lines.join("\n") + if end { "\n" } else { "" };
        prop_assert_eq!(run(text.as_bytes()), kept(PATH, &text), "{:?}", text);
    }

    /// Whatever is answered: it is read or left, and nothing breaks.
    #[test]
    fn any_answer_is_survived(text in ".{0,400}", line in "[a-z-]{0,20}: .{0,60}") {
        for out in [text.clone(), format!("line\t{line}\nend\n"), kept(PATH, &text), kept(PATH, &line)] {
            let _ = answer(FILE, &out);
        }
    }
}

/// A file under a mount is the key of the ConfigMap that is mounted there; what hides it or leaves it open is no proof.
#[test]
fn a_mounted_file_names_its_config_map() {
    let mount = |path: &str, sub: Option<&str>, maps: &[(&str, &[(&str, &str)])]| Mount {
        path: path.into(),
        sub_path: sub.map(str::to_owned),
        config_maps: maps
            .iter()
            .map(|(name, files)| {
                let files = files
                    .iter()
                    .map(|(k, p)| ((*k).to_owned(), (*p).to_owned()));
                ((*name).to_owned(), files.collect())
            })
            .collect(),
    };
    let of = |mounts: Vec<Mount>, path: &str| {
        let c = ContainerView {
            mounts,
            ..ContainerView::default()
        };
        c.config_map_of(path).map(|(m, k)| format!("{m}/{k}"))
    };
    let some = |s: &str| Some(s.to_owned());
    let whole = || mount("/etc/vllm", None, &[("cfg", &[])]);
    assert_eq!(of(vec![whole()], "/etc/vllm/a.yaml"), some("cfg/a.yaml"));
    assert_eq!(of(vec![whole()], "/etc/vllm2/a.yaml"), None);
    assert_eq!(of(vec![whole()], "/etc/vllm/../a.yaml"), None);
    assert_eq!(of(vec![whole()], "/etc/vllm"), None);
    assert_eq!(
        of(
            vec![mount("/c.yaml", Some("a.yaml"), &[("cfg", &[])])],
            "/c.yaml"
        ),
        some("cfg/a.yaml")
    );
    let items = || mount("/etc/vllm", None, &[("cfg", &[("serve", "x/a.yaml")])]);
    assert_eq!(of(vec![items()], "/etc/vllm/x/a.yaml"), some("cfg/serve"));
    assert_eq!(of(vec![items()], "/etc/vllm/serve"), None);
    // A deeper volume hides the file; two whole ConfigMaps in one volume leave open whose it is.
    assert_eq!(
        of(
            vec![whole(), mount("/etc/vllm/sub", None, &[])],
            "/etc/vllm/sub/a.yaml"
        ),
        None
    );
    let two = mount("/etc/vllm", None, &[("a", &[]), ("b", &[])]);
    assert_eq!(of(vec![two], "/etc/vllm/a.yaml"), None);
}

/// The command line of a container that has none of its own, by its image and arguments.
fn silent(image: &str, args: &[&str]) -> Job {
    let mut pod = pod("llm-0", &[], 8, &[], &[]);
    let c = &mut pod.containers[0];
    c.command.clear();
    c.image = image.into();
    c.args = args.iter().map(|a| (*a).to_owned()).collect();
    Job::of(vec![pod])
}

/// Arguments without a command are for the image's entry point, and vLLM's images serve.
#[test]
fn arguments_alone_are_for_the_image() {
    let official = "docker.io/vllm/vllm-openai:v0.11.2";
    for args in [
        &["--model", "m", "--config", PATH][..],
        &["org/model", "--config", PATH],
        &["serve", "org/model", "--config", PATH],
        &["vllm", "serve", "org/model", "--config", PATH],
    ] {
        let mut job = silent(official, args);
        assert!(
            why(&job.scene()).ends_with("nothing here has read"),
            "{args:?}"
        );
        job.probed(FILE, answered(kept(PATH, CUT)));
        let scene = job.scene();
        let told = value(&scene, "TP");
        assert_eq!(told, ("4".into(), Voice::ConfigFile, 0), "{args:?}");
    }
    // Of another image it is not known what it makes of them.
    let scene = silent("registry:5000/app:vllm", &["--config", PATH, "--port", "1"]).scene();
    assert_eq!(scene.layout.sizes, None);
    // And where nothing is said at all, that is.
    let scene = silent(official, &[]).scene();
    assert_eq!(
        why(&scene),
        format!(
            "llm-0: the whole command line is in its image, {official}, which nothing here has read"
        )
    );
}

/// The pod's volume names the ConfigMap, the API server gives it, and the sizes are there without a command in a pod.
#[tokio::test]
async fn a_config_map_is_read_from_the_api_server() {
    for allowed in [true, false] {
        let mut object = cluster::pod("llm-0", 3);
        let spec = object["spec"].as_object_mut().unwrap();
        spec.insert(
            "volumes".into(),
            json!([{"name": "v", "configMap": {"name": "serve"}}]),
        );
        let c = spec["containers"][0].as_object_mut().unwrap();
        c.insert("command".into(), json!(["vllm", "serve", "--config", PATH]));
        c.insert(
            "volumeMounts".into(),
            json!([{"name": "v", "mountPath": PATH, "subPath": "vllm.yaml"}]),
        );
        let api = FakeApi::start(move |a| match a.path.as_str() {
            "/api/v1/namespaces/prod/configmaps/serve" if !allowed => {
                Reply::status(403, "Forbidden", "configmaps \"serve\" is forbidden")
            }
            "/api/v1/namespaces/prod/configmaps/serve" => Reply::Json(200, json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "serve", "namespace": "prod"},
                "data": {"vllm.yaml": CUT, "other": "api-key: sk-verysecret"},
            })),
            _ if a.is_watch() => cluster::Turns::default().next(),
            "/api/v1/namespaces/prod/pods" => cluster::list("PodList", 5, std::slice::from_ref(&object)),
            _ => cluster::list("List", 1, &[]),
        })
        .await;
        let options = ClusterOptions {
            kubeconfig: Some(api.kubeconfig("{token: t}")),
            namespace: Some("prod".into()),
            selector: Some("app=llm".into()),
            ..ClusterOptions::default()
        };
        let link = connect(&options).await.unwrap();
        let (tx, mut events) = mpsc::channel(64);
        let (_errands, orders) = mpsc::unbounded_channel();
        let director = Director::new(
            link,
            options,
            Setup::default(),
            vec![configfile::helper()],
            tx,
        );
        tokio::spawn(director.run(orders, CancellationToken::new()));
        let mut model = Model::default();
        let outcome = loop {
            let event = tokio::time::timeout(Duration::from_secs(30), events.recv())
                .await
                .unwrap()
                .unwrap();
            let probed = match &event {
                Event::Probe(p) if p.probe == FILE_MAP => Some(p.outcome.clone()),
                _ => None,
            };
            update(
                &mut model,
                Stamped {
                    seq: 0,
                    at: 1,
                    event,
                },
            );
            if let Some(outcome) = probed {
                break outcome;
            }
        };
        let scene = Scene::of(&model);
        assert!(!format!("{outcome:?}").contains("verysecret"));
        assert_eq!(api.count("/exec"), 0);
        if allowed {
            assert_eq!(scene.layout.sizes.map(Sizes::world), Some(8));
            assert_eq!(value(&scene, "TP").1, Voice::ConfigFile);
        } else {
            let rule = "get configmaps in namespace prod";
            assert!(matches!(outcome, ProbeOutcome::Refused { rule: Some(r), .. } if r == rule));
            assert!(why(&scene).ends_with("nothing here has read"));
        }
    }
}
