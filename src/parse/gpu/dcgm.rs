//! DCGM exporter's metrics: the few that say what `nvidia-smi` would.

use indexmap::IndexMap;

use super::{GpuReading, MIB, Reading, bus_id};
use crate::parse::prom::{Sample, samples};

/// Readings of a page, a GPU each, in the order of the page.
pub(super) fn read(text: &[u8]) -> Vec<Reading> {
    let mut gpus: IndexMap<String, Memory> = IndexMap::new();
    for s in samples(text, |name| name.starts_with(b"DCGM_FI_DEV_")) {
        // An instance of a partitioned GPU has the parent's UUID; its figures are not the parent's.
        let id = match (s.label("UUID"), s.label("GPU_I_ID")) {
            (Some(uuid), None) => uuid.to_owned(),
            _ => continue,
        };
        let gpu = gpus.entry(id).or_insert_with(|| Memory::of(&s));
        gpu.take(&s);
    }
    gpus.into_values()
        .map(|g| Reading::Gpu(Box::new(g.finish())))
        .collect()
}

/// A GPU while its metrics come one by one.
#[derive(Default)]
struct Memory {
    gpu: GpuReading,
    free: Option<u64>,
}

impl Memory {
    fn of(s: &Sample) -> Self {
        // Where the scrape keeps its own labels, the exporter's are called `exported_…`; old ones `pod_…`.
        let any = |names: [&str; 3]| names.iter().find_map(|n| s.label(n)).map(str::to_owned);
        let holder = any(["exported_pod", "pod", "pod_name"]).map(|pod| {
            (
                any(["exported_namespace", "namespace", "pod_namespace"]).unwrap_or_default(),
                pod,
                any(["exported_container", "container", "container_name"]).unwrap_or_default(),
            )
        });
        Self {
            gpu: GpuReading {
                index: s.label("gpu").and_then(|g| g.parse().ok()),
                uuid: s.label("UUID").map(str::to_owned),
                bus: s.label("pci_bus_id").and_then(bus_id),
                name: s.label("modelName").map(str::to_owned),
                driver: s.label("DCGM_FI_DRIVER_VERSION").map(str::to_owned),
                holder,
                node: any(["Hostname", "hostname", "node"]),
                ..GpuReading::default()
            },
            free: None,
        }
    }

    fn take(&mut self, s: &Sample) {
        let gpu = &mut self.gpu;
        match s.name.as_str() {
            "DCGM_FI_DEV_FB_USED" => gpu.used = whole(s.value).and_then(|m| m.checked_mul(MIB)),
            "DCGM_FI_DEV_FB_FREE" => self.free = whole(s.value).and_then(|m| m.checked_mul(MIB)),
            "DCGM_FI_DEV_FB_RESERVED" => {
                gpu.reserved = whole(s.value).and_then(|m| m.checked_mul(MIB));
            }
            "DCGM_FI_DEV_GPU_UTIL" => gpu.busy = small(s.value),
            "DCGM_FI_DEV_MEM_COPY_UTIL" => gpu.memory_busy = small(s.value),
            "DCGM_FI_DEV_GPU_TEMP" => gpu.celsius = small(s.value),
            "DCGM_FI_DEV_POWER_USAGE" => gpu.watts = Some(s.value).filter(|v| *v >= 0.0),
            "DCGM_FI_DEV_SM_CLOCK" => gpu.clock = small(s.value),
            "DCGM_FI_DEV_XID_ERRORS" => gpu.xid = small(s.value),
            "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL" => gpu.ecc_uncorrected = whole(s.value),
            "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL" => gpu.ecc_corrected = whole(s.value),
            _ => {}
        }
    }

    fn finish(mut self) -> GpuReading {
        // The exporter prints no total: it is what is used, free and kept by the driver together.
        let parts = self.gpu.used.zip(self.free);
        self.gpu.total = parts.and_then(|(used, free)| {
            used.checked_add(free)?
                .checked_add(self.gpu.reserved.unwrap_or(0))
        });
        self.gpu
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be in range"
)]
fn whole(value: f64) -> Option<u64> {
    (0.0..9e15).contains(&value).then_some(value as u64)
}

fn small(value: f64) -> Option<u32> {
    u32::try_from(whole(value)?).ok()
}
