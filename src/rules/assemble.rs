//! `Scene::of`: the whole picture from a model, in one pass over what is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::comms::{Joined, line_ref};
use super::kept::Kept;
use super::layout::Sizes;
use super::probes::{Members, main_container};
use super::scene::{FileView, NcclStep, ProcessView, Scene, SourceView, Workload};
use super::{findings, verdict};
use crate::model::Model;
use crate::model::event::{ContainerKey, Feed, PodView, SourceId};
use crate::model::procs::{Process, Procs};
use crate::model::sources::{Flow, Source, Teller};
use crate::parse::{At, Nanos};

impl Scene {
    /// Derives everything from the model. Pure: the same model gives the same scene.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        Self::again(model, &mut Kept::default())
    }

    /// The same, with what was kept of the last time it was derived from this model.
    #[must_use]
    pub fn again(model: &Model, kept: &mut Kept) -> Self {
        let mut scene = Self {
            now: now(model),
            sources: sources(model),
            ..Self::default()
        };
        let joined = kept.joined(model);
        scene.processes = (0..joined.units.len())
            .map(|u| process(model, &joined, u))
            .collect();
        let members = super::probes::informed(&model.pods, &model.probes);
        let sizes = super::startup::sizes(model, &members);
        super::startup::finish(&mut scene, model, &joined.units);
        super::crowd::count(&mut scene, model, &joined.units, sizes);
        if let Some(sizes) = sizes {
            super::layout::places(&mut scene.processes, sizes);
        }
        let links = kept.links(&scene.processes, model, &joined, sizes);
        scene.communicators = links.communicators;
        scene.unattributed = links.unattributed;
        scene.groups = links.groups;
        super::gpus::fill(&mut scene, model, sizes, &members);
        super::serving::fill(&mut scene, model);
        scene.workloads = workloads(&scene, model, &joined, &members, sizes);
        super::routes::fill(&mut scene, model, &joined.units);
        super::still::judge(&mut scene, model, &joined.units);
        scene.variables = super::variables::values(&members, &model.probes);
        scene.layout = super::layout::told::of(&scene, model, &members, sizes);
        findings::find(&mut scene, model, &joined, &links.order, &members);
        super::still::accuse(&mut scene);
        super::still::miss(&mut scene);
        verdict::judge(&mut scene, model);
        scene.matrices = kept.matrices(&scene);
        scene.pods = super::pods::rows(&model.pods, scene.now.map(|a| a.ns));
        let mut ranks = ranks_by_pod(&scene.processes);
        for row in &mut scene.pods {
            row.ranks = ranks.remove(row.name.as_str()).unwrap_or_default();
            super::room::explain(model, row);
        }
        scene.checks = super::checks::over(&scene, model, &members);
        scene.test = super::testing::of(&scene, model);
        if let Some(test) = &scene.test {
            let drawn = super::testing::matrices(test);
            scene.matrices.extend(drawn.into_iter().map(Arc::new));
        }
        super::former::tell(&mut scene, model, kept);
        scene
    }
}

/// Global ranks of the processes of each pod, or of each host that is called like one.
fn ranks_by_pod(processes: &[ProcessView]) -> BTreeMap<String, Vec<u32>> {
    let mut by: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for p in processes {
        if let Some(rank) = p.global_rank {
            by.entry(p.place()).or_default().insert(rank);
        }
    }
    by.into_iter()
        .map(|(pod, ranks)| (pod, ranks.into_iter().collect()))
        .collect()
}

/// Files: the newest stamp of any line. Live: the time that came with the events.
fn now(model: &Model) -> Option<At> {
    if model.now > 0 && model.session.feed != Feed::Files {
        return Some(At {
            ns: model.now,
            exact: true,
        });
    }
    model
        .sources
        .iter()
        .filter_map(|(_, s)| s.last_at)
        .max_by_key(|a| (a.exact, a.ns))
}

fn sources(model: &Model) -> Vec<SourceView> {
    let mut procs: BTreeMap<SourceId, Vec<&Process>> = BTreeMap::new();
    for p in &model.procs.list {
        procs.entry(p.source).or_default().push(p);
    }
    let procs_of = |id| procs.get(&id).map_or(&[][..], Vec::as_slice);
    let view = |(id, s): (SourceId, &Source)| {
        let head_missing = head_missing(s, procs_of(id));
        SourceView {
            // Lines are counted in the stream.
            name: (s.within.and_then(|id| model.sources.get(id)))
                .map_or(&s.info, |whole| &whole.info)
                .name
                .clone(),
            files: files(s, head_missing),
            within: s.within.map(|id| id.0),
            teller: s.teller.as_ref().map(Teller::said),
            pod: s
                .info
                .container
                .as_ref()
                .map(|c| format!("{}/{}", c.pod.namespace, c.pod.name)),
            container: s.info.container.as_ref().map(|c| c.container.clone()),
            previous: s.info.previous,
            bytes: s.bytes,
            lines: s.lines,
            nccl_lines: s.nccl_lines,
            nccl_past: s.nccl_past,
            vllm_lines: s.vllm_lines,
            dropped_lines: s.lost,
            head_missing,
            last_stamp: s.last_at,
            unclear_lines: model.speakers.unclear.get(&id).copied().unwrap_or(0),
            trouble: match &s.flow {
                Flow::Retrying(why) => Some(format!("reconnecting: {why}")),
                Flow::Ended(Some(why)) => Some(format!("ended: {why}")),
                _ => s.lost_uncounted.clone(),
            },
        }
    };
    model.sources.iter().map(view).collect()
}

