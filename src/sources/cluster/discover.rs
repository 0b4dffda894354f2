//! Which pods are one workload, and why.
//!
//! In this order, stopping at the first that names a group: what the user said; the labels of known controllers;
//! the owners, followed upward; a pod alone. The picker reads the owners themselves, a few objects, and at most one
//! page of pods: a namespace of thousands costs no more than an empty one.

mod kinds;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind, ObjectMeta, PartialObjectMeta};
use kube::{Api, Client};
use tokio::time::timeout;

use super::client::{Connection, PATIENCE};
use super::trouble::{ClusterError, Kind as TroubleKind, Trouble};
use super::{ClusterOptions, scoped};
use crate::model::event::WorkloadView;
use kinds::{KINDS, Kind};
use view::{alone, indexed, of_label, of_object, of_owner};

/// Pods looked at for the picker.
const PAGE: u32 = 500;
/// Owners followed upward.
const HOPS: usize = 6;
/// Distinct owners of pods that are followed.
const WALKS: usize = 40;
/// Names in a sentence about what there is.
const NAMED: usize = 6;

/// What there is to look at.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// One workload: look at it.
    One(WorkloadView),
    /// Several, or none: somebody must choose. With what could not be read, in words.
    Choice(Vec<WorkloadView>, Vec<String>),
}

/// Finds what the options name, or everything there is.
pub async fn find(link: &Connection, options: &ClusterOptions) -> Result<Found, ClusterError> {
    look(link, options).await.map_err(ClusterError::from)
}

/// Says that the workload which the options name can't be meant or, unless somebody `waits` for it, does not exist,
/// where that is known; asks nothing without a name.
pub async fn missing(link: &Connection, options: &ClusterOptions, waits: bool) -> Option<String> {
    options.workload.as_ref()?;
    let trouble = look(link, options).await.err()?;
    let hopeless = match trouble.kind {
        TroubleKind::Invalid => true,
        TroubleKind::NotFound => !waits,
        _ => false,
    };
    hopeless.then_some(trouble.text)
}

/// Only whether what the options name is there by now: costs the server far less than the sentence that it is not.
pub(super) async fn come(
    link: &Connection,
    options: &ClusterOptions,
) -> Result<Option<WorkloadView>, Trouble> {
    let Some(name) = &options.workload else {
        return Ok(None);
    };
    let search = Search::of(link, options);
    Ok(search.named(name).await?.ok())
}

/// The same, with the kind of what went wrong.
pub(super) async fn look(link: &Connection, options: &ClusterOptions) -> Result<Found, Trouble> {
    if let Some(w) = &options.chosen {
        return Ok(Found::One(w.clone()));
    }
    let named = !options.pick;
    let search = Search::of(link, options);
    if let Some(name) = options.workload.as_ref().filter(|_| named) {
        return match search.named(name).await? {
            Ok(w) => Ok(Found::One(w)),
            Err(absent) => Err(Trouble {
                kind: TroubleKind::NotFound,
                text: format!("{absent}{}", search.instead().await),
            }),
        };
    }
    if let Some(selector) = options.selector.as_ref().filter(|_| named) {
        return Ok(Found::One(WorkloadView {
            namespace: search.namespace.clone().unwrap_or_default(),
            kind: "selector".into(),
            name: selector.clone(),
            rule: "the selector that was given".into(),
            selector: selector.clone(),
            ..WorkloadView::default()
        }));
    }
    let (mut all, refused) = everything(search, options).await?;
    let with_gpus = all.iter().filter(|w| w.gpus > 0).count();
    by_gpus(&mut all);
    let one = named && (all.len() == 1 || with_gpus == 1);
    match all.first() {
        Some(first) if one => Ok(Found::One(first.clone())),
        _ => Ok(Found::Choice(all, refused)),
    }
}

/// Everything that may be chosen, and what could not be read.
async fn everything(
    search: Search,
    options: &ClusterOptions,
) -> Result<(Vec<WorkloadView>, Vec<String>), Trouble> {
    let client = search.client.clone();
    let places = match options.namespaces.as_slice() {
        _ if options.all_namespaces => vec![search],
        [] => vec![search],
        some => some
            .iter()
            .map(|n| Search {
                client: client.clone(),
                namespace: Some(n.clone()),
            })
            .collect(),
    };
    let (mut found, mut refused, mut down) = (Vec::new(), Vec::new(), None);
    for (place, answer) in join_all(places.iter().map(async |s| (s, s.all().await))).await {
        match answer {
            Ok((all, rules)) => {
                found.extend(all);
                if !rules.is_empty() {
                    let rules = rules.join(", ");
                    refused.push(match &place.namespace {
                        Some(n) => format!("{rules} in namespace {n}"),
                        None => format!("{rules} in all namespaces"),
                    });
                }
            }
            Err(t) => down = Some(t),
        }
    }
    if let Some(t) = down
        && found.is_empty()
    {
        return Err(t);
    }
    found.retain(|w| options.only.is_empty() || options.only.iter().any(|o| is_called(w, o)));
    Ok((found, refused))
}

