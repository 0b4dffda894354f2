//! `ncclscope wait`: blocks until the workload is where it should be, or can't get there any more.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::args::{ClusterArgs, StallArgs};
use super::headless;
use super::record::{self, KeepArgs, Keeper};
use crate::model::event::{Event, Level, Session, Stamped};
use crate::model::{Model, update};
use crate::parse::Nanos;
use crate::rules::scene::{NcclStep, Scene, Stage, Verdict};
use crate::sources::cluster::{self, ClusterOptions};

/// Ended by SIGINT.
const INTERRUPTED: u8 = 130;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Goal {
    /// Every expected rank serves.
    Serving,
    /// Every rank is through NCCL's init.
    Nccl,
    /// The workload can't go on without someone acting.
    Failed,
}

/// Arguments of `wait`.
#[derive(Debug, Clone, clap::Args)]
pub struct WaitArgs {
    /// What to wait for
    #[arg(long = "for", value_enum, value_name = "STATE")]
    pub goal: Goal,
    /// How long: `90s`, `20m`, `1h`
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = headless::duration)]
    pub timeout: Duration,
    /// Workload as [KIND/]NAME; found by itself where there is only one
    #[arg(long, help_heading = "Cluster", value_name = "WORKLOAD")]
    pub workload: Option<String>,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What is kept.
    #[command(flatten)]
    pub keep: KeepArgs,
    /// When somebody is suspected.
    #[command(flatten)]
    pub stall: StallArgs,
}

/// What is waited for, how long, and where.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What to wait for.
    pub goal: Goal,
    /// How long.
    pub timeout: Duration,
    /// What is looked at.
    pub session: Session,
    /// When somebody is suspected.
    pub stall: StallArgs,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The goal is reached; a sentence.
    Reached(String),
    /// It can no longer be reached; why.
    Lost(String),
    /// Time is over; where it stands.
    TimedOut(String),
    /// Nothing feeds it any more; why it could not be decided.
    Unfed(String),
}

impl Outcome {
    /// The contract's exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Reached(_) => 0,
            Self::Lost(_) => 1,
            Self::Unfed(_) => 2,
            Self::TimedOut(_) => 3,
        }
    }
}

/// Whether the goal is reached.
#[must_use]
pub fn reached(goal: Goal, scene: &Scene) -> bool {
    match goal {
        Goal::Failed => scene.verdict == Verdict::Failed,
        Goal::Serving => serving(scene),
        Goal::Nccl => nccl(scene),
    }
}

fn serving(scene: &Scene) -> bool {
    let ranks = || scene.processes.iter().filter(|p| p.global_rank.is_some());
    let there = ranks()
        .filter(|p| p.stage == Some(Stage::Serving) && p.alive != Some(false))
        .count();
    let expected: u32 = scene
        .workloads
        .iter()
        .filter_map(|w| w.expected_ranks)
        .sum();
    let expected = (expected as usize).max(ranks().count());
    if expected == 0 {
        // A front end alone: it answers when its ranks do.
        return scene
            .processes
            .iter()
            .any(|p| p.stage == Some(Stage::Serving) && p.alive != Some(false));
    }
    there >= expected
}

fn nccl(scene: &Scene) -> bool {
    let open = scene
        .processes
        .iter()
        .any(|p| p.nccl_open.is_some() || p.nccl_step < p.nccl_step.map(|_| NcclStep::Completion));
    let speaks = scene.processes.iter().any(|p| p.stage.is_some());
    if speaks {
        // The load begins when the last group is there; whoever is behind that holds it up.
        let ranks = || scene.processes.iter().filter(|p| p.global_rank.is_some());
        let behind = ranks().any(|p| p.stage < Some(Stage::NcclInit));
        let beyond = scene
            .processes
            .iter()
            .any(|p| p.stage > Some(Stage::NcclInit));
        return beyond && !behind && !open;
    }
    !scene.communicators.is_empty()
        && !open
        && scene.communicators.iter().all(|c| c.unseen_count == 0)
}

/// How many ranks are where: `7 in weights, 1 in nccl-init`.
fn census(scene: &Scene) -> String {
    let mut counts: Vec<(Stage, usize)> = Vec::new();
    for stage in scene
        .processes
        .iter()
        .filter(|p| p.global_rank.is_some())
        .filter_map(|p| p.stage)
    {
        match counts.iter_mut().find(|(s, _)| *s == stage) {
            Some((_, n)) => *n += 1,
            None => counts.push((stage, 1)),
        }
    }
    counts.sort();
    let parts: Vec<String> = counts
        .iter()
        .map(|(s, n)| format!("{n} in {}", s.word()))
        .collect();
    let still: Vec<u32> = scene
        .processes
        .iter()
        .filter(|p| p.still.is_some_and(|s| !s.waits))
        .filter_map(|p| p.global_rank)
        .collect();
    let bar = scene
        .processes
        .iter()
        .filter_map(|p| p.progress.as_ref())
        .min_by_key(|g| g.done * 1000 / g.total.max(1))
        .map(|g| format!("; {}/{} {}", g.done, g.total, g.unit))
        .unwrap_or_default();
    let mut text = if parts.is_empty() {
        scene.summary.clone()
    } else {
        format!("ranks: {}{bar}", parts.join(", "))
    };
    if !still.is_empty() {
        let list = crate::rules::findings::ranges(&still);
        text.push_str(&format!("; no sign of getting on from rank {list}"));
    }
    text
}

