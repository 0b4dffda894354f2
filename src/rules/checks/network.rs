//! The network: who is reached, names, clocks, interfaces, RDMA.

use std::collections::{BTreeMap, BTreeSet};

use super::look::{Asked, Look, Seen, Tally, some};
use crate::parse::probe::{Answer, Interfaces, Rdma, Reach, Reached};
use crate::rules::scene::CheckVerdict;

fn reaches<'l, 'a>(look: &'l Look<'a>) -> Asked<'l, 'a, Reach> {
    look.asked("reach", |a| match a {
        Answer::Reach(r) => Some(r),
        _ => None,
    })
}

fn interface_answers<'l, 'a>(look: &'l Look<'a>) -> Asked<'l, 'a, Interfaces> {
    look.asked("interfaces", |a| match a {
        Answer::Interfaces(i) => Some(i),
        _ => None,
    })
}

fn rdma_answers<'l, 'a>(look: &'l Look<'a>) -> Asked<'l, 'a, Rdma> {
    look.asked("rdma", |a| match a {
        Answer::Rdma(r) => Some(r),
        _ => None,
    })
}

/// Fewer than two pods need no way to each other.
fn alone(look: &Look<'_>, ran: &str) -> Option<Seen> {
    let several = look.model.pods.census().expected.is_some_and(|n| n > 1);
    if look.live() && look.model.pods.synced() && look.members.list.len() == 1 && !several {
        let text = "one pod alone: nothing to reach";
        return Some(Seen::new(CheckVerdict::NotApplicable, ran, text));
    }
    None
}

/// Workers reach each other and the master on its port. Refused is reached; a time-out is not.
pub(super) fn reach(look: &Look<'_>) -> Seen {
    let asked = reaches(look);
    if let Some(seen) = alone(look, "connect to every peer").or_else(|| asked.nothing(look)) {
        return seen;
    }
    let pods: BTreeMap<&str, &str> = look
        .members
        .list
        .iter()
        .filter_map(|m| Some((m.pod.pod_ip.as_deref()?, m.pod.name.as_str())))
        .collect();
    let mut tally = Tally::default();
    let (mut open, mut refused, mut slowest) = (0u32, 0u32, None::<f64>);
    for g in &asked.got {
        let pod = g.pod();
        if g.answer.tool.as_deref() == Some("none") {
            tally.unknown(&pod, "neither python3 nor bash nor nc is in the image");
        }
        for t in &g.answer.tcp {
            let Some(name) = pods.get(t.peer.as_str()) else {
                // A pod that was made anew since has another address.
                continue;
            };
            match t.what {
                Reached::Open => open += 1,
                Reached::Refused => refused += 1,
                Reached::Timeout => tally.fail(
                    &pod,
                    format!(
                        "{name} ({}:{}) does not answer: dropped on the way",
                        t.peer, t.port
                    ),
                ),
                Reached::NoRoute => {
                    tally.fail(&pod, format!("no route to {name} ({}:{})", t.peer, t.port))
                }
                Reached::Error => {
                    tally.unknown(&pod, format!("{name} ({}:{}): {}", t.peer, t.port, t.why));
                }
            }
            if let (Reached::Open | Reached::Refused, Some(ms)) = (t.what, t.ms) {
                slowest = Some(slowest.map_or(ms, |s| s.max(ms)));
                if ms > 50.0 {
                    tally.warn(
                        &pod,
                        format!("{ms:.0} ms to {name}: far, or the way is crowded"),
                    );
                }
            }
        }
    }
    // Only python3 measures: a shell's own connection takes no time that it tells.
    let slowest = slowest.map_or_else(
        || "how long they take is not known without python3".to_owned(),
        |ms| format!("slowest {ms:.1} ms"),
    );
    let good = format!(
        "{} of {} connections answered ({open} open, {refused} refused: reached, nothing listens); {slowest}",
        open + refused,
        asked.got.iter().map(|g| g.answer.tcp.len()).sum::<usize>()
    );
    asked.conclude(tally, good)
}

