//! What drivers report of their GPUs.

use std::collections::BTreeMap;

use super::{at, drain, name, ranks};
use crate::model::event::PodKey;
use crate::parse::At;
use crate::parse::vllm::FaultKind;
use crate::rules::findings::trouble::{Case, Notice};
use crate::rules::findings::vllm::short;
use crate::rules::findings::{View, earlier};
use crate::rules::scene::{Class, Evidence, Finding, Severity};

/// What an Xid means and what to do, in a few words (`kubernetes.md` 6.4).
fn meaning(xid: u32) -> (&'static str, &'static str) {
    match xid {
        13 | 31 => (
            "a kernel's exception or a bad address: an application's bug first",
            "restart the pod; if it comes again on this GPU alone, replace it",
        ),
        43 | 45 => (
            "a channel was stopped: follows another error or a killed process",
            "look for the first error",
        ),
        48 | 63 | 64 | 92 | 94 | 95 => (
            "memory errors",
            "63: drain when idle; 94: restart the job; 48, 64, 95: reset or replace the GPU",
        ),
        62 | 109 | 119 | 120 => (
            "the GPU's own processors hang",
            "reset the GPU or reboot the node",
        ),
        74 | 136 | 137 | 144..=150 => (
            "NVLink error",
            "fabric manager, switch, cables; reset the GPU",
        ),
        79 => (
            "the GPU has fallen off the bus",
            "reboot the node; replace the GPU if it comes again",
        ),
        46 | 110 | 121 | 140 | 143 | 155 | 156 | 158 => ("the GPU needs a reset", "reset the GPU"),
        154 => (
            "the driver names what to do in the line's text",
            "do what the text says",
        ),
        _ => (
            "see the vendor's catalogue",
            "drain the node and have the GPU looked at",
        ),
    }
}

/// `Xid 79`, `Xid (PCI:0000:9b:00): 79`, `XID: 79`: the number behind the word, wherever one stands behind it.
fn number(text: &str) -> Option<u32> {
    let mut words = ["Xid", "XID", "xid"]
        .iter()
        .flat_map(|w| text.match_indices(w));
    words.find_map(|(at, w)| {
        let mut rest = text.get(at + w.len()..)?.trim_start();
        if rest.starts_with('(') {
            rest = rest.split_once("): ")?.1;
        }
        let rest = rest.trim_start_matches([' ', ':', '=', '#']);
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().filter(|n| (1..1000).contains(n))
    })
}

/// What tells of one Xid, and since when.
type Told = (Vec<Evidence>, Option<At>);

/// What the driver reported: in logs, events, conditions of nodes, samples.
pub fn xid(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    let hardware = notices
        .iter()
        .filter(|n| {
            // A kernel that failed proves no broken hardware.
            n.fault().is_some_and(|f| match f.kind {
                FaultKind::Hardware { xid } => {
                    xid.is_some() || n.line.text.contains("uncorrectable")
                }
                _ => false,
            })
        })
        .collect();
    for c in Case::split(view, hardware) {
        let n = c.of(|k| match k {
            FaultKind::Hardware { xid } => *xid,
            _ => None,
        });
        let words = words(&c.place, n, None);
        out.extend(c.raise("gpu.xid", Severity::Error, Class::Hardware, words));
    }
    let mut told: BTreeMap<(String, Option<u32>), Told> = BTreeMap::new();
    let mut tell = |who: &str, n: Option<u32>, proof: Evidence, when: Option<At>| {
        let entry = told
            .entry((who.to_owned(), n))
            .or_insert((Vec::new(), when));
        entry.0.push(proof);
        entry.1 = earlier(entry.1, when);
    };
    for node in view.model.nodes.values() {
        for c in node.conditions.iter().filter(|c| c.status == "True") {
            let text = [
                Some(c.kind.as_str()),
                c.reason.as_deref(),
                c.message.as_deref(),
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(": ");
            if text.to_ascii_lowercase().contains("xid") {
                let proof = Evidence::Object(format!("node/{}: {}", node.name, short(&text)));
                tell(&node.name, number(&text), proof, c.since.and_then(at));
            }
        }
    }
    for e in view.model.pods.events().filter(|e| !e.normal) {
        let text = format!("{}: {}", e.reason, e.message);
        if text.contains("Xid") || text.contains("XID") {
            let who = match view.model.pods.get(&PodKey {
                namespace: e.namespace.clone(),
                name: e.object.clone(),
            }) {
                Some(pod) => pod.node.clone().unwrap_or_else(|| e.object.clone()),
                None => e.object.clone(),
            };
            let proof = Evidence::Object(format!(
                "event {}/{}: {}",
                e.kind.to_lowercase(),
                e.object,
                short(&text)
            ));
            tell(&who, number(&text), proof, e.first.and_then(at));
        }
    }
    for g in &view.scene.gpus {
        let node = g.node.clone().or_else(|| g.pod.clone()).unwrap_or_default();
        for (when, n) in &g.xids {
            let proof = Evidence::Sample(format!("{}: Xid {n}", name(g)));
            tell(&node, Some(*n), proof, at(*when));
        }
    }
    for ((who, n), (proofs, since)) in told {
        let mut proofs = proofs.into_iter();
        let Some(first) = proofs.next() else { continue };
        let subject = n.map_or_else(|| who.clone(), |n| format!("{who}/{n}"));
        let mut f = Finding::new("gpu.xid", &subject, Severity::Error, Class::Hardware, first);
        for p in proofs.take(7) {
            f.prove(p);
        }
        f.since = since;
        f.pods = view
            .model
            .pods
            .iter()
            .filter(|(k, p)| p.node.as_deref() == Some(&who) || k.name == who)
            .map(|(k, _)| k.name.clone())
            .collect();
        // The same told by a log of that node is not told twice.
        let known = out.iter().any(|o| {
            o.id == "gpu.xid"
                && o.pods.iter().any(|p| f.pods.contains(p))
                && o.title.contains(&format!("Xid {}", n.unwrap_or(0)))
        });
        if known {
            continue;
        }
        f.hosts.clone_from(&f.pods);
        f.ranks = f.pods.iter().flat_map(|p| ranks(view, p)).collect();
        (f.title, f.cause, f.fix) = words(&who, n, Some(&who));
        out.push(f);
    }
}

fn words(place: &str, n: Option<u32>, node: Option<&str>) -> (String, String, Vec<String>) {
    let (means, action) = n.map_or(
        (
            "memory or NVLink had errors that could not be corrected",
            "drain the node and reset or replace the GPU",
        ),
        meaning,
    );
    let title = match n {
        Some(n) => format!("the driver of {place} reported Xid {n}: {means}"),
        None => format!("the driver of {place} reported broken hardware: {means}"),
    };
    // Nobody's pods may run on a node whose GPU is reset, replaced or rebooted.
    let empties = ["reboot", "reset", "replace the GPU"];
    let mut fix = drain(node);
    if empties.iter().any(|w| action.contains(w)) {
        fix.push(action.to_owned());
    } else {
        fix.insert(0, action.to_owned());
    }
    (
        title,
        "The driver itself says so; what ranks say afterwards follows from it.".into(),
        fix,
    )
}
