//! `ncclscope rbac`: the least that a level needs, ready to be applied.

use std::process::ExitCode;

use crate::model::event::Level;
use crate::sources::cluster::needs::{self, Subject};

/// A level by its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wanted {
    /// Look at pods, events and logs.
    Observe,
    /// Also run what only reads inside the pods, and GET their ports.
    Probe,
    /// Also create and delete the all-reduce test.
    Act,
}

/// Arguments of `rbac`.
#[derive(Debug, clap::Args)]
pub struct RbacArgs {
    /// Level
    #[arg(value_enum)]
    pub level: Wanted,
    /// Namespace of the workloads
    #[arg(
        short,
        long,
        env = "NCCLSCOPE_NAMESPACE",
        value_name = "NS",
        default_value = "default"
    )]
    pub namespace: String,
    /// User that gets it; may be repeated
    #[arg(long, value_name = "NAME")]
    pub user: Vec<String>,
    /// Group that gets it; may be repeated
    #[arg(long, value_name = "NAME")]
    pub group: Vec<String>,
    /// Service account of the namespace that gets it; may be repeated. The account `ncclscope` where nobody is named
    #[arg(long, value_name = "NAME")]
    pub service_account: Vec<String>,
}

/// Prints the manifests.
///
/// # Errors
/// Standard output can't be written.
pub fn run(args: &RbacArgs) -> anyhow::Result<ExitCode> {
    let level = match args.level {
        Wanted::Observe => Level::Observe,
        Wanted::Probe => Level::Probe,
        Wanted::Act => Level::Act,
    };
    let mut subjects: Vec<Subject> = Vec::new();
    subjects.extend(args.user.iter().cloned().map(Subject::User));
    subjects.extend(args.group.iter().cloned().map(Subject::Group));
    subjects.extend(
        args.service_account
            .iter()
            .cloned()
            .map(Subject::ServiceAccount),
    );
    if subjects.is_empty() {
        subjects.push(Subject::ServiceAccount("ncclscope".to_owned()));
    }
    super::print(needs::yaml(level, &args.namespace, &subjects).as_bytes())
}
