//! Arguments. The help text is the manual; what it says is what the program does.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use super::allreduce_cmd::AllreduceArgs;
use super::args::{AccessArgs, ClusterArgs, StallArgs};
use super::bundle_cmd::BundleArgs;
use super::config_cmd::ConfigVerb;
use super::doctor_cmd::DoctorArgs;
use super::rbac_cmd::RbacArgs;
use super::record::KeepArgs;
use super::report_cmd::ReportArgs;
use super::wait_cmd::WaitArgs;
use crate::model::kiosk::Plan;
use crate::theme;
use crate::worker::WorkerArgs;

/// Terminal UI dashboard for live cluster debugging of distributed vLLM
///
/// Shows which transport NCCL chose for every pair of ranks, where each rank is in start-up, and what holds the
/// others up: from a cluster, from log files and pipes, or from an embedded demo.
///
/// Every flag with a variable beside it can be set in the environment; a flag wins over its variable.
#[derive(Debug, Parser)]
#[command(
    name = "ncclscope",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// What to do; without a verb: the dashboard on a cluster.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// The cluster.
    #[command(flatten)]
    pub live: LiveArgs,
    /// For the program's own log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The dashboard on log files, folders and pipes
    ///
    /// Keys come from the terminal also where the log comes from standard input:
    /// `kubectl logs -f llm-0 | ncclscope open -`
    Open(OpenArgs),
    /// The dashboard on an embedded cluster: nothing to set up
    Demo(DemoArgs),
    /// The GPUs of this node by NVML, with log files followed beside them: no cluster needed
    Local(LocalArgs),
    /// The dashboard on a recording, with pause, speed, steps and jumps
    Replay(ReplayArgs),
    /// Read logs, say what is wrong, exit with the verdict
    Report(ReportArgs),
    /// Block until the workload serves, is through NCCL's init, or has failed
    ///
    /// Progress goes to standard error. Exit code 0: reached; 1: can no longer be reached; 2: could not run; 3: the
    /// time-out passed; 130: interrupted.
    Wait(WaitArgs),
    /// Run an all-reduce test as the workload runs: rows as they come, a grade, nothing left behind
    ///
    /// Takes image, network, devices and user from the workload's pods, shows the manifest, asks, and creates a Job
    /// with a Service and a ConfigMap of its own. Exit code 0: good or bearable; 1: below 0.7 of what such hardware
    /// gives, or a wrong result; 2: could not run; 3: not decided.
    Allreduce(Box<AllreduceArgs>),
    /// Put everything known of a job into one archive for a ticket, before its pods are gone
    ///
    /// Logs with those of previous containers, specs, events, environment, samples, checks, findings, the report and a
    /// recording; secrets are taken out, and a list says which. `open`, `report` and `replay` read it again.
    Bundle(Box<BundleArgs>),
    /// Where the configuration is, what is in force, what is wrong in it
    Config {
        /// What to do.
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Whether everything it stands on is there: cluster, permissions, GPUs, terminal
    ///
    /// Exit code 1 where something can't work. Every line has an id that stays.
    Doctor(Box<DoctorArgs>),
    /// Print the least role that a level needs, and its binding
    ///
    /// `ncclscope rbac observe -n llm --user jane | kubectl apply -f -`
    Rbac(RbacArgs),
    /// All-reduce over all GPUs of this pod, for images without torch: run inside a pod by `allreduce --worker`
    ///
    /// Needs libcuda and libnccl at run time; exits with 2 and a sentence where one is absent.
    Worker(WorkerArgs),
    /// What a finding means, what proves it, what to do first; all of them without an id
    Explain {
        /// Id, for instance `nccl.same-host-net`
        #[arg(value_name = "ID")]
        id: Option<String>,
    },
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

/// Arguments of the form without a verb: which pods of which cluster.
#[derive(Debug, Args)]
pub struct LiveArgs {
    /// Workload to watch, as NAME or KIND/NAME: `mixtral`, `lws/mixtral`; goes before `-l`, and is found by itself where
    /// there is only one
    #[arg(value_name = "WORKLOAD")]
    pub workload: Option<String>,
    /// All namespaces, whatever `-n` says
    #[arg(short = 'A', long, help_heading = "Cluster")]
    pub all_namespaces: bool,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How far it may go.
    #[command(flatten)]
    pub access: AccessArgs,
    /// The screen.
    #[command(flatten)]
    pub screen: ScreenArgs,
    /// Namespaces whose workloads go in turn on the wall
    #[arg(
        long,
        value_name = "NAMESPACES",
        help_heading = "Screen",
        value_delimiter = ',',
        requires = "kiosk"
    )]
    pub kiosk_namespaces: Vec<String>,
    /// Workloads that go in turn on the wall, as [NAMESPACE/][KIND/]NAME; all there are unless named
    #[arg(
        long,
        value_name = "WORKLOADS",
        help_heading = "Screen",
        value_delimiter = ',',
        requires = "kiosk"
    )]
    pub kiosk_workloads: Vec<String>,
}

