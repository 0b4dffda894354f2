//! Connections, networks, plugins and GPUDirect (nccl-logs.md 2, 4.3, 7.5).

use super::bytes::{Cur, after, has, text};
use super::fact::{Channel, CollNet, Dir, Fact, GpuId, NetDevice, NetName, P2pKind, ShmForm, Via};
use super::nccl::{is_probe, trailing_comm};

/// What follows `Channel ` (or `Ring ` up to 2.6.4): `CC{/K} : a[id] -> b[id]{ [send]| [receive]} via …`.
#[inline]
pub(super) fn channel(mut c: Cur<'_>) -> Option<Fact> {
    let channel = c.int()?;
    let index = if c.eat(b"/") { Some(c.int()?) } else { None };
    c.blanks();
    c.lit(b": ")?;
    let from = c.int()?;
    let from_gpu = gpu(&mut c)?;
    c.lit(b" -> ")?;
    let to = c.int()?;
    let to_gpu = gpu(&mut c)?;
    let dir = direction(&mut c);
    c.lit(b" via ")?;
    let via = via(&mut c)?;
    let comm = if c.0.is_empty() {
        None
    } else {
        trailing_comm(c.0)
    };
    Some(Fact::Channel(Channel {
        channel,
        index,
        from,
        from_gpu,
        to,
        to_gpu,
        dir,
        via,
        comm,
    }))
}

/// `[3b000]`, `[0]`, in write-ups any text, in the oldest versions nothing.
#[inline]
fn gpu(c: &mut Cur<'_>) -> Option<GpuId> {
    if !c.eat(b"[") {
        return Some(GpuId::NONE);
    }
    let mut inside = *c;
    if let Some((hex, digits, decimal)) = inside.hex_digits()
        && inside.eat(b"]")
    {
        *c = inside;
        return Some(GpuId {
            hex,
            digits,
            decimal,
        });
    }
    let near = Cur(c.0.get(..64.min(c.0.len()))?).until(b']')?;
    c.0 = c.0.get(near.len() + 1..)?;
    Some(GpuId::NONE)
}

#[inline]
fn direction(c: &mut Cur<'_>) -> Dir {
    if c.eat(b" [send]") {
        Dir::Send
    } else if c.eat(b" [receive]") {
        Dir::Receive
    } else {
        Dir::None
    }
}

/// The transport, up to the blank or the end that must follow it.
#[inline]
fn via(c: &mut Cur<'_>) -> Option<Via> {
    let via = if c.eat(b"P2P/") {
        let kind = if c.eat(b"CUMEM") {
            P2pKind::Cumem
        } else if c.eat(b"IPC") {
            P2pKind::Ipc
        } else if c.eat(b"MNNVL") {
            P2pKind::Mnnvl
        } else if c.eat(b"direct pointer") {
            P2pKind::Direct
        } else if c.eat(b"indirect/") {
            let rank = c.int()?;
            gpu(c)?;
            P2pKind::Indirect(rank)
        } else {
            c.lit(b"common device")?;
            P2pKind::CommonDevice
        };
        Via::P2p {
            kind,
            read: c.eat(b"/read"),
            ce: c.eat(b"/CE"),
        }
    } else if c.eat(b"NET/") {
        net(c)?
    } else if c.eat(b"SHM/") {
        let send = side(c)?;
        if c.eat(b"/") {
            Via::Shm(ShmForm::Sides(send, side(c)?))
        } else if send {
            return None;
        } else {
            Via::Shm(ShmForm::Direct)
        }
    } else if c.eat(b"direct shared memory") {
        Via::Shm(ShmForm::Legacy)
    } else {
        return other(c);
    };
    c.at_gap().then_some(via)
}

/// The word of an unknown transport; not what is left of a known one in a line that was cut.
fn other(c: &mut Cur<'_>) -> Option<Via> {
    const KNOWN: [&[u8]; 5] = [b"P2P", b"NET", b"SHM", b"COLLNET", b"direct"];
    let word = c.word();
    let name = Cur(word).run(|b| b.is_ascii_alphanumeric() || b == b'_');
    let plain = word.iter().all(u8::is_ascii_graphic) && word.len() <= 64;
    (name.len() > 1 && plain && !KNOWN.iter().any(|known| known.starts_with(name)))
        .then(|| Via::Other(NetName::new(word)))
}

