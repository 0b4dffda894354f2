//! Which ranks sit on which Ray node: Ray deals them out, its driver relays their lines, and the address in front of
//! a line says where it comes from (`vllm.md` 1.2 and 4.2).

use std::fmt::Write as _;

use ncclscope::model::event::{
    Command as Key, ContainerKey, Event, PodKey, SampleEvent, SourceEvent, SourceId, SourceInfo,
};
use ncclscope::model::screen::PaneId;
use ncclscope::rules::scene::Scene;

use super::{INDEX, Job, LWS, pod, seats};
use crate::stage;

/// Head and workers of a cluster that vLLM's own script makes, four GPUs each.
fn cluster(pods: usize) -> Job {
    let head = format!(
        "bash multi-node-serving.sh leader --ray_cluster_size={pods}; vllm serve /m -tp 4 -pp {pods}"
    );
    let worker = "bash multi-node-serving.sh worker --ray_address=$LWS_LEADER_ADDRESS";
    let one = |i: usize| {
        let script = if i == 0 { head.as_str() } else { worker };
        let index = i.to_string();
        pod(
            &format!("llm-{i}"),
            &[(LWS, "llm"), (INDEX, &index)],
            4,
            &["sh", "-c", script],
            &[("LWS_LEADER_ADDRESS", "llm-0.llm")],
        )
    };
    Job::of((0..pods).map(one).collect())
}

/// The first words of a rank, as the driver relays them: `ip` where the worker is on another node.
fn says(rank: usize, world: usize, ip: Option<&str>) -> String {
    let (pid, local) = (381 + rank % 4, rank % 4);
    let ip = ip.map_or_else(String::new, |ip| format!(", ip={ip}"));
    format!(
        "(EngineCore_DP0 pid=271) (RayWorkerWrapper pid={pid}{ip}) INFO 01-30 08:00:29 [parallel_state.py:1208] world_size={world} rank={rank} local_rank={local} distributed_init_method=tcp://10.42.0.10:41234 backend=nccl\n"
    )
}

/// Rank and the pod it runs in.
fn homes(scene: &Scene) -> Vec<(u32, String)> {
    let rank = |p: &ncclscope::rules::scene::ProcessView| Some((p.global_rank?, p.place()));
    let mut all: Vec<_> = scene.processes.iter().filter_map(rank).collect();
    all.sort();
    all
}

fn grid(scene: &Scene) -> String {
    let mut model = stage::model(120, 40);
    for key in [
        Key::Pane(PaneId::Ranks.id().into()),
        Key::Toggle("grid".into()),
    ] {
        stage::act(scene, &mut model, &[key]);
    }
    stage::photograph(scene, &model)
}

/// Pods with equal pids, ranks in another order than the pods: every rank is where its line comes from.
#[test]
fn ranks_are_where_ray_put_them() {
    let mut job = cluster(3);
    let where_is = |rank: usize| [None, Some("10.42.0.12"), Some("10.42.0.11")][rank / 4];
    // Two of the last node's ranks have not spoken yet.
    let some: String = (0..10).map(|r| says(r, 12, where_is(r))).collect();
    job.says(0, "llm-0", &some);
    let scene = job.scene();
    let said = |pod: &str, ranks: &str| (pod.to_owned(), ranks.to_owned());
    assert_eq!(
        seats(&scene),
        [
            said("llm-0", "0-3"),
            said(
                "llm-1",
                "joins the Ray cluster: 2 of 4 have said their rank so far"
            ),
            said("llm-2", "4-7"),
        ]
    );
    let mut job = cluster(3);
    let all: String = (0..12).map(|r| says(r, 12, where_is(r))).collect();
    job.says(0, "llm-0", &all);
    let scene = job.scene();
    assert_eq!(
        seats(&scene),
        [
            said("llm-0", "0-3"),
            said("llm-1", "8-11"),
            said("llm-2", "4-7")
        ]
    );
    let pods = ["llm-0", "llm-2", "llm-1"];
    let want: Vec<_> = (0..12u32)
        .map(|r| (r, pods[r as usize / 4].to_owned()))
        .collect();
    assert_eq!(homes(&scene), want);
    let far = scene.processes.iter().find(|p| p.global_rank == Some(9));
    let far = far.unwrap();
    assert_eq!(
        (far.node.as_deref(), far.ip.as_deref(), far.pid),
        (Some("node-1"), Some("10.42.0.11"), Some(382))
    );
    let rows = grid(&scene);
    let row = |pod: &str| rows.lines().find(|l| l.trim_start().starts_with(pod));
    for (pod, ranks) in [
        ("llm-0", "0  p0t0"),
        ("llm-2", "4  p1t0"),
        ("llm-1", "8  p2t0"),
    ] {
        let row = row(pod).unwrap_or_else(|| panic!("{pod}: {rows}"));
        assert!(row.contains(ranks), "{row}");
    }
    // Stages span the nodes, and tensor-parallel groups don't.
    assert!(
        rows.contains("every tensor-parallel group is inside one host"),
        "{rows}"
    );
}

