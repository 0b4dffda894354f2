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
#[path = "listed.rs"]
mod listed;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cudarc::driver::CudaContext;
use ncclscope::parse::gpu::{GpuReading, Reading, bus_id, read};
use ncclscope::parse::perf::{Row, Said, line};
use ncclscope::sources::nvml;

/// What one process may take. Whatever hangs in it ends itself before: torch's import takes minutes on a cold disk.
const PATIENCE: Duration = Duration::from_secs(540);

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
    listed::run(&tests, Ok(""), |test| test())
}

/// A file of the repository: where it was built, else where the tests are run, which may be another machine.
fn file(name: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if built.exists() {
        return built;
    }
    std::env::current_dir().expect("a folder").join(name)
}

/// The program: where it was built, else beside this test.
fn program() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_ncclscope"));
    if built.exists() {
        return built;
    }
    let own = std::env::current_exe().expect("a path");
    let near = own.ancestors().map(|folder| folder.join("ncclscope"));
    near.into_iter()
        .find(|p| p.is_file())
        .expect("ncclscope in a folder above this test")
}

/// How a process ended, and what it said.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Starts processes that need each other, and waits for all of them: each is read at once, since one that can't write
/// lets the others wait; whoever takes too long is ended, and what it said until then is told.
fn all(commands: Vec<Command>) -> Vec<Ended> {
    let until = Instant::now() + PATIENCE;
    let begin = |mut command: Command| {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut pipes: (_, _) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let out = std::thread::spawn(move || text(&mut pipes.0));
        let err = std::thread::spawn(move || text(&mut pipes.1));
        (child, out, err)
    };
    let begun: Vec<_> = commands.into_iter().map(begin).collect();
    let end = |(mut child, out, err): (Child, JoinHandle<String>, JoinHandle<String>)| {
        let code = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break status.code();
            }
            if Instant::now() > until {
                child.kill().expect("killed");
                child.wait().expect("a child");
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let (out, err) = (out.join().unwrap(), err.join().unwrap());
        Ended { code, out, err }
    };
    begun.into_iter().map(end).collect()
}

fn text(pipe: &mut impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).expect("read");
    String::from_utf8_lossy(&bytes).into_owned()
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
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        return Err(format!("nvidia-smi fails here: {}", said.trim()));
    }
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
    // nvidia-smi lists no parts of GPUs.
    let whole = |g: &GpuReading| g.uuid.as_ref().is_some_and(|u| u.starts_with("GPU-"));
    all.into_iter().filter_map(gpu).filter(whole).collect()
}

/// Both tools, read between two allocations of a real process: this one.
fn nvml_is_what_nvidia_smi_is() -> Result<(), Ignored> {
    let local = nvml::load()?;
    smi()?;
    cuda()?;
    let context = CudaContext::new(0).map_err(|e| format!("CUDA does not start here: {e}"))?;
    let stream = context.default_stream();
    let mut held = Vec::new();
    let mut before = 0;
    for step in 0..3u64 {
        // Others may work on the same GPUs: what nvidia-smi says lies between what we say before and after it.
        let (ours, theirs, again) = (gpus(&local), smi()?, gpus(&local));
        assert_eq!((ours.len(), again.len()), (theirs.len(), theirs.len()));
        for ((own, after), [uuid, bus, driver, total, used]) in ours.iter().zip(&again).zip(&theirs)
        {
            assert_eq!(own.uuid.as_ref(), Some(uuid));
            assert_eq!(own.bus, bus_id(bus));
            assert_eq!(own.driver.as_ref(), Some(driver));
            let bytes = |n: Option<u64>| n.expect("memory");
            assert_eq!((bytes(own.total) >> 20).to_string(), *total);
            let (least, most) = (own.used.min(after.used), own.used.max(after.used));
            // Whole MiB, rounded one way or the other.
            let between = (bytes(least) >> 20)..=bytes(most).div_ceil(1 << 20);
            let used: u64 = used.parse().expect("MiB");
            assert!(
                between.contains(&used),
                "step {step}: {used} in {between:?}"
            );
        }
        let used: u64 = again.iter().filter_map(|g| g.used).sum();
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

/// What binds the driver's library answers its absence with a panic.
#[expect(unsafe_code, reason = "loading a library runs its initialisers")]
fn cuda() -> Result<(), Ignored> {
    // SAFETY: the driver's library is made to be loaded by anybody.
    let here = unsafe { cudarc::driver::sys::is_culib_present() };
    here.then_some(()).ok_or_else(|| "no libcuda here".into())
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
    let mut command = Command::new(program());
    command
        .args(["worker", "--run", "here", "--max-bytes", max_bytes])
        .envs([("CUDA_VISIBLE_DEVICES", "0"), ("NCCL_DEBUG", "INFO")]);
    let ran = all(vec![command]).remove(0);
    if ran.code == Some(2) {
        // A sentence on a library that is not here, or is too old.
        return Err(ran.err.trim().to_owned());
    }
    // Kept before anything is asked of it: who fails here may not get another try.
    kept::keep("worker-one-rank", std::slice::from_ref(&ran));
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    kept::one_that_sums(std::slice::from_ref(&ran.out));
    Ok(swept(&ran.out))
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
    let known = ["python3", "/usr/bin/python3", ".venv/bin/python3"]
        .into_iter()
        .find(works);
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
}

/// A port that nobody uses, nor the next one: the script takes both.
fn free_port() -> String {
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port.to_string();
        }
    }
    panic!("no free ports");
}

