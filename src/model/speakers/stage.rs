//! How far a process came in its start-up, and the facts that prove it.

use crate::parse::vllm::{Counted, Phase, VllmFact};

/// Start-up stage of a vLLM process, in the report contract's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// P1 and P2: the engine process starts.
    Started,
    /// P0: arguments and configuration.
    Config,
    /// P3: torch.distributed rendezvous.
    DistributedInit,
    /// P4–P6: NCCL communicators.
    NcclInit,
    /// Download of model files.
    Download,
    /// P7: weights.
    Weights,
    /// P9: memory profile and KV cache.
    Profile,
    /// P8: torch.compile.
    Compile,
    /// P10: warm-up and CUDA graphs.
    Graphs,
    /// P11–P13: ready.
    Serving,
}

impl Stage {
    /// The word of the contract.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Config => "config",
            Self::DistributedInit => "distributed-init",
            Self::NcclInit => "nccl-init",
            Self::Download => "download",
            Self::Weights => "weights",
            Self::Profile => "profile",
            Self::Compile => "compile",
            Self::Graphs => "graphs",
            Self::Serving => "serving",
        }
    }
}

/// The stage that a fact proves.
#[must_use]
pub fn stage_of(fact: &VllmFact) -> Option<Stage> {
    stage_in(fact, fact.phase().map(|(phase, _)| phase))
}

/// The same of a fact whose phase is known.
pub(super) fn stage_in(fact: &VllmFact, phase: Option<Phase>) -> Option<Stage> {
    if let VllmFact::Progress(p) = fact
        && matches!(p.counted, Counted::Files | Counted::Bytes)
    {
        return Some(Stage::Download);
    }
    if let VllmFact::Downloaded { .. } = fact {
        return Some(Stage::Download);
    }
    Some(match phase? {
        Phase::Config => Stage::Config,
        Phase::Engine | Phase::Ray => Stage::Started,
        Phase::Rendezvous => Stage::DistributedInit,
        Phase::Nccl | Phase::Routes | Phase::Assigned => Stage::NcclInit,
        Phase::Load => Stage::Weights,
        Phase::Compile => Stage::Compile,
        Phase::Profile => Stage::Profile,
        Phase::Graphs => Stage::Graphs,
        Phase::Ready | Phase::Http | Phase::Serving => Stage::Serving,
        Phase::Hang | Phase::Shutdown => return None,
    })
}

/// Weights are on their way from the disk: more than the announcement of the load.
pub(super) fn reads_weights(fact: &VllmFact) -> bool {
    match fact {
        VllmFact::Progress(p) => matches!(
            p.counted,
            Counted::Shards | Counted::Tensors | Counted::Prefetch
        ),
        VllmFact::Checkpoint { .. }
        | VllmFact::Prefetch { .. }
        | VllmFact::WeightsDone { .. }
        | VllmFact::ModelDone { .. } => true,
        _ => false,
    }
}
