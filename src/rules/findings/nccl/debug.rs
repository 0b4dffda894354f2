//! Too many debug lines, or none although NCCL ran.

use std::collections::{BTreeMap, BTreeSet};

use super::super::View;
use crate::model::procs::Process;
use crate::parse::probe::Answer;
use crate::rules::comms::line_ref;
use crate::rules::scene::{Class, Confidence, Evidence, Finding, Severity};

/// Too many debug lines, or none although NCCL ran.
pub(super) fn debug(view: &View<'_>, out: &mut Vec<Finding>) {
    let target = &view.target;
    let mut by_source: BTreeMap<u32, Vec<&Process>> = BTreeMap::new();
    for p in &view.model.procs.list {
        by_source.entry(p.source.0).or_default().push(p);
    }
    for (i, s) in (0u32..).zip(&view.scene.sources) {
        let procs = || by_source.get(&i).into_iter().flatten().copied();
        let calls: u64 = procs()
            .filter_map(|p| p.call_lines.as_ref())
            .map(|(n, _)| n)
            .sum();
        let Some(first) = procs()
            .filter_map(|p| p.call_lines.as_ref())
            .map(|(_, q)| q)
            .min_by_key(|q| q.line)
        else {
            continue;
        };
        let span = procs()
            .filter_map(|p| Some((p.first_at?, p.last_at?)))
            .filter(|(a, b)| a.exact && b.exact)
            .map(|(a, b)| b.ns - a.ns)
            .max();
        let rate = span
            .filter(|ns| *ns > 10_000_000_000)
            .map(|ns| calls as f64 / (ns as f64 / 1e9));
        let flood = calls >= 20_000 || (calls >= 500 && rate.is_some_and(|r| r >= 5.0));
        if !flood {
            continue;
        }
        let told = rate.map_or_else(
            || format!("{calls} lines of collective calls"),
            |r| format!("{r:.0} lines of collective calls per second, {calls} in all"),
        );
        let mut f = Finding::new(
            "nccl.debug-flood",
            &s.name,
            Severity::Info,
            Class::Configuration,
            Evidence::Line(line_ref(crate::model::event::SourceId(i), first)),
        );
        f.since = first.at;
        f.prove(Evidence::Sample(format!("{}: {told}", s.name)));
        let units: BTreeSet<u32> = (0u32..)
            .zip(&view.scene.processes)
            .filter(|(_, p)| p.source == i)
            .map(|(u, _)| u)
            .collect();
        for u in &units {
            if let Some((_, line)) = view.env(*u, "NCCL_DEBUG_SUBSYS") {
                f.prove(Evidence::Line(line));
                break;
            }
        }
        let who = view.who(&units);
        (f.hosts, f.pods) = (who.hosts, who.pods);
        f.title = format!(
            "{} logs every collective: {told}",
            who.places.first().map_or(s.name.as_str(), String::as_str)
        );
        f.cause = "NCCL_DEBUG=INFO with COLL or ALL prints a line per call. That slows inference and rotates the start of the log away.".into();
        f.fix = vec![
            target.env("NCCL_DEBUG_SUBSYS", Some("INIT,BOOTSTRAP,ENV,NET,GRAPH")),
            target.env("NCCL_DEBUG", Some("WARN")),
        ];
        out.push(f);
    }
    // Only the pod's own specification proves that the variable is unset.
    for s in &view.model.speakers.list {
        let Some(source) = view.model.sources.get(s.source) else {
            continue;
        };
        if source.nccl_lines > source.nccl_past {
            continue;
        }
        let (Some(version), Some(container)) = (&s.nccl, &source.info.container) else {
            continue;
        };
        let Some(spec) = view
            .model
            .pods
            .get(&container.pod)
            .and_then(|p| p.containers.iter().find(|c| c.name == container.container))
        else {
            continue;
        };
        // The process itself tells more than the specification: images and scripts set variables too.
        let read =
            view.model
                .probes
                .at("env", Some(container))
                .and_then(|p| match p.answer.as_deref() {
                    Some(Answer::Environment(e)) if !e.denied && !e.vars.is_empty() => Some(e),
                    _ => None,
                });
        let set = match read {
            Some(e) => e.vars.contains_key("NCCL_DEBUG"),
            None => spec.env.iter().any(|(k, _)| k == "NCCL_DEBUG"),
        };
        if set || out.iter().any(|f| f.id == "nccl.debug-absent") {
            continue;
        }
        let object = format!(
            "pod/{}: no NCCL_DEBUG in spec.containers[{}].env",
            container.pod.name, container.container
        );
        let mut f = Finding::new(
            "nccl.debug-absent",
            &source.info.name,
            Severity::Info,
            Class::Configuration,
            Evidence::Object(object),
        );
        f.confidence = Confidence::Likely;
        if read.is_some() {
            f.confidence = Confidence::Certain;
            f.prove(Evidence::Check(format!(
                "check.env in {}: the process has no NCCL_DEBUG",
                container.pod.name
            )));
        }
        f.pods = vec![container.pod.name.clone()];
        f.title = format!("NCCL {version} runs without NCCL_DEBUG: transports can't be seen");
        f.cause = "vLLM says that it loaded NCCL, the pod's environment does not set NCCL_DEBUG, and NCCL prints nothing without it.".into();
        f.fix = vec![
            target.env("NCCL_DEBUG", Some("INFO")),
            target.env("NCCL_DEBUG_SUBSYS", Some("INIT,BOOTSTRAP,ENV,NET,GRAPH")),
        ];
        out.push(f);
    }
}
