//! What a judge looks at, and how it says what it saw.

use std::collections::BTreeMap;

use crate::model::Model;
use crate::model::event::{Feed, Level, ProbeOutcome};
use crate::model::probes::Probed;
use crate::parse::At;
use crate::parse::probe::Answer;
use crate::rules::findings::fix::Target;
use crate::rules::probes::{ByPod, Member, Members, by_pod, get};
use crate::rules::scene::{CheckVerdict, ProcessView, Scene};

/// Lines of what came back that are kept.
const LINES: usize = 12;

/// What a judge may look at.
pub(in crate::rules) struct Look<'a> {
    pub scene: &'a Scene,
    pub model: &'a Model,
    pub members: &'a Members<'a>,
    pub target: Target,
    pub by_pod: ByPod<'a>,
}

/// What a judge saw.
#[derive(Debug, Clone)]
pub(in crate::rules) struct Seen {
    pub verdict: CheckVerdict,
    /// Whom it is about; empty: all of them.
    pub pods: Vec<String>,
    pub nodes: Vec<String>,
    /// What is said in place of pods.
    pub whom: Option<String>,
    pub ran: String,
    pub output: String,
    /// Fixes that only the judge can word; before those of the data.
    pub fix: Vec<String>,
    pub at: Option<At>,
}

impl Seen {
    pub fn new(verdict: CheckVerdict, ran: &str, output: impl Into<String>) -> Self {
        Self {
            verdict,
            pods: Vec::new(),
            nodes: Vec::new(),
            whom: None,
            ran: ran.to_owned(),
            output: output.into(),
            fix: Vec::new(),
            at: None,
        }
    }

    pub fn subject(&self) -> String {
        if let Some(whom) = &self.whom {
            return whom.clone();
        }
        some(if self.pods.is_empty() {
            &self.nodes
        } else {
            &self.pods
        })
    }
}

/// `a, b, c and 5 more`.
pub(in crate::rules) fn some(names: &[String]) -> String {
    let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(3) {
        0 => shown,
        n => format!("{shown} and {n} more"),
    }
}

/// Answers of one probe, and who owes one.
pub(in crate::rules) struct Asked<'l, 'a, T> {
    pub got: Vec<Got<'l, 'a, T>>,
    /// Pod and why there is no answer.
    pub silent: Vec<(String, String)>,
    /// Pods whose answer is awaited.
    pub waiting: Vec<String>,
    /// Refused: why, and the rule that would allow it.
    pub refused: Option<(String, Option<String>)>,
    probe: &'static str,
}

/// One answer.
pub(in crate::rules) struct Got<'l, 'a, T> {
    pub member: &'l Member<'a>,
    pub answer: &'a T,
    pub probed: &'a Probed,
}

impl<T> Got<'_, '_, T> {
    pub fn pod(&self) -> String {
        self.member.pod.name.clone()
    }
}

impl<'a> Look<'a> {
    pub fn of(scene: &'a Scene, model: &'a Model, members: &'a Members<'a>) -> Self {
        Self {
            scene,
            model,
            members,
            target: Target::of(model),
            by_pod: by_pod(scene),
        }
    }

    /// The processes of a pod.
    pub fn processes(&self, m: &Member<'_>) -> &[&'a ProcessView] {
        let here = self.by_pod.get(m.pod.name.as_str());
        here.map_or(&[], Vec::as_slice)
    }

    /// There are pods to look at, or will be.
    pub fn live(&self) -> bool {
        let feed = self.model.session.feed;
        !self.model.pods.is_empty() || matches!(feed, Feed::Cluster | Feed::Demo)
    }

    /// Nothing to judge here: files, or a list that has not come yet.
    pub fn unfit(&self, ran: &str) -> Option<Seen> {
        if !self.live() {
            let text = "these are logs alone, not pods";
            return Some(Seen::new(CheckVerdict::NotApplicable, ran, text));
        }
        if !self.model.pods.synced() {
            let text = "the list of pods has not arrived yet";
            return Some(Seen::new(CheckVerdict::Waiting, ran, text));
        }
        None
    }

