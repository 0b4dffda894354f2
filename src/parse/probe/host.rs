//! What a container has of its host: environment, shared memory, limits, versions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Trouble, rows, trouble};

/// Variables of the process that serves, through the allow-list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Pid and name of the process that was read.
    pub process: Option<(u64, String)>,
    /// Values.
    pub vars: BTreeMap<String, String>,
    /// Names that smell of secrets: that they are set is all that is known.
    pub secrets: BTreeSet<String>,
    /// The environment may not be read.
    pub denied: bool,
}

impl Environment {
    pub(super) fn read(out: &str) -> Self {
        let mut v = Self::default();
        for (word, row) in rows(out) {
            match word.as_str() {
                "process" => v.process = row.num(0).map(|pid| (pid, row.text(1))),
                "var" => drop(v.vars.insert(row.text(0), row.text(1))),
                "secret" => drop(v.secrets.insert(row.text(0))),
                "denied" => v.denied = true,
                _ => {}
            }
        }
        v
    }
}

/// `/dev/shm`, KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shm {
    /// All of it.
    pub total: u64,
    /// In use.
    pub used: u64,
    /// Free.
    pub free: u64,
}

impl Shm {
    pub(super) fn read(out: &str) -> Option<Self> {
        rows(out).find(|(w, _)| w == "shm").and_then(|(_, row)| {
            Some(Self {
                total: row.num(0)?,
                used: row.num(1)?,
                free: row.num(2)?,
            })
        })
    }
}

/// Limits of the first process, and memory of the control group in bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Name and soft limit; nothing: unlimited.
    pub soft: BTreeMap<String, Option<u64>>,
    /// Effective capabilities, a bit set.
    pub capabilities: Option<u64>,
    /// `memory.max`; nothing where there is no limit or it is not known.
    pub memory_max: Option<u64>,
    /// `memory.current`, page cache included.
    pub memory_current: Option<u64>,
    /// Anonymous and shared memory: what can't be dropped.
    pub memory_held: Option<u64>,
    /// Processes that the limit killed.
    pub oom_kills: Option<u64>,
    /// Share of the last 10 s in which everything waited for memory, percent.
    pub pressure: Option<f64>,
}

impl Limits {
    /// The capability IPC_LOCK.
    #[must_use]
    pub fn ipc_lock(&self) -> Option<bool> {
        self.capabilities.map(|c| c >> 14 & 1 == 1)
    }

    pub(super) fn read(out: &str) -> Self {
        let mut v = Self::default();
        for (word, row) in rows(out) {
            match word.as_str() {
                "limit" => match row.get(1) {
                    Some("unlimited") => drop(v.soft.insert(row.text(0), None)),
                    Some(n) => {
                        if let Ok(n) = n.parse() {
                            // The shell's own word is in KiB.
                            let n = if row.get(2) == Some("own") {
                                n * 1024
                            } else {
                                n
                            };
                            v.soft.insert(row.text(0), Some(n));
                        }
                    }
                    None => {}
                },
                "cap" => v.capabilities = row.get(0).and_then(|h| u64::from_str_radix(h, 16).ok()),
                "memory" => {
                    let n: Option<u64> = row.num(1);
                    match row.get(0) {
                        Some("max") => v.memory_max = n.filter(|n| *n < 1 << 60),
                        Some("current") => v.memory_current = n,
                        Some("anon" | "shmem") => {
                            v.memory_held = n.map(|n| v.memory_held.unwrap_or(0).saturating_add(n));
                        }
                        Some("oom_kill") => v.oom_kills = n,
                        Some("pressure") => v.pressure = row.num(1),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        v
    }
}

/// Versions of what is installed and what is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    /// Python packages.
    pub packages: BTreeMap<String, String>,
    /// NCCL libraries that processes have loaded: path, and the version written in the file.
    pub libraries: BTreeMap<String, Option<String>>,
    /// `VLLM_NCCL_SO_PATH`.
    pub chosen: Option<String>,
    /// Driver.
    pub driver: Option<String>,
    /// Tools that did not answer.
    pub trouble: Vec<Trouble>,
}

impl Versions {
    pub(super) fn read(out: &str) -> Self {
        let mut v = Self::default();
        for (word, row) in rows(out) {
            match word.as_str() {
                "package" => drop(v.packages.insert(row.text(0), row.text(1))),
                "library" => drop(
                    v.libraries
                        .insert(row.text(0), row.get(1).map(str::to_owned)),
                ),
                "chosen" => v.chosen = row.get(0).map(str::to_owned),
                "driver" if v.driver.is_none() => v.driver = row.get(0).map(str::to_owned),
                // `NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.124.06  Wed …`
                "module" if v.driver.is_none() => {
                    let dotted = |w: &&str| {
                        w.contains('.') && w.split('.').all(|p| p.parse::<u32>().is_ok())
                    };
                    v.driver = row
                        .get(0)
                        .and_then(|t| t.split_whitespace().find(dotted))
                        .map(str::to_owned);
                }
                word => v.trouble.extend(trouble(word, &row)),
            }
        }
        v
    }
}
