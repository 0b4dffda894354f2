//! Findings from probes, objects and samples: raised by what proves them, silent otherwise, gone when it is.

#[path = "probed/cluster.rs"]
mod cluster;

pub use cluster::*;
use ncclscope::model::event::{Condition, Event, KubeEvent, NodeView, ProbeEvent, ProbeOutcome};
use ncclscope::rules::advice;
use ncclscope::rules::checks;
use ncclscope::rules::explain;
use ncclscope::rules::probes::{PROBES, Schedule, members};
use ncclscope::rules::scene::{CheckVerdict, Confidence, Severity};
use ncclscope::rules::variables;

#[test]
fn variables_that_must_be_equal_and_differ_are_named() {
    for (name, a, b) in [
        ("NCCL_IB_HCA", "mlx5_0", "mlx5_1"),
        ("GLOO_SOCKET_IFNAME", "eth0", "eth1"),
        ("VLLM_USE_NCCL_SYMM_MEM", "0", "1"),
    ] {
        let f = two(&[(name, a)], &[(name, b)])
            .finding("pod.env-skew")
            .unwrap();
        assert_eq!(f.severity, Severity::Warning);
        assert!(
            f.key.contains(name) && text(&f).contains(&format!("{name}={a}")),
            "{f:?}"
        );
        let c = two(&[(name, a)], &[(name, a)]);
        assert_eq!(c.finding("pod.env-skew"), None);
    }
    // What must differ, and what says nothing, is left out.
    let c = two(
        &[
            ("VLLM_HOST_IP", "10.42.0.10"),
            ("NCCL_DEBUG", "INFO"),
            ("MY_OWN", "1"),
        ],
        &[
            ("VLLM_HOST_IP", "10.42.0.11"),
            ("NCCL_DEBUG", "WARN"),
            ("MY_OWN", "2"),
        ],
    );
    assert_eq!(c.finding("pod.env-skew"), None);
    // Set here and not there is a difference too.
    let f = two(&[("NCCL_IB_DISABLE", "1")], &[])
        .finding("pod.env-skew")
        .unwrap();
    assert!(f.title.contains("not set"), "{}", f.title);
}

