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
    by: BTreeMap<String, Places>,
}

/// Newest answers of one probe. Rules ask for every container in turn: by a key that is lent, not copied.
#[derive(Debug, Clone, Default)]
struct Places {
    /// Of what is asked of no container.
    nowhere: Option<Probed>,
    at: BTreeMap<ContainerKey, Probed>,
}

impl Places {
    fn get(&self, place: Option<&ContainerKey>) -> Option<&Probed> {
        match place {
            Some(key) => self.at.get(key),
            None => self.nowhere.as_ref(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = (Option<&ContainerKey>, &Probed)> {
        let nowhere = self.nowhere.iter().map(|p| (None, p));
        nowhere.chain(self.at.iter().map(|(k, p)| (Some(k), p)))
    }
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
        let unasked = || Probed {
            ran: String::new(),
            outcome: None,
            answer: None,
            at: 0,
            since: None,
        };
        let places = self.by.entry(event.probe).or_default();
        let entry = match event.container {
            Some(key) => places.at.entry(key).or_insert_with(unasked),
            None => places.nowhere.get_or_insert_with(unasked),
        };
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
    pub fn of(&self, probe: &str) -> impl Iterator<Item = (Option<&ContainerKey>, &Probed)> {
        self.by.get(probe).into_iter().flat_map(Places::iter)
    }

    /// The newest answer of one place.
    #[must_use]
    pub fn at(&self, probe: &str, place: Option<&ContainerKey>) -> Option<&Probed> {
        self.by.get(probe)?.get(place)
    }

    /// All of them, by probe and place.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&ContainerKey>, &Probed)> {
        let places = self.by.iter();
        places.flat_map(|(name, p)| {
            p.iter()
                .map(|(place, probed)| (name.as_str(), place, probed))
        })
    }
}
