//! The director: one question a context, answers that reach who asked, another workload that begins anew.

use std::time::Duration;

use futures::future::BoxFuture;
use ncclscope::model::event::Stamped;
use ncclscope::model::event::{Errand, Event, Level, PodKey, Question, WorkloadView};
use ncclscope::model::{Model, update};
use ncclscope::sources::cluster::{Access, ClusterOptions, Director, Errands, Shown, connect};
use ncclscope::sources::gate::{Action, Policy, Refusal, Setup};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fakeapi::{Answer, FakeApi};

struct Desk {
    _api: FakeApi,
    given: mpsc::UnboundedReceiver<(Access, Errands)>,
    events: mpsc::Receiver<Event>,
    errands: mpsc::UnboundedSender<Errand>,
}

impl Desk {
    async fn open(setup: Setup) -> Self {
        Self::asked(setup, None).await
    }

    /// With something that was asked before anybody could listen.
    async fn asked(setup: Setup, early: Option<Errand>) -> Self {
        let api = FakeApi::start(|_| Answer::status(404, "NotFound", "nothing here")).await;
        let options = ClusterOptions {
            kubeconfig: Some(api.kubeconfig("{token: t}")),
            selector: Some("app=llm".into()),
            ..ClusterOptions::default()
        };
        let link = connect(&options).await.unwrap();
        let (hand, given) = mpsc::unbounded_channel();
        let helper = Box::new(move |access: Access, errands: Errands| {
            let hand = hand.clone();
            Box::pin(async move {
                let _ = hand.send((access, errands));
            }) as BoxFuture<'static, ()>
        });
        let (tx, events) = mpsc::channel(64);
        let (errands, orders) = mpsc::unbounded_channel();
        if let Some(errand) = early {
            errands.send(errand).unwrap();
        }
        let director = Director::new(link, options, setup, vec![helper], tx);
        tokio::spawn(director.run(orders, CancellationToken::new()));
        Self {
            _api: api,
            given,
            events,
            errands,
        }
    }

    async fn access(&mut self) -> Access {
        self.helper().await.0
    }

