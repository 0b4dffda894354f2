//! On a real GPU: NVML beside `nvidia-smi`, the worker and the script with real NCCL.
//!
//! Where something is missing, each test says in a line that it was ignored, and why; it is never counted as passed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test"
)]

use std::net::TcpListener;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use cudarc::driver::CudaContext;
use ncclscope::model::Model;
use ncclscope::model::event::{Event, LogBlock, SourceEvent, SourceId, SourceInfo, Stamped};
use ncclscope::parse::Block;
use ncclscope::parse::gpu::{GpuReading, Reading, bus_id, read};
use ncclscope::parse::perf::{Row, Said, line};
use ncclscope::rules::scene::{CommState, Scene};
use ncclscope::sources::nvml;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/allreduce.py");

/// Why a test can't run here.
type Ignored = String;
type Test = fn() -> Result<(), Ignored>;

fn main() -> ExitCode {
    let tests: [(&str, Test); 3] = [
        ("nvml_is_what_nvidia_smi_is", nvml_is_what_nvidia_smi_is),
        ("the_worker_sums_on_one_rank", the_worker_sums_on_one_rank),
        (
            "several_ranks_on_one_gpu_meet_over_sockets",
            several_ranks_on_one_gpu_meet_over_sockets,
        ),
    ];
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filter = args.iter().find(|a| !a.starts_with('-'));
    let chosen = tests
        .iter()
        .filter(|(name, _)| filter.is_none_or(|f| name.contains(f.as_str())));
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for (name, test) in chosen {
        if args.iter().any(|a| a == "--list") {
            println!("{name}: test");
            continue;
        }
        match std::panic::catch_unwind(test) {
            Ok(Ok(())) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Ok(Err(why)) => {
                ignored += 1;
                println!("test {name} ... ignored, {why}");
            }
            Err(_) => {
                failed += 1;
                println!("test {name} ... FAILED");
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored");
    ExitCode::from(u8::from(failed > 0))
}

/// What `nvidia-smi` says of each GPU: UUID, bus id, driver, total and used MiB.
fn smi() -> Result<Vec<[String; 5]>, Ignored> {
    let out = Command::new("nvidia-smi")
        .args([
            "--query-gpu=uuid,pci.bus_id,driver_version,memory.total,memory.used",
            "--format=csv,noheader,nounits",
        ])
        .output()
        .map_err(|e| format!("nvidia-smi can't be run here: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let row = |l: &str| -> Option<[String; 5]> {
        let cells: Vec<String> = l.split(',').map(|c| c.trim().to_owned()).collect();
        cells.try_into().ok()
    };
    Ok(text.lines().filter_map(row).collect())
}

fn gpus(local: &nvml::Local) -> Vec<GpuReading> {
    let all = read("nvml", local.round().as_bytes());
    let gpu = |r| match r {
        Reading::Gpu(g) => Some(*g),
        _ => None,
    };
    all.into_iter().filter_map(gpu).collect()
}

/// Both tools, read between two allocations of a real process: this one.
fn nvml_is_what_nvidia_smi_is() -> Result<(), Ignored> {
    let local = nvml::load()?;
    smi()?;
    let context = CudaContext::new(0).map_err(|e| format!("CUDA does not start here: {e}"))?;
    let stream = context.default_stream();
    let mut held = Vec::new();
    let mut before = 0;
    for step in 0..3u64 {
        let (ours, theirs) = (gpus(&local), smi()?);
        assert_eq!(ours.len(), theirs.len());
        for (own, [uuid, bus, driver, total, used]) in ours.iter().zip(&theirs) {
            assert_eq!(own.uuid.as_ref(), Some(uuid));
            assert_eq!(own.bus, bus_id(bus));
            assert_eq!(own.driver.as_ref(), Some(driver));
            let mib = |n: Option<u64>| n.map(|n| (n >> 20).to_string());
            assert_eq!(mib(own.total).as_ref(), Some(total));
            assert_eq!(mib(own.used).as_ref(), Some(used), "step {step}");
        }
        let used: u64 = ours.iter().filter_map(|g| g.used).sum();
        assert!(
            step == 0 || used >= before + (256 << 20),
            "step {step}: {used}"
        );
        before = used;
        held.push(stream.alloc_zeros::<u8>(512 << 20).expect("half a GiB"));
        stream.synchronize().expect("the device answers");
    }
    Ok(())
}

fn rows(text: &str) -> Vec<Row> {
    let said = text.lines().filter_map(|l| line(l.as_bytes()));
    said.filter_map(|s| match s {
        Said::Row(row) => Some(*row),
        _ => None,
    })
    .collect()
}

fn the_worker_sums_on_one_rank() -> Result<(), Ignored> {
    nvml::load()?;
    let out = Command::new(env!("CARGO_BIN_EXE_ncclscope"))
        .args(["worker", "--run", "here", "--max-bytes", "1048576"])
        .env("CUDA_VISIBLE_DEVICES", "0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.code() == Some(2) && said.contains("libnccl") {
        return Err(said.trim().to_owned());
    }
    assert_eq!(out.status.code(), Some(0), "{said}");
    let rows = rows(&String::from_utf8_lossy(&out.stdout));
    assert_eq!(rows.len(), 18, "8 B to 1 MiB");
    assert!(rows.iter().all(|r| r.wrong() == Some(0)));
    Ok(())
}

/// A Python whose torch has CUDA and NCCL.
fn python() -> Result<&'static str, Ignored> {
    let has = "import torch, torch.distributed as d; assert torch.cuda.is_available() and d.is_nccl_available()";
    let works = |p: &&str| {
        let run = Command::new(p)
            .args(["-c", has])
            .stderr(Stdio::null())
            .status();
        run.is_ok_and(|s| s.success())
    };
    let known = ["python3", "/usr/bin/python3"].into_iter().find(works);
    known.ok_or_else(|| "no python with torch, CUDA and NCCL here".into())
}

/// Two hosts by `NCCL_HOSTID`, one GPU: the transport between them is a socket, and the sums are right.
fn several_ranks_on_one_gpu_meet_over_sockets() -> Result<(), Ignored> {
    nvml::load()?;
    let python = python()?;
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let pods: Vec<_> = (0..2)
        .map(|i: u32| {
            let index = i.to_string();
            Command::new(python)
                .args([
                    SCRIPT,
                    "--nodes",
                    "2",
                    "--nproc",
                    "1",
                    "--node-rank",
                    &index,
                ])
                .args(["--master-port", &port.to_string(), "--max-bytes", "1048576"])
                .env("NCCLSCOPE_RUN", "here")
                .env("NCCL_HOSTID", format!("host-{i}"))
                .env("NCCL_MULTI_RANK_GPU_ENABLE", "1")
                .envs([
                    ("CUDA_VISIBLE_DEVICES", "0"),
                    ("NCCL_SOCKET_IFNAME", "lo"),
                    ("GLOO_SOCKET_IFNAME", "lo"),
                    ("NCCL_DEBUG", "INFO"),
                    ("NCCL_DEBUG_SUBSYS", "INIT,GRAPH,ENV,NET"),
                ])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut model = Model::default();
    let mut all = Vec::new();
    for (i, pod) in (0u32..).zip(pods) {
        let out = pod.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(0), "pod {i}");
        all.extend(rows(&String::from_utf8_lossy(&out.stdout)));
        let source = SourceId(i);
        let info = SourceInfo {
            name: format!("pod-{i}"),
            container: None,
            previous: false,
            started: None,
        };
        let block = Arc::new(Block::new(1, out.stdout));
        for event in [
            Event::Source(SourceEvent::Opened(source, info)),
            Event::Log(LogBlock { source, block }),
        ] {
            let seq = u64::from(i);
            ncclscope::model::update(&mut model, Stamped { seq, at: 0, event });
        }
    }
    assert!(
        all.iter().any(|r| r.by == "sweep"),
        "NCCL measured something"
    );
    assert!(all.iter().all(|r| r.wrong() == Some(0)));
    let scene = Scene::of(&model);
    let c = scene
        .communicators
        .iter()
        .find(|c| c.nranks == 2)
        .expect("a communicator");
    assert_eq!(c.state, CommState::Complete);
    assert!(
        c.edges
            .iter()
            .any(|e| e.network.as_deref() == Some("Socket")),
        "{:?}",
        c.edges
    );
    Ok(())
}