/// The executor of v0.20 on prefixes an actor by two names, and says once where it runs.
#[test]
fn the_newer_executor_says_once_where_it_runs() {
    let mut job = cluster(2);
    let mut log = String::new();
    for rank in 0..8 {
        let (pid, local) = (340 + rank % 4, rank % 4);
        let ip = if rank < 4 { "" } else { ", ip=10.42.0.11" };
        let _ = writeln!(
            log,
            "(EngineCore pid=120) (RayWorkerProc pid={pid}{ip}) (Worker pid={pid}) INFO 06-30 09:03:21 [parallel_state.py:1400] world_size=8 rank={rank} local_rank={local} distributed_init_method=tcp://10.42.0.10:41234 backend=nccl"
        );
    }
    job.says(0, "llm-0", &log);
    let scene = job.scene();
    assert_eq!(
        seats(&scene),
        [
            ("llm-0".into(), "0-3".into()),
            ("llm-1".into(), "4-7".into())
        ]
    );
    assert_eq!(homes(&scene)[4], (4, "llm-1".into()));
}

/// Two GPUs on one bus id, one a node: each belongs to the rank whose relayed NCCL lines name it.
#[test]
fn gpus_of_relayed_ranks_are_those_of_their_own_pod() {
    let mut job = cluster(2);
    let mut log = String::new();
    for (rank, host, ip) in [(0, "llm-0", ""), (4, "llm-1", ", ip=10.42.0.11")] {
        log += &says(rank, 8, (rank > 0).then_some("10.42.0.11"));
        let _ = writeln!(
            log,
            "(EngineCore_DP0 pid=271) (RayWorkerWrapper pid=381{ip}) {host}:381:400 [0] NCCL INFO ncclCommInitRank comm 0x55d0 rank {} nranks 2 cudaDev 0 nvmlDev 0 busId 1b000 commId 0x7c1e - Init START",
            rank / 4
        );
    }
    job.says(0, "llm-0", &log);
    for (i, used) in [(0, 1_000), (1, 2_000)] {
        job.send(Event::Sample(SampleEvent {
            container: Some(ContainerKey {
                pod: PodKey {
                    namespace: "prod".into(),
                    name: format!("llm-{i}"),
                },
                container: "vllm".into(),
            }),
            node: Some(format!("node-{i}")),
            tool: "nvidia-smi".into(),
            text: format!(
                "0, GPU-{i}, 00000000:1B:00.0, 81559, {used}, 7, 0, 31, 70.11, 700.00, 345, 1980, X\n"
            ),
        }));
    }
    let scene = job.scene();
    let of: Vec<_> = scene
        .gpus
        .iter()
        .map(|g| (g.global_rank, g.uuid.as_deref(), g.pod.as_deref()))
        .collect();
    assert_eq!(
        of,
        [
            (Some(0), Some("GPU-0"), Some("llm-0")),
            (Some(4), Some("GPU-1"), Some("llm-1"))
        ]
    );
}

/// A driver's log as a file: nodes are called by their address, the driver's own by where the ranks meet.
#[test]
fn a_file_of_the_driver_tells_its_nodes_apart() {
    let mut job = Job {
        model: ncclscope::model::Model::default(),
        seq: 0,
    };
    let source = SourceId(0);
    job.send(Event::Source(SourceEvent::Opened(
        source,
        SourceInfo {
            name: "driver.log".into(),
            container: None,
            previous: false,
            started: None,
        },
    )));
    let log: String = (0..8)
        .map(|r| says(r, 8, (r > 3).then_some("10.42.0.11")))
        .collect();
    let block = std::sync::Arc::new(ncclscope::parse::Block::new(1, log.into_bytes()));
    job.send(Event::Log(ncclscope::model::event::LogBlock {
        source,
        block,
    }));
    let homes = homes(&job.scene());
    assert_eq!(homes[0], (0, "10.42.0.10".into()));
    assert_eq!(homes[4], (4, "10.42.0.11".into()));
}

/// The head of a cluster may have no GPU: then no rank runs there, and that is said.
#[test]
fn a_head_without_gpus_holds_no_rank() {
    let kube = |name: &str, kind: &str, gpus: u32, script: &str| {
        pod(
            name,
            &[("ray.io/cluster", "llm"), ("ray.io/node-type", kind)],
            gpus,
            &["bash", "-lc", script],
            &[],
        )
    };
    let mut job = Job::of(vec![
        kube(
            "llm-head-0",
            "head",
            0,
            "ulimit -n 65536; ray start --head; vllm serve /m -tp 4",
        ),
        kube(
            "llm-worker-1",
            "worker",
            4,
            "ray start --address=llm-head:6379 --block",
        ),
    ]);
    let why = &seats(&job.scene())[0].1;
    assert!(
        why.contains("Ray numbers the ranks when they start"),
        "{why}"
    );
    let log: String = (0..4).map(|r| says(r, 4, Some("10.42.0.11"))).collect();
    job.says(0, "llm-head-0", &log);
    assert_eq!(
        seats(&job.scene()),
        [
            (
                "llm-head-0".into(),
                "head of the Ray cluster: no rank runs here".into()
            ),
            ("llm-worker-1".into(), "0-3".into())
        ]
    );
}