/// Arguments of `open`.
#[derive(Debug, Args)]
pub struct OpenArgs {
    /// Log files and folders, gzip or zstd compressed or not; a recording or a bundle; `-` for standard input
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Go on with what is appended to the files and with new files in the folders
    #[arg(short, long)]
    pub follow: bool,
    /// The screen.
    #[command(flatten)]
    pub screen: ScreenArgs,
}

/// Arguments of `local`.
#[derive(Debug, Args)]
pub struct LocalArgs {
    /// Log files and folders to follow beside the GPUs
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The screen.
    #[command(flatten)]
    pub screen: ScreenArgs,
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// A recording that `--record` made
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How many times faster than it was recorded; 0 shows the end at once
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    pub speed: f64,
    /// The screen.
    #[command(flatten)]
    pub screen: ScreenArgs,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Name of a scenario, or a scenario file; with `--kiosk` several, which go in turn
    #[arg(value_name = "SCENARIO", default_value = "healthy")]
    pub scenario: Vec<String>,
    /// List the scenarios
    #[arg(long)]
    pub list: bool,
    /// How many times faster than the world it runs; 0 shows the end at once
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    pub speed: f64,
    /// The screen.
    #[command(flatten)]
    pub screen: ScreenArgs,
}

fn speed(text: &str) -> Result<f64, String> {
    match text
        .trim_start_matches('x')
        .trim_end_matches('x')
        .parse::<f64>()
    {
        Ok(speed) if speed >= 0.0 && speed.is_finite() => Ok(speed),
        _ => Err("a factor of 0 or more, for instance 10".into()),
    }
}

/// How the screen looks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Screen")]
pub struct ScreenArgs {
    // Checked where they are used: a wrong variable must not keep `report` from running.
    /// Theme: dark, deuteranopia, high-contrast, light, mono, terminal, tritanopia, or a file of your own by its name:
    /// `~/.config/ncclscope/themes/NAME.yaml`
    #[arg(long, env = "NCCLSCOPE_THEME", value_name = "NAME", default_value = theme::DEFAULT)]
    pub theme: String,
    /// Colours: auto, 16, 256, truecolor, never; auto asks NO_COLOR, COLORTERM and TERM
    #[arg(
        long,
        env = "NCCLSCOPE_COLOR",
        value_name = "DEPTH",
        default_value = "auto"
    )]
    pub color: String,
    /// Draw with ASCII alone; that is the default where the locale is not UTF-8
    #[arg(long, env = "NCCLSCOPE_ASCII", value_parser = FalseyValueParser::new())]
    pub ascii: bool,
    /// Pane to start with: its name, as in the tabs
    #[arg(
        long,
        env = "NCCLSCOPE_PANE",
        value_name = "PANE",
        default_value = "overview"
    )]
    pub pane: String,
    /// What is kept.
    #[command(flatten)]
    pub keep: KeepArgs,
    /// When somebody is suspected.
    #[command(flatten)]
    pub stall: StallArgs,
    /// For a wall: no keys but q, panes in turn, bad news first and big
    #[arg(long)]
    pub kiosk: bool,
    /// Panes that rotate
    #[arg(
        long,
        value_name = "PANES",
        value_delimiter = ',',
        requires = "kiosk",
        default_value = Plan::USUAL_PANES
    )]
    pub kiosk_panes: Vec<String>,
    /// How long each stays
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..),
        requires = "kiosk",
        default_value = Plan::USUAL_EACH
    )]
    pub kiosk_each: u32,
    /// How long bad news stays before the rotation goes on under a banner
    #[arg(long, value_name = "SECONDS", requires = "kiosk", default_value = Plan::USUAL_HOLD)]
    pub kiosk_hold: u32,
    /// Facts older than this are no view of anything: the wall says that it is blind
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(10..),
        requires = "kiosk",
        default_value = Plan::USUAL_BLIND
    )]
    pub kiosk_blind: u32,
}

/// The program's own log.
#[derive(Debug, Args)]
#[command(next_help_heading = "The program's own log")]
pub struct LogArgs {
    /// What to log, for instance `info` or `ncclscope=debug`; nothing unless asked for
    #[arg(long, env = "NCCLSCOPE_LOG", value_name = "FILTER", global = true)]
    pub log: Option<String>,
    /// Where to; the terminal never sees it
    #[arg(
        long,
        env = "NCCLSCOPE_LOG_FILE",
        value_name = "PATH",
        global = true,
        default_value = "ncclscope.log"
    )]
    pub log_file: PathBuf,
}

/// The completion script of a shell.
#[must_use]
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ncclscope", &mut out);
    out
}

/// The manual page.
pub fn man() -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut out)?;
    Ok(out)
}
