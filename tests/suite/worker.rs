//! The worker around its calls: what it measures, checks and prints, over GPUs that only count.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ncclscope::model::event::SourceId;
use ncclscope::model::testrun::{Phase, Planned, TestEvent, TestRun};
use ncclscope::parse::Block;
use ncclscope::worker::{Device, Fault, Gpus, Kind, Lines, Progress, library, sweep};

/// Sums in memory; spoils one element of one rank where asked to.
struct Counting {
    buffers: Vec<Vec<u8>>,
    free: u64,
    version: u32,
    spoil: Option<(usize, usize)>,
    longest: usize,
}

impl Counting {
    fn new(ranks: usize, free: u64) -> Self {
        Self {
            buffers: vec![Vec::new(); ranks],
            free,
            version: 22_203,
            spoil: None,
            longest: 0,
        }
    }
}

fn get(kind: Kind, buffer: &[u8], i: usize) -> f32 {
    let at = &buffer[i * kind.size()..];
    match kind {
        Kind::Float32 => f32::from_ne_bytes([at[0], at[1], at[2], at[3]]),
        Kind::Bfloat16 => f32::from_bits(u32::from(u16::from_ne_bytes([at[0], at[1]])) << 16),
    }
}

fn put(kind: Kind, buffer: &mut [u8], i: usize, value: f32) {
    let (size, bits) = (kind.size(), value.to_bits());
    let upper = u16::try_from(bits >> 16).expect("16 bits").to_ne_bytes();
    let bytes = match kind {
        Kind::Float32 => value.to_ne_bytes().to_vec(),
        Kind::Bfloat16 => upper.to_vec(),
    };
    buffer[i * size..(i + 1) * size].copy_from_slice(&bytes);
}

impl Gpus for Counting {
    fn devices(&self) -> Result<Vec<Device>, Fault> {
        let one = Device {
            name: "NVIDIA H200".into(),
            free: self.free,
            total: self.free,
        };
        Ok(vec![one; self.buffers.len()])
    }

    fn join(&mut self) -> Result<u32, Fault> {
        Ok(self.version)
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), Fault> {
        self.longest = bytes;
        self.buffers.iter_mut().for_each(|b| b.resize(bytes, 0));
        Ok(())
    }

    fn write(&mut self, rank: usize, at: usize, bytes: &[u8]) -> Result<(), Fault> {
        self.buffers[rank][at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, rank: usize, at: usize, bytes: &mut [u8]) -> Result<(), Fault> {
        bytes.copy_from_slice(&self.buffers[rank][at..at + bytes.len()]);
        Ok(())
    }

    fn zero(&mut self, bytes: usize) -> Result<(), Fault> {
        self.buffers.iter_mut().for_each(|b| b[..bytes].fill(0));
        Ok(())
    }

    fn reduce(&mut self, kind: Kind, count: usize, times: u32) -> Result<Vec<f64>, Fault> {
        if times == 1 {
            for i in 0..count {
                let sum = self.buffers.iter().map(|b| get(kind, b, i)).sum();
                self.buffers.iter_mut().for_each(|b| put(kind, b, i, sum));
            }
            if let Some((rank, at)) = self.spoil.filter(|(_, at)| *at < count) {
                let value = get(kind, &self.buffers[rank], at) + 1.0;
                put(kind, &mut self.buffers[rank], at, value);
            }
        }
        Ok((1..=self.buffers.len())
            .map(|r| 1e-3 * f64::from(times) * r as f64)
            .collect())
    }
}

fn measured(gpus: &mut Counting, max_bytes: u64) -> (u64, TestRun) {
    let mut out = Vec::new();
    let mut say = Lines::new("w1", &mut out);
    let wrong = sweep(gpus, max_bytes, &mut say, &Progress::new(0)).expect("measured");
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
    for kind in ["float32", "bfloat16"] {
        let of = run.rows.iter().filter(|r| r.kind == kind);
        let sizes: Vec<u64> = of.map(|r| r.bytes).collect();
        assert_eq!(sizes, (3..=16).map(|s| 1 << s).collect::<Vec<u64>>());
    }
    let last = run.rows.last().expect("a row");
    let half = last.best().expect("measured");
    assert_eq!(
        (last.by.as_str(), last.world, last.spread),
        ("worker", Some(4), Some((3, 4.0)))
    );
    // Ranks took 1 to 4 ms: 2.5 on average. busbw = algbw * 2 (n - 1) / n.
    assert!((half.us - 2500.0).abs() < 1e-6);
    assert!((half.busbw / half.algbw - 1.5).abs() < 1e-5);
}

#[test]
fn every_element_of_every_rank_is_compared() {
    let mut gpus = Counting::new(3, 1 << 30);
    gpus.spoil = Some((2, 777));
    let (wrong, run) = measured(&mut gpus, 1 << 13);
    // 1,024 elements are the first size that holds it, and 2,048 the next one: 4 and 8 KiB of float32, 2 to 8 KiB of
    // bfloat16, each in both checks.
    assert_eq!((wrong, run.wrong()), (10, 10));
    assert_eq!(run.first_wrong(), Some("seen by rank 2 in worker"));
    for row in &run.rows {
        let bad = if row.count >= 1024 { 2 } else { 0 };
        assert_eq!(row.wrong(), Some(bad), "{row:?}");
    }
}

#[test]
fn a_small_gpu_gets_a_small_test() {
    let mut gpus = Counting::new(2, 1 << 20);
    measured(&mut gpus, 0);
    // 30 % of 1 MiB, as a power of two.
    assert_eq!(gpus.longest, 1 << 18);
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
