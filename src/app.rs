//! The shell: the only layer that knows everything. A verb is a choice of sources and of an ending.

pub mod allreduce_cmd;
pub mod args;
pub mod bundle;
pub mod bundle_cmd;
pub mod cli;
pub mod config;
pub mod config_cmd;
pub mod doctor_cmd;
pub mod effects;
pub mod encode;
pub mod headless;
pub mod output;
pub mod rbac_cmd;
pub mod record;
pub mod replay_cmd;
pub mod report_cmd;
pub mod runloop;
pub mod stage;
pub mod terminal;
pub mod themes;
pub mod veil;
pub mod wait_cmd;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

use crate::jobs;
use crate::model::Model;
use crate::model::event::{Command, Errand, Event, Feed, Session, Stamped};
use crate::model::kiosk::{Kiosk, Plan};
use crate::model::screen::{PaneId, Screen};
use crate::parse::Nanos;
use crate::sources::cluster::{self, ClusterOptions, Director, Helper};
use crate::sources::gate::Gate;
use crate::sources::podlogs::debugfile;
use crate::sources::{endpoints, files, nvml, recording, sampler, sim};
use crate::theme;
use cli::{Cli, DemoArgs, LiveArgs, LocalArgs, LogArgs, OpenArgs, ScreenArgs, Verb};
use config::Config;
use stage::{Clock, RealStage};
use terminal::Terminal;
use themes::Themes;

/// Events under way between the sources and the loop. Blocks of files are a megabyte: few of them are enough to keep
/// the loop busy, and this is what bounds memory.
const BUS: usize = 32;

/// Longest wait for tests that remove what they created.
const CLEAN_UP: Duration = Duration::from_secs(60);

/// How long the screen waits to hear that the workload that was named does not exist.
const SOON: Duration = Duration::from_millis(1_500);

