//! GPUs: which are seen, who holds their memory, how they are connected, what their memory reports of errors.

use super::{Row, Trouble, rows, trouble};

/// A GPU as `nvidia-smi -L` lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpu {
    /// Index.
    pub index: u32,
    /// Product.
    pub name: String,
    /// UUID.
    pub uuid: String,
    /// MIG instances beneath it.
    pub mig: u32,
}

/// Uncorrectable errors since the driver was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ecc {
    /// Index.
    pub index: u32,
    /// PCI bus id.
    pub bus: String,
    /// Count; nothing where ECC is off or not there.
    pub uncorrected: Option<u64>,
}

/// Remapped rows of a GPU's memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remap {
    /// PCI bus id.
    pub bus: String,
    /// Rows remapped for uncorrectable errors.
    pub uncorrectable: Option<u64>,
    /// A reset is needed to finish.
    pub pending: bool,
    /// It failed.
    pub failure: bool,
}

/// The GPUs that a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpus {
    /// By the vendor's tool.
    pub list: Vec<Gpu>,
    /// By device files, where the tool is not there.
    pub devices: u32,
    /// `CUDA_VISIBLE_DEVICES` of the probe's own environment.
    pub visible: Option<String>,
    /// Errors.
    pub ecc: Vec<Ecc>,
    /// Remapped rows.
    pub remap: Vec<Remap>,
    /// Tools that did not answer.
    pub trouble: Vec<Trouble>,
}

impl Gpus {
    /// How many: MIG instances count instead of their GPU. Nothing where nobody could say.
    #[must_use]
    pub fn count(&self) -> Option<u32> {
        let answered = !self.list.is_empty() || !self.trouble.iter().any(|t| t.what == "smi");
        if answered {
            Some(self.list.iter().map(|g| g.mig.max(1)).sum())
        } else {
            (self.devices > 0).then_some(self.devices)
        }
    }

    pub(super) fn read(out: &str) -> Self {
        let mut v = Self::default();
        for (word, row) in rows(out) {
            match word.as_str() {
                "smi" => {
                    let line = row.text(0);
                    if let Some(g) = gpu(&line) {
                        v.list.push(g);
                    } else if line.starts_with("MIG ")
                        && let Some(g) = v.list.last_mut()
                    {
                        g.mig += 1;
                    }
                }
                "device" => v.devices += 1,
                "visible" => v.visible = row.get(0).map(str::to_owned),
                "ecc" => v.ecc.extend(csv::<3>(&row).and_then(|[index, bus, n]| {
                    Some(Ecc {
                        index: index.parse().ok()?,
                        bus,
                        uncorrected: n.parse().ok(),
                    })
                })),
                "remap" => v
                    .remap
                    .extend(csv::<4>(&row).map(|[bus, n, pending, failure]| {
                        let yes = |t: &str| matches!(t, "Yes" | "yes" | "1");
                        Remap {
                            bus,
                            uncorrectable: n.parse().ok(),
                            pending: yes(&pending),
                            failure: yes(&failure),
                        }
                    })),
                word => v.trouble.extend(trouble(word, &row)),
            }
        }
        v
    }
}

/// `GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-…)`.
fn gpu(line: &str) -> Option<Gpu> {
    let (index, rest) = line.strip_prefix("GPU ")?.split_once(": ")?;
    let (name, uuid) = rest.rsplit_once(" (UUID: ").unwrap_or((rest, ""));
    Some(Gpu {
        index: index.parse().ok()?,
        name: name.to_owned(),
        uuid: uuid.trim_end_matches(')').to_owned(),
        mig: 0,
    })
}

/// The first field as so many values parted by commas; the last takes what is left.
fn csv<const N: usize>(row: &Row) -> Option<[String; N]> {
    let text = row.get(0)?;
    let list: Vec<String> = text.splitn(N, ',').map(|v| v.trim().to_owned()).collect();
    list.try_into().ok()
}

/// A process that holds GPU memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct App {
    /// UUID of the GPU.
    pub gpu: String,
    /// Process id, of the host where the container has a namespace of its own.
    pub pid: Option<u64>,
    /// MiB.
    pub used_mib: Option<u64>,
    /// Its name; `[Not Found]` for one of another container.
    pub name: String,
}

/// Memory of one GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filled {
    /// Index.
    pub index: u32,
    /// UUID.
    pub uuid: String,
    /// PCI bus id.
    pub bus: String,
    /// MiB.
    pub used_mib: Option<u64>,
    /// MiB.
    pub total_mib: Option<u64>,
    /// Percent.
    pub utilization: Option<u32>,
}

