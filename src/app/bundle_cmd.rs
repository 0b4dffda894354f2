//! `ncclscope bundle`: looks once at a cluster, at logs or at a recording, and archives what it saw.

use std::ffi::OsString;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Parser;

use super::args::{AccessArgs, ClusterArgs, StallArgs};
use super::bundle::{Spool, pack};
use super::cli::{Cli, Verb};
use super::headless;
use super::record::{KeepArgs, Keeper, Recorder, create};
use crate::model::event::{Event, Feed, Level, Session, Stamped};
use crate::report::redact::Redactor;
use crate::sources::files::{Inputs, Progress, read_all};
use crate::sources::recording::is_recording;
use crate::sources::sim;

/// Arguments of `bundle`.
#[derive(Debug, clap::Args)]
pub struct BundleArgs {
    /// The archive to write: tar, compressed with zstd
    #[arg(value_name = "FILE")]
    pub out: PathBuf,
    /// Log files, folders, or one recording; without them the cluster is asked
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Workload to look at, as NAME or KIND/NAME
    #[arg(long, help_heading = "Cluster", value_name = "[KIND/]NAME")]
    pub workload: Option<String>,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How far it may go: with probes, checks and samples are in it, too.
    #[command(flatten)]
    pub access: AccessArgs,
    /// Look at a cluster for so long at most: 20s, 2m. It is less where nothing new comes for two seconds
    #[arg(
        long,
        help_heading = "Cluster",
        value_name = "DURATION",
        value_parser = headless::duration,
        default_value = "20s"
    )]
    pub timeout: Duration,
    /// A scenario of the embedded cluster
    #[arg(long, value_name = "SCENARIO", conflicts_with = "paths")]
    pub demo: Option<String>,
    /// When somebody is suspected.
    #[command(flatten)]
    pub stall: StallArgs,
    /// Leave secrets in
    #[arg(long)]
    pub no_redact: bool,
}

/// Makes the bundle.
///
/// # Errors
/// What can't be read or written.
pub fn run(args: &BundleArgs) -> anyhow::Result<ExitCode> {
    let keep = KeepArgs {
        record: None,
        no_redact: args.no_redact,
    };
    // First of all: nobody wants to wait for a file that can't be written.
    let out = create(&args.out)?;
    let done = collect(args, &keep).and_then(|(spool, recording, redactor)| {
        let manifest = pack(&recording, redactor, out)?;
        drop(spool);
        Ok(manifest)
    });
    let manifest = match done {
        Ok(manifest) => manifest,
        Err(e) => {
            // Half a bundle helps nobody; it is ours.
            let _ = std::fs::remove_file(&args.out);
            return Err(e);
        }
    };
    let taken: u64 = manifest.taken.iter().map(|t| t.times).sum();
    let mut said = format!("{}: {} files", args.out.display(), manifest.files.len());
    if taken > 0 {
        said.push_str(&format!(
            "; {taken} times a secret was taken out, manifest.json lists them"
        ));
    }
    if let Some(missing) = &manifest.missing {
        said.push_str(&format!("; {missing}"));
    }
    super::print(format!("{said}\n").as_bytes())
}

/// A recording of what there is to see, the folder that it may lie in, and a redactor that knows its secrets.
fn collect(
    args: &BundleArgs,
    keep: &KeepArgs,
) -> anyhow::Result<(Option<Spool>, PathBuf, Redactor)> {
    if let [path] = args.paths.as_slice()
        && is_recording(path)
    {
        return Ok((None, path.clone(), keep.redactor()));
    }
    let spool = Spool::new().context("no folder for what is under way")?;
    let path = spool.path("seen");
    let inner = KeepArgs {
        record: Some(path.clone()),
        ..keep.clone()
    };
    let mut recorder = inner
        .recorder("bundle")?
        .ok_or_else(|| anyhow!("nothing to record to"))?;
    if !args.stall.stall.usual() {
        let event = Event::Limits(args.stall.stall.clone());
        let (seq, at) = (0, 0);
        recorder.keep_all(&Stamped { seq, at, event });
    }
    let recorder = if let Some(name) = &args.demo {
        of_demo(name, recorder)?
    } else if args.paths.is_empty() {
        super::runtime()?.block_on(of_cluster(args, recorder))?
    } else {
        of_paths(&args.paths, recorder)?
    };
    let summary = recorder.close().context("what was seen can't be kept")?;
    Ok((Some(spool), path, summary.redactor))
}

