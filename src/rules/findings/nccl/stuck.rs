//! Ranks that are behind the others of their communicator.

use super::super::View;
use super::super::trouble::order;
use super::start;
use crate::parse::fact::CollOp;
use crate::rules::scene::{
    Class, CommState, Communicator, Confidence, Evidence, Finding, LineRef, Severity, Stage,
};

/// One 4 KiB buffer of call lines, of which the shortest have some 120 bytes.
const BUFFERED: u64 = 4096 / 120;
/// Standing still this long while others advance, seconds.
const STILL: i64 = 30;

/// Ranks whose collectives are behind those of the others.
pub(super) fn behind(view: &View<'_>, c: &Communicator, out: &mut Vec<Finding>) {
    let Some(at) = view
        .scene
        .communicators
        .iter()
        .position(|x| std::ptr::eq(&**x, c))
    else {
        return;
    };
    let Some(group) = view
        .order
        .get(at)
        .and_then(|g| view.joined.groups.get(*g as usize))
    else {
        return;
    };
    if c.state >= CommState::Destroyed || group.members.len() < 2 {
        return;
    }
    // Lines are what counts: `opCount` stands still on a single node from 2.27.3. A log whose start is gone
    // has lost lines, though, and there the counter is all that is left.
    let whole = group.members.values().all(|(u, r)| {
        let mut tellings = view.joined.tellings(&view.model.procs, *u, *r);
        tellings.any(|(_, p, rec)| {
            let source = view.scene.sources.get(p.source.0 as usize);
            rec.first().is_some() && source.is_some_and(|s| s.head_missing != Some(true))
        })
    });
    // rank → (position, process, last stamp of its process, first line).
    let mut seen: Vec<(u32, u64, u32, Option<i64>, LineRef)> = Vec::new();
    for (rank, (u, r)) in &group.members {
        let mut place: Option<u64> = None;
        let mut last = None;
        for (_, p, rec) in view.joined.tellings(&view.model.procs, *u, *r) {
            let calls = || {
                rec.calls
                    .iter()
                    .filter(|(op, _)| !matches!(op, CollOp::Send | CollOp::Recv))
                    .map(|(_, n)| n)
            };
            let here = if whole {
                Some(calls().map(|(lines, _)| lines).sum()).filter(|n| *n > 0)
            } else {
                calls().map(|(_, op_count)| op_count).max()
            };
            place = place.max(here);
            last = last.max(p.last_at.filter(|a| a.exact).map(|a| a.ns));
        }
        let Ok(i) = c.ranks.binary_search_by_key(rank, |m| m.rank) else {
            continue;
        };
        let Some(m) = c.ranks.get(i) else { continue };
        if let Some(n) = place {
            seen.push((*rank, n, *u, last, m.line.clone()));
        }
    }
    let (Some(lead), Some(newest)) = (
        seen.iter().map(|s| s.1).max(),
        seen.iter().map(|s| s.3).max(),
    ) else {
        return;
    };
    let late: Vec<_> = seen
        .iter()
        .filter(|s| {
            let gap = lead - s.1;
            let still = matches!((s.3, newest), (Some(mine), Some(new)) if new - mine >= STILL * 1_000_000_000);
            gap > BUFFERED || (gap > 0 && still)
        })
        .collect();
    if late.is_empty() || late.len() * 2 > seen.len() {
        return;
    }
    let unit = if whole { "call" } else { "opCount" };
    let lines: Vec<LineRef> = late.iter().map(|s| s.4.clone()).collect();
    let Some(mut f) = start(
        c,
        "nccl.rank-stuck",
        Severity::Error,
        Class::Application,
        &lines,
    ) else {
        return;
    };
    for s in &late {
        f.prove(Evidence::Sample(format!(
            "{} is at {unit} {}, the furthest rank at {lead}",
            view.called(c, &[s.0]),
            s.1
        )));
    }
    let unbuffered = late
        .iter()
        .all(|s| view.env(s.2, "NCCL_DEBUG_FILE").is_some());
    f.confidence = if unbuffered {
        Confidence::Likely
    } else {
        Confidence::Possible
    };
    f.ranks = late.iter().map(|s| s.0).collect();
    let who = view.who(&late.iter().map(|s| s.2).collect());
    (f.hosts, f.pods) = (who.hosts, who.pods);
    let least = late.iter().map(|s| s.1).min().unwrap_or(0);
    let called = view.called(c, &f.ranks);
    let verb = if f.ranks.len() == 1 { "is" } else { "are" };
    f.title = format!("{called} {verb} behind: {unit} {least} of {lead}");
    f.cause = "The other ranks have called more collectives on this communicator than a buffer of output explains. Replays of CUDA graphs print nothing, so this is no proof.".into();
    let target = &view.target;
    let suspect = late.first().and_then(|s| view.process(s.2));
    f.fix.extend(suspect.map(|p| view.stack(p)));
    f.fix.push(
        target.env("NCCL_DEBUG_FILE", Some("/dev/stdout"))
            + "   # lines come at once instead of in blocks of 4 KiB",
    );
    out.push(f);
}

