//! Lines of `kind name=value …`, as our own samplers print them. A `name=` that may hold blanks comes last.

use super::{CgroupReading, GpuLink, GpuPair, GpuProcess, GpuReading, Reading, bus_id};
use crate::parse::text::clean;

/// Names whose value is the rest of the line.
const LAST: [&str; 2] = ["name", "why"];

/// The pairs of a line.
struct Words(Vec<(String, String)>);

impl Words {
    fn of(text: &str) -> Self {
        let mut pairs = Vec::new();
        let mut rest = text;
        while let Some((name, tail)) = rest.trim_start().split_once('=') {
            let last = LAST.contains(&name);
            let (value, after) = match tail.split_once(' ') {
                Some((value, after)) if !last => (value, after),
                _ => (tail, ""),
            };
            pairs.push((name.to_owned(), value.trim().to_owned()));
            rest = after;
        }
        Self(pairs)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, v)| n == name && !v.is_empty())
            .map(|(_, v)| v.as_str())
    }

    fn own(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    fn num<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        T::try_from(self.text(name)?.parse::<u64>().ok()?).ok()
    }

    fn float(&self, name: &str) -> Option<f64> {
        let n = self.text(name)?.parse::<f64>().ok()?;
        (n.is_finite() && n >= 0.0).then_some(n)
    }

    fn yes(&self, name: &str) -> Option<bool> {
        match self.text(name)? {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        }
    }

    fn bus(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(bus_id)
    }
}

/// One line.
pub(super) fn line(raw: &[u8]) -> Option<Reading> {
    let text = clean(raw);
    let (kind, rest) = text.split_once(' ').unwrap_or((text.as_str(), ""));
    let w = Words::of(rest);
    Some(match kind {
        "cgroup" => Reading::Cgroup(Box::new(cgroup(&w))),
        "gpu" => Reading::Gpu(Box::new(gpu(&w)?)),
        "processes" => {
            let unread = w.text("unread").into_iter().flat_map(|u| u.split(','));
            Reading::Processes {
                unread: unread.map(str::to_owned).collect(),
            }
        }
        "unwatched" => Reading::Unwatched {
            uuid: w.own("uuid")?,
            why: w.own("why")?,
        },
        "process" => Reading::Process(GpuProcess {
            uuid: w.own("uuid")?,
            pid: w.num("pid")?,
            used: w.num("used"),
            name: w.own("name"),
        }),
        "xid" => Reading::Xid {
            bus: w.bus("bus"),
            uuid: w.own("uuid"),
            code: w.num("code")?,
        },
        "link" => Reading::Link(GpuLink {
            uuid: w.own("uuid")?,
            number: w.num("number")?,
            up: w.yes("up"),
            version: w.num("version"),
            remote: w.bus("remote"),
        }),
        "pair" => Reading::Pair(GpuPair {
            a: w.own("a")?,
            b: w.own("b")?,
            path: w.own("path")?,
            p2p: w.yes("p2p"),
        }),
        "model" => Reading::ModelBytes(w.num("bytes")?),
        "trouble" => Reading::Trouble(w.own("why")?),
        _ => return None,
    })
}

fn cgroup(w: &Words) -> CgroupReading {
    CgroupReading {
        version: w.num("version"),
        memory: w.num("memory"),
        // Version 1 says "no limit" with the largest page-aligned number.
        memory_max: w.num("max").filter(|m: &u64| *m < 1 << 60),
        anon: w.num("anon"),
        file: w.num("file"),
        shmem: w.num("shmem"),
        swap: w.num("swap"),
        cpu_us: w
            .num("cpu")
            .or_else(|| w.num::<u64>("cpu_ns").map(|n| n / 1000)),
        read_block: w.num("block"),
        read_storage: w.num("storage"),
        read_calls: w.num("calls"),
        oom_kills: w.num("oom"),
        host_available: w.num("available_kb").map(|k: u64| k.saturating_mul(1024)),
        host_swap: w.num("swap_kb").map(|k: u64| k.saturating_mul(1024)),
        host_swap_free: w.num("swap_free_kb").map(|k: u64| k.saturating_mul(1024)),
    }
}

fn gpu(w: &Words) -> Option<GpuReading> {
    let gpu = GpuReading {
        index: w.num("index"),
        uuid: w.own("uuid"),
        bus: w.bus("bus"),
        name: w.own("name"),
        driver: w.own("driver"),
        total: w.num("total"),
        used: w.num("used"),
        reserved: w.num("reserved"),
        busy: w.num("busy"),
        memory_busy: w.num("memory_busy"),
        celsius: w.num("celsius"),
        watts: w.float("watts"),
        watts_limit: w.float("watts_limit"),
        clock: w.num("clock"),
        clock_max: w.num("clock_max"),
        throttle: w
            .text("throttle")
            .and_then(|t| u64::from_str_radix(t.trim_start_matches("0x"), 16).ok()),
        ecc_uncorrected: w.num("ecc_uncorrected"),
        ecc_corrected: w.num("ecc_corrected"),
        mig: w.yes("mig"),
        pcie: w.num("pcie").zip(w.num("lanes")),
        xid: None,
        holder: None,
        node: None,
        state: w.own("state").map(|s| s.replace('_', " ")),
    };
    (gpu.uuid.is_some() || gpu.bus.is_some()).then_some(gpu)
}
