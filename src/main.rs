//! Entry point: arguments in, exit code out.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ncclscope::app::report_cmd::{self, ReportArgs};

/// Terminal UI dashboard for live cluster debugging of distributed vLLM
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Read logs, say what is wrong, exit with the verdict
    Report(ReportArgs),
}

fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Report(args) => report_cmd::run(&args),
    }
}
