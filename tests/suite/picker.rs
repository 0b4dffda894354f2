//! The choice of a workload: opens by itself, filters, goes where enter says, gives the pane back.

use ncclscope::model::event::{Command, Effect, Errand, Event, Stamped, WorkloadView};
use ncclscope::model::screen::PaneId;
use ncclscope::model::{Model, update};
use ncclscope::rules::scene::Scene;

use crate::screens::snapshot;
use crate::stage;

fn workloads(namespaces: usize) -> Vec<WorkloadView> {
    let kinds = [
        (
            "lws",
            "mixtral",
            Some(4),
            4,
            32,
            "label leaderworkerset.sigs.k8s.io/name=mixtral, written by the LeaderWorkerSet controller",
        ),
        (
            "raycluster",
            "deepseek-r1",
            Some(5),
            3,
            40,
            "label ray.io/cluster=deepseek-r1, written by the RayCluster controller",
        ),
        (
            "sts",
            "llama",
            Some(2),
            2,
            16,
            "the selector of StatefulSet llama: app=llama",
        ),
        (
            "deploy",
            "router",
            Some(1),
            1,
            0,
            "owners: ReplicaSet router-5f7d → Deployment router",
        ),
        ("pod", "debug", Some(1), 1, 0, "a pod by its name"),
    ];
    kinds
        .into_iter()
        .enumerate()
        .map(
            |(i, (kind, name, expected, created, gpus, rule))| WorkloadView {
                namespace: if i % namespaces == 0 {
                    "prod"
                } else {
                    "staging"
                }
                .into(),
                kind: kind.into(),
                name: name.into(),
                rule: rule.into(),
                selector: format!("app={name}"),
                expected,
                pods: (0..created)
                    .map(|n| (Some(n), format!("{name}-{n}")))
                    .collect(),
                gpus,
            },
        )
        .collect()
}

fn shown(w: u16, h: u16, list: Vec<WorkloadView>) -> Model {
    let mut model = stage::model(w, h);
    model.session.workload = None;
    say(&mut model, Event::Choice(list));
    stage::act(&Scene::default(), &mut model, &[]);
    model
}

fn say(model: &mut Model, event: Event) -> Vec<Effect> {
    update(
        model,
        Stamped {
            seq: 1,
            at: 0,
            event,
        },
    )
}

/// A command as the shell gives it: with what keys act on brought up to date.
fn press(model: &mut Model, command: Command) -> Vec<Effect> {
    stage::act(&Scene::default(), model, &[]);
    say(model, Event::Do(command))
}

#[test]
fn it_looks_so() {
    for (size, namespaces) in [((80, 24), 1), ((200, 50), 2)] {
        let model = shown(size.0, size.1, workloads(namespaces));
        snapshot(
            &format!("workloads-{}x{}", size.0, size.1),
            &stage::photograph(&Scene::default(), &model),
        );
    }
    let mut model = shown(80, 24, workloads(1));
    press(&mut model, Command::Explain);
    stage::act(&Scene::default(), &mut model, &[]);
    snapshot(
        "workloads-explained-80x24",
        &stage::photograph(&Scene::default(), &model),
    );
    let none = shown(80, 24, Vec::new());
    snapshot(
        "workloads-none-80x24",
        &stage::photograph(&Scene::default(), &none),
    );
}

#[test]
fn enter_chooses_what_is_selected_after_the_filter() {
    let mut model = shown(120, 30, workloads(1));
    assert_eq!(model.screen.pane, PaneId::Workloads, "it opens by itself");
    let chosen = |effects: Vec<Effect>| match effects.as_slice() {
        [Effect::Errand(Errand::Watch(w))] => format!("{}/{}", w.kind, w.name),
        other => panic!("{other:?}"),
    };
    press(&mut model, Command::Down);
    let effects = press(&mut model, Command::Enter);
    assert_eq!(chosen(effects), "raycluster/deepseek-r1");
    press(&mut model, Command::Line("filter llama".into()));
    let effects = press(&mut model, Command::Enter);
    assert_eq!(chosen(effects), "sts/llama");
    press(&mut model, Command::Line("filter nothing-like-it".into()));
    assert_eq!(press(&mut model, Command::Enter), []);
}

#[test]
fn the_pane_from_before_comes_back_and_nothing_is_taken_away() {
    let mut model = stage::model(120, 30);
    press(&mut model, Command::Pane("logs".into()));
    say(&mut model, Event::Choice(workloads(1)));
    assert_eq!(model.screen.pane, PaneId::Workloads);
    // Nothing lies behind the choice: esc stays, q asks.
    press(&mut model, Command::Back);
    assert_eq!(model.screen.pane, PaneId::Workloads);
    // A list that is read anew does not take away what somebody looks at meanwhile.
    press(&mut model, Command::Pane("env".into()));
    say(&mut model, Event::Choice(workloads(2)));
    assert_eq!(model.screen.pane, PaneId::Env);
    // `:workloads` asks for the choice; it comes with the list.
    let effects = press(&mut model, Command::Line("workloads".into()));
    assert_eq!(effects, [Effect::Errand(Errand::Choose)]);
    say(&mut model, Event::Afresh);
    say(&mut model, Event::Choice(workloads(2)));
    assert_eq!(model.screen.pane, PaneId::Workloads);
    say(&mut model, Event::Afresh);
    say(
        &mut model,
        Event::Workloads(workloads(1).into_iter().take(1).collect()),
    );
    assert_eq!(model.screen.pane, PaneId::Env);
}

#[test]
fn a_question_of_one_sentence_hides_nothing_and_is_never_cut_off() {
    use ncclscope::model::event::{Level, Question};
    let mut model = shown(80, 24, workloads(1));
    let question = Question {
        number: 1,
        level: Level::Probe,
        text: "Allow probes in this context, starting with: run `nvidia-smi --query-gpu=index,uuid,memory.used \
               --format=csv --loop-ms=1000` in prod/mixtral-0/vllm? They only read."
            .into(),
        ..Question::default()
    };
    say(&mut model, Event::Ask(question));
    stage::act(&Scene::default(), &mut model, &[]);
    let seen = stage::photograph(&Scene::default(), &model);
    snapshot("question-probe-80x24", &seen);
    assert!(
        seen.contains("They only read.") && seen.contains("lws/mixtral"),
        "{seen}"
    );
}
