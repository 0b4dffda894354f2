//! What samplers print: `nvidia-smi`'s query lines, our sampler script's own lines, DCGM exporter's metrics,
//! and the lines in which this node's NVML is written down. Bytes in, readings out; unknown stays unknown.

mod csv;
mod dcgm;
mod words;

pub use csv::{CORE, MORE};

/// One mebibyte, the unit of `nvidia-smi` and DCGM for memory.
pub(crate) const MIB: u64 = 1 << 20;

/// One GPU at one moment. What the tool did not say is `None`: `[N/A]`, a MIG parent, an old driver.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GpuReading {
    /// Index where the tool ran; another number than on the host, and than CUDA's.
    pub index: Option<u32>,
    /// `GPU-…` or `MIG-…`.
    pub uuid: Option<String>,
    /// PCI address as one number: domain << 20 + bus << 12 + device << 4 + function.
    pub bus: Option<u64>,
    /// Product.
    pub name: Option<String>,
    /// Driver.
    pub driver: Option<String>,
    /// Memory there is, bytes.
    pub total: Option<u64>,
    /// Memory taken by whomever, bytes.
    pub used: Option<u64>,
    /// Memory that the driver keeps, bytes.
    pub reserved: Option<u64>,
    /// Share of time in which any kernel ran, percent.
    pub busy: Option<u32>,
    /// Share of time in which memory was read or written, percent.
    pub memory_busy: Option<u32>,
    /// Degrees Celsius.
    pub celsius: Option<u32>,
    /// Power drawn, watts.
    pub watts: Option<f64>,
    /// Power limit in force, watts.
    pub watts_limit: Option<f64>,
    /// Clock of the multiprocessors now, MHz.
    pub clock: Option<u32>,
    /// The highest it could be, MHz.
    pub clock_max: Option<u32>,
    /// Why clocks are held down: NVML's mask.
    pub throttle: Option<u64>,
    /// Uncorrectable ECC errors since the driver was loaded.
    pub ecc_uncorrected: Option<u64>,
    /// Corrected ECC errors since the driver was loaded.
    pub ecc_corrected: Option<u64>,
    /// MIG is on.
    pub mig: Option<bool>,
    /// PCIe generation and width now.
    pub pcie: Option<(u32, u32)>,
    /// Last Xid; 0 where the tool says that there was none.
    pub xid: Option<u32>,
    /// Pod that the tool says holds it: namespace, name, container.
    pub holder: Option<(String, String, String)>,
    /// Node that the tool says it is in.
    pub node: Option<String>,
    /// What the tool says in place of a number: `GPU is lost`, `Insufficient Permissions`.
    pub state: Option<String>,
}

/// Memory, processor and reading of one container, counted by its cgroup and its processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupReading {
    /// Version of the hierarchy.
    pub version: Option<u32>,
    /// Memory charged, page cache included, bytes.
    pub memory: Option<u64>,
    /// Its limit, bytes; `None` also where there is none.
    pub memory_max: Option<u64>,
    /// Of it, memory that can't be dropped: anonymous, bytes.
    pub anon: Option<u64>,
    /// Page cache, bytes.
    pub file: Option<u64>,
    /// Shared memory (`/dev/shm`), bytes.
    pub shmem: Option<u64>,
    /// Swap charged, bytes.
    pub swap: Option<u64>,
    /// Processor time used so far, microseconds.
    pub cpu_us: Option<u64>,
    /// Bytes read from block devices so far.
    pub read_block: Option<u64>,
    /// Bytes that its living processes had fetched from storage so far, network file systems included.
    pub read_storage: Option<u64>,
    /// Bytes that its living processes asked for by read calls so far.
    pub read_calls: Option<u64>,
    /// Processes killed for memory.
    pub oom_kills: Option<u64>,
    /// Memory of the host that can be had, bytes.
    pub host_available: Option<u64>,
    /// Swap of the host, bytes.
    pub host_swap: Option<u64>,
    /// Of it, free, bytes.
    pub host_swap_free: Option<u64>,
}

/// A process that holds memory of a GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuProcess {
    /// The GPU.
    pub uuid: String,
    /// Process id where the tool ran.
    pub pid: u64,
    /// Memory it holds, bytes.
    pub used: Option<u64>,
    /// Its name.
    pub name: Option<String>,
}

/// One link of a GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuLink {
    /// The GPU.
    pub uuid: String,
    /// Number of the link.
    pub number: u32,
    /// It works.
    pub up: Option<bool>,
    /// NVLink version.
    pub version: Option<u32>,
    /// PCI address at the other end, as one number.
    pub remote: Option<u64>,
}

/// How near two GPUs of a node are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuPair {
    /// One.
    pub a: String,
    /// The other.
    pub b: String,
    /// `PIX`, `PXB`, `PHB`, `NODE`, `SYS` as `nvidia-smi topo -m` names it.
    pub path: String,
    /// One can read the other's memory.
    pub p2p: Option<bool>,
}

/// What one line of a sampler says.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// A GPU.
    Gpu(Box<GpuReading>),
    /// The container as a whole.
    Cgroup(Box<CgroupReading>),
    /// A process on a GPU.
    Process(GpuProcess),
    /// An Xid, as it happened.
    Xid {
        /// PCI address as one number.
        bus: Option<u64>,
        /// The GPU.
        uuid: Option<String>,
        /// Its number.
        code: u32,
    },
    /// A link.
    Link(GpuLink),
    /// Two GPUs.
    Pair(GpuPair),
    /// Bytes of all tensors of the model, as its index says.
    ModelBytes(u64),
    /// The processes that follow are all there are: a new list of them begins.
    Processes {
        /// GPUs whose processes could not be read.
        unread: Vec<String>,
    },
    /// Nobody is told of this GPU's Xid and ECC events.
    Unwatched {
        /// The GPU.
        uuid: String,
        /// Why.
        why: String,
    },
    /// No reading: what the tool complains of.
    Trouble(String),
}

/// Reads whole lines of a tool. What is no reading and no complaint is passed over.
#[must_use]
pub fn read(tool: &str, text: &[u8]) -> Vec<Reading> {
    match tool {
        "dcgm" => dcgm::read(text),
        "nvidia-smi" => lines(text).filter_map(csv::line).collect(),
        _ => lines(text).filter_map(words::line).collect(),
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|l| !l.is_empty())
}

/// A PCI address as one number: `00000000:9B:00.0` (nvidia-smi, NVML), `0000:3b:00` (kernel log) or `9b000`
/// (NCCL, already one number).
#[must_use]
pub fn bus_id(text: &str) -> Option<u64> {
    let mut parts: Vec<&str> = text.trim().split([':', '.']).collect();
    if let [one] = parts.as_slice() {
        return u64::from_str_radix(one, 16).ok();
    }
    if text.matches(':').count() == 1 {
        // The domain was left out.
        parts.insert(0, "0");
    }
    let number = |i: usize, most: u64| {
        let n = u64::from_str_radix(parts.get(i)?, 16).ok()?;
        (n <= most).then_some(n)
    };
    let function = if parts.len() > 3 { number(3, 7)? } else { 0 };
    let (domain, bus) = (number(0, 0xffff_ffff)?, number(1, 0xff)?);
    let device = number(2, 0x1f)?;
    (parts.len() <= 4).then_some((domain << 20) + (bus << 12) + (device << 4) + function)
}