/// Others are complete for a while, a rank is not, and its log goes on without it.
pub(super) fn stuck_init(view: &View<'_>, c: &Communicator, out: &mut Vec<Finding>) {
    let Some(done) = c
        .ranks
        .iter()
        .filter(|m| matches!(m.state, CommState::Complete | CommState::Destroyed))
        .filter_map(|m| view.process(m.process)?.last_at)
        .filter(|a| a.exact)
        .map(|a| a.ns)
        .min()
    else {
        return;
    };
    let Some(now) = view.scene.now.filter(|a| a.exact) else {
        return;
    };
    let grace = i64::from(view.model.limits.seconds("nccl-init"));
    let late: Vec<_> = c
        .ranks
        .iter()
        .filter(|m| c.incomplete_ranks.contains(&m.rank) && m.state == CommState::Starting)
        .filter(|m| {
            let began = m.line.at.filter(|a| a.exact).map_or(i64::MAX, |a| a.ns);
            let source = view.scene.sources.get(m.line.source as usize);
            // Its log must reach beyond the others' end of init, else it was merely cut earlier.
            let reaches = view.live()
                || source
                    .and_then(|s| s.last_stamp)
                    .is_some_and(|a| a.exact && a.ns > done);
            let further = view
                .process(m.process)
                .is_some_and(|p| p.stage > Some(Stage::NcclInit));
            now.ns.saturating_sub(began.max(done)) > grace * 1_000_000_000 && reaches && !further
        })
        .collect();
    if late.is_empty()
        || out
            .iter()
            .any(|f| f.id == "nccl.rank-stuck" && f.communicator.as_ref() == Some(&c.key))
    {
        return;
    }
    let mut sorted: Vec<LineRef> = late.iter().map(|m| m.line.clone()).collect();
    sorted.sort_by_key(order);
    let Some(mut f) = start(
        c,
        "nccl.rank-stuck",
        Severity::Error,
        Class::Application,
        &sorted,
    ) else {
        return;
    };
    f.confidence = Confidence::Possible;
    f.ranks = late.iter().map(|m| m.rank).collect();
    let who = view.who(&late.iter().map(|m| m.process).collect());
    (f.hosts, f.pods) = (who.hosts, who.pods);
    let who = view.called(c, &f.ranks);
    f.title = format!("{who} did not finish the init that others have");
    f.cause = format!(
        "Other ranks of this communicator printed Init COMPLETE more than {grace} s ago; these printed START and nothing since."
    );
    let target = &view.target;
    let line = "   # lines come at once instead of in blocks of 4 KiB";
    f.fix
        .push(target.env("NCCL_DEBUG_FILE", Some("/dev/stdout")) + line);
    let suspect = late.first().and_then(|m| view.process(m.process));
    f.fix.extend(suspect.map(|p| view.stack(p)));
    out.push(f);
}
