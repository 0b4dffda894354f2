//! `ncclscope report`: sources in, report out, the verdict as exit code.

use std::cell::RefCell;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::args::{AccessArgs, ClusterArgs, StallArgs};
use super::headless;
use super::record::{KeepArgs, Keeper};
use crate::model::event::{Event, Feed, Session, Stamped};
use crate::model::{Model, update};
use crate::parse::Nanos;
use crate::report::redact::Redactor;
use crate::report::{FailOn, Report, exit_code, html, json, junit, markdown, text};
use crate::rules::scene::Scene;
use crate::sources::files::{Inputs, Progress, read_all};
use crate::sources::recording::{self, Reader};

/// Could not run.
const FAILED_TO_RUN: u8 = 2;

/// Ended by SIGINT.
const INTERRUPTED: i32 = 130;

/// How often the progress line is written.
const PROGRESS: Duration = Duration::from_millis(100);

/// Form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For a person.
    #[default]
    Text,
    /// For a ticket.
    Markdown,
    /// For a program: schema `ncclscope.report/v1`.
    Json,
    /// For a pipeline: checks and findings as test cases.
    Junit,
    /// One page for a browser or a printer, with nothing outside it.
    Html,
}

/// Arguments of `report`.
#[derive(Debug, Clone, clap::Args)]
pub struct ReportArgs {
    /// Log files and folders, gzip or zstd compressed or not; a recording or a bundle; `-` for standard input
    #[arg(value_name = "PATH", required_unless_present_any = ["workload", "selector", "namespace", "context"])]
    pub paths: Vec<PathBuf>,
    /// Instead of paths: a workload of a cluster, as NAME or KIND/NAME. `-l` does the same for a selector, and `-n` alone
    /// where there is only one
    #[arg(long, value_name = "[KIND/]NAME", conflicts_with = "paths")]
    pub workload: Option<String>,
    /// Look at a cluster for so long at most: 20s, 2m. It is less where nothing new comes for two seconds
    #[arg(long, value_name = "DURATION", value_parser = headless::duration, default_value = "20s")]
    pub timeout: Duration,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How far it may go.
    #[command(flatten)]
    pub access: AccessArgs,
    /// Form of the report
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
    /// From which severity on a degraded workload ends with exit code 1; `failed`: the verdict failed alone
    #[arg(long, value_enum, default_value_t, value_name = "SEVERITY")]
    pub fail_on: FailOn,
    /// Threads that parse; 0 is one per core. The report does not depend on it
    #[arg(short = 'j', long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// What is kept.
    #[command(flatten)]
    pub keep: KeepArgs,
    /// When somebody is suspected.
    #[command(flatten)]
    pub stall: StallArgs,
}

/// Runs the command. Exit codes: 0, 1 by verdict, 2 could not run, 3 unknown; 130 after SIGINT.
#[must_use]
pub fn run(args: &ReportArgs) -> ExitCode {
    end_on_interrupt();
    let (model, at, redactor) = match recorded(args) {
        Ok(observed) => observed,
        Err(e) => {
            complain(&format!("ncclscope: {e:#}"));
            return ExitCode::from(FAILED_TO_RUN);
        }
    };
    let scene = Scene::of(&model);
    match print(args, &model, &scene, at, redactor) {
        Ok(()) => ExitCode::from(exit_code(&scene, args.fail_on)),
        // Whoever read it has seen enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            complain(&format!("ncclscope: the report can't be written: {e}"));
            ExitCode::from(FAILED_TO_RUN)
        }
    }
}

/// What was seen and when, the recording of it, and what knows every secret that was named in it.
fn recorded(args: &ReportArgs) -> anyhow::Result<(Model, Option<Nanos>, Redactor)> {
    let mut keeper = args.keep.keeper("report")?;
    let seen = if args.paths.is_empty() {
        ask(args, &mut keeper).map(|(model, at)| (model, Some(at)))
    } else {
        observe(args, &mut keeper).map(|model| (model, None))
    };
    let redactor = keeper.close(&args.keep)?;
    seen.map(|(model, at)| (model, at, redactor))
}

