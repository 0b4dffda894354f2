//! The GPUs of this node by NVML, which is loaded at run time: figures once a second, links and distances now and
//! then, Xid and ECC events as they happen. Everything is written down as lines and read by the parser, so that a
//! recording keeps what was said and not what it meant.

mod events;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, P2pCapabilitiesIndex, P2pStatus, TemperatureSensor,
    TopologyLevel,
};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use tokio::sync::mpsc;

use crate::model::event::{Event, SampleEvent};
use crate::parse::clean;

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Between two looks at links and distances, which hardly ever change.
const SELDOM: Duration = Duration::from_secs(60);
/// NVLinks of a GPU at most.
const LINKS: u32 = 18;
/// Characters of a process's name.
const NAME: usize = 160;

/// NVML, loaded.
#[derive(Debug)]
pub struct Local {
    nvml: Arc<Nvml>,
    node: Option<String>,
    /// GPUs that were seen by UUID: one that is gone can't say any more who it was.
    known: Mutex<BTreeMap<String, Known>>,
}

/// Where a GPU was seen.
#[derive(Debug)]
struct Known {
    index: u32,
    bus: String,
}

/// Ends the threads when dropped.
#[derive(Debug)]
pub struct Watch(Arc<AtomicBool>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Loads the library.
///
/// # Errors
/// One sentence that says what is missing here.
pub fn load() -> Result<Local, String> {
    let nvml = Nvml::init().map_err(|e| missing(&e))?;
    let count = nvml.device_count().map_err(|e| missing(&e))?;
    if count == 0 {
        return Err("NVML is here and finds no GPU on this node".into());
    }
    let node = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|n| clean(n.trim().as_bytes()))
        .filter(|n| !n.is_empty());
    Ok(Local {
        nvml: Arc::new(nvml),
        node,
        known: Mutex::default(),
    })
}

/// What is missing, in words.
#[must_use]
pub fn missing(e: &NvmlError) -> String {
    match e {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
            "no NVML on this node: libnvidia-ml.so.1, which the NVIDIA driver installs, can't be loaded".into()
        }
        NvmlError::DriverNotLoaded => "NVML is here, but the NVIDIA driver is not loaded".into(),
        NvmlError::NoPermission => "NVML is here, but this user may not talk to the NVIDIA driver".into(),
        NvmlError::LibRmVersionMismatch => {
            "NVML and the NVIDIA driver differ in version: the driver was renewed under a running kernel".into()
        }
        other => format!("NVML does not start: {other}"),
    }
}