    /// The answers of a probe over the containers that run.
    pub fn asked<T>(
        &self,
        probe: &'static str,
        pick: impl Fn(&'a Answer) -> Option<&'a T>,
    ) -> Asked<'_, 'a, T> {
        let mut out = Asked {
            got: Vec::new(),
            silent: Vec::new(),
            waiting: Vec::new(),
            refused: None,
            probe,
        };
        for member in &self.members.list {
            let name = member.pod.name.clone();
            // What a container said before it ended stands; what was said by an earlier life does not.
            let stale = |p: &Probed| {
                let since = member.running();
                p.at > 0 && since.is_some_and(|since| p.at < since)
            };
            let probed = self.model.probes.at(probe, Some(&member.key));
            let Some(probed) = probed.filter(|p| !stale(p)) else {
                out.waiting.push(name);
                continue;
            };
            let answer = probed.answer.as_deref().and_then(&pick);
            match (&probed.outcome, answer) {
                (_, Some(answer)) => out.got.push(Got {
                    member,
                    answer,
                    probed,
                }),
                (None | Some(ProbeOutcome::Began), None) => out.waiting.push(name),
                (Some(ProbeOutcome::Refused { why, rule }), None) => {
                    out.refused.get_or_insert((why.clone(), rule.clone()));
                    out.silent.push((name, why.clone()));
                }
                (Some(ProbeOutcome::Failed { why }), None) => out.silent.push((name, why.clone())),
                (
                    Some(ProbeOutcome::Answered {
                        code,
                        err,
                        out: text,
                        ..
                    }),
                    None,
                ) => {
                    let said = if err.trim().is_empty() { text } else { err };
                    let first =
                        crate::parse::clean(said.lines().next().unwrap_or_default().as_bytes());
                    out.silent
                        .push((name, format!("ended with code {code}: {first}")));
                }
            }
        }
        out
    }
}

impl<T> Asked<'_, '_, T> {
    fn ran(&self) -> String {
        self.got.first().map_or_else(
            || get(self.probe).map_or_else(String::new, |p| p.ran(&[])),
            |g| g.probed.ran.clone(),
        )
    }

    /// Nothing came back at all: why.
    pub fn nothing(&self, look: &Look<'_>) -> Option<Seen> {
        if let Some(seen) = look.unfit(&self.ran()) {
            return Some(seen);
        }
        if !self.got.is_empty() {
            return None;
        }
        let seen = |v, text: String| Some(Seen::new(v, &self.ran(), text));
        if let Some((why, rule)) = &self.refused {
            let text = rule
                .as_ref()
                .map_or_else(|| why.clone(), |r| format!("{why}; needs: {r}"));
            return seen(CheckVerdict::Forbidden, text);
        }
        if let Some((pod, why)) = self.silent.first() {
            return seen(CheckVerdict::Unknown, format!("{pod}: {why}"));
        }
        let runs = look.members.list.iter().any(|m| m.running().is_some());
        let text = if look.members.list.is_empty() {
            "waits for a pod".to_owned()
        } else if !runs {
            // None does: which ones the pods themselves say.
            "waits for a container that runs".to_owned()
        } else if look.model.session.level == Level::Observe {
            "waits for leave to run probes: they only read, and are asked once per context (level probe)".to_owned()
        } else {
            format!("waits for the answer of {}", some(&self.waiting))
        };
        seen(CheckVerdict::Waiting, text)
    }

