//! Arguments that several verbs share: which cluster, and how far one may go there.

use std::path::PathBuf;

use clap::Args;
use clap::builder::FalseyValueParser;

use super::record::Recorder;
use crate::model::event::{Event, Stamped};
use crate::model::limits::Limits;
use crate::model::{Model, update};
use crate::sources::cluster::ClusterOptions;
use crate::sources::gate::{Policy, Setup};

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For a person.
    #[default]
    Text,
    /// For a program.
    Json,
}

/// When somebody is suspected.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Suspicion")]
pub struct StallArgs {
    /// How long a stage may be silent before a rank in it is suspected, seconds: `weights=900,compile=600`. Stages:
    /// started, ray, config, distributed-init, nccl-init, download, weights, profile, compile, graphs, missing-ranks
    #[arg(
        long,
        env = "NCCLSCOPE_STALL",
        value_name = "STAGE=SECONDS,…",
        default_value = ""
    )]
    pub stall: Limits,
}

impl StallArgs {
    /// Sets them in a model, and keeps them in its recording, where they are not the usual ones.
    pub fn set(&self, model: &mut Model, recorder: &mut Option<Recorder>) {
        if self.stall.usual() {
            return;
        }
        let stamped = Stamped {
            seq: 0,
            at: 0,
            event: Event::Limits(self.stall.clone()),
        };
        if let Some(recorder) = recorder {
            recorder.keep_all(&stamped);
        }
        update(model, stamped);
    }
}

/// Which cluster, as kubectl has it; every verb that asks one takes these.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// Namespace; the context's unless named
    #[arg(short, long, env = "NCCLSCOPE_NAMESPACE", value_name = "NS")]
    pub namespace: Option<String>,
    /// Label selector of the job's pods, for instance `leaderworkerset.sigs.k8s.io/name=mixtral`
    #[arg(short = 'l', long, env = "NCCLSCOPE_SELECTOR", value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Context of the kubeconfig
    #[arg(long, env = "NCCLSCOPE_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig; otherwise `KUBECONFIG`, then `~/.kube/config`, then the pod's service account
    #[arg(long, value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,
    /// User to act as
    #[arg(long = "as", value_name = "USER")]
    pub impersonate: Option<String>,
    /// Group to act as; may be repeated
    #[arg(long = "as-group", value_name = "GROUP", requires = "impersonate")]
    pub impersonate_groups: Vec<String>,
}

impl ClusterArgs {
    /// What to look at. A workload that is named goes before a selector that only the environment may name.
    #[must_use]
    pub fn options(&self, workload: Option<String>) -> ClusterOptions {
        ClusterOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            namespace: self.namespace.clone(),
            selector: self.selector.clone().filter(|_| workload.is_none()),
            workload,
            impersonate: self.impersonate.clone(),
            impersonate_groups: self.impersonate_groups.clone(),
            ..ClusterOptions::default()
        }
    }
}

/// How far a verb may go beyond looking.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct AccessArgs {
    /// Commands that only read inside the pods, and GETs of their ports: never, asked once, always. Where nobody can be
    /// asked, ask means never
    #[arg(
        long,
        env = "NCCLSCOPE_PROBES",
        value_enum,
        default_value_t,
        value_name = "WHEN"
    )]
    pub probes: Policy,
    /// Look and never touch: no probe, nothing created, whatever is answered later
    #[arg(long, env = "NCCLSCOPE_READ_ONLY", value_parser = FalseyValueParser::new())]
    pub read_only: bool,
}

impl AccessArgs {
    /// How the gate is set up, where somebody can be asked or not.
    #[must_use]
    pub fn setup(&self, attended: bool) -> Setup {
        Setup {
            probes: self.probes,
            locked: self.read_only,
            attended,
            ..Setup::default()
        }
    }
}