/// The process tells more than its specification: what a script exports shows, and the older conclusion goes.
#[test]
fn late_evidence_changes_the_verdict() {
    let mut c = two(&[("NCCL_NET", "IB")], &[]);
    assert!(c.finding("pod.env-skew").is_some());
    for p in ["llm-0", "llm-1"] {
        c.answer("env", Some(p), "process | 1 | vllm\nvar | NCCL_NET | IB\n");
    }
    assert_eq!(c.finding("pod.env-skew"), None);
    assert_eq!(c.verdict("check.env"), CheckVerdict::Pass);
    c.answer(
        "env",
        Some("llm-1"),
        "process | 1 | vllm\nvar | NCCL_NET | Socket\n",
    );
    assert!(c.finding("pod.env-skew").is_some());
    assert_eq!(c.verdict("check.env"), CheckVerdict::Fail);

    // A policy is a warning, a probe that fails makes it an error, one that comes through takes both back.
    let mut c = two(&[], &[]);
    c.answer("network-policies", None, &policy(r#"{"podSelector":{}}"#));
    let found = |c: &Cluster| c.finding("pod.network-policy").map(|f| f.severity);
    assert_eq!(found(&c), Some(Severity::Warning));
    for (came, severity) in [
        ("timeout | 3000", Some(Severity::Error)),
        ("open | 0.3", None),
    ] {
        let answer = format!("tool | python3\ntcp | 10.42.0.11 | 29501 | {came} | \n");
        c.answer("reach", Some("llm-0"), &answer);
        assert_eq!(found(&c), severity, "{came}");
    }
}

/// `nvidia-smi topo -m` in the container proves what no line of the log says.
#[test]
fn shared_memory_between_linked_gpus_is_found_by_the_topology() {
    let log = |from: u32, to: u32| {
        let head = |r: u32| format!("llm-0:{0}:{0} [{r}] NCCL INFO ", 200 + r);
        let init = |r: u32| {
            format!(
                "ncclCommInitRank comm 0x55aa0010 rank {r} nranks 2 cudaDev {r} nvmlDev {r} busId {r}b000 commId 0xc0ffee123456789a"
            )
        };
        let mut text = String::new();
        for r in [from, to] {
            for line in [
                "NCCL version 2.27.7+cuda12.8".to_owned(),
                format!("{} - Init START", init(r)),
                format!(
                    "Channel 00 : {r}[{r}] -> {0}[{0}] via SHM/direct/direct",
                    1 - r
                ),
                format!("{} - Init COMPLETE", init(r)),
            ] {
                text.push_str(&format!("{}{line}\n", head(r)));
            }
        }
        text
    };
    let topo = |link: &str| {
        format!(
            "topo | ?GPU0?GPU1?CPU Affinity\ntopo | GPU0? X ?{link}?0-31\ntopo | GPU1?{link}? X ?0-31\n"
        )
    };
    for (link, found) in [("NV18", true), ("SYS", false)] {
        let mut c = two(&[], &[]);
        c.log("llm-0", &log(0, 1));
        assert_eq!(
            c.finding("nccl.shm-despite-p2p"),
            None,
            "shared memory alone proves nothing"
        );
        c.answer("topo", Some("llm-0"), &topo(link));
        let f = c.finding("nccl.shm-despite-p2p");
        assert_eq!(f.is_some(), found, "{link}");
        if let Some(f) = f {
            assert_eq!(
                (f.severity, f.confidence),
                (Severity::Warning, Confidence::Likely)
            );
            let proof = text(&f);
            assert!(
                proof.contains("via SHM")
                    && proof.contains("check.topology in llm-0: GPU0 and GPU1: NV18"),
                "{proof}"
            );
        }
    }
}

/// That NCCL_DEBUG is unset is proven by the specification, and by the process better; a variable that an image
/// sets is seen there alone.
#[test]
fn a_missing_debug_variable_is_proven_by_the_process() {
    let loaded =
        "(Worker_TP0 pid=211) INFO 11-20 08:05:00 [pynccl.py:103] vLLM is using nccl==2.27.5\n";
    let quiet = |env: &[(&str, &str)]| {
        let mut c = two(env, env);
        c.log("llm-0", loaded);
        c
    };
    assert_eq!(
        quiet(&[("NCCL_DEBUG", "WARN")]).finding("nccl.debug-absent"),
        None
    );
    let mut c = quiet(&[]);
    let f = c.finding("nccl.debug-absent").unwrap();
    assert_eq!(
        (f.severity, f.confidence),
        (Severity::Info, Confidence::Likely)
    );
    c.answer(
        "env",
        Some("llm-0"),
        "process | 1 | vllm\nvar | NCCL_NET | IB\n",
    );
    let f = c.finding("nccl.debug-absent").unwrap();
    assert_eq!(f.confidence, Confidence::Certain);
    assert!(
        text(&f).contains("the process has no NCCL_DEBUG"),
        "{}",
        text(&f)
    );
    c.answer(
        "env",
        Some("llm-0"),
        "process | 1 | vllm\nvar | NCCL_DEBUG | WARN\n",
    );
    assert_eq!(c.finding("nccl.debug-absent"), None);
}

/// Two replicas of a group are two engines: equal node ranks in both are what they should be.
#[test]
fn ranks_are_compared_inside_one_engine() {
    let replica = |group: u32, index: u32, rank: u32| {
        let mut p = pod(index, &[], &format!("{ARGS} --node-rank={rank}"));
        p.name = format!("llm-{group}-{index}");
        p.uid = p.name.clone();
        let label = "leaderworkerset.sigs.k8s.io/group-index";
        p.labels.insert(label.into(), group.to_string());
        p
    };
    let good = [
        replica(0, 0, 0),
        replica(0, 1, 1),
        replica(1, 0, 0),
        replica(1, 1, 1),
    ];
    assert_eq!(Cluster::new(&good).finding("vllm.rank-config"), None);
    let bad = [
        replica(0, 0, 0),
        replica(0, 1, 1),
        replica(1, 0, 1),
        replica(1, 1, 1),
    ];
    let f = Cluster::new(&bad).finding("vllm.rank-config").unwrap();
    assert_eq!(f.pods, ["llm-1-0", "llm-1-1"]);
}

pub const SMI: &str = "smi | GPU 0: H100 (UUID: GPU-a)\nsmi | GPU 1: H100 (UUID: GPU-b)\nsmi | GPU 2: H100 (UUID: GPU-c)\n";

#[test]
fn a_gpu_less_than_asked_for_is_found_however_it_shows() {
    for out in [
        SMI.to_owned(),
        "failed | smi | 9 | Failed to initialize NVML\ndevice | /dev/nvidia0\ndevice | /dev/nvidia1\n".to_owned(),
        format!("{SMI}smi | GPU 3: H100 (UUID: GPU-d)\nsmi | GPU 4: H100 (UUID: GPU-e)\n"),
    ] {
        let mut c = two(&[], &[]);
        c.answer("gpus", Some("llm-1"), &out);
        let f = c.finding("gpu.count-mismatch").unwrap();
        assert_eq!((f.severity, f.pods), (Severity::Error, vec!["llm-1".to_owned()]));
        assert_eq!(c.verdict("check.gpus"), CheckVerdict::Fail);
    }
    let mut c = two(&[], &[]);
    c.answer(
        "gpus",
        Some("llm-1"),
        &format!("{SMI}smi | GPU 3: H100 (UUID: GPU-d)\n"),
    );
    assert_eq!(c.finding("gpu.count-mismatch"), None);
    // A tool that does not answer proves no missing GPU.
    c.answer(
        "gpus",
        Some("llm-1"),
        "failed | smi | 255 | Failed to initialize NVML: Unknown Error\n",
    );
    assert_eq!(c.finding("gpu.count-mismatch"), None);
    assert_eq!(c.verdict("check.gpus"), CheckVerdict::Unknown);
}

fn node(kind: &str, message: &str) -> Event {
    Event::Node(Box::new(NodeView {
        name: "node-1".into(),
        conditions: vec![Condition {
            kind: kind.into(),
            status: "True".into(),
            message: Some(message.into()),
            ..Condition::default()
        }],
        ..NodeView::default()
    }))
}

#[test]
fn an_xid_is_found_in_conditions_events_and_counters() {
    let mut c = two(&[], &[]);
    c.send(node(
        "GpuXid",
        "NVRM: Xid (PCI:0000:9b:00): 79, pid=1, GPU has fallen off the bus.",
    ));
    let f = c.finding("gpu.xid").unwrap();
    assert!(
        f.title.contains("Xid 79") && f.title.contains("fallen off"),
        "{}",
        f.title
    );
    assert_eq!(f.pods, ["llm-1"]);

    let mut c = two(&[], &[]);
    c.send(Event::KubeEvent(KubeEvent {
        uid: "u".into(),
        namespace: "prod".into(),
        kind: "Pod".into(),
        object: "llm-1".into(),
        reason: "XidCriticalError".into(),
        message: "GPU 2 reported Xid 48".into(),
        count: 1,
        ..KubeEvent::default()
    }));
    assert!(c.finding("gpu.xid").unwrap().title.contains("Xid 48"));

    let mut c = two(&[], &[]);
    c.answer("gpus", Some("llm-0"), "ecc | 1, 00000000:1C:00.0, 2\n");
    assert!(text(&c.finding("gpu.xid").unwrap()).contains("ecc.errors"));

    // Well: no error, none that waits, a detector that is content.
    let mut c = two(&[], &[]);
    c.answer(
        "gpus",
        Some("llm-0"),
        "ecc | 1, 00000000:1C:00.0, 0\nremap | 00000000:1C:00.0, 2, No, No\n",
    );
    assert_eq!(c.finding("gpu.xid"), None);
}

pub fn policy(spec: &str) -> String {
    format!(r#"{{"items":[{{"metadata":{{"name":"p","namespace":"prod"}},"spec":{spec}}}]}}"#)
}

#[test]
fn policies_are_evaluated_against_the_pods() {
    let mine = r#"{"matchLabels":{"app":"llm"}}"#;
    let blocked = [
        // Nothing comes in.
        r#"{"podSelector":{}}"#.to_owned(),
        // One port is not enough for NCCL.
        format!(r#"{{"podSelector":{mine},"ingress":[{{"from":[{{"podSelector":{mine}}}],"ports":[{{"port":29501}}]}}]}}"#),
        // Others may come in, we may not go out.
        r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{"ports":[{"protocol":"UDP","port":53}]}]}"#.to_owned(),
        r#"{"podSelector":{},"ingress":[{"from":[{"podSelector":{"matchExpressions":[{"key":"app","operator":"NotIn","values":["llm"]}]}}]}]}"#.to_owned(),
    ];
    for spec in blocked {
        let mut c = two(&[], &[]);
        c.answer("network-policies", None, &policy(&spec));
        let f = c
            .finding("pod.network-policy")
            .unwrap_or_else(|| panic!("{spec}"));
        assert_eq!(f.severity, Severity::Warning, "{spec}");
        assert_eq!(
            c.verdict("check.network-policy"),
            CheckVerdict::Fail,
            "{spec}"
        );
        // A probe that fails too makes it an error.
        c.answer(
            "reach",
            Some("llm-0"),
            "tool | python3\ntcp | 10.42.0.11 | 29501 | timeout | 3000 | \n",
        );
        let f = c.finding("pod.network-policy").unwrap();
        assert_eq!(
            (f.severity, f.confidence),
            (Severity::Error, Confidence::Certain),
            "{spec}"
        );
    }
    let open = [
        r#"{"podSelector":{"matchLabels":{"app":"other"}}}"#.to_owned(),
        format!(r#"{{"podSelector":{mine},"ingress":[{{"from":[{{"podSelector":{mine}}}]}}]}}"#),
        format!(r#"{{"podSelector":{mine},"ingress":[{{}}]}}"#),
        r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"prod"}}}],"ports":[{"port":1024,"endPort":65535}]}]}"#.to_owned(),
    ];
    for spec in open {
        let mut c = two(&[], &[]);
        c.answer("network-policies", None, &policy(&spec));
        assert_eq!(c.finding("pod.network-policy"), None, "{spec}");
        assert_eq!(
            c.verdict("check.network-policy"),
            CheckVerdict::Pass,
            "{spec}"
        );
    }
    // A network that does not enforce: the connection came about all the same.
    let mut c = two(&[], &[]);
    c.answer("network-policies", None, &policy(r#"{"podSelector":{}}"#));
    c.answer(
        "reach",
        Some("llm-0"),
        "tool | python3\ntcp | 10.42.0.11 | 29501 | open | 0.3 | \n",
    );
    assert_eq!(c.finding("pod.network-policy"), None);
    // Labels of foreign namespaces are not known: perhaps.
    let mut c = two(&[], &[]);
    let doubt = r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"team":"a"}}}]}]}"#;
    c.answer("network-policies", None, &policy(doubt));
    assert_eq!(
        c.finding("pod.network-policy").unwrap().confidence,
        Confidence::Possible
    );
    assert_eq!(c.verdict("check.network-policy"), CheckVerdict::Warn);
}

