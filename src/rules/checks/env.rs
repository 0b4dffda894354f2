//! Environment and command lines: equal where they must be, different where they must be.

use std::collections::{BTreeMap, BTreeSet};

use super::look::{Look, Seen, Tally, some};
use crate::parse::probe::Answer;
use crate::rules::scene::{CheckVerdict, ProcessView};
use crate::rules::startup::left_open;
use crate::rules::variables::{self, FLAGS_DIFFER, FLAGS_EQUAL, Over, Values, flag};

/// NCCL_*, GLOO_*, VLLM_* consistent over the pods, without known mistakes.
pub(super) fn env(look: &Look<'_>) -> Seen {
    if !look.live() || look.members.list.is_empty() {
        return logged(look);
    }
    if let Some(seen) = look.unfit("the pods' specifications") {
        return seen;
    }
    let asked = look.asked("env", |a| match a {
        Answer::Environment(e) => Some(e),
        _ => None,
    });
    let values = &look.scene.variables;
    let mut tally = Tally::default();
    for g in asked.got.iter().filter(|g| g.answer.denied) {
        tally.unknown(
            &g.pod(),
            "the environment of the process may not be read; the specification is compared",
        );
    }
    for (name, v) in variables::skewed(values) {
        tally.fail(&odd(v), told(name, v));
    }
    for (name, v) in values {
        for (value, pods) in &v.by {
            if let Some(why) = variables::mistake(name, value) {
                let first = pods.first().map_or("", String::as_str);
                let text = format!("{name}={value}: {why}");
                if pods.len() == look.members.list.len() {
                    tally.warn("", text);
                } else {
                    tally.warn(first, text);
                }
            }
        }
    }
    let ours = |n: &&String| ["NCCL_", "GLOO_", "VLLM_"].iter().any(|p| n.starts_with(p));
    let count = values.keys().filter(ours).count();
    let good = format!(
        "{count} variables of NCCL, gloo and vLLM, as they must be over {} pods",
        look.members.list.len()
    );
    if asked.got.is_empty() {
        let mut seen = tally.seen(
            "env of the pods' specifications (the image's own is not in it)",
            good,
        );
        if let (CheckVerdict::Pass, Some((why, _))) = (seen.verdict, &asked.refused) {
            seen.output
                .push_str(&format!("\nthe processes' own were not read: {why}"));
        }
        return seen;
    }
    let mut seen = asked.conclude(tally, good);
    // Where a container does not run, its specification was compared.
    if seen.verdict == CheckVerdict::Waiting && asked.silent.is_empty() {
        seen.output = format!("specifications agree; {}", seen.output);
    }
    seen
}

/// The pod that stands alone with its value, if one does.
fn odd(v: &Values) -> String {
    let sides: Vec<&Vec<String>> = v.by.values().chain(std::iter::once(&v.unset)).collect();
    sides
        .iter()
        .filter(|p| !p.is_empty())
        .min_by_key(|p| p.len())
        .and_then(|p| p.first())
        .cloned()
        .unwrap_or_default()
}

/// `NCCL_NET: IB in a, b; not set in c`.
pub(in crate::rules) fn told(name: &str, v: &Values) -> String {
    let mut sides: Vec<String> =
        v.by.iter()
            .map(|(value, p)| format!("{value} in {}", some(p)))
            .collect();
    if !v.unset.is_empty() && variables::over(name) == Over::Equal {
        sides.push(format!("not set in {}", some(&v.unset)));
    }
    format!("{name}: {}", sides.join("; "))
}

/// What the logs prove of the environment is equal over ranks.
fn logged(look: &Look<'_>) -> Seen {
    let ran = "what the logs prove of the environment";
    let ranks: Vec<&ProcessView> = look
        .scene
        .processes
        .iter()
        .filter(|p| p.nccl_step.is_some() || !p.env.is_empty())
        .collect();
    let names: BTreeSet<&str> = ranks
        .iter()
        .flat_map(|p| p.env.iter().map(|(k, _)| k.as_str()))
        .collect();
    if ranks.len() < 2 {
        let text = "fewer than two NCCL processes to compare";
        return Seen::new(CheckVerdict::NotApplicable, ran, text);
    }
    if names.is_empty() {
        let text = "no variable is echoed in these logs (NCCL_DEBUG_SUBSYS without ENV?)";
        return Seen::new(CheckVerdict::Unknown, ran, text);
    }
    let mut values: BTreeMap<&str, Values> = BTreeMap::new();
    for name in names.iter().filter(|n| variables::over(n) == Over::Equal) {
        let v = values.entry(name).or_default();
        for p in &ranks {
            let place = p.place();
            let side = match p.env.iter().find(|(k, _)| k == name) {
                Some((_, value)) => v.by.entry(value.clone()).or_default(),
                None => &mut v.unset,
            };
            if !side.contains(&place) {
                side.push(place);
            }
        }
    }
    let mut tally = Tally::default();
    for (name, v) in values.iter().filter(|(_, v)| v.differs()) {
        tally.warn("", told(name, v));
    }
    tally.seen(
        ran,
        format!(
            "{} variables, equal in {} processes",
            names.len(),
            ranks.len()
        ),
    )
}

