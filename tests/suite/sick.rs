//! Every check of the list with something that it must not let pass: what was run, what came back, and the fix.

use std::collections::BTreeSet;

use ncclscope::model::event::{
    Condition, ContainerState, Event, LogBlock, NodeView, SourceEvent, SourceId, SourceInfo,
};
use ncclscope::parse::Block;
use ncclscope::rules::checks;
use ncclscope::rules::scene::CheckVerdict::{self, Fail, Unknown, Warn};

use crate::probed::{ARGS, Cluster, SMI, pod, policy};

type Env<'a> = &'a [(&'a str, &'a str)];

fn two(a: Env<'_>, b: Env<'_>) -> Cluster {
    Cluster::new(&[pod(0, a, ARGS), pod(1, b, ARGS)])
}

/// Both containers answer a probe, the second in its own way.
fn answered(env: Env<'_>, probe: &str, first: &str, second: &str) -> Cluster {
    let mut c = two(env, env);
    c.answer(probe, Some("llm-0"), first);
    c.answer(probe, Some("llm-1"), second);
    c
}

fn node(ready: &str, kind: &str, message: &str) -> Cluster {
    let mut c = two(&[], &[]);
    let condition = |kind: &str, status: &str, message: &str| Condition {
        kind: kind.into(),
        status: status.into(),
        message: Some(message.into()),
        ..Condition::default()
    };
    c.send(Event::Node(Box::new(NodeView {
        name: "node-1".into(),
        conditions: vec![
            condition("Ready", ready, ""),
            condition(kind, "True", message),
        ],
        ..NodeView::default()
    })));
    c
}

fn rdma(port: &str, gid: &str) -> String {
    format!("file | uverbs0\ndevice | mlx5_0 | uverbs0\nport | mlx5_0 | 1 | {port}\n{gid}")
}