#[test]
fn forbidden_and_failed_are_verdicts_of_their_own() {
    let mut c = two(&[], &[]);
    assert_eq!(c.verdict("check.shm"), CheckVerdict::Waiting);
    for p in ["llm-0", "llm-1"] {
        c.tell(
            "shm",
            Some(p),
            ProbeOutcome::Refused {
                why: "the API server refuses".into(),
                rule: Some("create pods/exec in namespace prod".into()),
            },
        );
    }
    let scene = c.scene();
    let check = scene.checks.iter().find(|k| k.id == "check.shm").unwrap();
    assert_eq!(check.verdict, CheckVerdict::Forbidden);
    assert!(check.output.contains("create pods/exec in namespace prod"));
    for p in ["llm-0", "llm-1"] {
        c.tell(
            "shm",
            Some(p),
            ProbeOutcome::Failed {
                why: "timed out after 10 s".into(),
            },
        );
    }
    assert_eq!(c.verdict("check.shm"), CheckVerdict::Unknown);
    // One answer that is well does not speak for the other.
    c.answer(
        "shm",
        Some("llm-0"),
        "shm | 67108864 | 0 | 67108864 | shm\n",
    );
    assert_eq!(c.verdict("check.shm"), CheckVerdict::Unknown);
    c.answer("shm", Some("llm-1"), "shm | 65536 | 0 | 65536 | shm\n");
    assert_eq!(c.verdict("check.shm"), CheckVerdict::Fail);
}

