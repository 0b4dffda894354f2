//! What keeps a communicator from coming up, and what the logs do not hold.

use std::collections::BTreeMap;

use super::fix::sh;
use super::{View, by_lines, first_lines, ranges};
use crate::model::edges::Quote;
use crate::model::event::{Feed, PodView, SourceId};
use crate::parse::fact::WarnKind;
use crate::rules::comms::line_ref;
use crate::rules::scene::{
    Class, Communicator, Confidence, Evidence, Finding, LineRef, ProcessView, Severity,
};

/// Logs of nodes without a server that no rank has spoken in: what they are called, and the line that says so.
fn headless(view: &View<'_>) -> Vec<(String, LineRef)> {
    let ranked = |source: SourceId| {
        let mut all = view.scene.processes.iter();
        all.any(|p| {
            p.sources.contains(&source.0) && (p.global_rank.is_some() || p.nccl_step.is_some())
        })
    };
    let all = view.model.speakers.list.iter();
    let nodes = all.filter_map(|s| {
        let (_, line) = s.head.as_ref().filter(|_| !ranked(s.source))?;
        let source = view.model.sources.get(s.source)?;
        let name = match &source.teller {
            Some(teller) => teller.name.clone(),
            None => source.info.name.clone(),
        };
        Some((name, line_ref(s.source, line)))
    });
    nodes.collect()
}

/// For how long at least the ranks of a communicator have been waiting by what their engine counts, in seconds,
/// where its lines have no stamp; and its last word.
fn waited(view: &View<'_>, c: &Communicator) -> Option<(i64, LineRef)> {
    let all = view.model.speakers.list.iter();
    let counted = all.filter_map(|s| {
        let (times, seconds, line) = s.shm_waits.as_ref()?;
        let mut ranks = c.ranks.iter().map(|m| &m.line);
        let behind = ranks.any(|l| l.source == s.source.0 && l.number < line.line);
        let spent = i64::from(*times).checked_mul(i64::try_from(*seconds).ok()?)?;
        behind.then(|| (spent, line_ref(s.source, line)))
    });
    counted.max_by_key(|(spent, _)| *spent)
}

/// Ranks proven absent.
pub fn missing_ranks(view: &View<'_>, out: &mut Vec<Finding>) {
    for c in &view.scene.communicators {
        let Some(missing) = c.missing_ranks.as_ref().filter(|m| !m.is_empty()) else {
            continue;
        };
        let lines = first_lines(c.ranks.iter().map(|m| m.line.clone()).collect());
        let Some(first) = lines.iter().min_by_key(|l| l.at.map_or(i64::MAX, |a| a.ns)) else {
            continue;
        };
        let waited = waited(view, c);
        let age = match (view.scene.now, c.since) {
            (Some(now), Some(since)) if now.exact == since.exact => {
                Some((now.ns - since.ns) / 1_000_000_000)
            }
            _ => waited.as_ref().map(|(age, _)| *age),
        };
        let grace = i64::from(view.model.limits.seconds("missing-ranks"));
        let young = age.is_some_and(|a| a <= grace);
        // Ranks that spoke and went no further are seen to stay away; of others only the place is known.
        let idle = |(u, p): (u32, &ProcessView)| {
            (p.global_rank.is_some() || p.nccl_step.is_some())
                && c.ranks.iter().all(|m| m.process != u)
        };
        let by_place = view.model.session.feed == Feed::Files
            && !(0u32..).zip(&view.scene.processes).any(idle);
        if by_place && young {
            continue;
        }
        let severity = if young || (by_place && age.is_none()) {
            Severity::Info
        } else {
            Severity::Error
        };
        let mut f = Finding::new(
            "nccl.missing-ranks",
            &c.key,
            severity,
            Class::Application,
            Evidence::Line(first.clone()),
        );
        let mut silent = Vec::new();
        for (name, line) in headless(view) {
            f.prove(Evidence::Line(line));
            silent.push(name);
        }
        if let Some((_, line)) = waited {
            f.prove(Evidence::Line(line));
        }
        for l in &lines {
            f.prove(Evidence::Line(l.clone()));
        }
        // Without stamps nobody can say how long they have been waiting.
        f.confidence = if age.is_some() {
            Confidence::Certain
        } else {
            Confidence::Possible
        };
        f.since = c.since;
        f.ranks.clone_from(missing);
        f.communicator = Some(c.key.clone());
        let n = missing.len();
        let (are, s) = if n == 1 { ("has", "") } else { ("have", "s") };
        f.title = format!(
            "rank{s} {} of {} {are} not come to the rendezvous",
            ranges(missing),
            c.nranks
        );
        if by_place && age.is_none() {
            let (has, it) = if n == 1 {
                ("has", "it")
            } else {
                ("have", "them")
            };
            let (ranks, wait) = match c.ranks.len() {
                1 => ("rank", "waits"),
                _ => ("ranks", "wait"),
            };
            f.title = format!(
                "rank{s} {} of {} {has} printed nothing; {} {ranks} {wait} for {it}",
                ranges(missing),
                c.nranks,
                c.ranks.len()
            );
        }
        let waited = age.map_or_else(String::new, |a| format!(" for {a} s"));
        let theirs = match silent.as_slice() {
            [] => "the logs that would hold the others are silent".to_owned(),
            [one] => format!(
                "{one}, which should hold the others, says that its node joins them and nothing more"
            ),
            all => format!(
                "{}, which should hold the others, say that their nodes join them and nothing more",
                all.join(", ")
            ),
        };
        f.cause = format!(
            "{} of {} ranks printed Init START and wait{waited}; none has finished the bootstrap, and {theirs}.",
            c.ranks.len(),
            c.nranks
        );
        f.fix.push("look at the processes of the missing ranks first: not started, crashed, or unable to reach the others".into());
        f.fix.push(view.target.pods());
        f.fix.push(
            "read the log of the pod that holds them (kubectl logs, with --previous where it restarted)"
                .into(),
        );
        out.push(f);
    }
}

