//! The door to everything that is more than looking.

use ncclscope::model::event::{Level, PodKey};
use ncclscope::sources::gate::{Action, Decision, Gate, Outcome, Policy, Refusal, Setup};

const SECOND: i64 = 1_000_000_000;

fn pod(name: &str) -> PodKey {
    PodKey {
        namespace: "prod".into(),
        name: name.into(),
    }
}

fn exec(name: &str) -> Action {
    Action::Exec {
        pod: pod(name),
        container: "vllm".into(),
        command: "nvidia-smi -L".into(),
    }
}

fn create() -> Action {
    Action::Create {
        objects: vec!["job/prod/ncclscope-x".into()],
    }
}

fn no(d: Decision) -> Refusal {
    match d {
        Decision::No(r) => r,
        other => panic!("{other:?}"),
    }
}

fn question(d: Decision) -> (u64, String) {
    match d {
        Decision::Ask(q) => (q.number, q.text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_probe_is_asked_once_and_an_act_each_time() {
    let mut g = Gate::new(Setup::default());
    assert_eq!(g.level(), Level::Observe);
    let (n, text) = question(g.ask(exec("a"), 0));
    assert_eq!(
        text,
        "Allow probes in this context, starting with: run `nvidia-smi -L` in prod/a/vllm? They only read."
    );
    let permit = g.answer(n, true, 1).unwrap();
    assert_eq!(permit.action(), &exec("a"));
    g.done(&permit, "exit 0");
    assert_eq!(g.level(), Level::Probe);
    assert!(
        matches!(g.ask(exec("b"), 2), Decision::Go(_)),
        "the answer holds for the context"
    );
    for t in 3..5 {
        let (n, text) = question(g.ask(create(), t));
        assert_eq!(text, "Create job/prod/ncclscope-x?");
        g.answer(n, true, t).unwrap();
        assert!(g.answer(n, true, t).is_err(), "one answer, one act");
    }
    let outcomes: Vec<_> = g.record().map(|e| e.outcome.clone()).collect();
    assert_eq!(outcomes[0], Outcome::Done("exit 0".into()));
    assert_eq!(
        outcomes[1..],
        [Outcome::Allowed, Outcome::Allowed, Outcome::Allowed]
    );
}

#[test]
fn a_no_stays_a_no_until_it_is_reconsidered() {
    let mut g = Gate::new(Setup::default());
    let (n, _) = question(g.ask(exec("a"), 0));
    assert_eq!(g.answer(n, false, 1), Err(Refusal::Declined));
    assert_eq!(no(g.ask(exec("b"), 2)), Refusal::Declined);
    g.reconsider();
    let (n, _) = question(g.ask(exec("b"), 3));
    g.answer(n, true, 4).unwrap();
    // A yes stays a yes.
    g.reconsider();
    assert!(matches!(g.ask(exec("c"), 5), Decision::Go(_)));
}

#[test]
fn the_lock_holds_against_every_answer() {
    let mut g = Gate::new(Setup {
        probes: Policy::Always,
        ..Setup::default()
    });
    assert_eq!(g.level(), Level::Probe);
    let (n, _) = question(g.ask(create(), 0));
    g.lock();
    assert_eq!(g.answer(n, true, 1), Err(Refusal::Locked));
    assert_eq!(no(g.ask(exec("a"), 2)), Refusal::Locked);
    assert_eq!(no(g.ask(create(), 2)), Refusal::Locked);
    assert_eq!(g.level(), Level::Observe);
    // What was made before the lock is still taken away.
    assert!(matches!(
        g.ask(
            Action::CleanUp {
                object: "job/prod/ncclscope-x".into()
            },
            3
        ),
        Decision::Go(_)
    ));
}

#[test]
fn where_nobody_can_answer_asking_means_no() {
    let unattended = |probes| {
        Gate::new(Setup {
            probes,
            attended: false,
            ..Setup::default()
        })
    };
    assert_eq!(
        no(unattended(Policy::Ask).ask(exec("a"), 0)),
        Refusal::Unattended
    );
    assert_eq!(
        no(unattended(Policy::Never).ask(exec("a"), 0)),
        Refusal::Never
    );
    let mut always = unattended(Policy::Always);
    assert!(matches!(always.ask(exec("a"), 0), Decision::Go(_)));
    assert_eq!(
        no(always.ask(create(), 0)),
        Refusal::UnattendedAct,
        "an act is never done unasked"
    );
}

#[test]
fn probes_are_budgeted_per_pod_and_minute() {
    let mut g = Gate::new(Setup {
        probes: Policy::Always,
        per_minute: 2,
        ..Setup::default()
    });
    assert!(matches!(g.ask(exec("a"), 0), Decision::Go(_)));
    assert!(matches!(g.ask(exec("a"), 10 * SECOND), Decision::Go(_)));
    let r = no(g.ask(exec("a"), 20 * SECOND));
    assert_eq!(
        r.to_string(),
        "2 probes a minute in one pod are the limit: again in 41 s"
    );
    assert!(
        matches!(g.ask(exec("b"), 20 * SECOND), Decision::Go(_)),
        "another pod has its own budget"
    );
    assert!(
        matches!(g.ask(exec("a"), 61 * SECOND), Decision::Go(_)),
        "the first one is a minute ago"
    );
}