/// Round trips between the pods: short ones pass with the longest named, a long one is doubtful and says between
/// whom, and what nobody measured is not called short.
#[test]
fn round_trips_between_workers_are_judged() {
    let check = |answers: [&str; 2]| {
        let mut c = two(&[], &[]);
        for (pod, answer) in ["llm-0", "llm-1"].into_iter().zip(answers) {
            c.answer("reach", Some(pod), answer);
        }
        let checks = c.scene().checks;
        let reach = checks.into_iter().find(|k| k.id == "check.reach").unwrap();
        (reach.verdict, reach.output, reach.subject)
    };
    let there = |tool: &str, peer: u8, came: &str| {
        format!("tool | {tool}\ntcp | 10.42.0.{peer} | 29501 | {came} | \n")
    };
    let back = there("python3", 10, "refused | 0.3");
    let (verdict, said, _) = check([&there("python3", 11, "open | 0.7"), &back]);
    assert_eq!(verdict, CheckVerdict::Pass);
    assert_eq!(
        said,
        "2 of 2 connections answered (1 open, 1 refused: reached, nothing listens); slowest 0.7 ms"
    );
    // At the limit it is well, beyond it is not, and nobody is accused but the pair.
    let (verdict, ..) = check([&there("python3", 11, "open | 50.0"), &back]);
    assert_eq!(verdict, CheckVerdict::Pass);
    let (verdict, said, whom) = check([&there("python3", 11, "open | 81.6"), &back]);
    assert_eq!((verdict, whom.as_str()), (CheckVerdict::Warn, "llm-0"));
    assert_eq!(said, "llm-0: 82 ms to llm-1: far, or the way is crowded");
    // bash reaches its peers and measures nothing.
    let (verdict, said, _) = check([&there("bash", 11, "open | "), &there("bash", 10, "open | ")]);
    assert_eq!(verdict, CheckVerdict::Pass);
    assert!(
        said.ends_with("how long they take is not known without python3"),
        "{said}"
    );
    // Nothing in the image connects; or one pod's answer is awaited: neither passes.
    let (verdict, _, whom) = check(["tool | none\n", &back]);
    assert_eq!((verdict, whom.as_str()), (CheckVerdict::Unknown, "llm-0"));
    let mut c = two(&[], &[]);
    c.answer("reach", Some("llm-1"), &back);
    assert_eq!(c.verdict("check.reach"), CheckVerdict::Waiting);
}