/// Could not run.
const FAILED: u8 = 2;

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let done = parse().and_then(|(cli, config)| verb(cli, &config));
    match done {
        Ok(code) => code,
        Err(error) => {
            // One sentence; where nobody listens it is lost.
            let _ = writeln!(io::stderr(), "ncclscope: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// The arguments, with the configuration as their defaults: that of the context they name, or of the current one.
fn parse() -> anyhow::Result<(Cli, Config)> {
    let first = Cli::command().get_matches();
    if let Some(word) = verb_for_a_workload(&first) {
        return Err(anyhow!(
            "{word} is a verb, and verbs stand first: `ncclscope {word} …`; a workload of that name is called KIND/{word}"
        ));
    }
    let config = match Config::load() {
        Ok(config) => config,
        // These have to work also where the file is wrong.
        Err(_)
            if matches!(
                first.subcommand_name(),
                Some("config" | "completions" | "man")
            ) =>
        {
            Config::default()
        }
        Err(all) => return Err(anyhow!(all.join("\n"))),
    };
    let context = named_context(&first)
        .or_else(|| config.context().map(str::to_owned))
        .or_else(|| config.has_contexts().then(current_context)?);
    let matches = config
        .over(Cli::command(), context.as_deref())
        .get_matches();
    Ok((Cli::from_arg_matches(&matches)?, config))
}

/// The name of a verb where a workload's was read, because flags stand in front of it.
fn verb_for_a_workload(matches: &ArgMatches) -> Option<String> {
    let word = matches.get_one::<String>("workload")?;
    let cli = Cli::command();
    let mut verbs = cli.get_subcommands();
    verbs.any(|v| v.get_name() == word).then(|| word.clone())
}

/// `--context` of whichever verb.
fn named_context(matches: &ArgMatches) -> Option<String> {
    let here = matches.try_get_one::<String>("context").ok().flatten();
    here.cloned()
        .or_else(|| named_context(matches.subcommand()?.1))
}

/// The context that kubectl would use. Trouble with the file is told by whoever needs it.
fn current_context() -> Option<String> {
    kube::config::Kubeconfig::read().ok()?.current_context
}

fn verb(cli: Cli, config: &Config) -> anyhow::Result<ExitCode> {
    log(&cli.log)?;
    match cli.verb {
        None => live(cli.live),
        Some(Verb::Report(args)) => Ok(report_cmd::run(&args)),
        Some(Verb::Open(args)) => open(args),
        Some(Verb::Local(args)) => local(args),
        Some(Verb::Replay(args)) => replay_cmd::run(&args.file, args.speed, &args.screen),
        Some(Verb::Demo(args)) => demo(args),
        Some(Verb::Wait(args)) => wait_cmd::run(&args),
        Some(Verb::Worker(args)) => Ok(ExitCode::from(crate::worker::run(&args))),
        Some(Verb::Allreduce(args)) => allreduce_cmd::run(&args),
        Some(Verb::Bundle(args)) => bundle_cmd::run(&args),
        Some(Verb::Config { verb }) => config_cmd::run(&verb),
        Some(Verb::Doctor(args)) => doctor_cmd::run(&args, config),
        Some(Verb::Rbac(args)) => rbac_cmd::run(&args),
        Some(Verb::Explain { id }) => explain(id.as_deref()),
        Some(Verb::Completions { shell }) => print(&cli::completions(shell)),
        Some(Verb::Man) => print(&cli::man()?),
    }
}

/// To a file, when asked for; never to the terminal.
fn log(args: &LogArgs) -> anyhow::Result<()> {
    let Some(filter) = &args.log else {
        return Ok(());
    };
    let name = args.log_file.display();
    let filter = EnvFilter::try_new(filter).with_context(|| format!("--log {filter}"))?;
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&args.log_file)
        .with_context(|| name.to_string())?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::sync::Mutex::new(file))
        .try_init()
        .map_err(|e| anyhow!("{name}: {e}"))
}

/// What a finding means; without an id, all of them with a sentence each.
fn explain(id: Option<&str>) -> anyhow::Result<ExitCode> {
    use crate::rules::explain;
    let Some(id) = id else {
        return print(explain::index().as_bytes());
    };
    let found = explain::text(id.trim()).ok_or_else(|| {
        let near = explain::meant(id).map_or_else(String::new, |near| format!("the nearest is {near}; "));
        anyhow!("nothing is called {id:?}: {near}`ncclscope explain` lists findings, checks, advice and variables")
    })?;
    print(found.as_bytes())
}

/// A reader that has seen enough is no error.
fn print(bytes: &[u8]) -> anyhow::Result<ExitCode> {
    match io::stdout().write_all(bytes) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e).context("standard output"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn live(args: LiveArgs) -> anyhow::Result<ExitCode> {
    let mut options = ClusterOptions {
        all_namespaces: args.all_namespaces,
        ..args.cluster.options(args.workload)
    };
    // A wall with a workload of its own shows that one; any other goes round what there is.
    let roams = args.screen.kiosk && options.workload.is_none() && options.selector.is_none();
    if roams {
        options.pick = true;
        options.namespaces = args.kiosk_namespaces;
        options.only = args.kiosk_workloads;
    }
    // Before the terminal is taken: a login plug-in may ask, and a broken kubeconfig is said on a line.
    let runtime = runtime()?;
    let link = runtime.block_on(cluster::connect(&options))?;
    // Nor is a screen taken for a name that nothing has, where that can be known soon. A wall waits for it.
    let missing = cluster::missing(&link, &options, args.screen.kiosk);
    let look = async { tokio::time::timeout(SOON, missing).await };
    if let Ok(Some(why)) = runtime.block_on(look) {
        return Err(anyhow!(why));
    }
    // Nobody sits in front of a wall: what would be asked there is not done.
    let setup = args.access.setup(!args.screen.kiosk);
    let session = options.session(&link, Gate::new(setup.clone()).level(), setup.locked);
    screen(
        runtime,
        &args.screen,
        session,
        Clock::Wall,
        move |bus, errands| {
            let cancel = CancellationToken::new();
            let tests = TaskTracker::new();
            // Who works inside the pods beside watching them.
            let helpers: Vec<Helper> = vec![
                cluster::checks::helper(),
                cluster::configfile::helper(),
                jobs::helper::helper(tests.clone()),
                sampler::helper(),
                debugfile::helper(),
                endpoints::helper(),
            ];
            let director = Director::new(link, options, setup, helpers, bus);
            tokio::spawn(director.run(errands, cancel.clone()));
            Ok(Box::new(OverCluster { cancel, tests }))
        },
    )
}

/// A cluster that feeds the screen, and tests under way there.
struct OverCluster {
    cancel: CancellationToken,
    tests: TaskTracker,
}

/// Lets go of whatever fed the screen; tests are waited for while they remove what they created.
async fn leave(source: Source) {
    let Ok(cluster) = source.downcast::<OverCluster>() else {
        return;
    };
    cluster.cancel.cancel();
    cluster.tests.close();
    if cluster.tests.is_empty() {
        return;
    }
    // Where the terminal is gone nobody reads it, and the work is done all the same. One that takes no byte any more
    // would keep us for ever: it is written on the side and not waited for.
    tokio::task::spawn_blocking(|| {
        writeln!(
            io::stderr(),
            "removing the all-reduce test; ctrl-c leaves at once, then its deadline ends it"
        )
    });
    tokio::select! {
        () = cluster.tests.wait() => {}
        _ = tokio::signal::ctrl_c() => {}
        () = tokio::time::sleep(CLEAN_UP) => {}
    }
}

fn open(args: OpenArgs) -> anyhow::Result<ExitCode> {
    if let [path] = args.paths.as_slice()
        && recording::is_recording(path)
    {
        // As a log is opened: what it says in the end. Keys go back from there.
        return replay_cmd::run(path, 0.0, &args.screen);
    }
    // Before the terminal is taken: what can't be read is said on a line, not on a screen.
    let inputs = files::Inputs::find(&args.paths)?;
    let paths: Vec<String> = args.paths.iter().map(|p| p.display().to_string()).collect();
    let session = Session {
        feed: Feed::Files,
        workload: Some(paths.join(" ")),
        ..Session::default()
    };
    screen(
        runtime()?,
        &args.screen,
        session,
        Clock::Events(0),
        move |bus, _| {
            for skipped in &inputs.skipped {
                tracing::info!(skipped, "not a log");
            }
            Ok(Box::new(files::follow(inputs, args.follow, bus)?))
        },
    )
}

fn local(mut args: LocalArgs) -> anyhow::Result<ExitCode> {
    // Before the terminal is taken: what is missing here is said on a line.
    let gpus = nvml::load().map_err(|why| anyhow!(why))?;
    let inputs = match args.paths.as_slice() {
        [] => None,
        paths => Some(files::Inputs::find(paths)?),
    };
    if args.screen.pane == PaneId::Overview.id() {
        // Memory first, where there may be no log at all.
        args.screen.pane = PaneId::Vram.id().into();
    }
    let paths: Vec<String> = args.paths.iter().map(|p| p.display().to_string()).collect();
    let session = Session {
        feed: Feed::Local,
        workload: Some(paths.join(" ")).filter(|p| !p.is_empty()),
        ..Session::default()
    };
    screen(
        runtime()?,
        &args.screen,
        session,
        Clock::Wall,
        move |bus, _| {
            let following = match inputs {
                Some(inputs) => Some(files::follow(inputs, true, bus.clone())?),
                None => None,
            };
            Ok(Box::new((gpus.watch(bus), following)))
        },
    )
}

fn demo(args: DemoArgs) -> anyhow::Result<ExitCode> {
    if args.list {
        let list = sim::list();
        let width = list.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines: Vec<String> = list
            .iter()
            .map(|(name, about)| format!("{name:width$}  {about}\n"))
            .collect();
        return print(lines.concat().as_bytes());
    }
    let mut scenarios = Vec::new();
    for name in &args.scenario {
        scenarios.push(sim::load(name)?);
    }
    if scenarios.len() > 1 && !args.screen.kiosk {
        return Err(anyhow!("one scenario at a time, but with --kiosk"));
    }
    let scenario = scenarios.first().cloned().context("no scenario")?;
    let speed = args.speed;
    let clock = if speed > 0.0 {
        Clock::Scenario {
            start: scenario.start_ns(),
            begun: Instant::now(),
            speed,
        }
    } else {
        // What comes at once brings its own time with it.
        Clock::Events(scenario.start_ns())
    };
    let session = sim::session(&scenario);
    let kiosk = args.screen.kiosk;
    screen(
        runtime()?,
        &args.screen,
        session,
        clock,
        move |bus, errands| {
            if kiosk {
                tokio::spawn(sim::forever::play_forever(scenarios, speed, bus, errands));
            } else {
                tokio::spawn(sim::play(scenario, speed, bus, errands));
            }
            Ok(Box::new(()))
        },
    )
}

/// Whatever feeds the screen; ends when dropped.
type Source = Box<dyn std::any::Any>;

/// What the person asks of whoever feeds the screen; dropped by those who do nothing of the kind.
type Errands = mpsc::UnboundedReceiver<Errand>;

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")
}

/// The dashboard on whatever `start` feeds it with.
fn screen(
    runtime: Runtime,
    args: &ScreenArgs,
    session: Session,
    clock: Clock,
    start: impl FnOnce(mpsc::Sender<Event>, Errands) -> anyhow::Result<Source>,
) -> anyhow::Result<ExitCode> {
    let themes = Themes::of_user(capabilities(args)?);
    let (theme, warnings) = themes.load(&args.theme).map_err(|e| anyhow!(e))?;
    let pane = PaneId::named(&args.pane)
        .ok_or_else(|| anyhow!("no pane {}: {}", args.pane, PaneId::names().join(", ")))?;
    let mut recorder = args.keep.recorder(&session_name(&session))?;
    if let Some(recorder) = &mut recorder {
        // It is set below, not sent; who reads the recording has no other way to it.
        recorder.keep(&Stamped {
            seq: 0,
            at: clock.began(),
            event: Event::Session(session.clone()),
        });
    }
    let redactor = args.keep.redactor();
    let kiosk = kiosk(
        args,
        session.feed == Feed::Cluster && session.workload.is_none(),
    )?;
    let shown = runtime.block_on(async {
        let crashed = CancellationToken::new();
        let signals = terminal::signals(crashed.clone())?;
        let terminal = Terminal::take(&crashed)?;
        let (w, h) = terminal.size();
        let mut model = Model::for_screen();
        args.stall.set(&mut model, &mut recorder);
        model.session = session;
        model.screen = Screen::new(w, h);
        model.screen.theme.clone_from(&args.theme);
        model.screen.themes = themes.names();
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        if let Some(said) = themes::said(&warnings) {
            model.screen.say(said, true);
        }
        model.screen.apply(&Command::Pane(pane.id().into()));
        if kiosk.is_none() && model.screen.note.is_none() && first_run() {
            model.screen.welcome();
        }
        model.screen.kiosk = kiosk;
        // People can't type faster than any source reads.
        let (errands, chores) = mpsc::unbounded_channel();
        let (tx, bus) = mpsc::channel(BUS);
        let mut stage = RealStage::new(
            terminal,
            clock,
            theme,
            themes,
            stage::Doors {
                errands,
                redactor,
                recorder,
                later: tx.clone(),
            },
        )?;
        let source = start(tx, chores)?;
        let code = runloop::run(&mut model, &mut stage, terminal::inputs(), signals, bus).await;
        let (stats, kept) = stage.leave();
        tracing::info!(?stats, code, "left");
        leave(source).await;
        anyhow::Ok((code, kept))
    });
    let (code, kept) = match (shown, &args.keep.record) {
        (Err(e), Some(path)) => {
            // Nothing was seen; the file is ours and would stand in the way of the next try.
            let _ = std::fs::remove_file(path);
            return Err(e);
        }
        (shown, _) => shown?,
    };
    if let Some(kept) = kept {
        record::tell(&args.keep, kept)?;
    }
    // Readers may sit in a read of a pipe that never ends.
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(ExitCode::from(code))
}

/// Whether nobody used this here before; from now on somebody did. Where that can't be remembered nothing is said.
fn first_run() -> bool {
    let Some(folder) = config::state_folder() else {
        return false;
    };
    let made = std::fs::create_dir_all(&folder).is_ok();
    made && record::create(&folder.join("welcomed")).is_ok()
}

/// `demo healthy`, `prod lws/mixtral`: for the header of a recording.
fn session_name(session: &Session) -> String {
    let parts = [&session.context, &session.namespace, &session.workload];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    parts.join(" ")
}

/// The wall, if this is to be one; `roams` where nobody said which workload of a cluster.
fn kiosk(args: &ScreenArgs, roams: bool) -> anyhow::Result<Option<Kiosk>> {
    if !args.kiosk {
        return Ok(None);
    }
    let mut panes = Vec::new();
    for name in &args.kiosk_panes {
        let pane = PaneId::named(name.trim())
            .ok_or_else(|| anyhow!("no pane {name}: {}", PaneId::names().join(", ")))?;
        panes.push(pane);
    }
    let seconds = |s: u32| Nanos::from(s) * 1_000_000_000;
    Ok(Some(Kiosk::new(Plan {
        panes,
        each: seconds(args.kiosk_each),
        hold: seconds(args.kiosk_hold),
        blind: seconds(args.kiosk_blind),
        roams,
    })))
}

/// What the terminal can show, asked of the environment once.
fn capabilities(args: &ScreenArgs) -> anyhow::Result<theme::Terminal> {
    let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let forced = theme::Depth::named(&args.color)
        .ok_or_else(|| anyhow!("no depth {}: auto, 16, 256, truecolor, never", args.color))?;
    // What is asked for by a flag goes before what the environment wishes.
    let depth = forced.unwrap_or_else(|| {
        theme::Depth::detect(
            var("NO_COLOR").as_deref(),
            var("COLORTERM").as_deref(),
            var("TERM").as_deref(),
        )
    });
    // The order in which the C library asks.
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| var(name));
    let utf8 = locale.is_none_or(|l| {
        let l = l.to_ascii_lowercase();
        l.contains("utf-8") || l.contains("utf8")
    });
    Ok(theme::Terminal {
        depth,
        ascii: args.ascii || !utf8,
    })
}