/// The files of a source, each with the lines up to where the next one begins.
fn files(s: &Source, head_missing: Option<bool>) -> Vec<FileView> {
    let ends = s.files.iter().skip(1).map(|f| f.first_line);
    let ends = ends.chain([s.lines + 1]);
    let files = s.files.iter().zip(ends).enumerate();
    let views = files.map(|(i, (f, end))| FileView {
        name: f.name.clone(),
        first_line: f.first_line,
        lines: end.saturating_sub(f.first_line),
        bytes: f.bytes,
        nccl_lines: f.nccl_lines,
        vllm_lines: f.vllm_lines,
        dropped_lines: f.lost,
        // What a later file does not begin with stands in the one before it.
        head_missing: head_missing.map(|missing| missing && i == 0),
        last_stamp: f.last_at,
    });
    views.collect()
}

/// A log that begins in mid-life: connections, completions or calls of communicators whose start it does not hold.
fn head_missing(source: &Source, procs: &[&Process]) -> Option<bool> {
    let started = source.info.started.zip(source.first_at.filter(|a| a.exact));
    // The kubelet's first stamp can't be much younger than the container unless the log was rotated.
    if let Some((start, first)) = started
        && first.ns - start > 120 * 1_000_000_000
        && (source.lost > 0 || source.lost_uncounted.is_some())
    {
        return Some(true);
    }
    let mut seen = false;
    for p in procs {
        seen = true;
        let late = p
            .comms
            .iter()
            .any(|c| c.start.is_none() && c.complete.is_none())
            || p.runs
                .iter()
                .any(|r| r.comm.is_none() && r.known == 0 && !r.edges.is_empty());
        let began = !p.versions.is_empty()
            || p.bootstrap.is_some()
            || p.comms.iter().any(|c| c.start.is_some());
        if late && !began {
            return Some(true);
        }
    }
    seen.then_some(false)
}

fn process(model: &Model, joined: &Joined, u: usize) -> ProcessView {
    let procs: &Procs = &model.procs;
    let mut view = ProcessView::default();
    let Some(unit) = joined.units.get(u) else {
        return view;
    };
    let tellers = || {
        unit.procs
            .iter()
            .filter_map(|i| procs.list.get(*i as usize))
    };
    super::startup::fill(&mut view, model, unit);
    let speakers = unit.speakers.iter();
    let speakers = speakers.filter_map(|s| model.speakers.list.get(*s as usize));
    let began = tellers()
        .filter_map(|p| p.first_at)
        .chain(speakers.filter_map(|s| s.first.at))
        .filter(|at| at.exact)
        .map(|at| at.ns)
        .min();
    let Some(first) = tellers().next() else {
        place(&mut view, model, began);
        return view;
    };
    view.source = first.source.0;
    view.sources = tellers()
        .map(|p| p.source.0)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    view.first_line = first.first_line;
    view.incarnation = first.incarnation;
    view.host = first.host.as_deref().map(str::to_owned);
    view.pid = first.pid;
    // Its own stream is that of its own pod; what a driver relays names the node in front.
    let relayed = || first.outer.ip.as_deref().map(str::to_owned);
    view.ip = view.ip.filter(|_| first.outer.depth > 0).or_else(relayed);
    place(&mut view, model, began);
    for p in tellers() {
        for (v, _) in &p.versions {
            if !view.nccl_versions.contains(v) {
                view.nccl_versions.push(v.clone());
            }
        }
        view.cuda_version = view.cuda_version.or_else(|| p.cuda.clone());
        view.cuda_driver = view
            .cuda_driver
            .or_else(|| p.driver.map(|d| format!("{}.{}", d / 1000, d % 1000 / 10)));
        view.network = view
            .network
            .or_else(|| p.network.as_ref().map(|(n, _)| n.clone()));
        if view.bootstrap_interface.is_none()
            && let Some((interface, address, _)) = &p.bootstrap
        {
            view.bootstrap_interface = Some(interface.clone());
            view.bootstrap_address = Some(address.clone()).filter(|a| !a.is_empty());
        }
        if view.rdma_devices.is_empty()
            && let Some((devices, _)) = &p.rdma
        {
            view.rdma_devices = devices.iter().map(|d| d.name.clone()).collect();
        }
        for (k, (v, _)) in &p.env {
            if !view.env.iter().any(|(have, _)| have == k) {
                view.env.push((k.clone(), v.clone()));
            }
        }
        view.last_at = view.last_at.max(p.last_at);
        view.first_error = view.first_error.or_else(|| {
            p.warnings
                .iter()
                .find(|w| w.warn)
                .map(|w| line_ref(p.source, &w.quote))
        });
        view.vllm_label = view.vllm_label.or_else(|| p.outer.label.clone());
    }
    // A bare version line names no process; with one process in the source it is that one's.
    if view.nccl_versions.is_empty()
        && procs
            .list
            .iter()
            .filter(|p| p.source == first.source)
            .count()
            == 1
        && let Some(list) = procs.bare_versions.get(&first.source)
    {
        view.nccl_versions = list.iter().map(|(v, _)| v.clone()).collect();
    }
    view.env.sort();
    view.killed &= view.first_error.is_none();
    for r in 0..unit.recs.len() {
        let (u, r) = (u32::try_from(u).unwrap_or(0), u32::try_from(r).unwrap_or(0));
        view.nccl_step = view.nccl_step.max(joined.step(procs, u, r));
    }
    if view.nccl_step.is_none()
        && (!view.nccl_versions.is_empty()
            || view.bootstrap_interface.is_some()
            || view.network.is_some())
    {
        view.nccl_step = Some(NcclStep::Initialization);
    }
    view
}