/// Two faults at once: both are there, in the order of their weight, and neither is folded under the other.
#[test]
fn two_faults_stand_side_by_side() {
    let mut c = two(&[("NCCL_IB_TC", "1")], &[("NCCL_IB_TC", "2")]);
    c.answer("gpus", Some("llm-1"), SMI);
    let findings = c.scene().findings;
    let ids: Vec<&str> = findings
        .iter()
        .filter(|f| f.consequence_of.is_none())
        .map(|f| f.id)
        .collect();
    assert_eq!(ids, ["gpu.count-mismatch", "pod.env-skew"]);
}

#[test]
fn the_model_is_judged_before_it_is_loaded() {
    let whole = "at | /models/q\nfile | 700 | config.json\nfile | 900 | tokenizer.json\nfile | 5000 | a.safetensors\nhead | a.safetensors | 992 | 4000\nshard | a.safetensors\n";
    let mut c = two(&[], &[]);
    c.answer("model-files", Some("llm-0"), whole);
    for id in [
        "vllm.model-incomplete",
        "vllm.tokenizer-missing",
        "vllm.permission-denied",
    ] {
        assert_eq!(c.finding(id), None);
    }
    for (out, id) in [
        (
            whole.replace("file | 5000", "file | 4999"),
            "vllm.model-incomplete",
        ),
        (
            format!("{whole}shard | b.safetensors\n"),
            "vllm.model-incomplete",
        ),
        (
            "absent | /models/q | No such file or directory\n".to_owned(),
            "vllm.model-incomplete",
        ),
        (
            format!("{whole}pointer | a.safetensors\n"),
            "vllm.model-incomplete",
        ),
        (
            whole.replace("tokenizer.json", "README.md"),
            "vllm.tokenizer-missing",
        ),
        (
            format!("{whole}denied | a.safetensors | Permission denied\n"),
            "vllm.permission-denied",
        ),
    ] {
        let mut c = two(&[], &[]);
        c.answer("model-files", Some("llm-0"), &out);
        let f = c.finding(id).unwrap_or_else(|| panic!("{id}: {out}"));
        assert_eq!(f.severity, Severity::Error);
    }
}