/// No way out to the hub is tried where there is none.
pub(super) fn offline(look: &Look<'_>) -> Seen {
    let ran = "variables of the pods, and what the logs say of the hub";
    if look.live()
        && let Some(seen) = look.unfit(ran)
    {
        return seen;
    }
    let failed = look
        .scene
        .findings
        .iter()
        .find(|f| f.id == "vllm.hub-access");
    let values = &look.scene.variables;
    let set = |name: &str| {
        let on = |v: &str| matches!(v.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on");
        values.get(name).is_some_and(|v| v.by.keys().any(|x| on(x)))
    };
    let closed = match look
        .model
        .probes
        .of("network-policies")
        .next()
        .and_then(|(_, p)| p.answer.as_deref())
    {
        Some(Answer::Policies(p)) => crate::rules::policy::closed(look.members, p),
        _ => None,
    };
    let mut why = Vec::new();
    if failed.is_some() {
        why.push("the hub can't be reached (finding vllm.hub-access)".to_owned());
    }
    if let Some(name) = closed {
        why.push(format!("policy {name} lets nothing out of the cluster"));
    }
    let offline: Vec<&str> = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
        .into_iter()
        .filter(|n| set(n))
        .collect();
    if !offline.is_empty() {
        why.push(format!("{} is set", offline.join(", ")));
    }
    if why.is_empty() {
        let text = "nothing shows that this cluster is cut off";
        return Seen::new(CheckVerdict::NotApplicable, ran, text);
    }
    let mut tally = Tally::default();
    let quiet = ["VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK", "DO_NOT_TRACK"]
        .into_iter()
        .any(set);
    if offline.is_empty() {
        let pod = failed
            .and_then(|f| f.pods.first())
            .map_or("", String::as_str);
        tally.fail(
            pod,
            format!("{}, and HF_HUB_OFFLINE is not set", why.join("; ")),
        );
    }
    if !quiet {
        tally.warn("", "telemetry is not switched off: VLLM_NO_USAGE_STATS=1");
    }
    for m in &look.members.list {
        if let Some(model) = m
            .model()
            .filter(|m| !m.starts_with('/') && !m.starts_with('.'))
        {
            tally.say(
                &m.pod.name,
                format!("the model {model} must lie in the hub's cache"),
            );
        }
    }
    tally.seen(ran, format!("{}; nothing goes out", why.join("; ")))
}

/// VLLM_HOST_IP is the pod's own address.
pub(super) fn host_ip(look: &Look<'_>) -> Seen {
    let ran = "VLLM_HOST_IP against the pods' addresses";
    if let Some(seen) = look.unfit(ran) {
        return seen;
    }
    let values = &look.scene.variables;
    let v = values.get("VLLM_HOST_IP");
    let mut tally = Tally::default();
    let (mut own, mut silent) = (0, 0);
    for m in &look.members.list {
        let pod = &m.pod.name;
        let Some(value) = v.and_then(|v| v.of(pod)) else {
            // From the pod's own status it can't be wrong.
            let field = m
                .container
                .env
                .iter()
                .any(|(k, v)| k == "VLLM_HOST_IP" && v.is_none());
            if field {
                own += 1
            } else {
                silent += 1
            }
            continue;
        };
        let loop_back =
            value.starts_with("127.") || matches!(value, "localhost" | "::1" | "0.0.0.0");
        match &m.pod.pod_ip {
            _ if loop_back && look.members.list.len() > 1 => {
                tally.fail(
                    pod,
                    format!("VLLM_HOST_IP={value}: no other pod reaches it"),
                );
            }
            Some(ip) if ip != value && Some(value) != m.pod.host_ip.as_deref() => {
                tally.fail(
                    pod,
                    format!("VLLM_HOST_IP={value}, the pod's address is {ip}"),
                );
            }
            Some(_) => own += 1,
            None => tally.unknown(pod, "the pod has no address yet"),
        }
    }
    for (value, pods) in v.iter().flat_map(|v| &v.by).filter(|(_, p)| p.len() > 1) {
        let first = pods.first().map_or("", String::as_str);
        tally.fail(
            first,
            format!("VLLM_HOST_IP={value} is shared by {}", some(pods)),
        );
    }
    let good = if silent > 0 && own == 0 {
        "not set: vLLM finds the address by the default route".to_owned()
    } else {
        format!("the pod's own address in {own} pods")
    };
    tally.seen(ran, good)
}

/// Sizes, ranks and addresses on the command lines fit together.
pub(super) fn ranks(look: &Look<'_>) -> Seen {
    let ran = "command lines of the containers";
    if let Some(seen) = look.unfit(ran) {
        return seen;
    }
    let serving: Vec<_> = look
        .members
        .list
        .iter()
        .filter(|m| !m.command.settings.pairs.is_empty())
        .collect();
    if serving.is_empty() {
        let text = "no command line here starts vLLM in words that can be read";
        return Seen::new(CheckVerdict::Unknown, ran, text);
    }
    let mut tally = Tally::default();
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for m in &serving {
        groups.entry(m.place.group.clone()).or_default().push(*m);
    }
    let mut worlds = BTreeSet::new();
    for members in groups.values() {
        for name in FLAGS_EQUAL {
            let mut v = Values::default();
            for m in members {
                let known = m.command.settings.get(name).filter(|t| !t.contains('$'));
                match known {
                    Some(value) => {
                        v.by.entry(value.to_owned())
                            .or_default()
                            .push(m.pod.name.clone())
                    }
                    None if m.command.settings.get(name).is_none() => {
                        v.unset.push(m.pod.name.clone())
                    }
                    None => {}
                }
            }
            if v.by.len() > 1 {
                v.unset.clear();
                tally.fail(&odd(&v), told(&flag(name), &v));
            }
        }
        for name in FLAGS_DIFFER {
            let mut holders: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for m in members {
                if let Some(value) = m.command.settings.get(name).filter(|t| !t.contains('$')) {
                    holders.entry(value).or_default().push(m.pod.name.clone());
                }
            }
            for (value, pods) in holders.iter().filter(|(_, p)| p.len() > 1) {
                let first = pods.first().map_or("", String::as_str);
                tally.fail(first, format!("{}={value} in {}", flag(name), some(pods)));
            }
        }
        let Some(lead) = members.first() else {
            continue;
        };
        // What stands where nobody has looked has no default.
        if let Some(why) = members.iter().find_map(|m| left_open(m)) {
            let pod = &lead.pod.name;
            let text = why.split_once(": ").map_or(why.as_str(), |(_, text)| text);
            tally.unknown(pod, text);
            continue;
        }
        let size = |name: &str| lead.command.settings.num(name).unwrap_or(1);
        let nodes = size("nnodes");
        let several = nodes > 1 || members.len() == 1;
        let world = size("tensor_parallel_size")
            .saturating_mul(size("pipeline_parallel_size"))
            .saturating_mul(size("prefill_context_parallel_size"))
            .saturating_mul(size("data_parallel_size"));
        let gpus: u64 = members.iter().map(|m| u64::from(m.container.gpus)).sum();
        worlds.insert(world);
        if several && gpus > 0 && members.len() as u64 >= nodes {
            let sizes = match size("prefill_context_parallel_size") {
                1 => "TP × PP × DP",
                _ => "TP × PP × PCP × DP",
            };
            let text = format!("{sizes} = {world}, the pods have {gpus} GPUs");
            if world > gpus {
                tally.fail(&lead.pod.name, text);
            } else if world < gpus {
                tally.warn(&lead.pod.name, format!("{text}: some stay idle"));
            }
        }
    }
    let list: Vec<String> = worlds.iter().map(u64::to_string).collect();
    tally.seen(
        ran,
        format!(
            "{} ranks; sizes, node ranks and addresses fit",
            list.join(" or ")
        ),
    )
}
