//! The wall: panes and workloads in turn, bad news first, and the truth about how much is seen.
//!
//! Time enters with events, like everywhere: a recording shows the same wall, and a week can be lived in a minute.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{EdgeState, Effect, Errand, WorkloadView};
use super::screen::PaneId;
use crate::parse::Nanos;

const SECOND: Nanos = 1_000_000_000;

/// Bad news that is told once more within this time was told already: what comes and goes must not stop the rotation.
const REMEMBERED: Nanos = 3_600 * SECOND;

/// Pieces of bad news remembered.
const MEMORY: usize = 64;

/// How long a connection may be away before the wall calls itself blind: shorter cuts mend themselves.
const GRACE: Nanos = 10 * SECOND;

/// One workload is begun anew after this time, so that what it left behind in a week is forgotten.
const RENEWED: Nanos = 24 * 3_600 * SECOND;

/// What the wall was told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Panes in turn; never empty where it comes from [`Plan::default`] or the command line.
    pub panes: Vec<PaneId>,
    /// How long each stays, nanoseconds.
    pub each: Nanos,
    /// How long bad news stays before the rotation goes on, nanoseconds.
    pub hold: Nanos,
    /// Facts older than this are no view of anything, nanoseconds.
    pub blind: Nanos,
    /// Nobody said which workload: it looks around for others when the one on screen has fallen silent, and once a day.
    pub roams: bool,
}

impl Plan {
    /// Panes that rotate unless others are named, by comma.
    pub const USUAL_PANES: &'static str = "overview,ranks,matrix,vram";
    /// How long each stays, seconds.
    pub const USUAL_EACH: &'static str = "20";
    /// How long bad news stays, seconds.
    pub const USUAL_HOLD: &'static str = "180";
    /// From which age on facts are none, seconds.
    pub const USUAL_BLIND: &'static str = "600";
}

impl Default for Plan {
    fn default() -> Self {
        let named = Self::USUAL_PANES.split(',').filter_map(PaneId::named);
        let seconds = |text: &str| text.parse().unwrap_or(60) * SECOND;
        Self {
            panes: named.collect(),
            each: seconds(Self::USUAL_EACH),
            hold: seconds(Self::USUAL_HOLD),
            blind: seconds(Self::USUAL_BLIND),
            roams: false,
        }
    }
}

/// Something bad, as the panes see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Tells it from other bad things.
    pub key: String,
    /// Says it.
    pub sentence: String,
}

/// State of the wall.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kiosk {
    plan: Plan,
    /// Its time: that of the events, or counted in ticks where they have none.
    now: Nanos,
    begun: Option<Nanos>,
    pane: usize,
    /// When the pane came.
    since: Nanos,
    /// What is bad now, and since when it is told.
    news: Option<(Bad, Nanos)>,
    /// What was bad in the other workloads when their turn ended, by workload.
    elsewhere: BTreeMap<String, String>,
    /// When which bad news was told last.
    told: BTreeMap<String, Nanos>,
    /// When something was heard last.
    heard: Option<Nanos>,
    /// Connections that are not up, and since when.
    away: BTreeMap<String, (Nanos, String)>,
    targets: Vec<WorkloadView>,
    target: usize,
    /// The list of workloads was asked for.
    choosing: bool,
    /// When this workload's turn began.
    turn: Nanos,
}

