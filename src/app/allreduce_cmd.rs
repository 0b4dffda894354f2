//! `ncclscope allreduce`: shows the manifest, asks, runs the test, grades it, cleans up.
//!
//! Rows go to standard output as they come; everything else goes to standard error.

mod inside;
mod print;
mod workload;

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::args::{ClusterArgs, Format};
use super::record::{self, KeepArgs, Keeper};
use crate::jobs::drive::drive;
use crate::jobs::options::TestArgs;
use crate::jobs::plan::{Plan, plan};
use crate::jobs::{clean, prepare, room, submit};
use crate::model::event::{Event, Level, Stamped};
use crate::model::testrun::{Ending, Planned, TestEvent, TestRun};
use crate::rules::busbw::Table;
use crate::rules::scene::Scene;
use crate::rules::testing::judge;
use crate::sources::cluster::{self, ClusterOptions, Connection};
use crate::sources::gate::{Action, Decision, Gate, Permit, Policy, Setup};
use print::{Printer, Say};
use workload::Workload;

/// Could not run.
const FAILED: u8 = 2;

/// Arguments of `allreduce`.
#[derive(Debug, clap::Args)]
pub struct AllreduceArgs {
    /// Workload whose image, network and nodes are tested, as NAME or KIND/NAME; found by itself where there is only one
    #[arg(value_name = "WORKLOAD")]
    pub workload: Option<String>,
    /// What is tested.
    #[command(flatten)]
    pub test: TestArgs,
    /// Print the whole manifest, create nothing
    #[arg(long, conflicts_with_all = ["record", "inside"])]
    pub dry_run: bool,
    /// Remove what tests left behind, by label, in this namespace
    #[arg(long, conflicts_with_all = ["dry_run", "workload", "record", "inside"])]
    pub clean: bool,
    /// Do not ask; needed where there is no terminal
    #[arg(short, long)]
    pub yes: bool,
    /// Look and never touch: nothing is created
    #[arg(long, env = "NCCLSCOPE_READ_ONLY")]
    pub read_only: bool,
    /// Form of rows and verdict; json: a line for each row, failure and phase, the verdict last
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What is kept.
    #[command(flatten)]
    pub keep: KeepArgs,
}

/// Runs the command. Exit codes: 0 good or bearable, 1 below or wrong, 2 could not run, 3 not decided; 130 after SIGINT.
pub fn run(args: &AllreduceArgs) -> anyhow::Result<ExitCode> {
    let own = args.test.table().map_err(|e| anyhow!(e))?;
    let table = match &own {
        None => Table::bundled(),
        Some(text) => Table::read(text).map_err(|e| anyhow!(e))?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no runtime")?;
    let code = runtime.block_on(whole(args, own, &table));
    // Somebody may still sit in a read of the terminal.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code.map(ExitCode::from)
}

async fn whole(args: &AllreduceArgs, own: Option<Arc<str>>, table: &Table) -> anyhow::Result<u8> {
    let options = args.cluster.options(args.workload.clone());
    if args.test.inside {
        return inside::run(args, table).await;
    }
    let link = cluster::connect(&options).await?;
    let mut gate = Gate::new(Setup {
        probes: Policy::Never,
        // `--yes` is the answer, given beforehand.
        attended: args.yes || io::stdin().is_terminal(),
        locked: args.read_only,
        ..Setup::default()
    });
    if args.clean {
        return clean_up(args, &link, &mut gate).await;
    }
    let (workload, pods) = prepare::workload(&link, &options).await?;
    let wish = args.test.wish(prepare::run_name(), &workload.name);
    let mut plan = plan(&pods, &wish)?;
    prepare::preemption(&link, &mut plan).await;
    if args.dry_run {
        for warning in &plan.warnings {
            complain(&format!("warning: {warning}"));
        }
        let shown = io::stdout().write_all(plan.yaml(false).as_bytes());
        return match shown {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e).context("standard output"),
            _ => Ok(0),
        };
    }
    // Before somebody says yes to what could not be kept.
    let mut keeper = args.keep.keeper("allreduce")?;
    let options = ClusterOptions {
        chosen: Some(workload.clone()),
        ..options
    };
    let session = options.session(&link, Level::Act, args.read_only);
    keep(&mut keeper, Event::Session(session));
    keep(&mut keeper, Event::Workloads(vec![workload]));
    let asked = Asked {
        args,
        link: &link,
        options,
        plan: &plan,
        own,
        table,
    };
    let code = asked.run(&mut gate, &mut keeper).await;
    keeper.close(&args.keep)?;
    code
}

/// A test that is asked for.
struct Asked<'a> {
    args: &'a AllreduceArgs,
    link: &'a Connection,
    /// With the workload that was found.
    options: ClusterOptions,
    plan: &'a Plan,
    /// The user's table as its file says it.
    own: Option<Arc<str>>,
    table: &'a Table,
}