fn of_paths(paths: &[PathBuf], mut recorder: Recorder) -> anyhow::Result<Recorder> {
    let inputs = Inputs::find(paths)?;
    let names: Vec<String> = paths.iter().map(|p| Path::display(p).to_string()).collect();
    let session = Session {
        feed: Feed::Files,
        workload: Some(names.join(" ")),
        ..Session::default()
    };
    let mut keep = |event: Event| {
        let at = 0;
        recorder.keep_all(&Stamped { seq: 0, at, event });
        ControlFlow::Continue(())
    };
    let _ = keep(Event::Session(session));
    read_all(&inputs, 0, &Arc::new(Progress::default()), &mut keep)?;
    Ok(recorder)
}

fn of_demo(name: &str, mut recorder: Recorder) -> anyhow::Result<Recorder> {
    for (at, event) in sim::events(&sim::load(name)?) {
        recorder.keep_all(&Stamped { seq: 0, at, event });
    }
    Ok(recorder)
}

async fn of_cluster(args: &BundleArgs, recorder: Recorder) -> anyhow::Result<Recorder> {
    let options = args.cluster.options(args.workload.clone());
    // What is recorded is read again before it is written anywhere: nobody has to listen here.
    let mut keeper = Keeper {
        recorder: Some(recorder),
        redactor: Redactor::off(),
    };
    let setup = args.access.setup(false);
    let usual = StallArgs::default();
    let seen = headless::observe(options, setup, args.timeout, &usual, &mut keeper);
    let (_, _, notes) = seen.await.map_err(|e| anyhow!(e))?;
    for note in notes {
        let note = crate::parse::clean(note.as_bytes());
        let _ = writeln!(io::stderr(), "ncclscope: {note}");
    }
    keeper
        .recorder
        .ok_or_else(|| anyhow!("nothing was recorded"))
}

/// Arguments that make a bundle of what this process shows: of its recording if it makes one, else of the same
/// cluster, logs or scenario, looked at anew.
#[must_use]
pub fn again(out: &Path, session: &Session) -> Option<Vec<OsString>> {
    let cli = Cli::try_parse().ok()?;
    let mut args: Vec<OsString> = vec!["bundle".into(), out.into()];
    let keep = match &cli.verb {
        None => &cli.live.screen.keep,
        Some(Verb::Open(open)) => &open.screen.keep,
        Some(Verb::Demo(demo)) => &demo.screen.keep,
        Some(Verb::Replay(replay)) => &replay.screen.keep,
        Some(Verb::Local(local)) => &local.screen.keep,
        Some(_) => return None,
    };
    if keep.no_redact {
        args.push("--no-redact".into());
    }
    match (&keep.record, cli.verb.as_ref()) {
        (Some(recording), _) => args.push(recording.into()),
        (None, Some(Verb::Open(open))) => args.extend(open.paths.iter().map(Into::into)),
        (None, Some(Verb::Replay(replay))) => args.push((&replay.file).into()),
        // What NVML said is past.
        (None, Some(Verb::Local(_))) => return None,
        (None, Some(Verb::Demo(demo))) => args.extend(
            demo.scenario
                .iter()
                .take(1)
                .flat_map(|name| ["--demo".into(), name.into()]),
        ),
        (None, _) => {
            let cluster = &cli.live.cluster;
            let mut flag = |name: &str, value: Option<OsString>| {
                if let Some(value) = value {
                    args.extend([name.into(), value]);
                }
            };
            flag("--context", session.context.clone().map(Into::into));
            flag("--namespace", session.namespace.clone().map(Into::into));
            flag("--kubeconfig", cluster.kubeconfig.clone().map(Into::into));
            flag("--as", cluster.impersonate.clone().map(Into::into));
            for group in &cluster.impersonate_groups {
                flag("--as-group", Some(group.into()));
            }
            // What was said yes to here holds for the archive of it.
            if session.level >= Level::Probe {
                flag("--probes", Some("always".into()));
            }
            match &cluster.selector {
                Some(selector) => flag("--selector", Some(selector.into())),
                None => flag("--workload", session.workload.clone().map(Into::into)),
            }
        }
    }
    Some(args)
}

/// Makes that bundle in a process of its own, and gives the sentence that it ends with.
///
/// # Errors
/// The sentence that it failed with.
pub async fn make(args: Vec<OsString>) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let done = tokio::process::Command::new(program)
        .args(args)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| e.to_string())?;
    let said = |bytes: &[u8]| crate::parse::clean(bytes.trim_ascii());
    if done.status.success() {
        Ok(said(&done.stdout))
    } else {
        Err(said(&done.stderr))
    }
}
