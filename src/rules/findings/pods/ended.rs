//! Containers that ended: from outside, by a probe, by their memory limit, again and again.

use super::{about, at, event_proof};
use crate::model::event::{ContainerState, ContainerView, PodKey, PodView};
use crate::model::pods::{kubectl, why};
use crate::parse::Nanos;
use crate::rules::findings::View;
use crate::rules::findings::fix::sh;
use crate::rules::findings::trouble::Notice;
use crate::rules::findings::vllm::short;
use crate::rules::scene::{Class, Confidence, Evidence, Finding, Severity, Stage};

/// Containers that ended: by the memory limit, a probe, from outside, or again and again.
pub fn ended(
    view: &View<'_>,
    key: &PodKey,
    pod: &PodView,
    notices: &[Notice<'_>],
    out: &mut Vec<Finding>,
) {
    let target = &view.target;
    let object = |text: String| Evidence::Object(format!("pod/{}: {text}", key.name));
    // -- from outside
    let disrupted = pod
        .conditions
        .iter()
        .find(|c| c.kind == "DisruptionTarget" && c.status == "True");
    let outside = [
        "Evicted",
        "NodeLost",
        "NodeShutdown",
        "Terminated",
        "Preempting",
        "UnexpectedAdmissionError",
        "TopologyAffinityError",
    ];
    let reason = pod
        .reason
        .as_deref()
        .filter(|r| outside.contains(r) || r.starts_with("OutOf"));
    let evicted = disrupted.is_some() || reason.is_some();
    if evicted {
        let why = disrupted
            .and_then(|c| c.reason.clone())
            .or_else(|| reason.map(str::to_owned))
            .unwrap_or_default();
        let said = pod
            .message
            .clone()
            .or_else(|| disrupted.and_then(|c| c.message.clone()))
            .unwrap_or_default();
        let mut f = about(
            view,
            "pod.evicted",
            key,
            Severity::Error,
            Class::Resources,
            object(format!("{why}: {}", short(&said))),
        );
        f.since = at(disrupted
            .and_then(|c| c.since)
            .or_else(|| why::failures(pod).first().and_then(|x| x.at)));
        f.title = format!("{} was ended from outside: {why}", key.name);
        f.cause = format!("Not the workload's own doing. {}", short(&said));
        f.fix = vec![
            if said.contains("ephemeral") {
                target.yaml("resources: {requests: {ephemeral-storage: 50Gi}, limits: {ephemeral-storage: 100Gi}}")
            } else if why.contains("Preempt") {
                target.yaml("priorityClassName: <a class that is not preempted>")
            } else {
                target.kubectl(&format!(
                    "describe node {}",
                    sh(pod.node.as_deref().unwrap_or("<node>"))
                ))
            },
            target.describe(&key.name),
        ];
        out.push(f);
    }
    // -- a probe
    let killing = view.model.pods.events_of(key).rfind(|e| {
        e.reason == "Killing"
            && (e.message.contains("failed liveness probe")
                || e.message.contains("failed startup probe"))
    });
    if let Some(e) = killing {
        let kind = if e.message.contains("startup") {
            "startup"
        } else {
            "liveness"
        };
        let stage = view
            .scene
            .processes
            .iter()
            .filter(|p| p.pod.as_ref() == Some(&key.name))
            .filter_map(|p| p.stage)
            .max();
        let loading = stage.is_none_or(|s| s < Stage::Serving);
        let mut f = about(
            view,
            "pod.probe-kill",
            key,
            Severity::Error,
            Class::Configuration,
            event_proof(e),
        );
        f.since = at(e.first);
        if let Some(u) = view
            .model
            .pods
            .events_of(key)
            .rfind(|e| e.reason == "Unhealthy")
        {
            f.prove(event_proof(u));
        }
        if !loading {
            f.confidence = Confidence::Likely;
        }
        f.title = format!(
            "a {kind} probe killed {}{}",
            key.name,
            if loading { " while it was loading" } else { "" }
        );
        f.cause = format!(
            "The kubelet ends a container whose {kind} probe fails too often; loading a large model takes longer than the probe allows."
        );
        f.fix = vec![
            target.yaml("startupProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 10, failureThreshold: 360}"),
            target.describe(&key.name),
        ];
        out.push(f);
    }
    // -- the memory limit; of a life that is over, the first failure is what is kept
    let earlier = view
        .model
        .pods
        .first_failure(pod)
        .filter(|x| x.uid == pod.uid && x.what.starts_with("OOMKilled"));
    let oom = pod.init_containers.iter().chain(&pod.containers).find(|c| {
        oom_killed(&c.state).or(oom_killed(&c.last_state)).is_some()
            || earlier.is_some_and(|x| x.container == c.name)
    });
    if let Some(c) = oom {
        let limit = c
            .resources
            .get("limits.memory")
            .cloned()
            .unwrap_or_else(|| "its limit".into());
        let mut f = about(
            view,
            "pod.oom-killed",
            key,
            Severity::Error,
            Class::Resources,
            object(format!("{}: terminated: OOMKilled, limit {limit}", c.name)),
        );
        f.since = at([oom_killed(&c.last_state), oom_killed(&c.state)]
            .into_iter()
            .flatten()
            .flatten()
            .chain(earlier.and_then(|x| x.at))
            .min());
        f.title = format!("{} was killed by its memory limit ({limit})", key.name);
        f.cause = "The container used more host memory than its limit: checkpoint pages, pinned buffers, /dev/shm (it counts) and CPU offload together.".into();
        f.fix = vec![
            target.yaml("resources: {requests: {memory: 256Gi}, limits: {memory: 256Gi}}"),
            target.kubectl(&format!("top pod {} --containers", sh(&key.name))),
        ];
        out.push(f);
    }
    crashloop(
        view,
        key,
        pod,
        notices,
        evicted || killing.is_some() || oom.is_some(),
        out,
    );
}

/// Exit code, time, reason of a container that ended badly.
fn terminated(s: &ContainerState) -> Option<(i32, Option<Nanos>, Option<&str>)> {
    match s {
        ContainerState::Terminated {
            exit_code,
            finished,
            reason,
            ..
        } if *exit_code != 0 => Some((*exit_code, *finished, reason.as_deref())),
        _ => None,
    }
}

/// When the memory limit ended a container; `Some(None)` where the time is not told.
fn oom_killed(s: &ContainerState) -> Option<Option<Nanos>> {
    let (_, when, reason) = terminated(s)?;
    (reason == Some("OOMKilled")).then_some(when)
}

fn crashloop(
    view: &View<'_>,
    key: &PodKey,
    pod: &PodView,
    notices: &[Notice<'_>],
    explained: bool,
    out: &mut Vec<Finding>,
) {
    if explained {
        return;
    }
    let loops = |c: &&ContainerView| {
        let backing = matches!(&c.state, ContainerState::Waiting { reason, .. } if reason == "CrashLoopBackOff");
        backing
            || (c.restarts >= 2
                && (terminated(&c.last_state).is_some() || terminated(&c.state).is_some()))
    };
    let Some(c) = pod
        .init_containers
        .iter()
        .chain(&pod.containers)
        .find(loops)
    else {
        return;
    };
    let end = terminated(&c.last_state).or_else(|| terminated(&c.state));
    let code = end.map_or_else(String::new, |(n, ..)| format!(" with exit code {n}"));
    let proof = Evidence::Object(format!(
        "pod/{}: {}: {} restarts, last ended{code}",
        key.name, c.name, c.restarts
    ));
    let mut f = about(
        view,
        "pod.crashloop",
        key,
        Severity::Error,
        Class::Application,
        proof,
    );
    let failure = view.model.pods.first_failure(pod);
    f.since = at(failure.and_then(|x| x.at).or_else(|| end.and_then(|e| e.1)));
    // The first thing that went wrong in this pod, of whichever of its containers' lives is at hand.
    let first = notices.iter().filter(|n| n.is_root()).find(|n| {
        view.process(n.unit)
            .is_some_and(|p| p.pod.as_ref() == Some(&key.name))
    });
    let said = first
        .map(Notice::said)
        .or_else(|| failure.and_then(|x| x.message.clone()));
    if let Some(n) = first {
        f.prove(Evidence::Line(n.line.clone()));
    }
    if let Some(e) = view
        .model
        .pods
        .events_of(key)
        .rfind(|e| e.reason == "BackOff")
    {
        f.prove(event_proof(e));
    }
    f.title = format!(
        "{} ends again and again: {} restarts{code}",
        key.name, c.restarts
    );
    f.cause = match said {
        Some(s) => format!("Its first error: {}", short(&s)),
        None => {
            "Its log holds no error that is known; read the previous container's last lines.".into()
        }
    };
    let target = &view.target;
    f.fix = vec![
        target.kubectl(&format!(
            "logs --previous {} -c {}",
            sh(&key.name),
            sh(&c.name)
        )),
        target.describe(&key.name),
    ];
    out.push(f);
}

/// Whether a container's end is one that needs explaining.
pub fn dead(pod: &PodView) -> Option<(String, Option<Nanos>)> {
    let over = kubectl::condition(pod, "Ready");
    pod.containers.iter().find_map(|c| {
        let (code, when, _) =
            terminated(&c.state).or_else(|| terminated(&c.last_state).filter(|_| !over))?;
        Some((
            format!("pod/{}: {}: ended with exit code {code}", pod.name, c.name),
            when,
        ))
    })
}
