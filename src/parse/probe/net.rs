//! The network as a container sees it: who is reached, RDMA devices, interfaces.

use std::collections::{BTreeMap, BTreeSet};

use super::{Trouble, rows, trouble};

/// What came of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// Something listens.
    Open,
    /// Nothing listens, and the host answered: the way there is free.
    Refused,
    /// Nothing came back: dropped on the way.
    Timeout,
    /// No route.
    NoRoute,
    /// Something else.
    Error,
}

/// One connection tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Tcp {
    /// Address.
    pub peer: String,
    /// Port.
    pub port: u16,
    /// Outcome.
    pub what: Reached,
    /// Milliseconds until the outcome: a round trip where the peer answered.
    pub ms: Option<f64>,
    /// What the system said.
    pub why: String,
}

/// Which peers are reached.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reach {
    /// What did it: `python3`, `bash`, `nc`, `none`.
    pub tool: Option<String>,
    /// The name that was to be resolved.
    pub name: Option<String>,
    /// Its addresses, or why there are none.
    pub resolved: Option<Result<Vec<String>, String>>,
    /// Connections.
    pub tcp: Vec<Tcp>,
}

impl Reach {
    pub(super) fn read(out: &str) -> Self {
        let mut v = Self::default();
        for (word, row) in rows(out) {
            match word.as_str() {
                "tool" => v.tool = row.get(0).map(str::to_owned),
                "dns" => {
                    v.name = row.get(0).map(str::to_owned);
                    let list = row.text(1);
                    v.resolved = Some(Ok(list.split_whitespace().map(str::to_owned).collect()));
                }
                "nodns" => {
                    v.name = row.get(0).map(str::to_owned);
                    v.resolved = Some(Err(row.text(1)));
                }
                "tcp" => {
                    let what = match row.get(2) {
                        Some("open") => Reached::Open,
                        Some("refused") => Reached::Refused,
                        Some("timeout") => Reached::Timeout,
                        Some("no-route") => Reached::NoRoute,
                        Some("error") => Reached::Error,
                        _ => continue,
                    };
                    if let Some(port) = row.num(1) {
                        v.tcp.push(Tcp {
                            peer: row.text(0),
                            port,
                            what,
                            ms: row.num(3),
                            why: row.text(4),
                        });
                    }
                }
                _ => {}
            }
        }
        v
    }
}

/// A port of an RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Port {
    /// Device.
    pub device: String,
    /// Number.
    pub number: u32,
    /// `4: ACTIVE`.
    pub state: String,
    /// `5: LinkUp`.
    pub physical: String,
    /// `400 Gb/sec (4X NDR)`.
    pub rate: String,
    /// `InfiniBand` or `Ethernet`.
    pub layer: String,
}

impl Port {
    /// It carries traffic.
    #[must_use]
    pub fn active(&self) -> bool {
        self.state.contains("ACTIVE")
    }

    /// Gigabits a second.
    #[must_use]
    pub fn gigabits(&self) -> Option<f64> {
        self.rate.split_whitespace().next()?.parse().ok()
    }
}

/// An entry of a port's table of addresses that is not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gid {
    /// Device.
    pub device: String,
    /// Port.
    pub port: u32,
    /// Index: what NCCL_IB_GID_INDEX names.
    pub index: u32,
    /// As written.
    pub address: String,
    /// `RoCE v2`, `IB/RoCE v1`.
    pub kind: String,
    /// Interface.
    pub interface: Option<String>,
}

impl Gid {
    /// The IPv4 address that it is made from.
    #[must_use]
    pub fn ipv4(&self) -> Option<String> {
        let tail = self
            .address
            .strip_prefix("0000:0000:0000:0000:0000:ffff:")?;
        let (a, b) = tail.split_once(':')?;
        let (a, b) = (
            u16::from_str_radix(a, 16).ok()?,
            u16::from_str_radix(b, 16).ok()?,
        );
        Some(format!("{}.{}.{}.{}", a >> 8, a & 255, b >> 8, b & 255))
    }
}

/// RDMA as the container sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rdma {
    /// Device files given to the container: `uverbs0`, `rdma_cm`.
    pub files: BTreeSet<String>,
    /// Devices of the system, with their verbs file; more than the container may use.
    pub devices: BTreeMap<String, Option<String>>,
    /// Ports.
    pub ports: Vec<Port>,
    /// Addresses.
    pub gids: Vec<Gid>,
    /// Device, network interface, MTU.
    pub nets: Vec<(String, String, Option<u32>)>,
}

impl Rdma {
    /// Devices whose file the container has. Where a device names no file, it is not left out.
    pub fn usable(&self) -> impl Iterator<Item = &str> {
        self.devices
            .iter()
            .filter(|(_, file)| match file {
                Some(f) => self.files.contains(f),
                None => self.files.iter().any(|f| f.starts_with("uverbs")),
            })
            .map(|(d, _)| d.as_str())
    }

    pub(super) fn read(out: &str) -> Self {
        let mut v = Self::default();
        for (word, row) in rows(out) {
            match word.as_str() {
                "file" => drop(v.files.insert(row.text(0))),
                "device" => drop(v.devices.insert(row.text(0), row.get(1).map(str::to_owned))),
                "port" => v.ports.push(Port {
                    device: row.text(0),
                    number: row.num(1).unwrap_or(1),
                    state: row.text(2),
                    physical: row.text(3),
                    rate: row.text(4),
                    layer: row.text(5),
                }),
                "gid" => v.gids.push(Gid {
                    device: row.text(0),
                    port: row.num(1).unwrap_or(1),
                    index: row.num(2).unwrap_or(0),
                    address: row.text(3),
                    kind: row.text(4),
                    interface: row.get(5).filter(|i| *i != "?").map(str::to_owned),
                }),
                "net" => v.nets.push((row.text(0), row.text(1), row.num(2))),
                _ => {}
            }
        }
        v
    }
}

/// Network interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Name, MTU, state.
    pub list: BTreeMap<String, (Option<u32>, String)>,
    /// Name and address.
    pub addresses: Vec<(String, String)>,
    /// Where the default route leads.
    pub default: Option<String>,
    /// Tools that did not answer.
    pub trouble: Vec<Trouble>,
}

impl Interfaces {
    /// The interface that holds an address.
    #[must_use]
    pub fn of(&self, address: &str) -> Option<&str> {
        self.addresses
            .iter()
            .find(|(_, a)| a == address)
            .map(|(i, _)| i.as_str())
    }

    pub(super) fn read(out: &str) -> Self {
        let mut v = Self::default();
        for (word, row) in rows(out) {
            match word.as_str() {
                "interface" => drop(v.list.insert(row.text(0), (row.num(1), row.text(2)))),
                "address" => v.addresses.push((row.text(0), row.text(1))),
                "default" => v.default = row.get(0).map(str::to_owned),
                word => v.trouble.extend(trouble(word, &row)),
            }
        }
        v
    }
}