/// The leader's name resolves to its present address in every pod.
pub(super) fn dns(look: &Look<'_>) -> Seen {
    let asked = reaches(look);
    if let Some(seen) = alone(look, "resolve the leader's name").or_else(|| asked.nothing(look)) {
        return seen;
    }
    let mut tally = Tally::default();
    let mut names = BTreeSet::new();
    for g in &asked.got {
        let pod = g.pod();
        let Some(name) = &g.answer.name else { continue };
        names.insert(name.clone());
        let leader = look
            .members
            .list
            .iter()
            .find(|m| m.place.group == g.member.place.group)
            .and_then(|m| m.pod.pod_ip.clone());
        match (&g.answer.resolved, leader) {
            (Some(Err(why)), _) => tally.fail(&pod, format!("{name} does not resolve: {why}")),
            (Some(Ok(list)), Some(ip)) if !list.contains(&ip) => tally.fail(
                &pod,
                format!(
                    "{name} resolves to {}, the leader is at {ip}",
                    list.join(", ")
                ),
            ),
            (Some(Ok(_)), _) => {}
            (None, _) => tally.unknown(&pod, format!("nothing in the image resolves {name}")),
        }
    }
    if names.is_empty() {
        let text = "no pod names its leader: ranks meet by address";
        return Seen::new(
            CheckVerdict::NotApplicable,
            "command lines of the pods",
            text,
        );
    }
    let list: Vec<String> = names.into_iter().collect();
    asked.conclude(
        tally,
        format!("{} resolves to the leader everywhere", some(&list)),
    )
}

/// Clocks of the nodes agree.
pub(super) fn clock(look: &Look<'_>) -> Seen {
    let asked = look.asked("clock", |a| match a {
        Answer::Clock(ns) => Some(ns),
        _ => None,
    });
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    // Against our own clock at the middle of the round trip; pods of one node share its clock.
    let mut skews: BTreeMap<String, (i64, i64, String)> = BTreeMap::new();
    for g in &asked.got {
        let ms = match &g.probed.outcome {
            Some(crate::model::event::ProbeOutcome::Answered { ms, .. }) => *ms,
            _ => 0,
        };
        let half = i64::try_from(ms).unwrap_or(0).saturating_mul(500_000);
        let skew = g.answer.saturating_sub(g.probed.at.saturating_sub(half));
        let node = g.member.pod.node.clone().unwrap_or_else(|| g.pod());
        let known = skews.entry(node).or_insert((skew, half, g.pod()));
        if half < known.1 {
            *known = (skew, half, g.pod());
        }
    }
    let middle = {
        let mut all: Vec<i64> = skews.values().map(|(s, ..)| *s).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    };
    let mut tally = Tally::default();
    #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
    let seconds = |ns: i64| ns as f64 / 1e9;
    let mut widest = 0f64;
    for (node, (skew, half, pod)) in &skews {
        let off = skew - middle;
        widest = widest.max(seconds(off.abs()));
        if off.abs() <= half + 1_000_000_000 {
            continue;
        }
        let side = if off > 0 { "ahead" } else { "behind" };
        let text = format!("the clock of {node} is {:.1} s {side}", seconds(off.abs()));
        if off.abs() > 300_000_000_000 {
            tally.fail(pod, text);
        } else {
            tally.warn(pod, text);
        }
        tally.nodes.push(node.clone());
    }
    let good = format!("{} clocks within {widest:.1} s of each other", skews.len());
    asked.conclude(tally, good)
}

/// The interfaces that NCCL and gloo are told to use exist, hold the pod's address, and are named alike.
pub(super) fn interfaces(look: &Look<'_>) -> Seen {
    let asked = interface_answers(look);
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let values = &look.scene.variables;
    let mut tally = Tally::default();
    let mut own: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for g in &asked.got {
        let pod = g.pod();
        let names: Vec<&str> = g.answer.list.keys().map(String::as_str).collect();
        let ip = g.member.pod.pod_ip.as_deref();
        let holder = ip.and_then(|ip| g.answer.of(ip));
        match (ip, holder) {
            (_, Some(name)) => own.entry(name.to_owned()).or_default().push(pod.clone()),
            (Some(ip), None) if !g.answer.addresses.is_empty() => {
                tally.warn(&pod, format!("no interface holds the pod's address {ip}"));
            }
            _ => {}
        }
        for name in ["NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"] {
            let Some(value) = values.get(name).and_then(|v| v.of(&pod)) else {
                continue;
            };
            let chosen = chosen(value, &names, name.starts_with("GLOO"));
            if chosen.is_empty() {
                tally.fail(
                    &pod,
                    format!("{name}={value} names none of {}", names.join(", ")),
                );
            } else if let Some(holder) = holder.filter(|h| !chosen.contains(h)) {
                tally.warn(
                    &pod,
                    format!(
                        "{name}={value} leads to {}, the pod's address is on {holder}",
                        chosen.join(", ")
                    ),
                );
            } else if chosen.iter().all(|n| *n == "lo" || n.starts_with("docker")) {
                tally.fail(
                    &pod,
                    format!("{name}={value} leads to {} alone", chosen.join(", ")),
                );
            }
        }
        for t in &g.answer.trouble {
            if t.what == "address" && g.answer.addresses.is_empty() {
                tally.unknown(&pod, format!("addresses are not known: {}", t.why));
            }
        }
    }
    if own.len() > 1 {
        let sides: Vec<String> = own
            .iter()
            .map(|(n, p)| format!("{n} in {}", some(p)))
            .collect();
        tally.warn(
            "",
            format!("the pods' addresses are on {}", sides.join("; ")),
        );
    }
    let names: Vec<String> = own.into_keys().collect();
    let good = format!("the pods' addresses are on {}", some(&names));
    asked.conclude(tally, good)
}