    /// What a helper is handed.
    async fn helper(&mut self) -> (Access, Errands) {
        timeout(Duration::from_secs(10), self.given.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// The next event that is wanted.
    async fn heard<T>(&mut self, want: impl Fn(Event) -> Option<T>) -> T {
        loop {
            let event = timeout(Duration::from_secs(10), self.events.recv())
                .await
                .unwrap()
                .unwrap();
            if let Some(found) = want(event) {
                return found;
            }
        }
    }

    async fn question(&mut self) -> Question {
        self.heard(|e| match e {
            Event::Ask(q) => Some(q),
            _ => None,
        })
        .await
    }

    async fn level(&mut self, level: Level) {
        self.heard(|e| matches!(e, Event::Session(s) if s.level == level).then_some(()))
            .await;
    }

    fn answer(&self, number: u64, yes: bool) {
        self.errands.send(Errand::Answer { number, yes }).unwrap();
    }
}

fn look(pod: &str) -> Action {
    Action::Exec {
        pod: PodKey {
            namespace: "prod".into(),
            name: pod.into(),
        },
        container: "vllm".into(),
        command: "nvidia-smi -L".into(),
    }
}

fn asked(access: &Access, action: Action) -> tokio::task::JoinHandle<Result<(), Refusal>> {
    let access = access.clone();
    tokio::spawn(async move {
        let leave = access.ask(action, Shown::default()).await?;
        leave.done("looked");
        Ok(())
    })
}

#[tokio::test]
async fn many_probes_ask_one_question_and_all_take_its_answer() {
    for yes in [true, false] {
        let mut desk = Desk::open(Setup::default()).await;
        let access = desk.access().await;
        let probes: Vec<_> = (0..16)
            .map(|i| asked(&access, look(&format!("llm-{i}"))))
            .collect();
        let question = desk.question().await;
        assert!(question.text.contains("nvidia-smi -L"), "{}", question.text);
        assert_eq!(question.level, Level::Probe);
        desk.answer(question.number, yes);
        for probe in probes {
            let said = timeout(Duration::from_secs(10), probe)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(said, if yes { Ok(()) } else { Err(Refusal::Declined) });
        }
        desk.level(if yes { Level::Probe } else { Level::Observe })
            .await;
        // It is not asked again in this context.
        let again = timeout(Duration::from_secs(10), asked(&access, look("llm-0")));
        assert_eq!(again.await.unwrap().unwrap().is_ok(), yes);
        assert!(!matches!(desk.events.try_recv(), Ok(Event::Ask(_))));
    }
}

/// A command that is typed in the first moment is heard as well.
#[tokio::test]
async fn what_is_asked_early_is_heard() {
    let early = Errand::Line("allreduce".into());
    let mut desk = Desk::asked(Setup::default(), Some(early.clone())).await;
    let (_access, mut errands) = desk.helper().await;
    let heard = timeout(Duration::from_secs(10), errands.recv());
    assert_eq!(heard.await.unwrap().unwrap(), early);
}

/// Who declined and then asks for a check again means it; for one that needs no probe nothing is asked.
#[tokio::test]
async fn a_check_that_is_run_again_takes_back_a_no() {
    let mut desk = Desk::open(Setup::default()).await;
    let (access, mut orders) = desk.helper().await;
    let first = asked(&access, look("llm-0"));
    let question = desk.question().await;
    desk.answer(question.number, false);
    assert_eq!(first.await.unwrap(), Err(Refusal::Declined));
    for (check, again) in [("check.pods", false), ("check.shm", true)] {
        let errand = Errand::Recheck(Some(check.into()));
        desk.errands.send(errand.clone()).unwrap();
        let heard = timeout(Duration::from_secs(10), orders.recv());
        assert_eq!(heard.await.unwrap().unwrap(), errand);
        let next = asked(&access, look("llm-0"));
        if again {
            let question = desk.question().await;
            desk.answer(question.number, true);
            assert_eq!(next.await.unwrap(), Ok(()));
        } else {
            assert_eq!(next.await.unwrap(), Err(Refusal::Declined));
        }
    }
}

#[tokio::test]
async fn an_act_is_asked_each_time_and_shown_in_the_header_while_it_lasts() {
    let mut desk = Desk::open(Setup {
        probes: Policy::Always,
        ..Setup::default()
    })
    .await;
    let access = desk.access().await;
    for _ in 0..2 {
        let act = Action::Create {
            objects: vec!["job/prod/ncclscope-1".into()],
        };
        let shown = Shown {
            body: "kind: Job".into(),
            word: Some("create".into()),
        };
        let asking = tokio::spawn({
            let access = access.clone();
            async move { access.ask(act, shown).await }
        });
        let question = desk.question().await;
        assert_eq!(
            (question.level, question.body.as_str()),
            (Level::Act, "kind: Job")
        );
        assert_eq!(question.word.as_deref(), Some("create"));
        desk.answer(question.number, true);
        let leave = asking.await.unwrap().unwrap();
        desk.level(Level::Act).await;
        leave.done("created");
        desk.level(Level::Probe).await;
    }
}

#[tokio::test]
async fn another_workload_takes_back_what_was_asked_and_begins_anew() {
    let mut desk = Desk::open(Setup::default()).await;
    let first = desk.access().await;
    let waits = asked(&first, look("llm-0"));
    let question = desk.question().await;
    let other = WorkloadView {
        namespace: "prod".into(),
        kind: "lws".into(),
        name: "mixtral".into(),
        selector: "a=b".into(),
        ..WorkloadView::default()
    };
    desk.errands.send(Errand::Watch(Box::new(other))).unwrap();
    let number = desk
        .heard(|e| match e {
            Event::Unask(n) => Some(n),
            _ => None,
        })
        .await;
    assert_eq!(number, question.number);
    let said = timeout(Duration::from_secs(10), waits)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(said, Err(Refusal::Withdrawn));
    desk.heard(|e| matches!(e, Event::Afresh).then_some(()))
        .await;
    desk.heard(|e| match e {
        Event::Session(s) => (s.workload.as_deref() == Some("lws/mixtral")).then_some(()),
        _ => None,
    })
    .await;
    // An answer that comes late gives nothing; the next one to want a probe asks again.
    desk.answer(question.number, true);
    let second = desk.access().await;
    assert!(first.until().is_cancelled());
    // Whoever still works on the one before asks nobody, and stands in nobody's way.
    let late = asked(&first, look("llm-1")).await.unwrap();
    assert_eq!(late, Err(Refusal::Withdrawn));
    let waits = asked(&second, look("mixtral-0"));
    let question = desk.question().await;
    assert!(question.text.contains("mixtral-0"), "{}", question.text);
    desk.answer(question.number, true);
    assert_eq!(waits.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn read_only_refuses_without_a_question() {
    let mut desk = Desk::open(Setup {
        probes: Policy::Always,
        locked: true,
        ..Setup::default()
    })
    .await;
    let access = desk.access().await;
    assert_eq!(
        asked(&access, look("llm-0")).await.unwrap(),
        Err(Refusal::Locked)
    );
    let session = desk
        .heard(|e| match e {
            Event::Session(s) => Some(s),
            _ => None,
        })
        .await;
    assert!(session.locked);
    assert_eq!(session.level, Level::Observe);
}

#[test]
fn what_was_seen_of_the_workload_before_is_put_away() {
    let mut model = Model::for_screen();
    let mut seq = 0;
    let mut say = |model: &mut Model, event| {
        seq += 1;
        update(model, Stamped { seq, at: 1, event });
    };
    let workload = WorkloadView {
        name: "llm".into(),
        ..WorkloadView::default()
    };
    say(&mut model, Event::Workloads(vec![workload]));
    let pod = ncclscope::model::event::PodView {
        name: "llm-0".into(),
        ..Default::default()
    };
    say(
        &mut model,
        Event::Pod(ncclscope::model::event::PodEvent::Upsert(Box::new(pod))),
    );
    say(
        &mut model,
        Event::Do(ncclscope::model::event::Command::Pane("pods".into())),
    );
    assert_eq!(model.pods.iter().count(), 1);
    let before = model.rev;
    say(&mut model, Event::Afresh);
    assert_eq!(model.pods.iter().count(), 0);
    assert!(model.workloads.is_empty());
    assert!(model.rev > before, "the scene is drawn anew");
    assert!(model.logs.is_some(), "lines are kept as before");
}
