//! The model's folder: complete, and readable for the container's user.

use super::look::{Look, Seen, Tally};
use crate::parse::probe::Answer;
use crate::rules::modelfiles::{self, Weight};
use crate::rules::scene::CheckVerdict;

/// Config, tokenizer and all shards are there and plausible, and alike in every pod.
pub(super) fn files(look: &Look<'_>) -> Seen {
    let asked = look.asked("model-files", |a| match a {
        Answer::Model(m) => Some(m),
        _ => None,
    });
    if let Some(seen) = unnamed(look).or_else(|| asked.nothing(look)) {
        return seen;
    }
    let mut tally = Tally::default();
    // Pods of one volume tell of the same files, hundreds of them: what is alike is judged once.
    let first = asked.got.first().map(|g| g.answer);
    let alike: Vec<bool> = asked.got.iter().map(|g| Some(g.answer) == first).collect();
    let usual = first.map(modelfiles::problems).unwrap_or_default();
    for (g, alike) in asked.got.iter().zip(&alike) {
        let own = (!alike).then(|| modelfiles::problems(g.answer));
        for p in own.as_ref().unwrap_or(&usual) {
            let text = p.text.as_str();
            match p.weight {
                Weight::Broken => tally.fail(&g.pod(), text),
                Weight::Doubtful => tally.warn(&g.pod(), text),
                Weight::Note => tally.say(&g.pod(), text),
            }
        }
    }
    if let [first, ..] = asked.got.as_slice() {
        let others = asked.got.iter().zip(&alike).filter(|(_, alike)| !**alike);
        for (other, _) in others {
            if first.answer.files == other.answer.files {
                continue;
            }
            let differs =
                |name: &&String| first.answer.files.get(*name) != other.answer.files.get(*name);
            let mut names = first.answer.files.keys().chain(other.answer.files.keys());
            if let (Some(name), false) = (
                names.find(differs),
                first.answer.files.is_empty() || other.answer.files.is_empty(),
            ) {
                tally.warn(
                    &other.pod(),
                    format!(
                        "{name} differs from that of {} in size, or one lacks it",
                        first.pod()
                    ),
                );
            }
        }
    }
    let count = asked.got.first().map_or(0, |g| g.answer.files.len());
    let shards = asked.got.first().map_or(0, |g| {
        g.answer
            .files
            .keys()
            .filter(|n| n.ends_with(".safetensors"))
            .count()
    });
    let at = asked
        .got
        .first()
        .and_then(|g| g.answer.at.clone())
        .unwrap_or_default();
    asked.conclude(
        tally,
        format!("{at}: {count} files, {shards} of them safetensors; config, tokenizer and index fit together"),
    )
}

fn unnamed(look: &Look<'_>) -> Option<Seen> {
    let live = look.live() && look.model.pods.synced() && !look.members.list.is_empty();
    (live && look.members.list.iter().all(|m| m.model().is_none())).then(|| {
        let text = "no command line of these pods names a model (or a shell would still expand it)";
        Seen::new(
            CheckVerdict::Unknown,
            "command lines of the containers",
            text,
        )
    })
}

/// Files readable for the container's user; folders that vLLM writes to writable.
pub(super) fn access(look: &Look<'_>) -> Seen {
    let asked = look.asked("model-access", |a| match a {
        Answer::Access(a) => Some(a),
        _ => None,
    });
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let mut tally = Tally::default();
    let mut who = String::new();
    for g in &asked.got {
        let pod = g.pod();
        if let Some([uid, gid, ..]) = &g.answer.id {
            who = format!("uid {uid}, gid {gid}");
        }
        for p in modelfiles::access(g.answer) {
            match p.weight {
                Weight::Broken => tally.fail(&pod, p.text),
                Weight::Doubtful => tally.warn(&pod, p.text),
                Weight::Note => tally.say(&pod, p.text),
            }
        }
    }
    asked.conclude(tally, format!("readable for {who}; caches can be written"))
}