/// Memory of the GPUs and who holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuMemory {
    /// By index.
    pub gpus: Vec<Filled>,
    /// Who holds it, as far as it can be seen.
    pub apps: Vec<App>,
    /// Processes of the container that may: pid in its namespace, and what they are.
    pub own: Vec<(u64, String)>,
    /// Tools that did not answer.
    pub trouble: Vec<Trouble>,
}

impl GpuMemory {
    pub(super) fn read(out: &str) -> Self {
        let mut v = Self::default();
        for (word, row) in rows(out) {
            match word.as_str() {
                "gpu" => v.gpus.extend(csv::<6>(&row).and_then(
                    |[index, uuid, bus, used, total, busy]| {
                        Some(Filled {
                            index: index.parse().ok()?,
                            uuid,
                            bus,
                            used_mib: used.parse().ok(),
                            total_mib: total.parse().ok(),
                            utilization: busy.parse().ok(),
                        })
                    },
                )),
                "app" => v
                    .apps
                    .extend(csv::<4>(&row).map(|[gpu, pid, used, name]| App {
                        gpu,
                        pid: pid.parse().ok(),
                        used_mib: used.parse().ok(),
                        name,
                    })),
                "own" => v.own.extend(row.num(0).map(|pid| (pid, row.text(1)))),
                word => v.trouble.extend(trouble(word, &row)),
            }
        }
        v
    }
}

/// How two GPUs are connected, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// `NV18`: so many bonded NVLinks.
    Nvlink(u32),
    /// One PCIe bridge at most (`PIX`), or several (`PXB`).
    Pcie,
    /// Through the host bridge (`PHB`), or between bridges of one NUMA node (`NODE`).
    Host,
    /// Over the processors' interconnect.
    Sys,
}

/// What `nvidia-smi topo -m` and `lspci` say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// (row, column, link), each pair once with row < column.
    pub links: Vec<(u32, u32, Link)>,
    /// Bridges with ACS on, of those that report it.
    pub acs: Option<(u32, u32)>,
    /// NVLinks that are listed as inactive: GPU index and the line.
    pub inactive: Vec<String>,
    /// Tools that did not answer.
    pub trouble: Vec<Trouble>,
}

impl Topology {
    /// How two GPUs of the container are connected.
    #[must_use]
    pub fn link(&self, a: u32, b: u32) -> Option<Link> {
        let (a, b) = (a.min(b), a.max(b));
        self.links
            .iter()
            .find(|(x, y, _)| (*x, *y) == (a, b))
            .map(|(.., l)| *l)
    }

    pub(super) fn read(out: &str) -> Self {
        let mut v = Self::default();
        let mut heads: Vec<Option<u32>> = Vec::new();
        for line in out.lines() {
            // Tabs and the escapes that underline the head became `?` on their way; blanks part the columns too.
            let Some(cells) = line.strip_prefix("topo\t") else {
                continue;
            };
            let cells = super::super::clean(cells.as_bytes())
                .replace("[4m", " ")
                .replace("[0m", " ")
                .replace('?', " ");
            let cells: Vec<&str> = cells.split_whitespace().collect();
            let number = |c: &str| c.strip_prefix("GPU").and_then(|n| n.parse::<u32>().ok());
            match cells.split_first() {
                Some((first, rest)) if heads.is_empty() && number(first).is_some() => {
                    // The head has no name of its own row.
                    heads = std::iter::once(*first)
                        .chain(rest.iter().copied())
                        .map(number)
                        .collect();
                }
                Some((first, rest)) => {
                    let Some(row) = number(first) else { continue };
                    for (column, cell) in heads.iter().zip(rest) {
                        if let (Some(column), Some(link)) = (column, link(cell))
                            && row < *column
                        {
                            v.links.push((row, *column, link));
                        }
                    }
                }
                None => {}
            }
        }
        let mut gpu = String::new();
        for (word, row) in rows(out) {
            match word.as_str() {
                "acs" => v.acs = row.num(0).zip(row.num(1)),
                "nvlink" => {
                    let line = row.text(0);
                    if line.starts_with("GPU ") {
                        gpu = line.split(':').next().unwrap_or_default().to_owned();
                    } else if line.to_ascii_lowercase().contains("inactive") {
                        v.inactive.push(format!("{gpu}: {line}"));
                    }
                }
                word => v.trouble.extend(trouble(word, &row)),
            }
        }
        v
    }
}

fn link(cell: &str) -> Option<Link> {
    if let Some(n) = cell.strip_prefix("NV") {
        return n.parse().ok().map(Link::Nvlink);
    }
    match cell {
        "PIX" | "PXB" => Some(Link::Pcie),
        "PHB" | "NODE" => Some(Link::Host),
        "SYS" => Some(Link::Sys),
        _ => None,
    }
}