/// Whether `[NAMESPACE/][KIND/]NAME` means this workload.
fn is_called(w: &WorkloadView, text: &str) -> bool {
    let mut parts = text.rsplit('/');
    let name = parts.next() == Some(w.name.as_str());
    let kind = parts.next().is_none_or(|word| {
        word == w.kind || Kind::of(word).is_some_and(|kind| kind.word == w.kind)
    });
    let namespace = parts.next().is_none_or(|n| n == w.namespace);
    name && kind && namespace && parts.next().is_none()
}

fn by_gpus(all: &mut [WorkloadView]) {
    all.sort_by(|a, b| {
        b.gpus
            .cmp(&a.gpus)
            .then_with(|| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)))
    });
}

/// The owner of a workload that is watched for its size: its API and name; `None` where it has none.
pub(super) fn owner(w: &WorkloadView) -> Option<(ApiResource, &'static str)> {
    let kind = Kind::of(&w.kind)?;
    Some((kind.resource(), kind.plural))
}

/// A workload with the size that its owner's newest state gives it.
pub(super) fn resized(w: &WorkloadView, object: &DynamicObject) -> WorkloadView {
    let mut w = w.clone();
    if let Some(kind) = Kind::of(&w.kind) {
        (w.expected, w.gpus) = kind.size(&object.data);
    }
    w
}

struct Search {
    client: Client,
    namespace: Option<String>,
}

impl Search {
    fn of(link: &Connection, options: &ClusterOptions) -> Self {
        Self {
            client: link.client(),
            namespace: (!options.all_namespaces).then(|| link.namespace().to_string()),
        }
    }

    fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        match &self.namespace {
            Some(n) => Api::namespaced_with(self.client.clone(), n, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }

    /// Metadata of pods, one page.
    async fn pods(&self, labels: Option<String>) -> Result<(Vec<ObjectMeta>, bool), Trouble> {
        let api: Api<Pod> = scoped(self.client.clone(), self.namespace.as_deref());
        let params = ListParams {
            label_selector: labels,
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let page = ask(api.list_metadata(&params)).await?;
        let more = page.metadata.continue_.is_some_and(|c| !c.is_empty());
        Ok((
            page.items
                .into_iter()
                .map(|p: PartialObjectMeta<Pod>| p.metadata)
                .collect(),
            more,
        ))
    }

    /// `[KIND/]NAME`, or a sentence that there is no such thing.
    async fn named(&self, text: &str) -> Result<Result<WorkloadView, String>, Trouble> {
        let Some(namespace) = &self.namespace else {
            return Err(wrong(format!(
                "{text}: name its namespace with -n, a name alone is not enough with -A"
            )));
        };
        let (word, name) = text
            .split_once('/')
            .map_or((None, text), |(k, n)| (Some(k), n));
        let wanted: Vec<&Kind> = match word {
            None => KINDS.iter().collect(),
            Some("pod" | "pods" | "po") => Vec::new(),
            Some(w) => Kind::of(w).into_iter().collect(),
        };
        if let Some(w) = word
            && wanted.is_empty()
            && !matches!(w, "pod" | "pods" | "po")
        {
            let known: Vec<_> = KINDS.iter().map(|k| k.word).collect();
            return Err(wrong(format!(
                "{w:?} is not a kind of workload: {}, pod",
                known.join(", ")
            )));
        }
        let (mut refused, mut down) = (Vec::new(), None);
        let asked = join_all(
            wanted
                .iter()
                .map(async |k| (*k, ask(self.api(&k.resource()).get(name)).await)),
        )
        .await;
        for (kind, answer) in asked {
            match answer {
                Ok(object) => return Ok(Ok(of_object(kind, namespace, &object))),
                Err(t) if t.kind == TroubleKind::NotFound => {}
                Err(t) if t.kind == TroubleKind::Forbidden => refused.push(kind),
                // One API may be broken where the others answer.
                Err(t) => down = Some(t),
            }
        }
        if let Some(t) = down {
            return Err(t);
        }
        // Its pods may be readable although it is not.
        for kind in &refused {
            let Some(label) = kind.label else { continue };
            let (pods, _) = self.pods(Some(format!("{label}={name}"))).await?;
            if !pods.is_empty() {
                let mut w = of_label(kind, namespace, name, &pods);
                w.rule.push_str(&format!("; {} can't be read", kind.plural));
                return Ok(Ok(w));
            }
        }
        if let Some(w) = self.by_pods(namespace, name, &wanted).await? {
            return Ok(Ok(w));
        }
        let kinds = if word.is_some() {
            text.to_string()
        } else {
            format!("workload {name:?}")
        };
        let unread: Vec<_> = refused.iter().map(|k| k.plural).collect();
        let note = if unread.is_empty() {
            String::new()
        } else {
            format!(" (not allowed to read {})", unread.join(", "))
        };
        Ok(Err(format!(
            "there is no {kinds} in namespace {namespace}{note}"
        )))
    }

    /// What there is, for a sentence about what there is not.
    async fn instead(&self) -> String {
        let Ok((mut all, unread)) = self.all().await else {
            return String::new();
        };
        match (all.is_empty(), unread.is_empty()) {
            (false, _) => {}
            (true, true) => return ", nor any other".into(),
            // Nothing is known of what can't be read.
            (true, false) => return String::new(),
        }
        by_gpus(&mut all);
        let names: Vec<_> = all
            .iter()
            .take(NAMED)
            .map(|w| format!("{}/{}", w.kind, w.name))
            .collect();
        let more = match all.len() - names.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        format!("; there is {}{more}", names.join(", "))
    }

    /// A pod of that name, or pods whose owner has it.
    async fn by_pods(
        &self,
        namespace: &str,
        name: &str,
        wanted: &[&Kind],
    ) -> Result<Option<WorkloadView>, Trouble> {
        if wanted.len() != 1 {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
            match ask(api.get_metadata(name)).await {
                Ok(p) => return Ok(Some(alone(namespace, &p.metadata))),
                Err(t) if matches!(t.kind, TroubleKind::NotFound | TroubleKind::Forbidden) => {}
                Err(t) => return Err(t),
            }
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        let (pods, _) = self.pods(None).await?;
        let (ours, others): (Vec<_>, Vec<_>) = pods
            .into_iter()
            .partition(|m| controller(m).is_some_and(|o| o.name == name));
        let Some(owner) = ours.first().and_then(controller).cloned() else {
            return Ok(None);
        };
        Ok(Some(of_owner(
            namespace,
            &owner,
            &format!("owner {} {}", owner.kind, owner.name),
            &ours,
            &others,
        )))
    }

    /// Everything that can be found.
    async fn all(&self) -> Result<(Vec<WorkloadView>, Vec<String>), Trouble> {
        let params = ListParams::default().limit(PAGE);
        let asked = join_all(
            KINDS
                .iter()
                .map(async |k| (k, ask(self.api(&k.resource()).list(&params)).await)),
        )
        .await;
        let mut found: Vec<WorkloadView> = Vec::new();
        let mut refused = Vec::new();
        // A network that is down fails every request the same way: say it once.
        let mut down = None;
        for (kind, answer) in asked {
            match answer {
                Ok(list) => {
                    let top = list
                        .items
                        .iter()
                        .filter(|o| !o.metadata.owner_references.iter().flatten().any(known));
                    found.extend(top.map(|o| {
                        let ns = o.metadata.namespace.clone().unwrap_or_default();
                        of_object(kind, &ns, o)
                    }));
                }
                // The kind is not installed.
                Err(t) if t.kind == TroubleKind::NotFound => {}
                Err(t) if t.kind == TroubleKind::Forbidden => {
                    // Two kinds may share a name in different groups.
                    let rule = format!("list {}", kind.plural);
                    if !refused.contains(&rule) {
                        refused.push(rule);
                    }
                }
                Err(t) => down = Some(t),
            }
        }
        if let Some(t) = down
            && found.is_empty()
        {
            return Err(t);
        }
        match self.pods(None).await {
            Ok((pods, more)) => self.group(pods, more, &mut found).await,
            Err(t) if t.kind == TroubleKind::Forbidden => refused.push("list pods".into()),
            Err(t) => return Err(t),
        }
        Ok((found, refused))
    }

    /// Adds the groups of pods that no object explained, and the pods of those it did.
    async fn group(&self, pods: Vec<ObjectMeta>, more: bool, found: &mut Vec<WorkloadView>) {
        let note = if more {
            format!(" (among the first {PAGE} pods)")
        } else {
            String::new()
        };
        let mut walk = Walk {
            search: self,
            seen: BTreeMap::new(),
        };
        let mut groups: BTreeMap<(String, String, String), (Group, Vec<ObjectMeta>)> =
            BTreeMap::new();
        for meta in &pods {
            let ns = meta.namespace.clone().unwrap_or_default();
            let labelled = KINDS.iter().find_map(|k| Some((k, label(meta, k)?)));
            let (key, group) = match (labelled, controller(meta)) {
                (Some((k, name)), _) => ((ns, k.word.into(), name.to_string()), Group::Label(k)),
                (None, Some(owner)) => {
                    let (top, path) = walk.top(&ns, owner).await;
                    let word = KINDS
                        .iter()
                        .find(|k| k.owns(&top.api_version, &top.kind))
                        .map(|k| k.word.to_string());
                    let word = word.unwrap_or_else(|| top.kind.to_ascii_lowercase());
                    ((ns, word, top.name.clone()), Group::Owner(top, path))
                }
                (None, None) => (
                    (ns, "pod".into(), meta.name.clone().unwrap_or_default()),
                    Group::Alone,
                ),
            };
            groups
                .entry(key)
                .or_insert_with(|| (group, Vec::new()))
                .1
                .push(meta.clone());
        }
        for ((ns, word, name), (group, ours)) in groups {
            if let Some(w) = found
                .iter_mut()
                .find(|w| w.kind == word && w.name == name && w.namespace == ns)
            {
                w.pods = indexed(&ours);
                continue;
            }
            let mut w = match group {
                Group::Label(kind) => of_label(kind, &ns, &name, &ours),
                Group::Owner(top, path) => {
                    let mine: BTreeSet<_> = ours.iter().map(|m| &m.uid).collect();
                    let others = pods
                        .iter()
                        .filter(|m| m.namespace.as_ref() == Some(&ns) && !mine.contains(&m.uid));
                    let rule = format!("owners: {}", path.join(" → "));
                    of_owner(&ns, &top, &rule, &ours, others)
                }
                Group::Alone => match ours.first() {
                    Some(m) => alone(&ns, m),
                    None => continue,
                },
            };
            w.kind = word;
            w.rule.push_str(&note);
            found.push(w);
        }
    }
}

enum Group {
    Label(&'static Kind),
    Owner(OwnerReference, Vec<String>),
    Alone,
}

/// Follows owners upward, each only once.
struct Walk<'a> {
    search: &'a Search,
    /// Direct owner by UID: the top and the way there.
    seen: BTreeMap<String, (OwnerReference, Vec<String>)>,
}

impl Walk<'_> {
    async fn top(
        &mut self,
        namespace: &str,
        owner: &OwnerReference,
    ) -> (OwnerReference, Vec<String>) {
        if let Some(known) = self.seen.get(&owner.uid) {
            return known.clone();
        }
        let mut top = owner.clone();
        let mut path = vec![format!("{} {}", top.kind, top.name)];
        // Beyond so many distinct owners the picker shows the direct ones.
        let hops = if self.seen.len() < WALKS { HOPS } else { 0 };
        for _ in 0..hops {
            let (group, version) = top
                .api_version
                .split_once('/')
                .unwrap_or(("", &top.api_version));
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &top.kind));
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.search.client.clone(), namespace, &resource);
            // What can't be read ends the walk: the last readable hop is the workload.
            let Ok(meta) = ask(api.get_metadata(&top.name)).await else {
                break;
            };
            let Some(next) = controller(&meta.metadata).cloned() else {
                break;
            };
            path.push(format!("{} {}", next.kind, next.name));
            top = next;
        }
        self.seen
            .insert(owner.uid.clone(), (top.clone(), path.clone()));
        (top, path)
    }
}

