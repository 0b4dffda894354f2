//! The worker around its calls: what it measures, checks and prints, over GPUs that only count.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ncclscope::model::event::SourceId;
use ncclscope::model::testrun::{Phase, Planned, TestEvent, TestRun};
use ncclscope::parse::Block;
use ncclscope::worker::{Gpus, Lines, library, sweep};

/// Sums in memory; spoils one element of one rank where asked to.
struct Counting {
    buffers: Vec<Vec<f32>>,
    free: u64,
    spoil: Option<(usize, usize)>,
    longest: usize,
}

impl Counting {
    fn new(ranks: usize, free: u64) -> Self {
        Self {
            buffers: vec![Vec::new(); ranks],
            free,
            spoil: None,
            longest: 0,
        }
    }
}

impl Gpus for Counting {
    fn devices(&self) -> Vec<(String, u64)> {
        let one = ("NVIDIA H200".to_owned(), self.free);
        vec![one; self.buffers.len()]
    }

    fn reserve(&mut self, count: usize) -> Result<(), String> {
        self.longest = count;
        self.buffers.iter_mut().for_each(|b| b.resize(count, 0.0));
        Ok(())
    }

    fn write(&mut self, rank: usize, at: usize, values: &[f32]) -> Result<(), String> {
        self.buffers[rank][at..at + values.len()].copy_from_slice(values);
        Ok(())
    }

    fn read(&mut self, rank: usize, at: usize, values: &mut [f32]) -> Result<(), String> {
        values.copy_from_slice(&self.buffers[rank][at..at + values.len()]);
        Ok(())
    }

    fn reduce(&mut self, count: usize, times: u32) -> Result<Vec<f64>, String> {
        if times == 1 {
            let sums: Vec<f32> = (0..count)
                .map(|i| self.buffers.iter().map(|b| b[i]).sum())
                .collect();
            self.buffers
                .iter_mut()
                .for_each(|b| b[..count].copy_from_slice(&sums));
            if let Some((rank, at)) = self.spoil.filter(|(_, at)| *at < count) {
                self.buffers[rank][at] += 1.0;
            }
        }
        Ok((1..=self.buffers.len())
            .map(|r| 1e-3 * f64::from(times) * r as f64)
            .collect())
    }
}

fn measured(gpus: &mut Counting, max_bytes: u64) -> (u64, TestRun) {
    let mut out = Vec::new();
    let wrong = sweep(gpus, max_bytes, &mut Lines::new("w1", &mut out)).expect("measured");
    let mut run = TestRun::default();
    let planned = Planned {
        run: "w1".into(),
        ..Planned::default()
    };
    run.apply(TestEvent::Planned(Arc::new(planned)), 1);
    let block = Arc::new(Block::new(1, out));
    let source = SourceId(0);
    run.apply(TestEvent::Log { source, block }, 2);
    (wrong, run)
}

#[test]
fn its_rows_are_those_of_the_script() {
    let (wrong, run) = measured(&mut Counting::new(4, 1 << 30), 1 << 16);
    assert_eq!(wrong, 0);
    assert_eq!(
        (run.ranks.len(), run.gpu(), run.at()),
        (4, Some("NVIDIA H200"), Some(Phase::Sizes))
    );
    let sizes: Vec<u64> = run.rows.iter().map(|r| r.bytes).collect();
    assert_eq!(sizes, (3..=16).map(|s| 1 << s).collect::<Vec<u64>>());
    let last = run.rows.last().expect("a row");
    let half = last.best().expect("measured");
    assert_eq!(
        (last.by.as_str(), last.world, last.spread),
        ("worker", Some(4), Some((3, 4.0)))
    );
    // Ranks took 1 to 4 ms: 2.5 on average. busbw = algbw * 2 (n - 1) / n.
    assert!((half.us - 2500.0).abs() < 1e-6);
    assert!((half.busbw / half.algbw - 1.5).abs() < 1e-9);
}

#[test]
fn every_element_of_every_rank_is_compared() {
    let mut gpus = Counting::new(3, 1 << 30);
    gpus.spoil = Some((2, 777));
    let (wrong, run) = measured(&mut gpus, 1 << 13);
    // 1,024 elements are 4 KiB, the first size that holds it: both checks there and at 8 KiB.
    assert_eq!((wrong, run.wrong()), (4, 4));
    assert_eq!(run.first_wrong(), Some("seen by rank 2 in worker"));
    assert!(
        run.rows
            .iter()
            .all(|r| (r.wrong() == Some(2)) == (r.bytes >= 4096))
    );
}

#[test]
fn a_small_gpu_gets_a_small_test() {
    let mut gpus = Counting::new(2, 1 << 20);
    measured(&mut gpus, 0);
    // 30 % of 1 MiB, as a power of two.
    assert_eq!(gpus.longest * 4, 1 << 18);
}

#[test]
fn nccl_is_found_where_images_keep_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let lib = folder
        .path()
        .join("python3.12/dist-packages/nvidia/nccl/lib");
    std::fs::create_dir_all(&lib).expect("made");
    let wheels = library::wheels(folder.path());
    assert_eq!(library::in_folders(wheels.iter().cloned()), None);
    std::fs::write(lib.join("libnccl.so.2"), b"").expect("written");
    let found = library::in_folders(wheels.into_iter());
    assert_eq!(found, Some(lib.join("libnccl.so.2")));
}

/// What the worker says where its libraries are looked for in one folder alone, and its exit code.
fn worker_in(folder: &Path) -> (String, Option<i32>) {
    let out = Command::new(env!("CARGO_BIN_EXE_ncclscope"))
        .arg("worker")
        .env("LD_LIBRARY_PATH", folder)
        .env_remove("VLLM_NCCL_SO_PATH")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    (said, out.status.code())
}

/// On a machine with GPUs both libraries are there: `tests/gpu.rs` runs the worker.
fn has_gpus() -> bool {
    Path::new("/dev/nvidiactl").exists()
}

#[test]
fn without_a_driver_it_is_one_sentence_and_exit_2() {
    if has_gpus() {
        return;
    }
    let (said, code) = worker_in(Path::new("/nowhere"));
    assert_eq!(
        said,
        "ncclscope worker: libcuda is not here: this container has no NVIDIA driver\n"
    );
    assert_eq!(code, Some(2));
}

/// The driver comes from the node, NCCL from the image: an image without it is told from a node without a driver.
#[test]
fn without_nccl_it_says_so_and_exits_2() {
    if has_gpus() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["libcuda.so", "libcuda.so.1"] {
        // What links Rust programs is there where Rust is.
        let built = Command::new("cc")
            .args(["-shared", "-xc", "/dev/null", "-o"])
            .arg(folder.path().join(name))
            .status()
            .expect("a C compiler");
        assert!(built.success());
    }
    let (said, code) = worker_in(folder.path());
    assert_eq!(
        said,
        "ncclscope worker: libnccl is not here: the image brings no NCCL\n"
    );
    assert_eq!(code, Some(2));
}
