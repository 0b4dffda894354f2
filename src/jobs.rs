//! The all-reduce test: planned from a workload's own pods, run as a Job, cleaned up whatever happens.

pub mod plan;

/// The label that names a run; every object of a run carries it.
pub const RUN_LABEL: &str = "ncclscope/run";
/// The label by which what we created is told from everything else.
pub const MANAGED_LABEL: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub const MANAGED_BY: &str = "ncclscope";
/// The test's script.
pub const SCRIPT: &str = include_str!("../assets/allreduce.py");
