//! The pods of the workload: as they are, in rank order, with what they have been through.
//!
//! A watch delivers changes one by one; when it has to start over it lists everything again between
//! `Resync` and `Synced`, and what was not listed is gone.

pub mod command;
pub mod kubectl;
pub mod mounts;
pub mod place;
pub mod why;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::event::{ContainerView, KubeEvent, PodEvent, PodKey, PodView, WorkloadView};
pub use place::Place;
pub use why::Failure;

/// Kubernetes Events kept; the API server forgets them after an hour, we after so many.
const EVENTS: usize = 1_000;
/// Places whose first failure is kept.
const SLOTS: usize = 4_096;

/// The pods.
#[derive(Debug, Clone, Default)]
pub struct Pods {
    pods: BTreeMap<PodKey, PodView>,
    /// Seen since `Resync`; `None` outside a resync.
    listed: Option<BTreeSet<PodKey>>,
    synced: bool,
    /// First failure seen at each place, by [`place::slot`].
    failures: BTreeMap<String, Failure>,
    /// Events by UID, in order of arrival.
    events: BTreeMap<String, KubeEvent>,
    order: VecDeque<String>,
    /// Those about pods, by pod, in order of arrival: every rule asks for them, pod by pod.
    by_pod: BTreeMap<PodKey, VecDeque<String>>,
    dropped_events: u64,
    /// Workload on screen.
    workload: Option<WorkloadView>,
}

/// How many pods there are beside how many there should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Pods the workload should have; `None` where nothing says.
    pub expected: Option<u32>,
    /// Pods that exist.
    pub created: u32,
    /// Of these, with a node.
    pub scheduled: u32,
    /// Of these, ready.
    pub ready: u32,
    /// Places without a pod: group number and index.
    pub missing: Vec<(u32, u32)>,
    /// Places with more than one pod that is not being deleted.
    pub duplicate: Vec<(u32, u32)>,
}

/// The file that NCCL is told to write to, by a container's own specification; `%h` and `%p` as they are written.
#[must_use]
pub fn debug_file(container: &ContainerView) -> Option<&str> {
    let set = container.env.iter().find(|(k, _)| k == "NCCL_DEBUG_FILE");
    set.and_then(|(_, v)| v.as_deref())
        .filter(|f| !f.is_empty() && !f.starts_with("/dev/std") && !f.starts_with("/proc/"))
}

impl Pods {
    /// Applies a change. True when something is different now.
    pub fn apply(&mut self, event: &PodEvent) -> bool {
        match event {
            PodEvent::Resync => {
                self.listed = Some(BTreeSet::new());
                false
            }
            PodEvent::Upsert(pod) => {
                let key = PodKey {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                };
                if let Some(listed) = &mut self.listed {
                    listed.insert(key.clone());
                }
                self.remember(pod);
                if self.pods.get(&key) == Some(pod) {
                    return false;
                }
                self.pods.insert(key, (**pod).clone());
                true
            }
            PodEvent::Synced => {
                let before = (self.pods.len(), self.synced);
                if let Some(listed) = self.listed.take() {
                    self.pods.retain(|k, _| listed.contains(k));
                }
                self.synced = true;
                before != (self.pods.len(), true)
            }
            PodEvent::Gone(key) => {
                if let Some(listed) = &mut self.listed {
                    listed.remove(key);
                }
                self.pods.remove(key).is_some()
            }
        }
    }

    /// Takes a Kubernetes Event; one that repeats is updated in place.
    pub fn kube_event(&mut self, event: &KubeEvent) {
        let key = if event.uid.is_empty() {
            format!(
                "{}/{}/{}/{}",
                event.namespace, event.object, event.reason, event.message
            )
        } else {
            event.uid.clone()
        };
        if self.events.insert(key.clone(), event.clone()).is_none() {
            if let Some(pod) = about(event) {
                self.by_pod.entry(pod).or_default().push_back(key.clone());
            }
            self.order.push_back(key);
        }
        while self.order.len() > EVENTS {
            if let Some(k) = self.order.pop_front() {
                let gone = self.events.remove(&k);
                self.dropped_events += 1;
                let Some(pod) = gone.as_ref().and_then(about) else {
                    continue;
                };
                if let Some(keys) = self.by_pod.get_mut(&pod) {
                    keys.retain(|x| *x != k);
                    if keys.is_empty() {
                        self.by_pod.remove(&pod);
                    }
                }
            }
        }
    }