/// Id, a cluster in which it is not well, the verdict, and words of what came back.
fn sick() -> Vec<(&'static str, Cluster, CheckVerdict, &'static str)> {
    let ib = "4: ACTIVE | 5: LinkUp | 400 Gb/sec (4X NDR) | InfiniBand";
    let versions = |torch: &str, driver: &str| {
        format!("package | torch | {torch}\npackage | vllm | 0.11.2\ndriver | {driver}\n")
    };
    let changed = |change: fn(&mut ncclscope::model::event::PodView)| {
        let mut second = pod(1, &[], ARGS);
        change(&mut second);
        Cluster::new(&[pod(0, &[], ARGS), second])
    };
    let limits = |locked: &str, kills: u32| {
        format!(
            "limit | Max locked memory | {locked} | {locked}\nlimit | Max open files | 1048576 | 1048576\ncap | 00000000a80425fb\nmemory | max | 1000\nmemory | current | 500\nmemory | oom_kill | {kills}\n"
        )
    };
    let linked =
        "topo | ?GPU0?GPU1?CPU Affinity\ntopo | GPU0? X ?NV18?0-31\ntopo | GPU1?NV18? X ?0-31\n";
    let gpus = "gpu | 0, GPU-a, 00000000:1B:00.0, 900, 81559, 0\n";
    vec![
        (
            "check.pods",
            changed(|p| {
                p.containers[0].state = ContainerState::Waiting {
                    reason: "CrashLoopBackOff".into(),
                    message: None,
                }
            }),
            Fail,
            "llm-1",
        ),
        (
            "check.reach",
            answered(
                &[],
                "reach",
                "tool | python3\ntcp | 10.42.0.11 | 29501 | timeout | 3000 | \n",
                "tool | python3\ntcp | 10.42.0.10 | 29501 | refused | 0.4 | \n",
            ),
            Fail,
            "llm-1",
        ),
        (
            "check.dns",
            answered(
                &[("MASTER_ADDR", "llm-0.llm")],
                "reach",
                "tool | python3\ndns | llm-0.llm | 10.42.0.10\n",
                "tool | python3\ndns | llm-0.llm | 10.9.9.9\n",
            ),
            Fail,
            "the leader is at 10.42.0.10",
        ),
        (
            "check.nccl-lines",
            {
                let mut c = two(&[], &[]);
                let (source, name) = (SourceId(0), "prod/llm-0/vllm".to_owned());
                c.send(Event::Source(SourceEvent::Opened(
                    source,
                    SourceInfo {
                        name,
                        container: None,
                        previous: false,
                        started: None,
                    },
                )));
                let line = "(Worker_TP0 pid=211) INFO 11-20 08:05:00 [pynccl.py:103] vLLM is using nccl==2.27.5\n";
                let block = Block::new(1, line.as_bytes().to_vec()).into();
                c.send(Event::Log(LogBlock { source, block }));
                c
            },
            Unknown,
            "none in prod/llm-0/vllm",
        ),
        (
            "check.gpus",
            answered(&[], "gpus", SMI, SMI),
            Fail,
            "3 GPUs are visible, 4 are asked for",
        ),
        (
            "check.model-files",
            answered(
                &[],
                "model-files",
                "at | /models/q\nfile | 1 | README.md\n",
                "at | /models/q\nfile | 1 | README.md\n",
            ),
            Fail,
            "config.json",
        ),
        (
            "check.model-access",
            answered(
                &[],
                "model-access",
                "id | 2000 | 2000 | 2000 | ?\nat | 0 0 750 | - | /models/q\ncache | HOME | no | /\n",
                "id | 2000 | 2000 | 2000 | ?\n",
            ),
            Fail,
            "/models/q",
        ),
        (
            "check.env",
            two(&[("NCCL_NET", "IB")], &[("NCCL_NET", "Socket")]),
            Fail,
            "NCCL_NET",
        ),
        (
            "check.gpu-memory",
            answered(
                &[],
                "gpu-memory",
                gpus,
                "gpu | 0, GPU-b, 00000000:1C:00.0, 61440, 81559, 97\napp | GPU-b, 77, 61440, /usr/bin/train\n",
            ),
            Warn,
            "/usr/bin/train holds 61440 MiB",
        ),
        (
            "check.memory",
            answered(
                &[],
                "limits",
                &limits("unlimited", 0),
                &limits("unlimited", 2),
            ),
            Fail,
            "killed 2 processes",
        ),
        (
            "check.shm",
            answered(
                &[],
                "shm",
                "shm | 16777216 | 0 | 16777216 | shm\n",
                "shm | 65536 | 0 | 65536 | shm\n",
            ),
            Fail,
            "64 MiB",
        ),
        (
            "check.memlock",
            {
                let mut c = answered(
                    &[],
                    "limits",
                    &limits("unlimited", 0),
                    &limits("8388608", 0),
                );
                c.answer("rdma", Some("llm-1"), &rdma(ib, ""));
                c
            },
            Fail,
            "8192 KiB",
        ),
        (
            "check.rdma",
            answered(&[], "rdma", &rdma(ib, ""), "device | mlx5_0 | uverbs0\n"),
            Warn,
            "none of their files is in the container",
        ),
        (
            "check.rdma-ports",
            answered(
                &[],
                "rdma",
                &rdma(ib, ""),
                &rdma(
                    "1: DOWN | 3: Disabled | 400 Gb/sec (4X NDR) | InfiniBand",
                    "",
                ),
            ),
            Fail,
            "mlx5_0 port 1 is 1: DOWN",
        ),
        (
            "check.gid",
            answered(
                &[],
                "rdma",
                &rdma(
                    "4: ACTIVE | 5: LinkUp | 400 Gb/sec | Ethernet",
                    "gid | mlx5_0 | 1 | 3 | 0000:0000:0000:0000:0000:ffff:0a2a:000a | RoCE v2 | net0\n",
                ),
                &rdma("4: ACTIVE | 5: LinkUp | 400 Gb/sec | Ethernet", ""),
            ),
            Fail,
            "no RoCE v2 address",
        ),
        (
            "check.network-policy",
            {
                let mut c = two(&[], &[]);
                c.answer("network-policies", None, &policy(r#"{"podSelector":{}}"#));
                c
            },
            Fail,
            "llm-0 to llm-1",
        ),
        (
            "check.nodes",
            node("False", "MemoryPressure", "low"),
            Fail,
            "node-1",
        ),
        (
            "check.driver",
            answered(
                &[],
                "versions",
                &versions("2.9.0", "570.124.06"),
                &versions("2.9.0", "550.90.07"),
            ),
            Fail,
            "550.90.07",
        ),
        (
            "check.driver",
            answered(
                &[],
                "versions",
                &versions("2.9.0+cu130", "570.124.06"),
                &versions("2.9.0+cu130", "570.124.06"),
            ),
            Warn,
            "driver branch 570 is older than CUDA 13 of this image takes (580)",
        ),
        (
            "check.image",
            {
                let mut pods = [pod(0, &[], ARGS), pod(1, &[], ARGS)];
                for (p, d) in pods.iter_mut().zip(["a", "b"]) {
                    p.containers[0].image_id = Some(format!("vllm@sha256:{}", d.repeat(64)));
                }
                Cluster::new(&pods)
            },
            Fail,
            "llm-1",
        ),
        (
            "check.versions",
            answered(
                &[],
                "versions",
                &versions("2.9.0", "570.1"),
                &versions("2.8.0", "570.1"),
            ),
            Fail,
            "torch: 2.8.0 in llm-1",
        ),
        (
            "check.topology",
            answered(
                &[],
                "topo",
                linked,
                &format!(
                    "{linked}nvlink | GPU 0: H100 (UUID: GPU-a)\nnvlink | Link 3: <inactive>\n"
                ),
            ),
            Fail,
            "NVLink down: GPU 0",
        ),
        (
            "check.acs",
            answered(
                &[],
                "topo",
                &format!("{linked}acs | 0 | 4\n"),
                &format!("{linked}acs | 2 | 4\n"),
            ),
            Warn,
            "ACS is on in 2 of 4 bridges",
        ),
        (
            "check.clock",
            answered(&[], "clock", "now | 1005.0\n", "now | 985.0\n"),
            Warn,
            "the clock of node-1 is",
        ),
        (
            "check.xid",
            node(
                "True",
                "GpuXid",
                "NVRM: Xid (PCI:0000:9b:00): 79, GPU has fallen off the bus",
            ),
            Fail,
            "Xid 79",
        ),
        (
            "check.ecc",
            answered(
                &[],
                "gpus",
                SMI,
                &format!("{SMI}remap | 00000000:9B:00.0, 3, Yes, No\n"),
            ),
            Fail,
            "waits to be remapped",
        ),
        (
            "check.mtu",
            answered(
                &[],
                "interfaces",
                "interface | eth0 | 8900 | up\naddress | eth0 | 10.42.0.10\n",
                "interface | eth0 | 1500 | up\naddress | eth0 | 10.42.0.11\n",
            ),
            Warn,
            "MTU of eth0: 1500 in llm-1; 8900 in llm-0",
        ),
        (
            "check.interfaces",
            answered(
                &[("NCCL_SOCKET_IFNAME", "ib9")],
                "interfaces",
                "interface | eth0 | 8900 | up\naddress | eth0 | 10.42.0.10\n",
                "interface | eth0 | 8900 | up\naddress | eth0 | 10.42.0.11\n",
            ),
            Fail,
            "NCCL_SOCKET_IFNAME=ib9 names none of eth0",
        ),
        (
            "check.host-ip",
            two(
                &[("VLLM_HOST_IP", "10.42.0.10")],
                &[("VLLM_HOST_IP", "10.42.0.10")],
            ),
            Fail,
            "the pod's address is 10.42.0.11",
        ),
        (
            "check.ranks",
            Cluster::new(&[0, 1].map(|i| pod(i, &[], &format!("{ARGS} --node-rank=0")))),
            Fail,
            "--node-rank=0 in llm-0, llm-1",
        ),
        (
            "check.offline",
            two(&[("HF_HUB_OFFLINE", "1")], &[("HF_HUB_OFFLINE", "1")]),
            Warn,
            "telemetry is not switched off",
        ),
        (
            "check.startup-probe",
            changed(|p| {
                p.containers[0].ready = false;
                p.containers[0].probes = vec![(
                    "liveness".into(),
                    "GET :8000/health delay=15s period=10s failure=3".into(),
                )];
            }),
            Warn,
            "the liveness probe kills after 45 s",
        ),
    ]
}

#[test]
fn every_check_tells_what_is_not_well() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (id, c, verdict, words) in sick() {
        seen.insert(id.to_owned());
        let scene = c.scene();
        let k = scene.checks.iter().find(|k| k.id == id).unwrap();
        if k.verdict != verdict || !k.output.contains(words) {
            wrong.push(format!("{id}: {:?}: {}", k.verdict, k.output));
        }
        if k.ran.is_empty() || k.fix.is_empty() {
            wrong.push(format!("{id}: ran {:?}, fix {:?}", k.ran, k.fix));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let declared: BTreeSet<String> = checks::declared().iter().map(|c| c.id.clone()).collect();
    assert_eq!(seen, declared, "every check of the list");
}

/// The rows that must be there, by their number in the reference of checks.
#[test]
fn every_row_that_must_be_there_is() {
    let rows = [
        (1, "pods"),
        (2, "reach"),
        (4, "nccl-lines"),
        (5, "gpus"),
        (6, "model-files"),
        (7, "model-access"),
        (8, "env"),
        (9, "memory"),
        (10, "shm"),
        (11, "memlock"),
        (12, "rdma"),
        (13, "rdma-ports"),
        (14, "gid"),
        (16, "network-policy"),
        (17, "dns"),
        (18, "nodes"),
        (19, "driver"),
        (20, "image"),
        (21, "versions"),
        (22, "topology"),
        (23, "clock"),
        (25, "acs"),
        (29, "xid"),
        (30, "ecc"),
        (32, "mtu"),
        (33, "interfaces"),
        (37, "gpu-memory"),
    ];
    for (row, id) in rows {
        let id = format!("check.{id}");
        assert!(
            checks::declared().iter().any(|c| c.id == id),
            "row {row}: {id}"
        );
    }
    assert!(
        checks::declared()
            .iter()
            .all(|c| !c.probes.iter().any(|p| p.contains("ras"))),
        "the port for status of NCCL is never asked"
    );
}

/// A GPU that holds less than its group is one that differs where every rank serves, and what a dead rank left elsewhere.
#[test]
fn a_gpu_that_holds_less_is_told_where_all_is_at_rest() {
    let (mut scene, model) = crate::glyphs::at_its_end("memory-imbalance", (80, 24));
    let odd = scene.gpus.iter_mut().find(|g| g.odd.is_some()).unwrap();
    odd.off_by = odd.off_by.map(|off| -off.abs());
    odd.odd = Some("5.0 GB less than its group".into());
    let told = |scene: &ncclscope::rules::scene::Scene| {
        let all = checks::run(scene, &model);
        all.into_iter()
            .find(|k| k.id == "check.gpu-memory")
            .unwrap()
    };
    let k = told(&scene);
    assert!(
        k.verdict == Warn && k.output.contains("less than its group"),
        "{k:?}"
    );
    scene.findings.clear();
    assert!(!told(&scene).output.contains("less than its group"));
}
