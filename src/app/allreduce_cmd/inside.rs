//! The test inside the workload's own pods, from the command line: what the dashboard does, asked at the terminal.

use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::{anyhow, bail};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::print::{Printer, Say};
use super::{AllreduceArgs, FAILED, Signals, complain, keep, line};
use crate::app::headless::unwatchable;
use crate::app::record::{self, Keeper};
use crate::jobs::helper;
use crate::model::event::{Errand, Event, Level, Question, Stamped};
use crate::model::screen::ALLREDUCE;
use crate::model::testrun::{TestEvent, TestRun};
use crate::model::{Model, update};
use crate::rules::busbw::Table;
use crate::rules::scene::Scene;
use crate::rules::testing::judge;
use crate::sources::cluster::{self, Director};
use crate::sources::gate::{Policy, Setup};

/// Events under way.
const BUS: usize = 32;
/// When the test is over, nothing new of the workload's own logs comes for so long.
const QUIET: Duration = Duration::from_secs(2);
/// How many events are heard after it at most: a workload may never stop speaking.
const MORE: usize = 4096;
/// How long what was begun in the pods may take to end.
const ENDING: Duration = Duration::from_secs(20);

/// Watches the workload as the dashboard does, asks for the test inside it, and grades it.
pub(super) async fn run(args: &AllreduceArgs, table: &Table) -> anyhow::Result<u8> {
    if !io::stdin().is_terminal() {
        bail!(
            "--inside takes time and memory of the workload's own GPUs: its name has to be typed at a terminal, and \
             --yes does not stand for it"
        );
    }
    let options = args.cluster.options(args.workload.clone());
    let link = cluster::connect(&options).await?;
    let mut keeper = args.keep.keeper("allreduce")?;
    let session = options.session(&link, Level::Act, args.read_only);
    keep(&mut keeper, Event::Session(session));
    // Who asks for this asks for the samples that it needs.
    let setup = Setup {
        probes: Policy::Always,
        attended: true,
        locked: args.read_only,
        ..Setup::default()
    };
    let mut signals = Signals::new()?;
    let (tx, mut events) = mpsc::channel(BUS);
    let (errands, asked) = mpsc::unbounded_channel();
    let (cancel, tests) = (CancellationToken::new(), TaskTracker::new());
    let helpers = vec![helper::helper(tests.clone())];
    let director = Director::new(link, options.clone(), setup, helpers, tx);
    tokio::spawn(director.run(asked, cancel.clone()));
    let mut wanted = format!("{ALLREDUCE} --inside");
    if args.test.max_bytes > 0 {
        wanted.push_str(&format!(" --max-bytes {}", args.test.max_bytes));
    }
    let mut watch = Watch {
        model: Model::default(),
        run: TestRun::default(),
        printer: Printer::new(args.format),
        keeper: &mut keeper,
        seq: 0,
    };
    let mut wanted = Some(wanted);
    let ended = loop {
        let event = tokio::select! {
            biased;
            code = signals.next() => break Ok(Some(code)),
            event = events.recv() => event,
        };
        let Some(event) = event else {
            break Err(anyhow!("the cluster can't be watched"));
        };
        match watch.see(event) {
            Step::Ask(question) => {
                let number = question.number;
                let yes = tokio::select! {
                    biased;
                    code = signals.next() => break Ok(Some(code)),
                    yes = typed(&question) => yes,
                };
                let yes = match yes {
                    Ok(yes) => yes,
                    Err(why) => break Err(why),
                };
                let _ = errands.send(Errand::Answer { number, yes });
            }
            Step::Refused(why) => break Err(anyhow!(why)),
            Step::Over => break Ok(None),
            Step::Go => {}
        }
        if let Some(why) = unwatchable(&watch.model, &options) {
            break Err(anyhow!(why));
        }
        if watch.model.pods.synced()
            && let Some(line) = wanted.take()
        {
            if watch.model.pods.is_empty() {
                break Err(anyhow!("the workload has no pods"));
            }
            let _ = errands.send(Errand::Line(line));
        }
    };
    if matches!(ended, Ok(None)) {
        // What it is held against is in the workload's own logs.
        for _ in 0..MORE {
            let Ok(Some(event)) = timeout(QUIET, events.recv()).await else {
                break;
            };
            watch.see(event);
        }
    }
    cancel.cancel();
    tests.close();
    let _ = timeout(ENDING, tests.wait()).await;
    let Watch {
        model,
        run,
        printer,
        keeper: kept,
        ..
    } = watch;
    let scene = Scene::of(&model);
    let (verdict, compared) = judge(&scene, &Scene::of(&run.world), &run, table);
    if let (Ok(_), Some(planned)) = (&ended, &run.planned) {
        printer.verdict(
            planned,
            &run,
            &verdict,
            &compared,
            &mut Say(&mut kept.redactor),
        );
    }
    keeper.close(&args.keep)?;
    match ended {
        Ok(Some(code)) => Ok(code),
        Ok(None) => Ok(verdict.grade.code()),
        Err(why) => {
            complain(&format!("ncclscope: {why}"));
            Ok(FAILED)
        }
    }
}

/// What is to be done after an event.
enum Step {
    Go,
    Ask(Question),
    /// There will be no test, for this reason.
    Refused(String),
    Over,
}

/// The workload and the test inside it.
struct Watch<'k> {
    model: Model,
    run: TestRun,
    printer: Printer,
    keeper: &'k mut Keeper,
    seq: u64,
}

impl Watch<'_> {
    fn see(&mut self, event: Event) -> Step {
        self.seq += 1;
        let stamped = Stamped {
            seq: self.seq,
            at: record::now(),
            event,
        };
        self.keeper.keep(&stamped);
        let step = match &stamped.event {
            Event::Ask(question) => Step::Ask(question.clone()),
            Event::Note { text, bad: true } => Step::Refused(text.clone()),
            Event::Note { text, bad: false } => {
                complain(&format!("-- {text}"));
                Step::Go
            }
            Event::Test(event) => {
                self.run.apply(event.clone(), stamped.at);
                let say = &mut Say(&mut self.keeper.redactor);
                let heard = self.printer.news(&self.run, say);
                match event {
                    TestEvent::Cleaned(_) => Step::Over,
                    _ if !heard => Step::Refused("nobody reads the rows".into()),
                    _ => Step::Go,
                }
            }
            _ => Step::Go,
        };
        update(&mut self.model, stamped);
        step
    }
}

/// Shows a question and reads the answer: the word that it wants, else yes.
async fn typed(question: &Question) -> anyhow::Result<bool> {
    complain(&question.body);
    Ok(match &question.word {
        Some(word) => {
            let ask = format!(
                "{} Type {word} to go on, anything else to leave it:",
                question.text
            );
            line(&ask).await?.trim() == word
        }
        None => super::answer(&format!("{} [y/N] ", question.text)).await?,
    })
}