/// Pod, container, node and address: those of the source's container, or of the pod that has the address which
/// Ray's driver puts in front of the lines of its workers elsewhere.
fn place(view: &mut ProcessView, model: &Model, began: Option<Nanos>) {
    let source = model.sources.get(SourceId(view.source));
    let teller = source.and_then(|s| s.info.container.as_ref());
    let told_by = teller.and_then(|c| model.pods.get(&c.pod));
    let gone = |pod: Option<&PodView>, container: &str| pod.is_some_and(|p| p.has_ended(container));
    // Of pods that nobody watches, the logs of a later life say it.
    let outlived = told_by.is_none() && source.is_some_and(|s| s.info.previous);
    view.replaced = outlived
        || teller.is_some_and(|c| {
            let known = told_by.zip(began);
            known.is_some_and(|(pod, began)| pod.has_outlived(&c.container, began))
        });
    let driver_gone = view.replaced || teller.is_some_and(|c| gone(told_by, &c.container));
    // No process outlives its container, whatever its last line said, nor the driver whose actor it is.
    if driver_gone {
        // Who said itself that it ends was not taken by surprise.
        view.killed = view.alive.is_none() && view.first_error.is_none();
        view.alive = Some(false);
    }
    let elsewhere = view.ip.as_ref().filter(|ip| {
        let known = told_by.and_then(|p| p.pod_ip.as_ref());
        known.is_none_or(|own| own != *ip)
    });
    if let Some(ip) = elsewhere {
        let at = |p: &&PodView| p.pod_ip.as_ref() == Some(ip);
        let found = model.pods.iter().map(|(_, p)| p).filter(at);
        // Pods in their node's network share its address: a worker is where the GPUs are.
        let pod = found.max_by_key(|p| (p.deletion.is_none(), main_container(p).map(|c| c.gpus)));
        if let Some(pod) = pod {
            let container = main_container(pod).map(|c| c.name.clone());
            if container.as_ref().is_some_and(|c| gone(Some(pod), c)) {
                view.alive = Some(false);
                view.killed = true;
            }
            view.pod = Some(pod.name.clone());
            view.namespace = Some(pod.namespace.clone());
            view.container = container;
            view.node.clone_from(&pod.node);
        }
        return;
    }
    if let Some(part) = source.and_then(|s| s.teller.as_ref()) {
        let name = Some(part.name.clone());
        if part.pod {
            view.pod = name;
            view.container.clone_from(&part.container);
        } else {
            // `srun -l` numbers the tasks of a step.
            let number = part.name.bytes().all(|b| b.is_ascii_digit());
            view.told_in = name.map(|n| if number { format!("task {n}") } else { n });
        }
        return;
    }
    let Some(c) = teller else {
        let name = source.map(|s| s.info.name.rsplit('/').next().unwrap_or_default());
        view.told_in = name
            .filter(|n| !n.is_empty() && *n != "-")
            .map(str::to_owned);
        return;
    };
    view.pod = Some(c.pod.name.clone());
    view.namespace = Some(c.pod.namespace.clone());
    view.container = Some(c.container.clone());
    if let Some(pod) = told_by {
        view.node.clone_from(&pod.node);
        view.ip.clone_from(&pod.pod_ip);
    }
}