impl Kiosk {
    /// A wall that does this.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            ..Self::default()
        }
    }

    /// Its time, nanoseconds since the Unix epoch; since its begin where events have no time.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// The pane whose turn it is.
    #[must_use]
    pub fn pane(&self) -> PaneId {
        self.plan.panes.get(self.pane).copied().unwrap_or_default()
    }

    /// Which of how many panes, from 1.
    #[must_use]
    pub fn place(&self) -> (usize, usize) {
        (self.pane + 1, self.plan.panes.len().max(1))
    }

    /// Which of how many workloads, from 1; nothing while there is but one.
    #[must_use]
    pub fn turn(&self) -> Option<(usize, usize)> {
        (self.targets.len() > 1).then_some((self.target + 1, self.targets.len()))
    }

    /// Bad news is held now, rather than a pane.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.news
            .as_ref()
            .is_some_and(|(_, since)| self.now.saturating_sub(*since) < self.plan.hold)
    }

    /// Something is bad, held or not.
    #[must_use]
    pub fn troubled(&self) -> bool {
        self.news.is_some()
    }

    /// What is bad in the other workloads, as far as it was seen: workload and sentence. What was known of the one on
    /// screen counts until there was time to see it anew.
    pub fn elsewhere(&self) -> impl Iterator<Item = (&str, &str)> {
        let seen = self.now.saturating_sub(self.turn) >= 3 * GRACE;
        let here = self.targets.get(self.target).map(name).filter(|_| seen);
        self.elsewhere
            .iter()
            .filter(move |(w, _)| here.as_ref() != Some(w))
            .map(|(w, s)| (w.as_str(), s.as_str()))
    }

    /// How old the newest fact is; nothing before the first one.
    #[must_use]
    pub fn age(&self) -> Option<Nanos> {
        Some(self.now.saturating_sub(self.heard?))
    }

    /// Why what is on screen is not what is, if so: each reason a sentence.
    #[must_use]
    pub fn blind(&self) -> Vec<String> {
        let mut why: Vec<String> = Vec::new();
        let seen: BTreeSet<&str> = self
            .away
            .values()
            .filter(|(since, _)| self.now.saturating_sub(*since) >= GRACE)
            .map(|(_, why)| why.as_str())
            .collect();
        why.extend(seen.into_iter().map(str::to_owned));
        let silent = self.silent();
        if silent >= self.plan.blind {
            let minutes = silent / (60 * SECOND);
            why.push(match self.heard {
                Some(_) => format!("nothing was heard for {minutes} minutes"),
                None => format!("nothing was ever heard, for {minutes} minutes"),
            });
        }
        why
    }

    /// Something was heard at this time (0: only now, events have no time).
    pub fn hear(&mut self, at: Nanos) {
        self.now = self.now.max(at);
        self.heard = Some(self.now);
    }

    /// A connection that the whole view stands on changed its state.
    pub fn edge(&mut self, edge: &str, state: &EdgeState) {
        if !matches!(edge, "pods" | "discovery") {
            return;
        }
        let why = match state {
            EdgeState::Up => {
                self.away.remove(edge);
                return;
            }
            EdgeState::Retrying { why, .. } | EdgeState::Down { why } => state
                .awaited(edge)
                .unwrap_or_else(|| format!("no {edge}: {why}")),
            EdgeState::Forbidden { rule } => format!("no {edge}: not allowed to {rule}"),
        };
        let now = self.now;
        let entry = self
            .away
            .entry(edge.to_owned())
            .or_insert((now, String::new()));
        entry.1 = why;
    }

    /// Another view begins: what was said of the one before says nothing of it.
    pub fn afresh(&mut self) {
        self.away.clear();
        self.news = None;
        self.turn = self.now;
    }

    /// This is what is on screen. Where it is the only one, its turn never ends.
    pub fn watched(&mut self, list: &[WorkloadView]) {
        if self.targets.len() < 2 {
            self.targets = list.to_vec();
            self.target = 0;
        }
    }

    /// There is a choice: all of it goes in turn.
    pub fn choice(&mut self, list: &[WorkloadView]) -> Vec<Effect> {
        let waiting = self.choosing || self.targets.is_empty();
        if list.is_empty() || !waiting {
            return Vec::new();
        }
        // After a look around the turn goes on with the one behind the last.
        let last = self.targets.get(self.target).map(name);
        let place = list.iter().position(|w| Some(name(w)) == last);
        self.target = place.map_or(0, |i| (i + 1) % list.len());
        self.targets = list.to_vec();
        let there: BTreeSet<String> = list.iter().map(name).collect();
        self.elsewhere.retain(|w, _| there.contains(w));
        self.watch()
    }

    /// The turn of this workload ends: what is bad there stays bad until somebody looks again.
    fn leave(&mut self) {
        if let Some(target) = self.targets.get(self.target) {
            match &self.news {
                Some((bad, _)) => self.elsewhere.insert(name(target), bad.sentence.clone()),
                None => self.elsewhere.remove(&name(target)),
            };
        }
    }

    /// Asks for the list of workloads.
    fn look_around(&mut self) -> Vec<Effect> {
        self.turn = self.now;
        self.choosing = true;
        vec![Effect::Errand(Errand::Choose)]
    }

    /// For how long nothing was heard.
    fn silent(&self) -> Nanos {
        let since = self.heard.or(self.begun).unwrap_or(self.now);
        self.now.saturating_sub(since)
    }

    fn watch(&mut self) -> Vec<Effect> {
        self.turn = self.now;
        self.choosing = false;
        let target = self.targets.get(self.target);
        target
            .map(|t| Effect::Errand(Errand::Watch(Box::new(t.clone()))))
            .into_iter()
            .collect()
    }

    /// A second passed (0: events have no time). `bad` names what is bad now, as the panes see it.
    pub fn tick(&mut self, at: Nanos, bad: Option<&Bad>) -> Vec<Effect> {
        self.now = if at > 0 {
            self.now.max(at)
        } else {
            self.now + SECOND
        };
        if self.begun.is_none() {
            self.begun = Some(self.now);
            self.since = self.now;
            self.turn = self.now;
        }
        self.tell(bad);
        if self.holds() {
            // The rotation begins anew after it, and not in the middle of a pane's time.
            self.since = self.now;
            return Vec::new();
        }
        if self.now.saturating_sub(self.since) < self.plan.each {
            return Vec::new();
        }
        // From when it was due: ticks that come late must not add up.
        self.since += self.plan.each;
        if self.now.saturating_sub(self.since) >= self.plan.each {
            self.since = self.now;
        }
        self.pane += 1;
        if self.pane < self.plan.panes.len() {
            return Vec::new();
        }
        self.pane = 0;
        if self.targets.len() > 1 {
            self.leave();
            // Around once: who is there may have changed.
            if self.target + 1 == self.targets.len() {
                return self.look_around();
            }
            self.target += 1;
            return self.watch();
        }
        let alone = self.now.saturating_sub(self.turn);
        if self.plan.roams && alone >= self.plan.blind && self.silent() >= self.plan.blind {
            // It may be gone, and another one in its place.
            return self.look_around();
        }
        match (alone >= RENEWED, self.plan.roams) {
            (false, _) => Vec::new(),
            (true, true) => self.look_around(),
            (true, false) => self.watch(),
        }
    }

    fn tell(&mut self, bad: Option<&Bad>) {
        let Some(bad) = bad else {
            self.news = None;
            return;
        };
        if let Some((known, _)) = &mut self.news
            && known.key == bad.key
        {
            known.clone_from(bad);
            self.told.insert(bad.key.clone(), self.now);
            return;
        }
        let now = self.now;
        self.told
            .retain(|_, at| now.saturating_sub(*at) < REMEMBERED);
        let fresh = !self.told.contains_key(&bad.key);
        while self.told.len() >= MEMORY {
            self.told.pop_first();
        }
        self.told.insert(bad.key.clone(), now);
        let since = if fresh {
            now
        } else {
            // Told already: only the banner.
            now.saturating_sub(self.plan.hold)
        };
        self.news = Some((bad.clone(), since));
    }
}

/// What tells workloads apart, and what people call them.
fn name(w: &WorkloadView) -> String {
    format!("{}/{}/{}", w.namespace, w.kind, w.name)
}