impl Asked<'_> {
    /// Asks, and runs the test; the exit code.
    async fn run(self, gate: &mut Gate, keeper: &mut Keeper) -> anyhow::Result<u8> {
        let (link, plan) = (self.link, self.plan);
        let room = room::room(link, plan).await;
        let Some(permit) = allowed(self.args, link, plan, &room, gate).await? else {
            return Ok(FAILED);
        };
        // What the workload itself chose is read while the test runs.
        let mut workload = if plan.gpus == 0 {
            Workload::unread()
        } else {
            Workload::begin(link, self.options)
        };
        let mut printer = Printer::new(self.args.format);
        let mut planned = plan.planned();
        planned.table = self.own;
        let driving = Driving {
            link,
            plan,
            planned,
            permit: &permit,
        };
        let (run, ending, interrupted) =
            measure(driving, &mut workload, &mut printer, keeper).await?;
        gate.done(&permit, &format!("{ending:?}"));
        let scene = workload.scene();
        let (verdict, compared) = judge(&scene, &Scene::of(&run.world), &run, self.table);
        let known = scene.matrices.iter().any(|m| !m.cells.is_empty());
        if plan.gpus > 0 && !known {
            complain("the workload's own transports are not known: its logs name none");
        }
        let mut say = Say(&mut keeper.redactor);
        printer.verdict(&plan.planned(), &run, &verdict, &compared, &mut say);
        Ok(interrupted.unwrap_or(verdict.grade.code()))
    }
}

fn keep(keeper: &mut Keeper, event: Event) {
    let at = record::now();
    keeper.keep(&Stamped { seq: 0, at, event });
}

/// Shows what will be created, and asks. `None` where the answer is no.
async fn allowed(
    args: &AllreduceArgs,
    link: &Connection,
    plan: &Plan,
    room: &[String],
    gate: &mut Gate,
) -> anyhow::Result<Option<Permit>> {
    let decision = gate.ask(submit::action(plan), record::now());
    let question = match decision {
        Decision::Go(permit) => return Ok(Some(permit)),
        Decision::Ask(question) => question,
        Decision::No(refusal) => bail!(
            "{refusal}{}",
            if args.read_only {
                ""
            } else {
                "; --yes is the answer where there is no terminal, --dry-run shows the manifest"
            }
        ),
    };
    // Better said now than after half of it was created.
    let missing = match prepare::missing_rules(link, plan).await {
        Ok(missing) => missing,
        Err(t) => {
            complain(&format!("warning: what we may do is not known: {}", t.text));
            Vec::new()
        }
    };
    if !missing.is_empty() {
        bail!(
            "not allowed in namespace {}: {}. A role with these rules is needed to run the test",
            plan.namespace,
            missing.join(", ")
        );
    }
    complain(&plan.yaml(true));
    for warning in &plan.warnings {
        complain(&format!("warning: {warning}"));
    }
    for full in room {
        complain(&format!("room: {full}"));
    }
    if !room.is_empty() {
        complain(&format!("room: {}", room::OFFERS));
    }
    let cluster = link.context().unwrap_or_else(|| link.server());
    let ask = format!(
        "{} In cluster {cluster}, namespace {}, on {}. [y/N] ",
        question.text,
        plan.namespace,
        if plan.nodes.is_empty() {
            "any node that suits".to_owned()
        } else {
            plan.nodes.join(", ")
        }
    );
    let yes = args.yes || answer(&ask).await?;
    match gate.answer(question.number, yes, record::now()) {
        Ok(permit) => Ok(Some(permit)),
        Err(refusal) => {
            complain(&format!("ncclscope: {refusal}: nothing was created"));
            Ok(None)
        }
    }
}

/// What is driven, with leave for it.
struct Driving<'a> {
    link: &'a Connection,
    plan: &'a Plan,
    planned: Planned,
    permit: &'a Permit,
}