    /// Says which workload is on screen: its size is what the pods are counted against.
    pub fn watch(&mut self, workload: WorkloadView) {
        self.workload = Some(workload);
    }

    /// The workload on screen.
    #[must_use]
    pub fn workload(&self) -> Option<&WorkloadView> {
        self.workload.as_ref()
    }

    /// A first list has been received whole.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// A pod.
    #[must_use]
    pub fn get(&self, key: &PodKey) -> Option<&PodView> {
        self.pods.get(key)
    }

    /// Pods by name.
    pub fn iter(&self) -> impl Iterator<Item = (&PodKey, &PodView)> {
        self.pods.iter()
    }

    /// Number of pods.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Pods in rank order: group, index, name; those without an index last in their group.
    #[must_use]
    pub fn ranked(&self) -> Vec<(&PodKey, &PodView, Place)> {
        let mut all: Vec<_> = self
            .pods
            .iter()
            .map(|(k, p)| (k, p, Place::of(p)))
            .collect();
        all.sort_by(|a, b| {
            let rank = |p: &Place| (p.group.clone(), p.index.unwrap_or(u32::MAX));
            rank(&a.2).cmp(&rank(&b.2)).then_with(|| a.0.cmp(b.0))
        });
        all
    }

    /// The first failure seen at this pod's place, kept over restarts and successors.
    #[must_use]
    pub fn first_failure(&self, pod: &PodView) -> Option<&Failure> {
        self.failures.get(&place::slot(pod))
    }

    /// Events in order of arrival.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &KubeEvent> {
        self.order.iter().filter_map(|k| self.events.get(k))
    }

    /// Events about one pod, in order of arrival.
    pub fn events_of<'a>(
        &'a self,
        key: &'a PodKey,
    ) -> impl DoubleEndedIterator<Item = &'a KubeEvent> {
        let keys = self.by_pod.get(key).into_iter().flatten();
        keys.filter_map(|k| self.events.get(k))
    }

    /// Events dropped because there were too many.
    #[must_use]
    pub fn dropped_events(&self) -> u64 {
        self.dropped_events
    }

    /// Counts pods against what the workload should have.
    #[must_use]
    pub fn census(&self) -> Census {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut c = Census {
            expected: self.workload.as_ref().and_then(|w| w.expected),
            created: count(self.pods.len()),
            scheduled: count(self.pods.values().filter(|p| p.node.is_some()).count()),
            ready: count(
                self.pods
                    .values()
                    .filter(|p| kubectl::condition(p, "Ready"))
                    .count(),
            ),
            ..Census::default()
        };
        // Per group: the indices that are there, how many live pods hold each, and the size it should have.
        let mut groups: BTreeMap<place::Group, (BTreeMap<u32, u32>, Option<u32>)> = BTreeMap::new();
        for pod in self.pods.values() {
            let p = Place::of(pod);
            let Some(i) = p.index else { continue };
            let g = groups.entry(p.group).or_default();
            *g.0.entry(i).or_default() += u32::from(pod.deletion.is_none());
            g.1 = g.1.max(place::group_size(pod));
        }
        let one = groups.len() == 1;
        for (group, (held, size)) in &groups {
            let dup = held
                .iter()
                .filter(|(_, n)| **n > 1)
                .map(|(i, _)| (group.number, *i));
            c.duplicate.extend(dup);
            // A pod's own word on its group's size, else the workload's where it is one group.
            let size = size.or(if one { c.expected } else { None });
            let absent = (0..size.unwrap_or(0).min(4_096)).filter(|i| !held.contains_key(i));
            c.missing.extend(absent.map(|i| (group.number, i)));
        }
        c
    }

    fn remember(&mut self, pod: &PodView) {
        let Some(first) = why::failures(pod).into_iter().next() else {
            return;
        };
        let slot = place::slot(pod);
        if self.failures.len() >= SLOTS && !self.failures.contains_key(&slot) {
            return;
        }
        let kept = self.failures.entry(slot).or_insert_with(|| first.clone());
        // A list after a cut may tell of one that ended before the one we know.
        if let (Some(new), Some(old)) = (first.at, kept.at)
            && new < old
        {
            *kept = first;
        }
    }
}

/// The pod that an event is about, if it is about one.
fn about(event: &KubeEvent) -> Option<PodKey> {
    (event.kind == "Pod").then(|| PodKey {
        namespace: event.namespace.clone(),
        name: event.object.clone(),
    })
}
