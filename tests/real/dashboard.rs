//! The all-reduce test from the dashboard, on a real API server.

use std::time::Duration;

use ncclscope::jobs::helper::helper;
use ncclscope::model::event::{Errand, Event, Level, PodEvent, Question};
use ncclscope::model::testrun::{Phase, TestEvent};
use ncclscope::sources::cluster::{ClusterOptions, Director, connect};
use ncclscope::sources::gate::Setup;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::allreduce::{left, running, workload, workload_is_untouched};
use crate::plane::{Plane, eventually};
use crate::screen::Screen;

/// From the dashboard: the manifest is the question, what happens comes as events, an end is asked for, and leaving
/// removes what was created; a locked session is refused.
pub async fn a_test_from_the_screen_asks_and_cleans_up(p: &Plane) {
    let ns = "allreduce-screen";
    workload(p, ns, &["gpu-1"], 1).await;
    let mut screen = Dashboard::open(p, ns, false).await;
    screen.ask("allreduce --gpus 0");
    let question = screen.question().await;
    assert_eq!(question.level, Level::Act);
    assert!(
        question.body.contains(ns) && question.body.contains("kind: Job"),
        "{}",
        question.body
    );
    assert_eq!(left(p, ns).await, 0, "nothing before the answer");
    screen.answer(question.number, false);
    screen.says("declined").await;
    assert_eq!(left(p, ns).await, 0);
    for end in ["allreduce cancel", ""] {
        screen.ask("allreduce --gpus 0");
        let question = screen.question().await;
        screen.answer(question.number, true);
        screen
            .until("it runs", |e| {
                matches!(e, Event::Test(TestEvent::Phase(Phase::Starting, _)))
            })
            .await;
        assert!(left(p, ns).await >= 4);
        if end.is_empty() {
            // The screen is left.
            screen.cancel.cancel();
        } else {
            screen.ask(end);
            let question = screen.question().await;
            assert!(
                question
                    .text
                    .starts_with("Delete job/allreduce-screen/ncclscope-"),
                "{}",
                question.text
            );
            screen.answer(question.number, true);
            screen
                .until(
                    "it was removed",
                    |e| matches!(e, Event::Test(TestEvent::Cleaned(left)) if left.is_empty()),
                )
                .await;
            assert_eq!(left(p, ns).await, 0, "after :allreduce cancel");
        }
    }
    screen.tests.close();
    screen.tests.wait().await;
    assert_eq!(left(p, ns).await, 0, "after leaving");
    let mut locked = Dashboard::open(p, ns, true).await;
    locked.ask("allreduce --gpus 0");
    locked.says("locked").await;
    assert_eq!(left(p, ns).await, 0);
    workload_is_untouched(p, ns, 1).await;
}

/// How a terminal is lost.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// It is closed.
    Closed,
    /// Whoever keeps it says so.
    Told,
    /// It takes no byte any more, whoever keeps it ends everything, and the API server is out of reach for a while.
    Stalled,
}

/// The terminal is lost while a test from the dashboard is being created, and while it runs: the program removes what
/// it created, and ends.
pub async fn a_terminal_that_is_lost_leaves_no_test_behind(p: &Plane) {
    let ns = "allreduce-lost";
    workload(p, ns, &["gpu-1"], 1).await;
    let kubeconfig = p.kubeconfig("admin");
    let args = [
        "--kubeconfig",
        kubeconfig.to_str().unwrap(),
        "--probes",
        "never",
        "-n",
        ns,
        "-l",
        "app=llm",
    ];
    for (loss, runs, code) in [
        (Loss::Closed, true, 129),
        (Loss::Told, true, 129),
        (Loss::Told, false, 129),
        (Loss::Stalled, true, 143),
    ] {
        let mut screen = Screen::start(&args);
        screen.has_one_pod().await;
        screen.key(":allreduce --gpus 0\r");
        screen
            .until("the question", |s| s.contains("y yes") && s.contains("Job"))
            .await;
        screen.key("y");
        if runs {
            running(p, ns, 1).await;
            screen.key("7");
            screen.until("it is seen", |s| s.contains("starting")).await;
        } else {
            eventually("something was created", async || left(p, ns).await > 0).await;
        }
        match loss {
            Loss::Closed => screen.close(),
            Loss::Told => screen.signal("-HUP"),
            Loss::Stalled => {
                screen.stall().await;
                p.tell(&json!({"cmd": "proxy", "action": "refuse"}));
                screen.signal("-TERM");
                tokio::time::sleep(Duration::from_secs(6)).await;
                p.tell(&json!({"cmd": "proxy", "action": "resume"}));
            }
        }
        assert_eq!(screen.code(30).await, code, "{loss:?}");
        assert_eq!(left(p, ns).await, 0, "{loss:?}, running: {runs}");
    }
    workload_is_untouched(p, ns, 1).await;
}

/// What stands between a screen and a cluster, without the screen.
struct Dashboard {
    events: mpsc::Receiver<Event>,
    errands: mpsc::UnboundedSender<Errand>,
    cancel: CancellationToken,
    tests: TaskTracker,
}

impl Dashboard {
    async fn open(p: &Plane, ns: &str, locked: bool) -> Self {
        let options = ClusterOptions {
            selector: Some("app=llm".into()),
            ..p.options("admin", ns)
        };
        let link = connect(&options).await.unwrap();
        let (tx, events) = mpsc::channel(64);
        let (errands, chores) = mpsc::unbounded_channel();
        let (cancel, tests) = (CancellationToken::new(), TaskTracker::new());
        let setup = Setup {
            locked,
            ..Setup::default()
        };
        let helpers = vec![helper(tests.clone())];
        let director = Director::new(link, options, setup, helpers, tx);
        tokio::spawn(director.run(chores, cancel.clone()));
        let mut this = Self {
            events,
            errands,
            cancel,
            tests,
        };
        this.until("pods", |e| matches!(e, Event::Pod(PodEvent::Synced)))
            .await;
        this
    }

    fn ask(&self, line: &str) {
        self.errands.send(Errand::Line(line.into())).unwrap();
    }

    fn answer(&self, number: u64, yes: bool) {
        self.errands.send(Errand::Answer { number, yes }).unwrap();
    }

    async fn until(&mut self, what: &str, is: impl Fn(&Event) -> bool) -> Event {
        let mut notes = Vec::new();
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("the director goes on");
                if is(&event) {
                    return event;
                }
                if let Event::Note { text, .. } = event {
                    notes.push(text);
                }
            }
        };
        let wait = tokio::time::timeout(Duration::from_secs(30), wait).await;
        wait.unwrap_or_else(|_| panic!("{what}: not within 30 s, but {notes:?}"))
    }

    async fn question(&mut self) -> Question {
        match self
            .until("a question", |e| matches!(e, Event::Ask(_)))
            .await
        {
            Event::Ask(question) => question,
            _ => unreachable!(),
        }
    }

    async fn says(&mut self, what: &str) {
        let said = |e: &Event| matches!(e, Event::Note { text, bad: true } if text.contains(what));
        self.until(what, said).await;
    }
}