/// `direct` or `CE`; true for the copy engine.
#[inline]
fn side(c: &mut Cur<'_>) -> Option<bool> {
    if c.eat(b"direct") {
        return Some(false);
    }
    c.lit(b"CE").map(|()| true)
}

/// `<name>/<dev>{(pxn)}{/GDRDMA{(PCI)}}{/Shared}`; the name may hold blanks and digits.
#[inline]
fn net(c: &mut Cur<'_>) -> Option<Via> {
    let (name, dev) = device(c)?;
    let mut pxn = None;
    if c.eat(b"(") {
        pxn = Some(c.int()?);
        c.lit(b")")?;
    }
    let gdr = c.eat(b"/GDRDMA");
    let pci = c.eat(b"(PCI)");
    Some(Via::Net {
        name,
        dev,
        pxn,
        gdr,
        pci,
        shared: c.eat(b"/Shared"),
    })
}

/// The shortest `<name>/<digits>` that something sensible follows.
#[inline]
fn device(c: &mut Cur<'_>) -> Option<(NetName, u16)> {
    let s = c.0;
    for slash in memchr::memchr_iter(b'/', s.get(..s.len().min(128))?) {
        let mut tail = Cur(s.get(slash + 1..)?);
        if let Some(dev) = tail.int()
            && matches!(tail.peek(), None | Some(b' ' | b'(' | b'/'))
            && slash > 0
        {
            *c = tail;
            return Some((NetName::new(s.get(..slash)?), dev));
        }
    }
    None
}

/// What follows `CollNet ` (`Coll ` in 2.8.4): `00/1 : 0 [send] via COLLNET/SHARP/0/GDRDMA`.
pub(super) fn collnet(mut c: Cur<'_>) -> Option<Fact> {
    let channel = c.int()?;
    let index = if c.eat(b"/") { Some(c.int()?) } else { None };
    c.lit(b" : ")?;
    let rank = c.int()?;
    let dir = direction(&mut c);
    c.lit(b" via COLLNET/")?;
    let (name, dev) = device(&mut c)?;
    let gdr = c.eat(b"/GDRDMA");
    Some(Fact::CollNet(CollNet {
        channel,
        index,
        rank,
        dir,
        name,
        dev,
        gdr,
        comm: trailing_comm(c.0),
    }))
}

/// What follows `Bootstrap: Using `: `eth0:10.42.0.17<0>`; `[0]eth0:…<0> [1]…` up to 2.7.8; `<dev>:<port>` out of band.
pub(super) fn bootstrap(mut c: Cur<'_>) -> Option<Fact> {
    if c.eat(b"[") {
        c.num()?;
        c.lit(b"]")?;
    }
    let first = c.word();
    if let Some(end) = first.iter().position(|b| *b == b'<') {
        let mut inside = Cur(first.get(..end)?);
        let interface = text(inside.until(b':')?);
        return Some(Fact::Bootstrap {
            interface,
            address: text(inside.0.get(1..)?),
        });
    }
    (!first.is_empty()).then(|| Fact::Bootstrap {
        interface: text(first),
        address: String::new(),
    })
}

/// Beginnings of messages that say which plugin was loaded, chosen or refused.
const PLUGINS: &[&[u8]] = &[
    b"Using tuner plugin",
    b"Assigned NET plugin ",
    b"Successfully loaded external ",
    b"Initialized NET plugin ",
    b"External network plugin ",
    b"Failed to initialize NET plugin ",
    b"Plugin Path : ",
    b"Plugin name set by env to ",
    b"P2P plugin ",
    b"Loaded net plugin ",
    b"Loaded coll",
    b"TUNER/Plugin: Using ",
];

/// Messages about networks, plugins and GPUDirect.
pub(super) fn info(msg: &[u8]) -> Option<Fact> {
    let mut c = Cur(msg);
    if c.eat(b"NET/") {
        return network(msg, c);
    }
    if c.eat(b"Using network ") {
        let name = c.0.trim_ascii();
        return (!name.is_empty()).then(|| Fact::UsingNetwork(text(name)));
    }
    if c.eat(b"GPU Direct RDMA ") {
        return gdr(c);
    }
    PLUGINS
        .iter()
        .any(|words| msg.starts_with(words))
        .then(|| plugin(msg))
}

fn plugin(msg: &[u8]) -> Fact {
    Fact::Plugin(text(msg.trim_ascii()))
}