/// Interfaces that a value of NCCL_SOCKET_IFNAME (or gloo's, which are exact) chooses.
fn chosen<'n>(value: &str, names: &[&'n str], exact: bool) -> Vec<&'n str> {
    let (not, value) = value
        .strip_prefix('^')
        .map_or((false, value), |v| (true, v));
    let (equal, value) = value
        .strip_prefix('=')
        .map_or((exact, value), |v| (true, v));
    let hit = |n: &str| {
        value
            .split(',')
            .map(str::trim)
            .filter(|p| !p.is_empty())
            .any(|p| if equal { n == p } else { n.starts_with(p) })
    };
    names
        .iter()
        .copied()
        .filter(|n| if not { !hit(n) && *n != "lo" } else { hit(n) })
        .collect()
}

/// MTUs of interfaces of one name agree.
pub(super) fn mtu(look: &Look<'_>) -> Seen {
    let asked = interface_answers(look);
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let mut by: BTreeMap<&str, BTreeMap<u32, Vec<String>>> = BTreeMap::new();
    for g in &asked.got {
        for (name, (mtu, _)) in &g.answer.list {
            if let (Some(mtu), false) = (mtu, name == "lo") {
                by.entry(name)
                    .or_default()
                    .entry(*mtu)
                    .or_default()
                    .push(g.pod());
            }
        }
    }
    for g in &rdma_answers(look).got {
        for (device, _, mtu) in &g.answer.nets {
            if let Some(mtu) = mtu {
                by.entry(device)
                    .or_default()
                    .entry(*mtu)
                    .or_default()
                    .push(g.pod());
            }
        }
    }
    let mut tally = Tally::default();
    for (name, mtus) in by.iter().filter(|(_, m)| m.len() > 1) {
        let sides: Vec<String> = mtus
            .iter()
            .map(|(n, p)| format!("{n} in {}", some(p)))
            .collect();
        // Who is in the minority is named; which value is right only the network's people know.
        let odd = mtus.values().min_by_key(|p| p.len());
        let first = odd.and_then(|p| p.first()).map_or("", String::as_str);
        tally.warn(first, format!("MTU of {name}: {}", sides.join("; ")));
    }
    let good: Vec<String> = by
        .iter()
        .filter_map(|(n, m)| Some(format!("{n} {}", m.keys().next()?)))
        .collect();
    asked.conclude(tally, format!("equal over the pods: {}", some(&good)))
}

/// Whether the workload asks for RDMA at all.
fn wants_rdma(look: &Look<'_>) -> bool {
    look.members.list.iter().any(|m| {
        m.container.resources.keys().any(|k| {
            let k = k.to_ascii_lowercase();
            k.contains("rdma")
                || k.contains("hca")
                || k.contains("infiniband")
                || k.contains("/ib")
                || k.contains("roce")
                || k.contains("efa")
        })
    })
}

/// RDMA devices asked for are in the container.
pub(super) fn rdma(look: &Look<'_>) -> Seen {
    let asked = rdma_answers(look);
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let wanted = wants_rdma(look);
    let mut tally = Tally::default();
    let mut counts: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for g in &asked.got {
        let n = g.answer.usable().count();
        counts.entry(n).or_default().push(g.pod());
        if n == 0 && wanted {
            tally.fail(
                &g.pod(),
                "RDMA is asked for, and no device is in the container",
            );
        } else if n == 0 && !g.answer.devices.is_empty() {
            tally.warn(
                &g.pod(),
                format!(
                    "the node has {} RDMA devices, and none of their files is in the container",
                    g.answer.devices.len()
                ),
            );
        }
    }
    if counts.keys().all(|n| *n == 0) && !wanted && !tally.bad() {
        let mut seen = asked.conclude(tally, "");
        seen.verdict = CheckVerdict::NotApplicable;
        seen.output = "no RDMA device here, and none is asked for".into();
        return seen;
    }
    if counts.len() > 1 && !tally.bad() {
        let sides: Vec<String> = counts
            .iter()
            .map(|(n, p)| format!("{n} in {}", some(p)))
            .collect();
        tally.warn("", format!("devices differ: {}", sides.join("; ")));
    }
    let n = counts.keys().next_back().copied().unwrap_or(0);
    asked.conclude(tally, format!("{n} RDMA devices in every container"))
}