/// Something that was asked for can't be meant.
fn wrong(text: String) -> Trouble {
    Trouble {
        kind: TroubleKind::Invalid,
        text,
    }
}

/// A request with an end.
async fn ask<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
    match timeout(PATIENCE, request).await {
        Ok(Ok(t)) => Ok(t),
        Ok(Err(e)) => Err(Trouble::of(&e)),
        Err(_) => Err(Trouble::timeout(PATIENCE)),
    }
}

fn known(o: &OwnerReference) -> bool {
    o.controller == Some(true) && KINDS.iter().any(|k| k.owns(&o.api_version, &o.kind))
}

fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|o| o.controller == Some(true))
}

/// The workload that a pod's label of this kind names.
fn label<'a>(meta: &'a ObjectMeta, kind: &Kind) -> Option<&'a str> {
    let labels = meta.labels.as_ref()?;
    let name = labels.get(kind.label?)?;
    // One label, several controllers.
    if kind.label == Some(place_label()) {
        let operator = labels
            .get(crate::model::pods::place::KUBEFLOW_OPERATOR)
            .map(String::as_str);
        let mpi = operator == Some("mpi-operator");
        if mpi != (kind.word == "mpijob") {
            return None;
        }
    }
    Some(name)
}

const fn place_label() -> &'static str {
    crate::model::pods::place::KUBEFLOW
}
