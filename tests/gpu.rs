//! On a real GPU: NVML beside `nvidia-smi`, the worker and the script with real NCCL.
//!
//! Where something is missing, each test says in a line that it was ignored, and why; it is never counted as passed.
//! `NCCLSCOPE_KEEP=FOLDER` keeps what real NCCL wrote; what is put into `tests/corpus/` is read again by every run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test"
)]

#[path = "gpu/kept.rs"]
mod kept;

use std::net::TcpListener;
use std::process::{Command, ExitCode, Stdio};

use cudarc::driver::CudaContext;
use ncclscope::parse::gpu::{GpuReading, Reading, bus_id, read};
use ncclscope::parse::perf::{Row, Said, line};
use ncclscope::sources::nvml;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/allreduce.py");

/// Why a test can't run here.
type Ignored = String;
type Test = fn() -> Result<(), Ignored>;

fn main() -> ExitCode {
    let tests: [(&str, Test); 7] = [
        ("nvml_is_what_nvidia_smi_is", nvml_is_what_nvidia_smi_is),
        ("the_worker_sums_on_one_rank", the_worker_sums_on_one_rank),
        ("the_script_runs_on_one_rank", the_script_runs_on_one_rank),
        (
            "several_ranks_on_one_gpu_meet_over_sockets",
            several_ranks_on_one_gpu_meet_over_sockets,
        ),
        ("busbw_is_that_of_torch_alone", busbw_is_that_of_torch_alone),
        (
            "the_worker_takes_as_long_as_others",
            the_worker_takes_as_long_as_others,
        ),
        (
            "kept_logs_are_read_as_they_were_written",
            kept::kept_logs_are_read_as_they_were_written,
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

/// Rows of our worker on GPU 0, none of them wrong.
fn worker(max_bytes: &str) -> Result<Vec<Row>, Ignored> {
    let out = Command::new(env!("CARGO_BIN_EXE_ncclscope"))
        .args(["worker", "--run", "here", "--max-bytes", max_bytes])
        .envs([("CUDA_VISIBLE_DEVICES", "0"), ("NCCL_DEBUG", "INFO")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.code() == Some(2) && said.contains("libnccl is not here") {
        return Err(said.trim().to_owned());
    }
    assert_eq!(out.status.code(), Some(0), "{said}");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let rows = rows(&text);
    assert!(rows.iter().all(|r| r.wrong() == Some(0)));
    kept::keep("worker-one-rank", &[text]);
    Ok(rows)
}

fn the_worker_sums_on_one_rank() -> Result<(), Ignored> {
    nvml::load()?;
    assert_eq!(worker("1048576")?.len(), 18, "8 B to 1 MiB");
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

/// Settings of one of two hosts on one GPU: by `NCCL_HOSTID` they are strangers that meet over sockets.
fn host(command: &mut Command, index: u32) -> &mut Command {
    command
        .env("NCCL_HOSTID", format!("host-{index}"))
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
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// The script in so many pods of one rank each, all on GPU 0; what each said.
fn script(python: &str, pods: u32, max_bytes: u64) -> Vec<String> {
    let (port, most) = (free_port(), max_bytes.to_string());
    let begin = |i: u32| {
        let (nodes, index) = (pods.to_string(), i.to_string());
        let mut command = Command::new(python);
        command
            .args([
                SCRIPT,
                "--nodes",
                &nodes,
                "--nproc",
                "1",
                "--node-rank",
                &index,
            ])
            .args(["--master-port", &port, "--max-bytes", &most])
            .env("NCCLSCOPE_RUN", "here");
        host(&mut command, i).spawn().unwrap()
    };
    let all: Vec<_> = (0..pods).map(begin).collect();
    let each = all.into_iter().map(|pod| {
        let out = pod.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert_eq!(out.status.code(), Some(0), "{text}");
        text
    });
    each.collect()
}

/// Rows over NCCL, none of them wrong.
fn swept(text: &str) -> Vec<Row> {
    let all = rows(text);
    assert!(all.iter().all(|r| r.wrong().is_none_or(|w| w == 0)));
    let own = |r: &Row| r.run.is_some() && r.by != "gloo" && r.kind == "float32";
    all.into_iter().filter(own).collect()
}

fn the_script_runs_on_one_rank() -> Result<(), Ignored> {
    nvml::load()?;
    let said = script(python()?, 1, 1 << 20);
    let rows = swept(&said[0]);
    assert_eq!(rows.len(), 18, "8 B to 1 MiB");
    assert!(rows.iter().all(|r| r.world == Some(1)));
    Ok(())
}

/// Two hosts by `NCCL_HOSTID`, one GPU: the transport between them is a socket, and the sums are right.
fn several_ranks_on_one_gpu_meet_over_sockets() -> Result<(), Ignored> {
    nvml::load()?;
    let said = script(python()?, 2, 1 << 20);
    assert_eq!(swept(&said[0]).len(), 18);
    kept::keep("script-two-ranks-one-gpu", &said);
    kept::two_over_sockets(&said);
    Ok(())
}

/// Sizes at which bandwidths are held beside each other.
const LARGE: [u64; 3] = [1 << 20, 4 << 20, 16 << 20];
/// Two tools that measure the same on a machine that others use, too, are that much alike.
const ALIKE: std::ops::Range<f64> = 0.7..1.4;

/// Over the same sockets between the same two ranks the script measures what torch alone does.
fn busbw_is_that_of_torch_alone() -> Result<(), Ignored> {
    nvml::load()?;
    let python = python()?;
    let ours = swept(&script(python, 2, 16 << 20)[0]);
    let port = free_port();
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/allreduce/reference.py");
    let begin = |i: u32| {
        let mut command = Command::new(python);
        command
            .arg(reference)
            .args(LARGE.map(|s| s.to_string()))
            .envs([
                ("MASTER_ADDR", "127.0.0.1"),
                ("MASTER_PORT", &port),
                ("WORLD_SIZE", "2"),
            ])
            .env("RANK", i.to_string());
        host(&mut command, i).spawn().unwrap()
    };
    let both = [begin(0), begin(1)].map(|c| c.wait_with_output().unwrap());
    let text = String::from_utf8_lossy(&both[0].stdout).into_owned();
    for size in LARGE {
        let theirs = text.lines().find_map(|l| {
            let (bytes, seconds) = l.split_once(' ')?;
            let same = bytes.parse() == Ok(size);
            // busbw = algbw * 2 (n - 1) / n, which is algbw for two.
            seconds
                .parse::<f64>()
                .ok()
                .filter(|_| same)
                .map(|s| size as f64 / s / 1e9)
        });
        let theirs = theirs.unwrap_or_else(|| panic!("torch said nothing of {size} B: {text}"));
        let row = ours.iter().find(|r| r.bytes == size).expect("a row");
        let busbw = row.best().expect("measured").busbw;
        println!(
            "  {size} B: {busbw:.3} GB/s, torch alone {theirs:.3}: ratio {:.2}",
            busbw / theirs
        );
        assert!(ALIKE.contains(&(busbw / theirs)));
    }
    Ok(())
}

/// On one rank nothing moves, so times are held beside each other; nccl-tests where they are in the path, else the script.
fn the_worker_takes_as_long_as_others() -> Result<(), Ignored> {
    nvml::load()?;
    let most = LARGE[2].to_string();
    let ours = worker(&most)?;
    let tests = Command::new("all_reduce_perf")
        .args(["-b", "8", "-e", &most, "-f", "2", "-g", "1"])
        .env("CUDA_VISIBLE_DEVICES", "0")
        .output();
    let (who, theirs) = match tests {
        Ok(out) => ("nccl-tests", rows(&String::from_utf8_lossy(&out.stdout))),
        Err(_) => ("the script", swept(&script(python()?, 1, LARGE[2])[0])),
    };
    for size in LARGE {
        let us = |all: &[Row]| {
            let row = all.iter().find(|r| r.bytes == size).expect("a row");
            row.in_place.or(row.out_of_place).expect("measured").us
        };
        let (ours, theirs) = (us(&ours), us(&theirs));
        println!(
            "  {size} B: {ours:.1} us, {who} {theirs:.1}: ratio {:.2}",
            ours / theirs
        );
        assert!(ours > 0.0 && theirs > 0.0);
    }
    Ok(())
}