/// Ports of usable devices are active and as fast as their siblings.
pub(super) fn rdma_ports(look: &Look<'_>) -> Seen {
    let asked = rdma_answers(look);
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let mut tally = Tally::default();
    let mut rates: BTreeSet<u64> = BTreeSet::new();
    let mut layers: BTreeSet<&str> = BTreeSet::new();
    let mut ports = 0;
    let usable = |g: &super::look::Got<'_, '_, Rdma>| -> BTreeSet<String> {
        g.answer.usable().map(str::to_owned).collect()
    };
    let fastest = asked
        .got
        .iter()
        .flat_map(|g| {
            let mine = usable(g);
            g.answer
                .ports
                .iter()
                .filter(move |p| mine.contains(&p.device))
        })
        .filter(|p| p.active())
        .filter_map(|p| p.gigabits())
        .fold(0f64, f64::max);
    for g in &asked.got {
        let mine = usable(g);
        for p in g.answer.ports.iter().filter(|p| mine.contains(&p.device)) {
            ports += 1;
            if !p.layer.is_empty() {
                layers.insert(&p.layer);
            }
            let name = format!("{} port {}", p.device, p.number);
            if !p.active() {
                tally.fail(&g.pod(), format!("{name} is {} ({})", p.state, p.physical));
            } else if let Some(rate) = p.gigabits() {
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "rates are small"
                )]
                rates.insert(rate as u64);
                if rate < fastest * 0.99 {
                    tally.fail(
                        &g.pod(),
                        format!("{name} runs at {}, others at {fastest} Gb/sec", p.rate),
                    );
                }
            }
        }
    }
    if layers.len() > 1 {
        tally.warn(
            "",
            "InfiniBand and Ethernet ports together: name the ones to use in NCCL_IB_HCA",
        );
    }
    if ports == 0 {
        let mut seen = asked.conclude(tally, "");
        seen.verdict = CheckVerdict::NotApplicable;
        seen.output = "no RDMA port here".into();
        return seen;
    }
    let rate: Vec<String> = rates.iter().map(|r| format!("{r} Gb/s")).collect();
    asked.conclude(tally, format!("{ports} ports active, {}", some(&rate)))
}

/// RoCE: an address of version 2 made from the pod's IPv4 exists on every port.
pub(super) fn gid(look: &Look<'_>) -> Seen {
    let asked = rdma_answers(look);
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let values = &look.scene.variables;
    let mut tally = Tally::default();
    let mut roce = 0;
    let mut indices = BTreeSet::new();
    for g in &asked.got {
        let named = values
            .get("NCCL_IB_GID_INDEX")
            .and_then(|v| v.of(&g.pod()))
            .and_then(|v| v.parse::<u32>().ok());
        let mine: BTreeSet<&str> = g.answer.usable().collect();
        for p in &g.answer.ports {
            if !mine.contains(p.device.as_str()) || p.layer != "Ethernet" || !p.active() {
                continue;
            }
            roce += 1;
            let of_port = || {
                g.answer
                    .gids
                    .iter()
                    .filter(|x| x.device == p.device && x.port == p.number)
            };
            let good: Vec<u32> = of_port()
                .filter(|x| x.kind.contains("v2") && x.ipv4().is_some())
                .map(|x| x.index)
                .collect();
            if good.is_empty() {
                tally.fail(
                    &g.pod(),
                    format!(
                        "{} port {}: no RoCE v2 address made from an IPv4 one",
                        p.device, p.number
                    ),
                );
            } else if let Some(n) = named
                && !of_port().any(|x| x.index == n && x.kind.contains("v2"))
            {
                tally.fail(
                    &g.pod(),
                    format!(
                        "NCCL_IB_GID_INDEX={n} is no RoCE v2 address of {}; {good:?} are",
                        p.device
                    ),
                );
            }
            indices.extend(good);
        }
    }
    if roce == 0 {
        let mut seen = asked.conclude(tally, "");
        seen.verdict = CheckVerdict::NotApplicable;
        seen.output = "no RoCE port here".into();
        return seen;
    }
    let list: Vec<u32> = indices.into_iter().collect();
    asked.conclude(
        tally,
        format!("{roce} RoCE ports with an address of version 2, at index {list:?}"),
    )
}
