//! Samplers in sixteen pods over the real protocol: what they cost, and that they end with us.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use kube::api::{DeleteParams, ListParams};
use ncclscope::model::event::{Errand, Event, Level, ProbeOutcome};
use ncclscope::parse::gpu::{Reading, read};
use ncclscope::sources::cluster::{ClusterOptions, Director, connect};
use ncclscope::sources::gate::{Policy, Setup};
use ncclscope::sources::sampler;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::plane::{Plane, eventually, pod};

const PODS: usize = 16;

/// Eight GPUs a second, as `nvidia-smi` prints them.
const STUB: &str = r#"#!/bin/sh
while :; do
  for i in 0 1 2 3 4 5 6 7; do echo "$i, GPU-5d9b0a52-0000-0000-0000-$CPLANE_POD-$i, 00000000:${i}B:00.0, 81559, 62011, 98, 41, 54, 412.31, 700.00, 1755, 1980, 551, 0x0000000000000004, 0, 0, Disabled, 5, 16, 550.90.07, NVIDIA H100 80GB HBM3"; done
  case "$*" in *loop-ms*) sleep 1;; *) exit 0;; esac
done
"#;

/// Processes of samplers of one namespace on this machine, with the processor time that each has used, in ticks of
/// a hundredth of a second.
fn processes(ns: &str) -> BTreeMap<u32, u64> {
    let mark = format!("{ns}.llm-");
    let mut all: BTreeMap<u32, (u32, bool, u64)> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        let field = |n: usize| rest.split(' ').nth(n).and_then(|f| f.parse::<u64>().ok());
        let ticks: u64 = (11..15).filter_map(field).sum();
        let ours = String::from_utf8_lossy(&line).contains(&mark);
        all.insert(
            pid,
            (u32::try_from(field(1).unwrap_or(0)).unwrap(), ours, ticks),
        );
    }
    // Children that are something else, such as the stub and sleeps, count with those who started them.
    let mut mine: BTreeMap<u32, u64> = BTreeMap::new();
    loop {
        let more: Vec<(u32, u64)> = all
            .iter()
            .filter(|(pid, (parent, ours, _))| {
                !mine.contains_key(pid) && (*ours || mine.contains_key(parent))
            })
            .map(|(pid, (.., ticks))| (*pid, *ticks))
            .collect();
        if more.is_empty() {
            return mine;
        }
        mine.extend(more);
    }
}

async fn sixteen(p: &Plane, ns: &str, dir: &std::path::Path) {
    let tool = dir.join("nvidia-smi");
    std::fs::write(&tool, STUB).unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    p.namespace(ns).await;
    let pods = (0..PODS).map(|i| {
        let notes = json!({"cplane.test/exec-dir": dir.to_str().unwrap()});
        let mut pod = pod(ns, &format!("llm-{i}"), json!({"app": "llm"}), notes);
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "2"}});
        // Past the scheduler: what other cases left running may hold the GPUs that it would count.
        pod["spec"]["nodeName"] = json!(format!("gpu-{}", i % 4));
        pod
    });
    p.pods(pods.collect()).await;
    eventually("the pods", async || {
        let pods = p.api(ns).list(&Default::default()).await.unwrap();
        let phase = |p: &k8s_openapi::api::core::v1::Pod| p.status.as_ref()?.phase.clone();
        pods.items.len() == PODS
            && pods
                .items
                .iter()
                .all(|p| phase(p).as_deref() == Some("Running"))
    })
    .await;
}

fn begin(
    link: ncclscope::sources::cluster::Connection,
    options: ClusterOptions,
) -> mpsc::Receiver<Event> {
    let (tx, rx) = mpsc::channel(1024);
    let setup = Setup {
        probes: Policy::Always,
        ..Setup::default()
    };
    let director = Director::new(link, options, setup, vec![sampler::helper()], tx);
    let (hold, errands) = mpsc::unbounded_channel::<Errand>();
    tokio::spawn(async move {
        director.run(errands, CancellationToken::new()).await;
        drop(hold);
    });
    rx
}

