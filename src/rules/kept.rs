//! What of the last scene still holds.
//!
//! A communicator, its connections and its matrix stay as they are while samples, progress and the calls of
//! collectives come. What they are made of is compared by value, or by the revision that each process raises with
//! what it proves; where all of it is as it was, what was made of it is taken again. So a scene never depends on
//! what is kept: `tests/suite/again.rs` holds each against one that is derived from nothing.

use std::sync::Arc;

use super::comms::Joined;
use super::layout::Sizes;
use super::links::{self, Links};
use super::matrix;
use super::scene::{Former, Matrix, ProcessView, Scene};
use crate::model::Model;
use crate::model::event::SourceId;
use crate::model::speakers::Speaker;

/// Epoch and revision of the lives.
type Past = (u64, u64);

/// What was derived before, for whoever derives again and again from one model.
#[derive(Debug, Default)]
pub struct Kept {
    joined: Option<(Tellers, Arc<Joined>)>,
    links: Option<(Ends, Links)>,
    matrices: Option<(Places, Vec<Arc<Matrix>>)>,
    /// Runs that are over.
    former: Option<(Past, Arc<Vec<Former>>)>,
}

/// Where each process is, and whether a later life stands there.
type Places = Vec<(String, bool)>;

impl Kept {
    /// Processes and communicators over all sources.
    pub(super) fn joined(&mut self, model: &Model) -> Arc<Joined> {
        if let Some((tellers, joined)) = &self.joined
            && tellers.are(model)
        {
            return Arc::clone(joined);
        }
        let name = |id: SourceId| {
            let source = model.sources.get(id);
            source.map_or_else(String::new, |s| s.info.name.clone())
        };
        let joined = Arc::new(Joined::of(&model.procs, &model.speakers, &name));
        *self = Self {
            joined: Some((Tellers::of(model), Arc::clone(&joined))),
            former: self.former.take(),
            ..Self::default()
        };
        joined
    }

    /// The runs that are over.
    pub(super) fn former(
        &mut self,
        model: &Model,
        derive: impl FnOnce() -> Vec<Former>,
    ) -> Arc<Vec<Former>> {
        let state = (model.epoch, model.lives.rev);
        if let Some((of, former)) = &self.former
            && *of == state
        {
            return Arc::clone(former);
        }
        let former = Arc::new(derive());
        self.former = Some((state, Arc::clone(&former)));
        former
    }

    /// What connects the processes of this join.
    pub(super) fn links(
        &mut self,
        processes: &[ProcessView],
        model: &Model,
        joined: &Joined,
        sizes: Option<Sizes>,
    ) -> Links {
        if let Some((ends, links)) = &self.links
            && ends.are(processes, model, sizes)
        {
            return links.clone();
        }
        let links = Links::of(processes, model, joined, sizes);
        let ends = Ends::of(processes, model, sizes);
        self.links = Some((ends, links.clone()));
        self.matrices = None;
        links
    }

    /// The matrices of these links.
    pub(super) fn matrices(&mut self, scene: &Scene) -> Vec<Arc<Matrix>> {
        let all = scene.processes.iter();
        let places = || all.clone().map(|p| (p.known_place(), p.replaced));
        if let Some((known, list)) = &self.matrices
            && (known.iter().map(|(p, r)| (p.as_str(), *r))).eq(places())
        {
            return list.clone();
        }
        let list = matrix::all(scene);
        let known = places().map(|(p, replaced)| (p.to_owned(), replaced));
        self.matrices = Some((known.collect(), list.clone()));
        list
    }
}

/// What processes are joined by.
#[derive(Debug)]
struct Tellers {
    epoch: u64,
    /// Of what is over: processes that take the place of others may say as much as those did.
    lives: u64,
    /// Revision of each process.
    procs: Vec<u64>,
    /// Of each vLLM process.
    speakers: Vec<(bool, bool)>,
    /// Names of the sources, which stand in keys where no id is printed.
    names: Vec<(SourceId, String)>,
    /// The first bare version line of each source.
    versions: Vec<(SourceId, Option<String>)>,
}

/// Whether it is a rank, and whether it said so itself.
fn rank(s: &Speaker) -> (bool, bool) {
    (s.is_rank(), s.rank_start.is_some() || s.ranks.is_some())
}

fn names(model: &Model) -> impl Iterator<Item = (SourceId, &str)> {
    let sources = model.sources.iter();
    sources.map(|(id, s)| (id, s.info.name.as_str()))
}

fn versions(model: &Model) -> impl Iterator<Item = (SourceId, Option<&str>)> {
    let bare = model.procs.bare_versions.iter();
    bare.map(|(id, list)| (*id, list.first().map(|(v, _)| v.as_str())))
}

impl Tellers {
    fn of(model: &Model) -> Self {
        Self {
            epoch: model.epoch,
            lives: model.lives.rev,
            procs: model.procs.list.iter().map(|p| p.rev).collect(),
            speakers: model.speakers.list.iter().map(rank).collect(),
            names: names(model).map(|(id, n)| (id, n.to_owned())).collect(),
            versions: versions(model)
                .map(|(id, v)| (id, v.map(str::to_owned)))
                .collect(),
        }
    }

    fn are(&self, model: &Model) -> bool {
        let had_names = self.names.iter().map(|(id, n)| (*id, n.as_str()));
        let had_versions = self.versions.iter().map(|(id, v)| (*id, v.as_deref()));
        self.epoch == model.epoch
            && self.lives == model.lives.rev
            && self
                .procs
                .iter()
                .eq(model.procs.list.iter().map(|p| &p.rev))
            && self
                .speakers
                .iter()
                .copied()
                .eq(model.speakers.list.iter().map(rank))
            && had_names.eq(names(model))
            && had_versions.eq(versions(model))
    }
}

/// What communicators take from the processes that they connect.
#[derive(Debug)]
struct Ends {
    processes: Vec<End>,
    sizes: Option<Sizes>,
    /// Of each source.
    voiced: Vec<(bool, bool)>,
}

#[derive(Debug)]
struct End {
    host: Option<String>,
    host_id: Option<String>,
    source: u32,
    sources: Vec<u32>,
    rdma: bool,
    rank: Option<u32>,
}

/// Whether vLLM speaks in each source, and for a node without a server.
fn voiced(model: &Model) -> impl Iterator<Item = (bool, bool)> {
    let sources = model.sources.iter();
    sources.map(|(id, s)| (links::is_voiced(s), links::headless(model, id)))
}

impl Ends {
    fn of(processes: &[ProcessView], model: &Model, sizes: Option<Sizes>) -> Self {
        Self {
            processes: processes.iter().map(End::of).collect(),
            sizes,
            voiced: voiced(model).collect(),
        }
    }

    fn are(&self, processes: &[ProcessView], model: &Model, sizes: Option<Sizes>) -> bool {
        self.sizes == sizes
            && self.processes.len() == processes.len()
            && self.processes.iter().zip(processes).all(|(e, p)| e.is(p))
            && self.voiced.iter().copied().eq(voiced(model))
    }
}

impl End {
    fn of(p: &ProcessView) -> Self {
        Self {
            host: p.host.clone(),
            host_id: links::host_id(p).map(str::to_owned),
            source: p.source,
            sources: p.sources.clone(),
            rdma: !p.rdma_devices.is_empty(),
            rank: p.global_rank,
        }
    }

    fn is(&self, p: &ProcessView) -> bool {
        self.host == p.host
            && self.host_id.as_deref() == links::host_id(p)
            && self.source == p.source
            && self.sources == p.sources
            && self.rdma != p.rdma_devices.is_empty()
            && self.rank == p.global_rank
    }
}