/// Folds all sources into a model; notes go to standard error.
fn observe(args: &ReportArgs, keeper: &mut Keeper) -> anyhow::Result<Model> {
    if let [path] = args.paths.as_slice()
        && recording::is_recording(path)
    {
        return replayed(path, args, keeper);
    }
    let inputs = Inputs::find(&args.paths)?;
    for skipped in &inputs.skipped {
        complain(&format!("skipped {skipped}"));
    }
    let mut model = Model::default();
    args.stall.set(&mut model, &mut keeper.recorder);
    let mut seq = 0;
    let mut fold = |event: Event| {
        seq += 1;
        // Time comes from the lines.
        let stamped = Stamped { seq, at: 0, event };
        keeper.keep(&stamped);
        update(&mut model, stamped);
        ControlFlow::Continue(())
    };
    let names: Vec<String> = args
        .paths
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let session = Session {
        feed: Feed::Files,
        workload: Some(names.join(" ")),
        ..Session::default()
    };
    let _ = fold(Event::Session(session));
    let progress = Arc::new(Progress::default());
    let done = AtomicBool::new(false);
    let totals = thread::scope(|scope| {
        let line = io::stderr().is_terminal().then(|| {
            let (inputs, progress, done) = (&inputs, &progress, &done);
            scope.spawn(move || show_progress(inputs, progress, done))
        });
        let totals = read_all(&inputs, args.threads, &progress, &mut fold);
        done.store(true, Ordering::Release);
        if let Some(line) = line {
            line.thread().unpark();
        }
        totals
    })?;
    for note in &totals.notes {
        complain(note);
    }
    if totals.cut > 0 {
        let s = if totals.cut == 1 { " was" } else { "s were" };
        complain(&format!(
            "{} line{s} longer than {} MiB and lost the rest",
            totals.cut,
            crate::sources::files::LINE_BYTES >> 20
        ));
    }
    Ok(model)
}

/// Folds a recording: with its own times, to its end.
fn replayed(path: &Path, args: &ReportArgs, keeper: &mut Keeper) -> anyhow::Result<Model> {
    let mut reader = Reader::open(path)?;
    let mut model = Model::default();
    args.stall.set(&mut model, &mut keeper.recorder);
    for (seq, entry) in (1..).zip(&mut reader) {
        let stamped = Stamped {
            seq,
            at: entry.at,
            event: entry.event,
        };
        keeper.keep(&stamped);
        update(&mut model, stamped);
    }
    if let Some(missing) = reader.loss().sentence() {
        complain(&format!("{}: {missing}", path.display()));
    }
    Ok(model)
}

/// Asks a cluster; what was not reached goes to standard error.
fn ask(args: &ReportArgs, keeper: &mut Keeper) -> anyhow::Result<(Model, Nanos)> {
    let runtime = super::runtime()?;
    let options = args.cluster.options(args.workload.clone());
    let setup = args.access.setup(false);
    let seen = headless::observe(options, setup, args.timeout, &args.stall, keeper);
    let (model, at, notes) = runtime.block_on(seen).map_err(|e| anyhow!(e))?;
    for note in &notes {
        complain(note);
    }
    // Its connections hold nothing that must be waited for.
    runtime.shutdown_background();
    Ok((model, at))
}

fn print(
    args: &ReportArgs,
    model: &Model,
    scene: &Scene,
    at: Option<Nanos>,
    redactor: Redactor,
) -> io::Result<()> {
    let stdout = io::stdout();
    let colour = stdout.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let mut out = BufWriter::with_capacity(1 << 16, stdout.lock());
    let mut redactor = RefCell::new(redactor);
    match args.format {
        Format::Json => json::write(&mut out, &Report::of(scene, at), &redactor)?,
        Format::Text => {
            let mut page = Vec::new();
            text::write(&mut page, scene, text::Style { colour })?;
            out.write_all(&redactor.into_inner().bytes(&page))?;
        }
        Format::Markdown => markdown::write(&mut out, scene, redactor.get_mut())?,
        Format::Junit => junit::write(&mut out, scene, args.fail_on, redactor.get_mut())?,
        Format::Html => html::write(&mut out, scene, model, redactor.get_mut())?,
    }
    out.flush()
}

/// A message for the person; nobody to read it is no reason to fail.
fn complain(message: &str) {
    let message = crate::parse::clean(message.as_bytes());
    let _ = writeln!(io::stderr(), "{message}");
}

/// One line that is written over, until `done`.
fn show_progress(inputs: &Inputs, progress: &Progress, done: &AtomicBool) {
    let start = Instant::now();
    let total = inputs.sized().then(|| inputs.raw_bytes());
    let mut shown = false;
    while !done.load(Ordering::Acquire) {
        thread::park_timeout(PROGRESS);
        let read = progress.raw();
        let rate = read as f64 / start.elapsed().as_secs_f64();
        let of = total
            .map(|total| format!(" of {}", bytes(total as f64)))
            .unwrap_or_default();
        let _ = write!(
            io::stderr(),
            "\r\x1b[Kread {}{of}, {}/s",
            bytes(read as f64),
            bytes(rate)
        );
        shown = true;
    }
    if shown {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}

fn bytes(n: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut n = n;
    let mut unit = "B";
    for next in units {
        unit = next;
        if n < 1024.0 {
            break;
        }
        n /= 1024.0;
    }
    if unit == "B" {
        format!("{n:.0} B")
    } else {
        format!("{n:.1} {unit}")
    }
}

/// Ends with 130 on SIGINT, however deep a read of a pipe hangs.
pub(super) fn end_on_interrupt() {
    let watch = || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
        else {
            return;
        };
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            if io::stderr().is_terminal() {
                let _ = write!(io::stderr(), "\r\x1b[K");
            }
            std::process::exit(INTERRUPTED);
        }
    };
    // Without the thread SIGINT still ends the process, as the system does it.
    let _ = thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch);
}