/// A rank, and where the line stands that tells.
type Told<'a> = (u32, SourceId, &'a Quote);

/// Two library versions.
pub fn version_mismatch(view: &View<'_>, out: &mut Vec<Finding>) {
    let procs = &view.model.procs;
    for (i, c) in view.scene.communicators.iter().enumerate() {
        let Some(group) = view
            .order
            .get(i)
            .and_then(|g| view.joined.groups.get(*g as usize))
        else {
            continue;
        };
        // Every rank of every communicator is asked: nothing is copied before versions differ.
        let mut by_version: BTreeMap<&str, Vec<Told<'_>>> = BTreeMap::new();
        let mut warned: Vec<LineRef> = Vec::new();
        for (rank, (u, r)) in &group.members {
            for (_, p, rec) in view.joined.tellings(procs, *u, *r) {
                if let Some(v) = &rec.version
                    && let Some((_, q)) = p.versions.iter().find(|(have, _)| have == v)
                {
                    by_version.entry(v).or_default().push((*rank, p.source, q));
                }
                for w in p
                    .warnings
                    .iter()
                    .filter(|w| matches!(w.kind, WarnKind::VersionMismatch { .. }))
                {
                    let here = w
                        .comm
                        .and_then(|x| p.comms.get(x as usize))
                        .is_none_or(|x| x.ptr == rec.ptr);
                    if here {
                        warned.push(line_ref(p.source, &w.quote));
                    }
                }
            }
        }
        if by_version.len() < 2 && warned.is_empty() {
            continue;
        }
        let mut lines = first_lines(warned);
        // The fewest first: they are the odd ones out.
        let mut sides: Vec<(&str, &Vec<Told<'_>>)> =
            by_version.iter().map(|(v, l)| (*v, l)).collect();
        sides.sort_by_key(|(v, l)| (l.len(), *v));
        for (_, list) in &sides {
            lines.extend(list.first().map(|(_, s, q)| line_ref(*s, q)));
        }
        let Some(mut f) = by_lines(
            "nccl.version-mismatch",
            &c.key,
            Severity::Error,
            Class::Configuration,
            lines,
        ) else {
            continue;
        };
        f.communicator = Some(c.key.clone());
        let told: Vec<String> = sides
            .iter()
            .map(|(v, l)| {
                let mut ranks: Vec<u32> = l.iter().map(|(r, ..)| *r).collect();
                ranks.dedup();
                format!("{v} on {}", view.called(c, &ranks))
            })
            .collect();
        if let Some((_, odd)) = sides.first().filter(|_| sides.len() > 1) {
            f.ranks = odd.iter().map(|(r, ..)| *r).collect();
            f.ranks.dedup();
            // Their hosts, too: every communicator that they are in tells of the same image.
            let odd = c.ranks.iter().filter(|m| f.ranks.contains(&m.rank));
            let who = view.who(&odd.map(|m| m.process).collect());
            (f.hosts, f.pods) = (who.hosts, who.pods);
        }
        f.title = match sides.as_slice() {
            [(a, _), .., (b, _)] => format!("ranks of one communicator run NCCL {a} and {b}"),
            _ => "ranks of one communicator run different NCCL versions".into(),
        };
        f.cause = if told.is_empty() {
            "NCCL itself reports the mismatch.".into()
        } else {
            format!(
                "{}. Ranks of one communicator must load the same library.",
                told.join(", ")
            )
        };
        f.fix.push("run the same image digest in every pod; if VLLM_NCCL_SO_PATH or LD_LIBRARY_PATH is set, make it equal everywhere".into());
        out.push(f);
    }
    across(view, out);
}

/// Different versions that do not meet in one communicator are worth knowing, no more.
fn across(view: &View<'_>, out: &mut Vec<Finding>) {
    if out.iter().any(|f| f.id == "nccl.version-mismatch") {
        return;
    }
    let mut first: BTreeMap<&str, LineRef> = BTreeMap::new();
    for p in &view.model.procs.list {
        for (v, q) in &p.versions {
            first.entry(v).or_insert_with(|| line_ref(p.source, q));
        }
    }
    let mut lines = first.iter();
    let (Some((a, line)), Some((b, other))) = (lines.next(), lines.next()) else {
        return;
    };
    let mut f = Finding::new(
        "nccl.version-mismatch",
        "job",
        Severity::Info,
        Class::Configuration,
        Evidence::Line(line.clone()),
    );
    f.prove(Evidence::Line(other.clone()));
    f.title = format!("NCCL {a} and {b} are both loaded, in different communicators");
    f.cause = "torch and vLLM's own NCCL binding can load two libraries; that is allowed as long as no communicator mixes them.".into();
    f.fix.push("nothing, unless a communicator fails: then make VLLM_NCCL_SO_PATH point at torch's library".into());
    out.push(f);
}

/// A failed connect: process, line, peer, error.
type Attempt = (u32, LineRef, Option<String>, String);

/// Connects to a peer that failed for good.
pub fn connect_timeout(view: &View<'_>, out: &mut Vec<Finding>) {
    // One finding per communicator that waited; without one, per process.
    let mut by_subject: BTreeMap<(Option<String>, String), Vec<Attempt>> = BTreeMap::new();
    for (i, p) in view.model.procs.list.iter().enumerate() {
        let i = u32::try_from(i).unwrap_or(0);
        for w in p.warnings.iter().filter(|w| w.warn) {
            let WarnKind::Connect { peer, error } = &w.kind else {
                continue;
            };
            let place = w.comm.and_then(|rec| view.joined.place.get(&(i, rec)));
            let group = place
                .and_then(|(u, r)| view.joined.units.get(*u as usize)?.recs.get(*r as usize))
                .map(|r| r.group);
            let key = group
                .and_then(|g| view.joined.groups.get(g as usize))
                .map(|g| g.key.clone());
            let place = p.host.as_deref().unwrap_or("?").to_owned();
            let subject = if key.is_some() { String::new() } else { place };
            let unit = view.joined.unit_of.get(i as usize).copied().unwrap_or(0);
            by_subject.entry((key, subject)).or_default().push((
                unit,
                line_ref(p.source, &w.quote),
                peer.clone(),
                error.clone(),
            ));
        }
    }
    for ((key, subject), list) in by_subject {
        let lines = first_lines(list.iter().map(|(_, l, _, _)| l.clone()).collect());
        let name = key.clone().unwrap_or_else(|| subject.clone());
        let Some(mut f) = by_lines(
            "nccl.connect-timeout",
            &name,
            Severity::Error,
            Class::Network,
            lines,
        ) else {
            continue;
        };
        let mut hosts: Vec<String> = list
            .iter()
            .filter_map(|(u, ..)| view.scene.processes.get(*u as usize)?.host.clone())
            .collect();
        hosts.sort();
        hosts.dedup();
        if let Some(c) = key
            .as_ref()
            .and_then(|k| view.scene.communicators.iter().find(|c| &c.key == k))
        {
            f.ranks = c
                .ranks
                .iter()
                .filter(|m| list.iter().any(|(u, ..)| *u == m.process))
                .map(|m| m.rank)
                .collect();
        }
        let named = list.iter().filter_map(|(_, _, p, _)| p.as_deref());
        let mut peers: Vec<String> = named.map(|p| whose(view, p)).collect();
        peers.sort();
        peers.dedup();
        let error = list.first().map_or("", |(_, _, _, e)| e.as_str());
        let to = match peers.as_slice() {
            [] => "a peer".to_owned(),
            [one] => one.clone(),
            [one, rest @ ..] => format!("{one} and {} more", rest.len()),
        };
        f.title = format!("{} can't connect to {to}: {error}", hosts.join(", "));
        let refused = error.to_ascii_lowercase().contains("refused");
        f.cause = if refused {
            "The peer's address answers but nothing listens there: its process died, has not started, or its pod was replaced under another address.".into()
        } else {
            "Packets to the peer are dropped or have no route: a NetworkPolicy or firewall (NCCL's ports are ephemeral), the wrong interface, or a dead peer.".into()
        };
        if refused {
            f.fix.push("look at the peer's pod first: kubectl get pods -o wide, then its log, with --previous where it restarted".into());
        } else {
            f.fix
                .push("allow all TCP between the pods of this workload in NetworkPolicies".into());
            f.fix.push("set NCCL_SOCKET_IFNAME to the interface that carries the pod's address, for example eth0".into());
        }
        f.hosts = hosts;
        f.communicator = key;
        out.push(f);
    }
}

/// `mixtral-0 (10.42.3.17<41873>)`: an address with the pod that has it, where one does.
fn whose(view: &View<'_>, peer: &str) -> String {
    let ip = peer.rsplit_once('<').map_or(peer, |(ip, _)| ip);
    let has = |(_, pod): &(_, &PodView)| pod.pod_ip.as_deref() == Some(ip);
    let mut pods = view.model.pods.iter().filter(has);
    match (pods.next(), pods.next()) {
        (Some((_, pod)), None) => format!("{} ({peer})", pod.name),
        // Pods in their node's network share its address.
        _ => peer.to_owned(),
    }
}

/// Logs whose beginning is gone.
pub fn rotated_away(view: &View<'_>, out: &mut Vec<Finding>) {
    for (i, s) in view.scene.sources.iter().enumerate() {
        if s.head_missing != Some(true) {
            continue;
        }
        let source = u32::try_from(i).unwrap_or(0);
        let first = view
            .model
            .procs
            .list
            .iter()
            .filter(|p| p.source.0 == source)
            .flat_map(|p| {
                let runs = p
                    .runs
                    .iter()
                    .flat_map(|r| r.edges.values().map(|e| &e.first));
                let comms = p.comms.iter().filter_map(|c| c.first());
                runs.chain(comms).map(|q| line_ref(p.source, q))
            })
            .min_by_key(|l| l.number);
        let since = first.as_ref().and_then(|l| l.at);
        let evidence = match first {
            Some(line) => Evidence::Line(line),
            // Calls alone, or a log without NCCL's lines: what its reader was told.
            None => match &s.trouble {
                Some(why) => Evidence::Object(format!("{}: {why}", s.name)),
                None => continue,
            },
        };
        let mut f = Finding::new(
            "log.rotated-away",
            &s.name,
            Severity::Info,
            Class::Platform,
            evidence,
        );
        f.since = since;
        f.confidence = Confidence::Likely;
        f.title = format!("the beginning of {} is gone", s.name);
        f.cause = "The log starts in mid-life: connections or calls of communicators whose start it does not hold. Rotation or a late attach causes that; nothing is concluded from what is missing.".into();
        // What was rotated away is out of the API server's reach; it lies on the node for a while.
        if let Some((pod, container)) = s.pod.as_ref().zip(s.container.as_ref()) {
            let (pod, container) = (sh(&pod.replacen('/', "_", 1)), sh(container));
            f.fix.push(format!(
                "ls -l /var/log/pods/{pod}_*/{container}   # on its node: older parts, to be copied and opened"
            ));
        }
        f.fix.push("raise containerLogMaxSize on the nodes, or write NCCL's log to a file: NCCL_DEBUG_FILE=/dev/shm/nccl.%h.%p".into());
        out.push(f);
    }
}