/// The script in so many pods of one rank each, all on GPU 0; what each said.
fn script(python: &str, pods: u32, max_bytes: u64) -> Vec<String> {
    let (port, most) = (free_port(), max_bytes.to_string());
    let begin = |i: u32| {
        let (nodes, index) = (pods.to_string(), i.to_string());
        let mut command = Command::new(python);
        command
            .arg(file("assets/allreduce.py"))
            .args(["--nodes", &nodes, "--nproc", "1", "--node-rank", &index])
            .args(["--master-port", &port, "--max-bytes", &most])
            .env("NCCLSCOPE_RUN", "here")
            .env_remove("MASTER_ADDR");
        host(&mut command, i);
        command
    };
    let ran = all((0..pods).map(begin).collect());
    let name = match pods {
        1 => "script-one-rank",
        _ => "script-two-ranks-one-gpu",
    };
    kept::keep(name, &ran);
    ran.into_iter()
        .map(|pod| {
            assert_eq!(pod.code, Some(0), "{}{}", pod.out, pod.err);
            pod.out
        })
        .collect()
}

/// Rows over NCCL of our own programs, in every type, none of them wrong.
fn measured(text: &str) -> Vec<Row> {
    let all = rows(text);
    assert!(all.iter().all(|r| r.wrong().is_none_or(|w| w == 0)));
    let own = |r: &Row| r.run.is_some() && r.by != "gloo" && r.by != "pynccl";
    all.into_iter().filter(own).collect()
}

/// Those of float32: one a size.
fn swept(text: &str) -> Vec<Row> {
    let mut all = measured(text);
    all.retain(|r| r.kind == "float32");
    all
}

fn the_script_runs_on_one_rank() -> Result<(), Ignored> {
    nvml::load()?;
    let said = script(python()?, 1, 1 << 20);
    let rows = swept(&said[0]);
    assert_eq!(rows.len(), 18, "8 B to 1 MiB");
    kept::one_that_sums(&said);
    Ok(())
}

/// Two hosts by `NCCL_HOSTID`, one GPU: the transport between them is a socket, and the sums are right.
fn several_ranks_on_one_gpu_meet_over_sockets() -> Result<(), Ignored> {
    nvml::load()?;
    let said = script(python()?, 2, 1 << 20);
    assert_eq!(swept(&said[0]).len(), 18);
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
    let begin = |i: u32| {
        let mut command = Command::new(python);
        command
            .arg(file("tests/allreduce/reference.py"))
            .args(LARGE.map(|s| s.to_string()))
            .envs([
                ("MASTER_ADDR", "127.0.0.1"),
                ("MASTER_PORT", &port),
                ("WORLD_SIZE", "2"),
            ])
            .env("RANK", i.to_string());
        host(&mut command, i);
        command
    };
    let both = all(vec![begin(0), begin(1)]);
    let (text, err) = (&both[0].out, &both[0].err);
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
        let theirs =
            theirs.unwrap_or_else(|| panic!("torch said nothing of {size} B: {text}{err}"));
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
        Ok(out) if out.status.success() => {
            ("nccl-tests", rows(&String::from_utf8_lossy(&out.stdout)))
        }
        _ => ("the script", swept(&script(python()?, 1, LARGE[2])[0])),
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
