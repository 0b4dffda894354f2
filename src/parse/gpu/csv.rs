//! `nvidia-smi --query-gpu=… --format=csv,noheader,nounits`: which query a line answers, its columns tell.

use super::{GpuReading, MIB, Reading, bus_id};
use crate::parse::text::clean;

/// Fields that every driver of the last years knows; `name` follows them, last in every query.
pub const CORE: &str = "index,uuid,pci.bus_id,memory.total,memory.used,utilization.gpu,\
utilization.memory,temperature.gpu,power.draw,enforced.power.limit,clocks.current.sm,clocks.max.sm";

/// Fields that only recent drivers know, between [`CORE`] and `name`; `@` stands for `event`, which was `throttle`
/// before. One unknown field makes the whole command fail, so a sampler tries with both words, then without.
pub const MORE: &str = "memory.reserved,clocks_@_reasons.active,ecc.errors.uncorrected.volatile.total,\
ecc.errors.corrected.volatile.total,mig.mode.current,pcie.link.gen.current,pcie.link.width.current,\
driver_version";

/// Columns of [`CORE`] and `name`.
const FEW: usize = 13;
/// Columns of [`CORE`], [`MORE`] and `name`.
const MANY: usize = 21;

/// What stands where a value is missing and says nothing of the GPU's health.
const ABSENT: [&str; 4] = ["N/A", "Not Supported", "Not Found", "Unknown Error"];

/// One line.
pub(super) fn line(raw: &[u8]) -> Option<Reading> {
    let text = clean(raw);
    let cells: Vec<&str> = text.split(',').map(str::trim).collect();
    let full = match cells.len() {
        n if n >= MANY => true,
        n if n >= FEW => false,
        _ => return trouble(&text),
    };
    let at = |i: usize| cells.get(i).copied().unwrap_or_default();
    if at(0) == "index" {
        // A header that was not asked for.
        return None;
    }
    let uuid = word(at(1)).filter(|u| u.starts_with("GPU-") || u.starts_with("MIG-"));
    let bus = bus_id(at(2));
    // A line that names no GPU is none of ours, however many commas it has.
    if uuid.is_none() && bus.is_none() {
        return trouble(&text);
    }
    let mut gpu = GpuReading {
        index: whole(at(0)),
        uuid,
        bus,
        total: memory(at(3)),
        used: memory(at(4)),
        busy: whole(at(5)),
        memory_busy: whole(at(6)),
        celsius: whole(at(7)),
        watts: number(at(8)),
        watts_limit: number(at(9)),
        clock: whole(at(10)),
        clock_max: whole(at(11)),
        state: cells.iter().find_map(|c| state(c)),
        ..GpuReading::default()
    };
    // Names have no commas; one that had would be the last cells.
    let name = cells.get(if full { MANY } else { FEW } - 1..);
    gpu.name = name.and_then(|n| word(&n.join(", ")));
    if full {
        gpu.reserved = memory(at(12));
        gpu.throttle = at(13)
            .strip_prefix("0x")
            .and_then(|h| u64::from_str_radix(h, 16).ok());
        gpu.ecc_uncorrected = whole(at(14));
        gpu.ecc_corrected = whole(at(15));
        gpu.mig = match at(16) {
            "Enabled" => Some(true),
            "Disabled" => Some(false),
            _ => None,
        };
        gpu.pcie = whole(at(17)).zip(whole(at(18)));
        gpu.driver = word(at(19));
    }
    Some(Reading::Gpu(Box::new(gpu)))
}

/// Text in brackets, and what the human table prints for an error.
fn bracketed(cell: &str) -> Option<&str> {
    cell.strip_prefix('[').and_then(|c| c.strip_suffix(']'))
}

fn state(cell: &str) -> Option<String> {
    let said = bracketed(cell)?;
    (!ABSENT.contains(&said)).then(|| said.to_owned())
}

fn word(cell: &str) -> Option<String> {
    let missing = cell.is_empty() || cell == "N/A" || bracketed(cell).is_some();
    (!missing).then(|| cell.to_owned())
}

/// A number; a unit behind it is what `nounits` would have left out.
fn number(cell: &str) -> Option<f64> {
    let first = cell.split(' ').next()?;
    first
        .parse::<f64>()
        .ok()
        .filter(|n| n.is_finite() && *n >= 0.0)
}

fn whole<T: TryFrom<u64>>(cell: &str) -> Option<T> {
    let first = cell.split(' ').next()?;
    T::try_from(first.parse::<u64>().ok()?).ok()
}

fn memory(cell: &str) -> Option<u64> {
    whole::<u64>(cell)?.checked_mul(MIB)
}

/// Lines in which the tool says that it can't.
fn trouble(text: &str) -> Option<Reading> {
    const SAID: [&str; 9] = [
        "NVIDIA-SMI has failed",
        "Failed to initialize NVML",
        "No devices were found",
        "No devices found",
        "is not a valid field to query",
        "Unable to determine the device handle",
        "GPU is lost",
        "Driver/library version mismatch",
        "Insufficient Permissions",
    ];
    SAID.iter()
        .any(|s| text.contains(s))
        .then(|| Reading::Trouble(text.to_owned()))
}
