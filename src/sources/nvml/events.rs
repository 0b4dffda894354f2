//! Xid and ECC events as they happen. Who may not watch a GPU says so: silence is not health then.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::event::EventSet;
use nvml_wrapper::{Device, Nvml};
use tokio::sync::mpsc;

use super::{ROUND, sample, words};
use crate::model::event::Event;

/// How long an event is waited for before it is looked whether anybody still listens, milliseconds.
const WAIT: u32 = 500;
/// A double-bit error is this Xid.
const DOUBLE_BIT: u64 = 48;

/// UUID and bus id of a GPU by its handle: one that has fallen off the bus can't say any more who it is.
type Names = BTreeMap<usize, (String, String)>;

/// Waits until nobody listens.
pub(super) fn watch(
    nvml: &Nvml,
    node: Option<&String>,
    bus: &mpsc::Sender<Event>,
    stop: &AtomicBool,
) {
    let (set, names, unwatched) = register(nvml);
    if !unwatched.is_empty() && bus.blocking_send(sample(node.cloned(), unwatched)).is_err() {
        return;
    }
    let Some(set) = set else { return };
    while !stop.load(Ordering::Relaxed) {
        match set.wait(WAIT) {
            Ok(event) => {
                let code = match event.event_data {
                    Some(XidError::Value(code)) => code,
                    _ if event.event_type.contains(EventTypes::DOUBLE_BIT_ECC_ERROR) => DOUBLE_BIT,
                    _ => continue,
                };
                let text = match names.get(&handle(&event.device)) {
                    Some((uuid, bus)) => format!("xid uuid={uuid} bus={bus} code={code}\n"),
                    None => format!("trouble why=Xid {code} of a GPU that has no name\n"),
                };
                if bus.blocking_send(sample(node.cloned(), text)).is_err() {
                    return;
                }
            }
            Err(NvmlError::Timeout) => {}
            Err(_) => thread::sleep(ROUND),
        }
    }
}

#[expect(unsafe_code, reason = "NVML names a device by its handle alone")]
fn handle(device: &Device<'_>) -> usize {
    // SAFETY: it is compared, and nothing is called with it.
    let handle = unsafe { device.handle() };
    handle as usize
}

/// What is watched, who is who, and a line for each GPU that is not watched.
fn register(nvml: &Nvml) -> (Option<EventSet<'_>>, Names, String) {
    let mut names = Names::new();
    let mut refused: BTreeMap<usize, String> = BTreeMap::new();
    let count = nvml.device_count().unwrap_or(0);
    let devices: Vec<Device<'_>> = (0..count)
        .filter_map(|i| {
            let device = nvml.device_by_index(i).ok()?;
            let bus = device.pci_info().map_or(String::new(), |p| p.bus_id);
            names.insert(handle(&device), (device.uuid().ok()?, bus));
            Some(device)
        })
        .collect();
    // A set is lost with the first GPU that refuses: then it is made again, without that one.
    let set = 'anew: loop {
        let mut set = match nvml.create_event_set() {
            Ok(set) => set,
            Err(e) => {
                let all = devices.iter().map(|d| (handle(d), words(&e)));
                refused.extend(all);
                break None;
            }
        };
        for device in &devices {
            let key = handle(device);
            if refused.contains_key(&key) {
                continue;
            }
            let wanted = EventTypes::CRITICAL_XID_ERROR | EventTypes::DOUBLE_BIT_ECC_ERROR;
            let wanted = device.supported_event_types().map(|s| s & wanted);
            let why = match wanted {
                Ok(events) if events.is_empty() => words(&NvmlError::NotSupported),
                Ok(events) => match device.register_events(events, set) {
                    Ok(same) => {
                        set = same;
                        continue;
                    }
                    Err(e) => {
                        refused.insert(key, words(&e.error));
                        continue 'anew;
                    }
                },
                Err(e) => words(&e),
            };
            refused.insert(key, why);
        }
        break Some(set).filter(|_| refused.len() < devices.len());
    };
    let mut unwatched = String::new();
    for (key, why) in refused {
        if let Some((uuid, _)) = names.get(&key) {
            let _ = writeln!(unwatched, "unwatched uuid={uuid} why={why}");
        }
    }
    (set, names, unwatched)
}
