//! Files of the model, as containers list them.

use super::{about, answer};
use crate::parse::probe::Answer;
use crate::rules::findings::View;
use crate::rules::findings::fix::sh;
use crate::rules::modelfiles::{self, Topic, Weight};
use crate::rules::probes::Member;
use crate::rules::scene::{Class, Evidence, Finding, Severity, Stage};

/// Files of the model, as the container lists them: where no log has said it already.
pub fn model_files(view: &View<'_>, m: &Member<'_>, out: &mut Vec<Finding>) {
    let pod = &m.pod.name;
    // What serves has loaded: whatever the listing lacks was no obstacle.
    let here = view.by_pod.get(pod.as_str()).into_iter().flatten();
    if here.into_iter().any(|p| p.stage == Some(Stage::Serving)) {
        return;
    }
    let mut problems = Vec::new();
    let mut since = None;
    if let Some((Answer::Model(files), when)) = answer(view, m, "model-files") {
        // A tokenizer of its own is named on the command line.
        let own = m.command.settings.get("tokenizer").is_some();
        problems.extend(
            modelfiles::problems(files)
                .into_iter()
                .filter(|p| !(own && p.topic == Topic::Tokenizer)),
        );
        since = when;
    }
    if let Some((Answer::Access(a), when)) = answer(view, m, "model-access") {
        problems.extend(modelfiles::access(a));
        since = since.or(when);
    }
    problems.retain(|p| p.weight == Weight::Broken);
    let target = &view.target;
    let model = m.model().unwrap_or_else(|| "the model".into());
    for (topic, id, check, cause, fix) in [
        (
            Topic::Incomplete,
            "vllm.model-incomplete",
            "check.model-files",
            "The files of the model don't fit its index, or are cut off: loading will fail, or has failed.",
            "copy the model again into the volume, complete and of one revision".to_owned(),
        ),
        (
            Topic::Tokenizer,
            "vllm.tokenizer-missing",
            "check.model-files",
            "Without a tokenizer beside the weights vLLM tries to load one from the hub, or ends.",
            "copy the tokenizer files of the same revision beside the weights".to_owned(),
        ),
        (
            Topic::Denied,
            "vllm.permission-denied",
            "check.model-access",
            "The container's user may not read the files of the model.",
            target.yaml("securityContext: {fsGroup: <the group of the files>}"),
        ),
    ] {
        let mine: Vec<_> = problems.iter().filter(|p| p.topic == topic).collect();
        let Some(first) = mine.first() else { continue };
        let proof = |text: &str| Evidence::Check(format!("{check} in {pod}: {text}"));
        if let Some(known) = out
            .iter_mut()
            .find(|f| f.id == id && (f.pods.is_empty() || f.pods.contains(pod)))
        {
            known.prove(proof(&first.text));
            continue;
        }
        // One volume under all pods: the first of them tells.
        if out
            .iter()
            .any(|f| f.id == id && f.cause == cause && f.title.ends_with(&first.text))
        {
            continue;
        }
        let mut f = about(
            view,
            id,
            m,
            Severity::Error,
            Class::Configuration,
            proof(&first.text),
        );
        for p in mine.iter().skip(1).take(7) {
            f.prove(proof(&p.text));
        }
        f.since = since;
        f.title = format!("{model} in {pod}: {}", first.text);
        f.cause = cause.into();
        f.fix = vec![
            fix,
            target.kubectl(&format!(
                "exec {} -c {} -- ls -laL {}",
                sh(pod),
                sh(&m.container.name),
                sh(&model)
            )),
        ];
        out.push(f);
    }
}