/// A verdict `failed` must hold this long: while old logs arrive, a failure may stand before the start that
/// mended it.
const SETTLE: Duration = Duration::from_secs(5);
/// How often it is looked at, and how often at most something is said.
const LOOK: Duration = Duration::from_millis(500);

/// Folds events until the goal is reached, lost or out of time. `broken` says why it can't be watched at all, `now`
/// stamps the events, all of them are kept in a recording where one is made, and what changes is said on `out`.
pub async fn until(
    wish: Wish,
    mut bus: mpsc::Receiver<Event>,
    keeper: &mut Keeper,
    broken: impl Fn(&Model) -> Option<String>,
    now: impl Fn() -> Nanos,
    out: &mut impl Write,
) -> Outcome {
    let goal = wish.goal;
    let mut model = Model::default();
    wish.stall.set(&mut model, &mut keeper.recorder);
    let fold = |model: &mut Model, keeper: &mut Keeper, stamped: Stamped| {
        keeper.keep(&stamped);
        update(model, stamped);
    };
    let stamped = Stamped {
        seq: 0,
        at: now(),
        event: Event::Session(wish.session),
    };
    fold(&mut model, keeper, stamped);
    let end = Instant::now() + wish.timeout;
    let (mut seq, mut seen, mut said) = (0, 0, String::new());
    let mut failed: Option<Instant> = None;
    let mut fed = true;
    loop {
        // Everything that is there goes in before the next look.
        let look = Instant::now() + LOOK;
        loop {
            tokio::select! {
                biased;
                event = bus.recv(), if fed => match event {
                    Some(event) => {
                        seq += 1;
                        fold(&mut model, keeper, Stamped { seq, at: now(), event });
                    }
                    None => fed = false,
                },
                () = sleep_until(look.min(end)) => break,
            }
        }
        seq += 1;
        let tick = Stamped {
            seq,
            at: now(),
            event: Event::Tick,
        };
        fold(&mut model, keeper, tick);
        if let Some(why) = broken(&model) {
            return Outcome::Unfed(why);
        }
        if model.rev == seen && Instant::now() < end {
            continue;
        }
        seen = model.rev;
        let scene = Scene::of(&model);
        if reached(goal, &scene) && goal != Goal::Failed {
            return Outcome::Reached(scene.summary);
        }
        if scene.verdict == Verdict::Failed {
            let since = *failed.get_or_insert_with(Instant::now);
            if since.elapsed() >= SETTLE || Instant::now() >= end {
                return match goal {
                    Goal::Failed => Outcome::Reached(scene.summary),
                    _ => Outcome::Lost(scene.summary),
                };
            }
        } else {
            failed = None;
        }
        let mut text = census(&scene);
        // Where nothing is seen, why.
        if scene.processes.is_empty()
            && let Some(why) = headless::unreached(&model).first()
        {
            text = format!("{text}; {why}");
        }
        if text != said {
            // Whoever reads it may have gone; waiting goes on.
            let _ = writeln!(out, "{}", keeper.redactor.text(&text));
            said.clone_from(&text);
        }
        if Instant::now() >= end {
            return Outcome::TimedOut(text);
        }
        if !fed && failed.is_none() {
            return Outcome::Unfed(format!("nothing more can be seen of the workload: {text}"));
        }
    }
}

/// Runs the verb. Exit codes: 0 reached, 1 can no longer be reached, 2 could not run, 3 time passed; 130 after SIGINT.
///
/// # Errors
///
/// No runtime, no way to the cluster, or no recording where one is asked for.
pub fn run(args: &WaitArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let mut keeper = args.keep.keeper("wait")?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            biased;
            Ok(()) = tokio::signal::ctrl_c() => Ok(None),
            outcome = over_cluster(args, &mut keeper) => outcome.map(Some),
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    let mut redactor = keeper.close(&args.keep)?;
    let Some(outcome) = outcome? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let text = match &outcome {
        Outcome::Reached(t) => format!("reached: {t}"),
        Outcome::Lost(t) => format!("can no longer be reached: {t}"),
        Outcome::TimedOut(t) => format!("not within the time-out: {t}"),
        Outcome::Unfed(t) => t.clone(),
    };
    let _ = writeln!(std::io::stderr(), "{}", redactor.text(&text));
    Ok(ExitCode::from(outcome.code()))
}

async fn over_cluster(args: &WaitArgs, keeper: &mut Keeper) -> anyhow::Result<Outcome> {
    let options: ClusterOptions = args.cluster.options(args.workload.clone());
    let link = cluster::connect(&options).await?;
    let wish = Wish {
        goal: args.goal,
        timeout: args.timeout,
        session: options.session(&link, Level::Observe, false),
        stall: args.stall.clone(),
    };
    let (tx, bus) = mpsc::channel(1024);
    let cancel = CancellationToken::new();
    let _stop = cancel.clone().drop_guard();
    tokio::spawn(cluster::run(link, options.clone(), tx, cancel));
    let broken = |model: &Model| headless::unwatchable(model, &options);
    let mut out = std::io::stderr();
    Ok(until(wish, bus, keeper, broken, record::now, &mut out).await)
}
