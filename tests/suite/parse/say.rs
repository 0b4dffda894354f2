//! A fact as a short line, so that a table can be read.

use ncclscope::parse::fact::{
    Channel, CollNet, Dir, Fact, GpuId, InitLine, P2pKind, ShmForm, Tree, Via, WarnKind,
};

/// A fact in one short line, so that a table can be read.
pub fn say(fact: &Fact) -> String {
    let opt = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| format!("{n:x}"));
    match fact {
        Fact::Channel(c) => channel(c),
        Fact::CollNet(c) => collnet(c),
        Fact::Ring {
            channel,
            of,
            order,
            cut,
            comm,
        } => {
            let of = of.map_or_else(String::new, |n| format!("/{n}"));
            let cut = if *cut { " cut" } else { "" };
            let comm = comm.map_or_else(String::new, |c| format!(" comm {c:x}"));
            format!("ring {channel}{of} {order:?}{cut}{comm}")
        }
        Fact::Trees { rank, trees, comm } => {
            let all: Vec<_> = trees.iter().map(tree).collect();
            format!(
                "trees {rank} {}{}",
                all.join(" "),
                comm.map_or_else(String::new, |c| format!(" comm {c:x}"))
            )
        }
        Fact::RingNeighbours {
            channel,
            prev,
            rank,
            next,
        } => format!("ring {channel} {prev}->{rank}->{next}"),
        Fact::Connected { what, gdr, comm } => format!(
            "connected {what:?}{}{}",
            gdr.map_or_else(String::new, |g| format!(" gdr {g}")),
            comm.map_or_else(String::new, |c| format!(" comm {c:x}"))
        ),
        Fact::ChannelCounts {
            coll,
            nvls,
            p2p,
            p2p_per_peer,
        } => format!("counts {coll} {nvls:?} {p2p} {p2p_per_peer}"),
        Fact::P2pChunk(n) => format!("chunk {n}"),
        Fact::Init(line) => init(line),
        Fact::Placement {
            comm,
            rank,
            nranks,
            nodes,
            local_ranks,
            local_rank,
            mnnvl,
        } => {
            format!(
                "placement {comm:x} {rank}/{nranks} nodes {nodes} local {local_rank}/{local_ranks} mnnvl {mnnvl}"
            )
        }
        Fact::Coll {
            op,
            op_count,
            count,
            datatype,
            redop,
            root,
            comm,
            nranks,
        } => {
            format!(
                "{op:?} #{op_count} {count}x{datatype} op {redop} root {root} comm {comm:x}/{nranks}"
            )
        }
        Fact::Warn { kind, file, text } => {
            let kind = match kind {
                WarnKind::Other => format!("Other {text}"),
                kind => format!("{kind:?}"),
            };
            format!(
                "{}{kind}",
                file.as_ref().map_or_else(String::new, |f| format!("{f} "))
            )
        }
        Fact::Env { name, value } => format!("{name}={value}"),
        Fact::Version { nccl, cuda, rccl } => format!(
            "{} {nccl} cuda {cuda:?}",
            if *rccl { "rccl" } else { "nccl" }
        ),
        Fact::Bootstrap { interface, address } => format!("bootstrap {interface} {address}"),
        Fact::NetDevices { plugin, devices } => {
            let all: Vec<_> = devices
                .iter()
                .map(|d| format!("{}={}|{}", d.index, d.name, d.link))
                .collect();
            format!("{plugin} {}", all.join(" "))
        }
        Fact::Plugin(text) => format!("plugin {text}"),
        Fact::ConnectRetry { peer, error } => {
            format!("retry {} {error}", peer.as_deref().unwrap_or("-"))
        }
        Fact::Backtrace { code } => format!("-> {code}"),
        Fact::CudaDriver(n) => format!("driver {n}"),
        Fact::UsingNetwork(name) => format!("network {name}"),
        Fact::Gdr {
            enabled,
            distance,
            limit,
        } => {
            format!(
                "gdr {enabled} {} {}",
                opt(distance.map(Into::into)),
                opt(limit.map(Into::into))
            )
        }
        other => format!("{other:?}"),
    }
}

fn channel(c: &Channel) -> String {
    let index = c.index.map_or_else(String::new, |k| format!("/{k}"));
    let comm = c.comm.map_or_else(String::new, |c| format!(" comm {c:x}"));
    format!(
        "c{}{index} {}{}>{}{}{} {}{comm}",
        c.channel,
        c.from,
        gpu(c.from_gpu),
        c.to,
        gpu(c.to_gpu),
        dir(c.dir),
        via(&c.via)
    )
}

fn gpu(g: GpuId) -> String {
    match (g.digits, g.nvml()) {
        (0, _) => String::new(),
        (_, Some(n)) => format!("[nvml {n}]"),
        _ => format!("[{:x}]", g.hex),
    }
}

fn dir(d: Dir) -> &'static str {
    match d {
        Dir::None => "",
        Dir::Send => " send",
        Dir::Receive => " receive",
    }
}

fn via(v: &Via) -> String {
    let on = |b: bool, s: &'static str| if b { s } else { "" };
    match v {
        Via::P2p { kind, read, ce } => {
            let kind = match kind {
                P2pKind::Indirect(r) => format!("indirect {r}"),
                kind => format!("{kind:?}"),
            };
            format!("P2P {kind}{}{}", on(*read, " read"), on(*ce, " ce"))
        }
        Via::Shm(ShmForm::Sides(a, b)) => format!(
            "SHM {}/{}",
            if *a { "CE" } else { "direct" },
            if *b { "CE" } else { "direct" }
        ),
        Via::Shm(form) => format!("SHM {form:?}"),
        Via::Other(name) => format!("other {}", name.as_str()),
        Via::Net {
            name,
            dev,
            pxn,
            gdr,
            pci,
            shared,
        } => format!(
            "NET {}:{dev}{}{}{}{}",
            name.as_str(),
            pxn.map_or_else(String::new, |r| format!(" pxn {r}")),
            on(*gdr, " gdr"),
            on(*pci, " pci"),
            on(*shared, " shared")
        ),
    }
}

fn collnet(c: &CollNet) -> String {
    let index = c.index.map_or_else(String::new, |k| format!("/{k}"));
    format!(
        "collnet {}{index} {}{} {}:{}{}",
        c.channel,
        c.rank,
        dir(c.dir),
        c.name.as_str(),
        c.dev,
        if c.gdr { " gdr" } else { "" }
    )
}

fn tree(t: &Tree) -> String {
    format!(
        "{}:{}^{:?}",
        t.channel,
        t.up.map_or_else(|| "root".to_owned(), |u| u.to_string()),
        t.down
    )
}

fn init(l: &InitLine) -> String {
    let hex = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| format!("{n:x}"));
    let dec = |n: Option<u32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let parent = l.parent.map_or_else(String::new, |p| {
        format!(
            " of {} #{} color {} key {}",
            hex(p.comm),
            dec(p.count),
            p.color,
            p.key
        )
    });
    let result = l
        .result
        .map_or_else(String::new, |r| format!(" result {r}"));
    format!(
        "{:?} {:?} {} {}/{} cuda {} nvml {} bus {} id {}{parent}{result}",
        l.life,
        l.func,
        hex(l.comm),
        l.rank,
        l.nranks,
        dec(l.cuda_dev),
        dec(l.nvml_dev),
        hex(l.bus_id),
        hex(l.comm_id)
    )
}