/// The lives of one container are of one workload.
fn lives(scene: &Scene, model: &Model, join: &mut dyn FnMut(usize, usize)) {
    let source = |p: &ProcessView| model.sources.get(SourceId(p.source));
    let sources = model.sources.iter().map(|(_, s)| &s.info);
    let again: BTreeSet<&ContainerKey> = sources
        .filter(|info| info.previous)
        .filter_map(|info| info.container.as_ref())
        .collect();
    let mut first: BTreeMap<&ContainerKey, usize> = BTreeMap::new();
    for (i, p) in scene.processes.iter().enumerate() {
        let container = source(p).and_then(|s| s.info.container.as_ref());
        if let Some(c) = container.filter(|c| again.contains(c)) {
            join(*first.entry(c).or_insert(i), i);
        }
    }
}

/// Connected components of processes over communicators; what is alone stays alone.
fn workloads(
    scene: &Scene,
    model: &Model,
    joined: &Joined,
    members: &Members<'_>,
    sizes: Option<Sizes>,
) -> Vec<Workload> {
    let n = scene.processes.len();
    let mut root: Vec<usize> = (0..n).collect();
    fn top(root: &mut [usize], mut i: usize) -> usize {
        while let Some(up) = root.get(i).copied() {
            if up == i {
                break;
            }
            let grand = root.get(up).copied().unwrap_or(up);
            if let Some(slot) = root.get_mut(i) {
                *slot = grand;
            }
            i = grand;
        }
        i
    }
    let mut join = |a: usize, b: usize| {
        let (a, b) = (top(&mut root, a), top(&mut root, b));
        let (low, high) = (a.min(b), a.max(b));
        if let Some(slot) = root.get_mut(high) {
            *slot = low;
        }
    };
    for c in &scene.communicators {
        for pair in c.ranks.windows(2) {
            if let [a, b] = pair {
                join(a.process as usize, b.process as usize);
            }
        }
    }
    // Processes that never joined anything are the ones whose absence was proven by their silence.
    let busy: BTreeSet<u32> = scene
        .communicators
        .iter()
        .flat_map(|c| c.ranks.iter().map(|m| m.process))
        .collect();
    for c in scene
        .communicators
        .iter()
        .filter(|c| c.missing_ranks.as_ref().is_some_and(|m| !m.is_empty()))
    {
        if let Some(m) = c.ranks.first() {
            for idle in (0..n).filter(|i| u32::try_from(*i).is_ok_and(|i| !busy.contains(&i))) {
                join(m.process as usize, idle);
            }
        }
    }
    super::startup::bonds(model, &joined.units, &mut join);
    lives(scene, model, &mut join);
    // Live: discovery says what belongs together.
    if model.session.feed != Feed::Files || model.workloads.len() == 1 {
        for i in 1..n {
            join(0, i);
        }
    }
    let mut by_root: BTreeMap<usize, Workload> = BTreeMap::new();
    for i in 0..n {
        let r = top(&mut root, i);
        by_root
            .entry(r)
            .or_default()
            .processes
            .push(u32::try_from(i).unwrap_or(0));
    }
    for (i, c) in scene.communicators.iter().enumerate() {
        if let Some(m) = c.ranks.first() {
            let r = top(&mut root, m.process as usize);
            by_root
                .entry(r)
                .or_default()
                .communicators
                .push(u32::try_from(i).unwrap_or(0));
        }
    }
    let live = model.session.workload.clone();
    let mut list: Vec<Workload> = by_root.into_values().collect();
    // Pods that have not said a word: what they are told is known all the same.
    if list.is_empty() && sizes.is_some() && !members.list.is_empty() {
        list.push(Workload::default());
    }
    let told = !members.list.is_empty();
    for w in &mut list {
        w.name = live.clone().filter(|_| model.session.feed != Feed::Files);
        let speaks = w
            .processes
            .iter()
            .filter_map(|p| scene.processes.get(*p as usize))
            .any(|p| p.stage.is_some());
        if let (Some(sizes), true) = (sizes, speaks || told) {
            w.expected_ranks = super::startup::world(model).or(Some(sizes.world()));
            w.sizes = [
                Some(sizes.tp),
                Some(sizes.pp),
                Some(sizes.dp),
                sizes.experts(),
            ];
            w.context = [Some(sizes.pcp), Some(sizes.dcp)];
            let logged = model.speakers.list.iter().find_map(|s| s.model.clone());
            w.model = logged.or_else(|| members.list.iter().find_map(|m| m.model()));
        }
    }
    list
}