    /// What the notes say together; what is not answered yet keeps a pass from being one.
    pub fn conclude(&self, tally: Tally, good: impl Into<String>) -> Seen {
        let mut seen = tally.seen(&self.ran(), good);
        seen.at = self
            .got
            .iter()
            .map(|g| g.probed.at)
            .max()
            .filter(|at| *at > 0)
            .map(|ns| At { ns, exact: true });
        if seen.verdict == CheckVerdict::Pass {
            if let Some((pod, why)) = self.silent.first() {
                seen.verdict = CheckVerdict::Unknown;
                seen.pods = self.silent.iter().map(|(p, _)| p.clone()).collect();
                seen.output = format!("no answer from {pod}: {why}\nelsewhere: {}", seen.output);
            } else if !self.waiting.is_empty() {
                seen.verdict = CheckVerdict::Waiting;
                seen.pods.clone_from(&self.waiting);
                seen.output = format!(
                    "waits for {}; elsewhere: {}",
                    some(&self.waiting),
                    seen.output
                );
            }
        }
        seen
    }
}

/// Notes about pods, gathered into one verdict; what several pods have alike is said once.
#[derive(Default)]
pub(in crate::rules) struct Tally {
    notes: BTreeMap<(std::cmp::Reverse<CheckVerdict>, String), Vec<String>>,
    pub nodes: Vec<String>,
}

impl Tally {
    /// Something is wrong.
    pub fn fail(&mut self, pod: &str, text: impl Into<String>) {
        self.note(CheckVerdict::Fail, pod, text);
    }

    /// Something is doubtful.
    pub fn warn(&mut self, pod: &str, text: impl Into<String>) {
        self.note(CheckVerdict::Warn, pod, text);
    }

    /// Something could not be decided.
    pub fn unknown(&mut self, pod: &str, text: impl Into<String>) {
        self.note(CheckVerdict::Unknown, pod, text);
    }

    /// Something worth saying that is well.
    pub fn say(&mut self, pod: &str, text: impl Into<String>) {
        self.note(CheckVerdict::Pass, pod, text);
    }

    fn note(&mut self, verdict: CheckVerdict, pod: &str, text: impl Into<String>) {
        let pods = self
            .notes
            .entry((std::cmp::Reverse(verdict), text.into()))
            .or_default();
        if !pods.iter().any(|p| p == pod) {
            pods.push(pod.to_owned());
        }
    }

    /// Whether something is wrong or doubtful.
    pub fn bad(&self) -> bool {
        self.notes
            .keys()
            .any(|(v, _)| matches!(v.0, CheckVerdict::Warn | CheckVerdict::Fail))
    }

    /// The verdict: the worst of what is known, then what is not, then the good news.
    pub fn seen(self, ran: &str, good: impl Into<String>) -> Seen {
        let worst = |v: CheckVerdict| self.notes.keys().any(|(n, _)| n.0 == v);
        let verdict = [
            CheckVerdict::Fail,
            CheckVerdict::Warn,
            CheckVerdict::Unknown,
        ]
        .into_iter()
        .find(|v| worst(*v))
        .unwrap_or(CheckVerdict::Pass);
        let mut lines = Vec::new();
        let mut pods: Vec<String> = Vec::new();
        for order in [
            CheckVerdict::Fail,
            CheckVerdict::Warn,
            CheckVerdict::Unknown,
            CheckVerdict::Pass,
        ] {
            for ((v, text), list) in self.notes.iter().filter(|((v, _), _)| v.0 == order) {
                let whose = some(list);
                lines.push(if whose.is_empty() {
                    text.clone()
                } else {
                    format!("{whose}: {text}")
                });
                if v.0 == verdict && verdict != CheckVerdict::Pass {
                    for p in list.iter().filter(|p| !p.is_empty()) {
                        if !pods.contains(p) {
                            pods.push(p.clone());
                        }
                    }
                }
            }
        }
        let more = lines.len().saturating_sub(LINES);
        lines.truncate(LINES);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        let good = good.into();
        if verdict == CheckVerdict::Pass {
            lines.insert(0, good);
        }
        let mut seen = Seen::new(verdict, ran, lines.join("\n"));
        seen.pods = pods;
        seen.nodes = self.nodes;
        seen
    }
}
