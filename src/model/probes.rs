//! What was asked of the inside of pods, of services and of this node: the newest answer to each question.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{ContainerKey, ProbeEvent, ProbeOutcome};
use crate::parse::Nanos;
use crate::parse::probe::{Answer, answer};

/// One question to one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Probed {
    /// As a person would type it.
    pub ran: String,
    /// The newest outcome that is one: what came back stays while the next run is under way.
    pub outcome: Option<ProbeOutcome>,
    /// What the newest answer says, where a parser knows the probe.
    pub answer: Option<Arc<Answer>>,
    /// When that outcome came, nanoseconds since the Unix epoch; 0 where events carry no time.
    pub at: Nanos,
    /// It runs now, since then.
    pub since: Option<Nanos>,
}

/// Newest answers by probe and place.
#[derive(Debug, Clone, Default)]
pub struct Probes {
    by: BTreeMap<(String, Option<ContainerKey>), Probed>,
}

impl Probes {
    /// Takes in what a probe did.
    pub fn apply(&mut self, event: ProbeEvent, at: Nanos) {
        let understood = match &event.outcome {
            // Our own scripts end with 0 whatever the tools say; a list comes with the status of a GET.
            ProbeOutcome::Answered {
                code: 0 | 200, out, ..
            } => answer(&event.probe, out).map(Arc::new),
            _ => None,
        };
        let entry = self
            .by
            .entry((event.probe, event.container))
            .or_insert(Probed {
                ran: String::new(),
                outcome: None,
                answer: None,
                at: 0,
                since: None,
            });
        entry.ran = event.ran;
        match event.outcome {
            ProbeOutcome::Began => entry.since = Some(at),
            outcome => {
                entry.outcome = Some(outcome);
                entry.answer = understood;
                entry.at = at;
                entry.since = None;
            }
        }
    }

    /// Every place where this probe was tried, in the order of places.
    pub fn of<'a>(
        &'a self,
        probe: &'a str,
    ) -> impl Iterator<Item = (Option<&'a ContainerKey>, &'a Probed)> {
        let from = (probe.to_owned(), None);
        self.by
            .range(from..)
            .take_while(move |((name, _), _)| name == probe)
            .map(|((_, place), probed)| (place.as_ref(), probed))
    }

    /// The newest answer of one place.
    #[must_use]
    pub fn at(&self, probe: &str, place: Option<&ContainerKey>) -> Option<&Probed> {
        self.by.get(&(probe.to_owned(), place.cloned()))
    }

    /// All of them, by probe and place.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&ContainerKey>, &Probed)> {
        self.by
            .iter()
            .map(|((name, place), probed)| (name.as_str(), place.as_ref(), probed))
    }
}