impl Local {
    /// Samples into a channel until the watch is dropped or nobody listens.
    #[must_use]
    pub fn watch(self, bus: mpsc::Sender<Event>) -> Watch {
        let done = Arc::new(AtomicBool::new(false));
        let (nvml, node) = (self.nvml.clone(), self.node.clone());
        let (events_to, stop) = (bus.clone(), done.clone());
        // Blocking calls: threads of their own.
        thread::spawn(move || events::watch(&nvml, node.as_ref(), &events_to, &stop));
        let stop = done.clone();
        thread::spawn(move || {
            let mut next = Instant::now();
            let mut seldom = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let mut text = self.round();
                if Instant::now() >= seldom {
                    text.push_str(&self.topology());
                    seldom = Instant::now() + SELDOM;
                }
                if bus.blocking_send(sample(self.node.clone(), text)).is_err() {
                    return;
                }
                // Rounds that were missed are not made up for, and a driver that takes its time is left some.
                next = (next + ROUND).max(Instant::now() + ROUND / 2);
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        Watch(done)
    }

    fn devices(&self) -> impl Iterator<Item = (u32, Result<Device<'_>, NvmlError>)> {
        let count = self.nvml.device_count().unwrap_or(0);
        (0..count).map(|i| (i, self.nvml.device_by_index(i)))
    }

    /// One line per GPU and per process on it. A GPU that is lost says so; the others go on.
    #[must_use]
    pub fn round(&self) -> String {
        let mut text = String::new();
        let driver = self.nvml.sys_driver_version().ok();
        // A complaint counts until the next GPU is measured: complaints come last.
        let (mut holders, mut troubles) = (String::new(), String::new());
        let (mut unread, mut seen, mut why) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = "no longer listed".to_owned();
        if let Err(e) = self.nvml.device_count() {
            gone = format!("NVML: {}", words(&e));
            let _ = writeln!(troubles, "trouble why={gone}");
        }
        for (index, device) in self.devices() {
            let (device, uuid) = match device.and_then(|d| Ok((d.uuid()?, d))) {
                Ok((uuid, device)) => (device, uuid),
                Err(e) => {
                    why.insert(index, e);
                    continue;
                }
            };
            let line = figures(index, &device, &uuid, driver.as_deref());
            let _ = writeln!(text, "{line}");
            parts(index, &device, &mut text);
            let bus = device.pci_info().map_or(String::new(), |p| p.bus_id);
            match device.running_compute_processes() {
                Ok(list) => {
                    for p in list {
                        let name = self.nvml.sys_process_name(p.pid, NAME).unwrap_or_default();
                        let used = match p.used_gpu_memory {
                            UsedGpuMemory::Used(bytes) => bytes.to_string(),
                            UsedGpuMemory::Unavailable => String::new(),
                        };
                        let name = clean(name.as_bytes());
                        let _ = writeln!(
                            holders,
                            "process uuid={uuid} pid={} used={used} name={name}",
                            p.pid
                        );
                    }
                }
                // Not none: not known.
                Err(_) => unread.push(uuid.clone()),
            }
            known.insert(uuid.clone(), Known { index, bus });
            seen.push(uuid);
        }
        for (uuid, Known { index, bus }) in known.iter().filter(|(u, _)| !seen.contains(u)) {
            let state = why
                .remove(index)
                .map_or_else(|| gone.clone(), |e| words(&e));
            let state = state.replace(' ', "_");
            let _ = writeln!(
                text,
                "gpu index={index} uuid={uuid} bus={bus} state={state}"
            );
            unread.push(uuid.clone());
        }
        for (index, e) in why {
            let _ = writeln!(troubles, "trouble why=GPU {index}: {}", words(&e));
        }
        let _ = writeln!(text, "processes unread={}", unread.join(","));
        text + &holders + &troubles
    }

    /// Links of every GPU, and how near each two are.
    fn topology(&self) -> String {
        let mut text = String::new();
        let all: Vec<(Device<'_>, String)> = self
            .devices()
            .filter_map(|(_, d)| {
                let device = d.ok()?;
                let uuid = device.uuid().ok()?;
                Some((device, uuid))
            })
            .collect();
        for (device, uuid) in &all {
            for number in 0..LINKS {
                let link = device.link_wrapper_for(number);
                // Beyond the last link there is none to ask.
                let Ok(up) = link.is_active() else { break };
                let version = link.version().map_or(String::new(), |v| v.to_string());
                let remote = link.remote_pci_info().map_or(String::new(), |p| p.bus_id);
                let _ = writeln!(
                    text,
                    "link uuid={uuid} number={number} up={} version={version} remote={remote}",
                    u8::from(up)
                );
            }
        }
        for (i, (a, a_uuid)) in all.iter().enumerate() {
            for (b, b_uuid) in all.iter().skip(i + 1) {
                let Ok(other) = self.nvml.device_by_uuid(b_uuid.as_str()) else {
                    continue;
                };
                let Ok(level) = a.topology_common_ancestor(other) else {
                    continue;
                };
                let path = match level {
                    TopologyLevel::Internal => "X",
                    TopologyLevel::Single => "PIX",
                    TopologyLevel::Multiple => "PXB",
                    TopologyLevel::HostBridge => "PHB",
                    TopologyLevel::Node => "NODE",
                    TopologyLevel::System => "SYS",
                };
                let p2p = match a.p2p_status(b, P2pCapabilitiesIndex::Read) {
                    Ok(P2pStatus::Ok) => "1",
                    Ok(P2pStatus::Unknown) | Err(_) => "",
                    Ok(_) => "0",
                };
                let _ = writeln!(text, "pair a={a_uuid} b={b_uuid} path={path} p2p={p2p}");
            }
        }
        text
    }
}

fn sample(node: Option<String>, text: String) -> Event {
    Event::Sample(SampleEvent {
        container: None,
        node,
        tool: "nvml".into(),
        text,
    })
}

/// An error without blanks, as the line's value.
fn words(e: &NvmlError) -> String {
    match e {
        NvmlError::GpuLost => "GPU is lost".into(),
        NvmlError::ResetRequired => "GPU requires reset".into(),
        NvmlError::LibRmVersionMismatch => "another version than the driver".into(),
        other => clean(other.to_string().as_bytes()),
    }
}

/// What cannot be had is left empty, and is unknown.
fn or_empty<T: ToString>(value: Result<T, NvmlError>) -> String {
    value.map_or(String::new(), |v| v.to_string())
}

fn figures(index: u32, d: &Device<'_>, uuid: &str, driver: Option<&str>) -> String {
    let memory = d.memory_info();
    let state = match &memory {
        Err(e @ (NvmlError::GpuLost | NvmlError::ResetRequired)) => words(e).replace(' ', "_"),
        _ => String::new(),
    };
    let memory = memory.ok();
    let bytes = |f: fn(&nvml_wrapper::struct_wrappers::device::MemoryInfo) -> u64| {
        memory.as_ref().map_or(String::new(), |m| f(m).to_string())
    };
    let load = d.utilization_rates().ok();
    let percent = |n: Option<u32>| n.map_or(String::new(), |n| n.to_string());
    let watts = |mw: Result<u32, NvmlError>| {
        mw.map_or(String::new(), |mw| format!("{:.2}", f64::from(mw) / 1000.0))
    };
    let ecc = |kind| or_empty(d.total_ecc_errors(kind, EccCounter::Volatile));
    let throttle = d
        .current_throttle_reasons()
        .map_or(String::new(), |r| format!("{:x}", r.bits()));
    format!(
        "gpu index={index} uuid={uuid} bus={} total={} used={} reserved={} busy={} memory_busy={} celsius={} watts={} watts_limit={} clock={} clock_max={} throttle={throttle} ecc_uncorrected={} ecc_corrected={} mig={} pcie={} lanes={} driver={} state={state} name={}",
        d.pci_info().map_or(String::new(), |p| p.bus_id),
        bytes(|m| m.total),
        bytes(|m| m.used),
        bytes(|m| m.reserved),
        percent(load.as_ref().map(|u| u.gpu)),
        percent(load.as_ref().map(|u| u.memory)),
        or_empty(d.temperature(TemperatureSensor::Gpu)),
        watts(d.power_usage()),
        watts(d.enforced_power_limit()),
        or_empty(d.clock_info(Clock::SM)),
        or_empty(d.max_clock_info(Clock::SM)),
        ecc(MemoryError::Uncorrected),
        ecc(MemoryError::Corrected),
        d.mig_mode()
            .map_or(String::new(), |m| m.current.to_string()),
        or_empty(d.current_pcie_link_gen()),
        or_empty(d.current_pcie_link_width()),
        driver.unwrap_or_default(),
        clean(d.name().unwrap_or_default().as_bytes()),
    )
}

/// The parts that a GPU was cut into: each is a GPU to whoever uses it.
fn parts(index: u32, d: &Device<'_>, text: &mut String) {
    if !d.mig_mode().is_ok_and(|m| m.current == 1) {
        return;
    }
    for i in 0..d.mig_device_count().unwrap_or(0) {
        let Ok(part) = d.mig_device_by_index(i) else {
            continue;
        };
        let (Ok(uuid), Ok(memory)) = (part.uuid(), part.memory_info()) else {
            continue;
        };
        let _ = writeln!(
            text,
            "gpu index={index} uuid={uuid} bus={} total={} used={} reserved={} name={}",
            d.pci_info().map_or(String::new(), |p| p.bus_id),
            memory.total,
            memory.used,
            memory.reserved,
            clean(part.name().unwrap_or_default().as_bytes()),
        );
    }
}