/// Names, values and lines from outside stay inside their quotes in everything that is pasted.
#[test]
fn hostile_names_are_quoted_in_fixes() {
    let evil = "x';touch PWNED;'$(touch PWNED)\n\u{1b}[31m";
    for kind in ["lws", "sts", "deploy", "raycluster"] {
        let mut bad = pod(1, &[("NCCL_IB_HCA", evil)], ARGS);
        bad.node = Some("n$(touch PWNED)".into());
        let mut c = Cluster::of(
            kind,
            &[
                pod(0, &[("NCCL_IB_HCA", evil), ("NCCL_NET", "IB")], ARGS),
                bad,
            ],
        );
        c.answer(
            "gpus",
            Some("llm-1"),
            &format!("{SMI}ecc | 1, $(touch PWNED), 2\n"),
        );
        c.answer(
            "model-files",
            Some("llm-0"),
            "at | /m\nfile | 1 | $(touch PWNED).json\n",
        );
        assert_eq!(c.kind, kind);
        let scene = c.scene();
        let fixes = scene
            .findings
            .iter()
            .flat_map(|f| &f.fix)
            .chain(scene.checks.iter().flat_map(|k| &k.fix));
        let mut seen = 0;
        for fix in fixes {
            seen += 1;
            assert!(!fix.contains('\u{1b}') && !fix.contains('\n'), "{fix:?}");
            if fix.starts_with("kubectl") {
                // Outside of single quotes nothing of it is left.
                let bare: String = fix.replace("'\\''", "").split('\'').step_by(2).collect();
                assert!(!bare.contains("$(") && !bare.contains("PWNED"), "{fix}");
            }
        }
        assert!(seen > 5, "{seen}");
        let mut bytes = Vec::new();
        ncclscope::report::text::write(
            &mut bytes,
            &scene,
            ncclscope::report::text::Style::default(),
        )
        .unwrap();
        assert!(!bytes.contains(&0x1b), "no escape reaches the text report");
    }
}