/// What follows `NET/`.
fn network(msg: &[u8], mut c: Cur<'_>) -> Option<Fact> {
    if c.0.starts_with(b"Plugin") {
        return (!is_probe(msg)).then(|| plugin(msg));
    }
    if c.eat(b"OFI ") {
        const TOLD: [&[u8]; 7] = [
            b"Initializing ",
            b"Selected ",
            b"Using ",
            b"Could not disable CUDA API",
            b"Adding ",
            b"Setting ",
            b"No eligible providers",
        ];
        return TOLD.iter().any(|t| c.0.starts_with(t)).then(|| plugin(msg));
    }
    let end = c.0.iter().take(64).position(|b| matches!(b, b' ' | b':'))?;
    let (name, rest) = c.0.split_at_checked(end)?;
    c.0 = rest;
    c.blanks();
    c.lit(b":")?;
    c.blanks();
    if c.eat(b"Using ") {
        let plugin = text(name);
        return devices(c, name == b"IB").map(|devices| Fact::NetDevices { plugin, devices });
    }
    if c.0.starts_with(b"No device found") {
        return Some(Fact::NoIbDevice);
    }
    if c.eat(b"Made virtual device [") {
        let index = c.int()?;
        let name = Cur(after(c.0, b"name=")?).word();
        return Some(Fact::VirtualDevice {
            index,
            name: text(name),
        });
    }
    if c.eat(b"GPU Direct RDMA ") {
        return gdr(c);
    }
    None
}

/// `[0]mlx5_0:1/IB [1]={[0] mlx5_1:1/IB, [1] mlx5_2:1/IB} [RO]; OOB eth0:…`; a plain number of threads is no list.
fn devices(mut c: Cur<'_>, ib: bool) -> Option<Vec<NetDevice>> {
    let mut devices = Vec::new();
    if !matches!(c.peek(), Some(b'[' | b';')) {
        return None;
    }
    loop {
        c.blanks();
        let mut item = c;
        let Some(()) = item.lit(b"[") else { break };
        let Some(index) = item.int() else { break };
        if item.lit(b"]").is_none() {
            break;
        }
        if item.eat(b"={") {
            let Some(group) = item.until(b'}') else { break };
            item.eat(b"}");
            devices.push(merged(index, group));
        } else {
            let word = item.word();
            match word.iter().position(|b| *b == b'/') {
                Some(at) if ib => devices.push(NetDevice {
                    index,
                    name: text(word.get(..at)?),
                    link: text(word.get(at + 1..)?),
                }),
                // Cut in mid-token: the link type or the closing bracket of the address is not there.
                _ if ib || !word.ends_with(b">") => break,
                _ => devices.push(NetDevice {
                    index,
                    name: text(word),
                    link: String::new(),
                }),
            }
        }
        c = item;
    }
    Some(devices)
}

/// `[0] mlx5_0:1/IB, [1] mlx5_1:1/IB`: ports that NCCL uses as one.
fn merged(index: u16, group: &[u8]) -> NetDevice {
    let mut device = NetDevice {
        index,
        name: String::new(),
        link: String::new(),
    };
    for item in group.split(|b| *b == b',') {
        let item = item.trim_ascii();
        let item = after(item, b"] ").unwrap_or(item);
        let at = item.iter().position(|b| *b == b'/').unwrap_or(item.len());
        if !device.name.is_empty() {
            device.name.push('+');
        }
        device
            .name
            .push_str(&String::from_utf8_lossy(item.get(..at).unwrap_or_default()));
        device.link = text(item.get(at + 1..).unwrap_or_default());
    }
    device
}

/// What follows `GPU Direct RDMA `: per HCA, or per pair of GPU and HCA with their distance.
fn gdr(mut c: Cur<'_>) -> Option<Fact> {
    c.eat(b"(DMABUF) ");
    let enabled = c.0.starts_with(b"Enabled") || c.0.starts_with(b"enabled");
    if !enabled && !c.0.starts_with(b"Disabled") && !c.0.starts_with(b"disabled") {
        return None;
    }
    let (mut distance, mut limit) = (None, None);
    if let Some(rest) = after(c.0, b"distance ") {
        let mut d = Cur(rest);
        distance = d.int();
        if d.eat(b" <= ") || d.eat(b" > ") {
            limit = d.int();
        }
    }
    (distance.is_some() || has(c.0, b" for ")).then_some(Fact::Gdr {
        enabled,
        distance,
        limit,
    })
}