pub async fn sixteen_pods_are_sampled_and_left_alone(p: &Plane) {
    let dir = tempfile::tempdir().unwrap();
    let ns = "sampled";
    sixteen(p, ns, dir.path()).await;
    let options = ClusterOptions {
        selector: Some("app=llm".into()),
        ..p.options("admin", ns)
    };
    let mut events = begin(connect(&options).await.unwrap(), options.clone());
    // Every pod's GPUs and cgroup come.
    let mut seen: BTreeMap<String, (bool, bool)> = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut level = Level::Observe;
    while seen.len() < PODS || seen.values().any(|(gpu, cgroup)| !gpu || !cgroup) {
        let event = tokio::time::timeout_at(deadline, events.recv()).await;
        match event
            .unwrap_or_else(|_| panic!("not all pods: {seen:?}"))
            .unwrap()
        {
            Event::Session(s) => level = s.level,
            Event::Probe(e) => {
                assert!(!matches!(e.outcome, ProbeOutcome::Refused { .. }), "{e:?}");
            }
            Event::Sample(s) => {
                let of = seen.entry(s.container.unwrap().pod.name).or_default();
                for reading in read(&s.tool, s.text.as_bytes()) {
                    match reading {
                        Reading::Gpu(gpu) => {
                            assert_eq!(gpu.used, Some(62_011 << 20));
                            assert!(s.node.is_some());
                            of.0 = true;
                        }
                        Reading::Cgroup(_) => of.1 = true,
                        other => panic!("{other:?}"),
                    }
                }
            }
            _ => {}
        }
    }
    assert_eq!(level, Level::Probe);
    // What it costs while nothing else happens.
    let (before, begun, mut bytes, mut rounds) = (processes(ns), Instant::now(), 0usize, 0usize);
    let span = Duration::from_secs(20);
    while begun.elapsed() < span {
        if let Ok(Some(Event::Sample(s))) =
            tokio::time::timeout(Duration::from_millis(200), events.recv()).await
        {
            bytes += s.text.len();
            rounds += usize::from(s.tool == "nvidia-smi");
        }
    }
    let after = processes(ns);
    let ticks: u64 = after
        .iter()
        .filter_map(|(pid, now)| Some(now.saturating_sub(*before.get(pid)?)))
        .sum();
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "  {PODS} pods of 8 GPUs: {} processes ({:.1} a pod), {:.2} % of a core a pod (stub included), {:.0} bytes a second, {:.2} rounds a second and pod",
        after.len(),
        after.len() as f64 / PODS as f64,
        ticks as f64 / seconds / PODS as f64,
        bytes as f64 / seconds,
        rounds as f64 / seconds / PODS as f64,
    );
    assert!(after.len() <= 14 * PODS, "{} processes", after.len());
    assert!(rounds >= PODS * 8, "{rounds} rounds");
    assert!(
        bytes as f64 / seconds < PODS as f64 * 4_000.0,
        "{bytes} bytes"
    );
    // Somebody else looks on: nobody measures twice.
    let measuring = || {
        processes(ns)
            .keys()
            .filter(|pid| {
                std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                    let line = String::from_utf8_lossy(&line).replace('\0', " ");
                    line.contains("nvidia-smi --query-gpu") && line.contains("--loop-ms")
                })
            })
            .count()
    };
    let once = measuring();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--sample-for-ever")
        .arg(p.kubeconfig("admin"))
        .arg(ns)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let few = after.len();
    eventually("the second viewer's samplers", async || {
        while let Ok(event) = events.try_recv() {
            drop(event);
        }
        processes(ns).len() >= few + 3 * PODS
    })
    .await;
    assert_eq!(measuring(), once, "measured twice");
    // The first goes in order, and the second takes over; then it is killed.
    drop(events);
    sleep(Duration::from_secs(6)).await;
    eventually("the second measures", async || measuring() == once).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let begun = Instant::now();
    eventually("the end of every sampler", async || {
        processes(ns).is_empty()
    })
    .await;
    println!(
        "  killed with SIGKILL: the last process of {PODS} samplers ended {:.1} s later",
        begun.elapsed().as_secs_f32()
    );
    // Other cases need the GPUs.
    let (now, all) = (
        DeleteParams::default().grace_period(0),
        ListParams::default(),
    );
    p.api(ns).delete_collection(&now, &all).await.unwrap();
    eventually("an empty namespace", async || {
        p.api(ns).list(&all).await.unwrap().items.is_empty()
    })
    .await;
}

/// What the killed one does.
pub async fn sample_for_ever(args: &[String]) {
    let [config, ns] = args else {
        panic!("kubeconfig, namespace")
    };
    let options = ClusterOptions {
        kubeconfig: Some(config.into()),
        namespace: Some(ns.clone()),
        selector: Some("app=llm".into()),
        ..ClusterOptions::default()
    };
    let mut events = begin(connect(&options).await.unwrap(), options);
    while events.recv().await.is_some() {}
}