#[test]
fn probes_are_due_within_a_budget_and_again_when_wanted() {
    let c = two(&[], &[]);
    let mut schedule = Schedule::default();
    let mut probes = c.model.probes.clone();
    let now = 1_000 * SECOND;
    let first = schedule.due(&c.model.pods, &probes, now, 100);
    assert_eq!(first.len(), 16, "eight a pod and minute");
    assert!(
        first
            .iter()
            .all(|a| a.argv.first().is_some_and(|s| s == "sh"))
    );
    for a in &first {
        probes.apply(
            ProbeEvent {
                probe: a.probe.into(),
                container: Some(a.container.clone()),
                ran: String::new(),
                outcome: ProbeOutcome::Answered {
                    code: 0,
                    out: String::new(),
                    err: String::new(),
                    cut: false,
                    ms: 1,
                },
            },
            now,
        );
    }
    assert_eq!(schedule.due(&c.model.pods, &probes, now + SECOND, 100), []);
    let rest = schedule.due(&c.model.pods, &probes, now + 61 * SECOND, 100);
    let names: Vec<&str> = rest.iter().map(|a| a.probe).collect();
    assert!(
        names.contains(&"clock") && names.contains(&"limits"),
        "the rest, and what is due again: {names:?}"
    );
    let mut schedule = Schedule::default();
    schedule.want(&["shm"], &c.model.pods);
    let again = schedule.due(&c.model.pods, &probes, now + 2 * SECOND, 100);
    assert!(again.iter().any(|a| a.probe == "shm"));
    // Refused is not asked again by itself.
    let mut refused = c.model.probes.clone();
    for p in PROBES {
        for pod in ["llm-0", "llm-1"] {
            refused.apply(
                ProbeEvent {
                    probe: p.name.into(),
                    container: Some(key(pod)),
                    ran: String::new(),
                    outcome: ProbeOutcome::Refused {
                        why: "no".into(),
                        rule: None,
                    },
                },
                now,
            );
        }
    }
    assert_eq!(
        Schedule::default().due(&c.model.pods, &refused, now + 9_000 * SECOND, 100),
        []
    );
}

#[test]
fn reach_asks_every_peer_of_a_small_group() {
    let c = two(&[], &[]);
    let all = members(&c.model.pods);
    let reach = PROBES.iter().find(|p| p.name == "reach").unwrap();
    let args = reach.arguments(&all.list[0], &all).unwrap();
    assert_eq!(args, ["", "29501", "10.42.0.11"]);
}

/// Checks, variables and advice can all be looked up offline, each with what can be pasted.
#[test]
fn everything_is_explained_offline() {
    for c in checks::declared() {
        let page = explain::text(&c.id).unwrap();
        assert!(page.contains(&c.means) && page.contains("Fix"), "{page}");
    }
    for v in variables::declared() {
        let page = explain::text(&v.name).unwrap();
        assert!(
            page.contains(&v.default) && page.contains("export ") && page.contains("runai"),
            "{page}"
        );
    }
    for a in advice::declared() {
        let page = explain::text(&a.id).unwrap();
        assert!(
            page.contains(&a.costs) && page.contains("YAML") && page.contains("shell"),
            "{page}"
        );
        assert!(a.means.ends_with('.') && a.costs.ends_with('.'), "{}", a.id);
    }
    // What is of use only in a cluster without a way out is not told to others.
    let offline = advice::declared()
        .iter()
        .find(|a| a.id == "advice.offline")
        .unwrap();
    let set: &[(&str, &str)] = &[("HF_HUB_OFFLINE", "1")];
    assert!(!offline.fits(&two(&[], &[]).scene()));
    assert!(offline.fits(&two(set, set).scene()));
    assert_eq!(explain::text("nonsense"), None);
    let index = explain::index();
    for id in [
        "gpu.xid",
        "check.reach",
        "advice.trace-function",
        "NCCL_DEBUG",
    ] {
        assert!(index.contains(id), "{id}");
    }
}