/// Creates, follows, and cleans up whatever happens.
async fn measure(
    driving: Driving<'_>,
    workload: &mut Workload,
    printer: &mut Printer,
    keeper: &mut Keeper,
) -> anyhow::Result<(TestRun, Ending, Option<u8>)> {
    let Driving {
        link,
        plan,
        planned,
        permit,
    } = driving;
    let mut run = TestRun::default();
    // Signals first: from here on there may be something to remove.
    let cancel = CancellationToken::new();
    let mut signals = Signals::new()?;
    let caught = {
        let cancel = cancel.clone();
        tokio::spawn(async move {
            let code = signals.next().await;
            cancel.cancel();
            complain("cleaning up; once more to leave at once");
            tokio::spawn(async move {
                let code = signals.next().await;
                complain(
                    "left before everything was removed: its deadline ends the Job, and what it owns goes with it",
                );
                std::process::exit(i32::from(code));
            });
            code
        })
    };
    let (tx, mut rx) = mpsc::channel(64);
    let mut driving = std::pin::pin!(drive(link, plan, planned, permit, &tx, &cancel));
    let mut see = |event: TestEvent, run: &mut TestRun, keeper: &mut Keeper| {
        if let TestEvent::Cleaned(left) = &event {
            printer.cleaned(plan, left, &mut Say(&mut keeper.redactor));
        }
        keep(keeper, Event::Test(event.clone()));
        run.apply(event, record::now());
        // Whoever read the rows has gone: there is nobody to measure for.
        if !printer.news(run, &mut Say(&mut keeper.redactor)) {
            cancel.cancel();
        }
    };
    let ending = loop {
        tokio::select! {
            biased;
            Some(event) = rx.recv() => see(event, &mut run, keeper),
            ending = &mut driving => break ending,
            said = workload.next() => if let Some(event) = said {
                workload.take(event, keeper);
            },
        }
    };
    while let Ok(event) = rx.try_recv() {
        see(event, &mut run, keeper);
    }
    // Everything is removed by now: a short test waits for no more than what it is held against.
    tokio::select! {
        () = cancel.cancelled() => {}
        () = workload.finish(keeper) => {}
    }
    let ending = match ending {
        Ok(ending) => ending,
        Err(t) => bail!("{}: {}", plan.objects().join(", "), t.text),
    };
    let interrupted = if cancel.is_cancelled() && caught.is_finished() {
        caught.await.ok()
    } else {
        None
    };
    Ok((run, ending, interrupted))
}

/// Finds what tests left behind and removes it.
async fn clean_up(args: &AllreduceArgs, link: &Connection, gate: &mut Gate) -> anyhow::Result<u8> {
    if args.read_only {
        bail!("locked: --read-only allows looking and nothing else");
    }
    let found = clean::left_overs(link, link.namespace())
        .await
        .map_err(|t| anyhow!(t.text))?;
    if found.is_empty() {
        complain(&format!(
            "nothing of ours is in namespace {}",
            link.namespace()
        ));
        return Ok(0);
    }
    for test in &found {
        let state = if test.active {
            "still runs or waits: it may be somebody else's"
        } else {
            "over"
        };
        let since = test
            .created
            .map(|t| format!(", created {}", t.round(jiff::Unit::Second).unwrap_or(t)))
            .unwrap_or_default();
        complain(&format!("{}/{}{since}: {state}", test.namespace, test.name));
    }
    let cluster = link.context().unwrap_or_else(|| link.server());
    let ask = format!(
        "Delete these {} in cluster {cluster}, namespace {}? [y/N] ",
        found.len(),
        link.namespace()
    );
    if !args.yes {
        if !io::stdin().is_terminal() {
            bail!("nobody can be asked here; --yes is the answer");
        }
        if !answer(&ask).await? {
            complain("nothing was deleted");
            return Ok(FAILED);
        }
    }
    let mut left = Vec::new();
    for test in found {
        let object = format!("job/{}/{}", test.namespace, test.name);
        let Decision::Go(permit) = gate.ask(Action::CleanUp { object }, record::now()) else {
            continue;
        };
        let rest = clean::run(link, &test.namespace, &test.name).await;
        gate.done(&permit, "deleted");
        left.extend(rest);
    }
    if left.is_empty() {
        complain("all gone");
        return Ok(0);
    }
    bail!("still there: {}", left.join(", "))
}

/// Asks on standard error. An end of input is no.
async fn answer(question: &str) -> anyhow::Result<bool> {
    let said = line(question).await?;
    Ok(matches!(
        said.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

/// Asks on standard error, and gives the line that was typed.
async fn line(question: &str) -> anyhow::Result<String> {
    let mut err = io::stderr();
    let _ = write!(err, "{}", crate::parse::clean(question.as_bytes()));
    let _ = write!(err, " ");
    let _ = err.flush();
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    line.await.context("no answer")?.context("no answer")
}

/// What ends us: SIGINT, SIGTERM, and the terminal that goes away.
struct Signals {
    int: tokio::signal::unix::Signal,
    term: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one, as an exit code.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.int.recv() => 130,
            _ = self.term.recv() => 143,
            _ = self.hup.recv() => 129,
        }
    }
}

/// A message for the person, line by line; nobody to read it is no reason to fail.
fn complain(message: &str) {
    let mut err = io::stderr().lock();
    for line in message.lines() {
        // Manifests keep their indentation.
        let safe: String = line.chars().filter(|c| !c.is_control()).collect();
        let _ = writeln!(err, "{safe}");
    }
}
