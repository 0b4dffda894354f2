//! The wall: what it shows when, and that it can hang there for weeks.

use ncclscope::model::event::{
    Command, EdgeEvent, EdgeState, Effect, Errand, Event, PodEvent, Stamped, WorkloadView,
};
use ncclscope::model::keys::{self, Code, Key};
use ncclscope::model::kiosk::{Bad, Kiosk, Plan};
use ncclscope::model::screen::PaneId;
use ncclscope::model::{Model, update};
use ncclscope::panes;
use ncclscope::parse::Nanos;
use ncclscope::rules::scene::{Finding, Scene, Severity};
use ncclscope::theme::Theme;

use crate::screens::snapshot;
use crate::{sentences, stage};

const S: Nanos = 1_000_000_000;

fn plan() -> Plan {
    let named = |n: &str| PaneId::named(n).unwrap();
    Plan {
        panes: vec![named("overview"), named("ranks"), named("matrix")],
        ..Plan::default()
    }
}

fn bad(key: &str) -> Bad {
    Bad {
        key: key.into(),
        sentence: format!("{key} is wrong"),
    }
}

fn workload(name: &str) -> WorkloadView {
    WorkloadView {
        namespace: "prod".into(),
        kind: "lws".into(),
        name: name.into(),
        ..WorkloadView::default()
    }
}

fn watches(effects: &[Effect]) -> Option<&str> {
    match effects {
        [Effect::Errand(Errand::Watch(w))] => Some(&w.name),
        _ => None,
    }
}

/// A wall in front of a scene, after so many seconds of it.
fn wall(scene: &Scene, (w, h): (u16, u16), seconds: Nanos, facts: bool) -> Model {
    let mut model = stage::model(w, h);
    model.screen.kiosk = Some(Kiosk::new(plan()));
    let start = scene.now.map_or(S, |now| now.ns);
    for second in 0..=seconds {
        let at = start + second * S;
        let mut send = |event| {
            let stamped = Stamped { seq: 1, at, event };
            update(&mut model, stamped);
        };
        if facts || second == 0 {
            send(Event::Pod(PodEvent::Synced));
        }
        send(Event::Tick);
        model.screen.counts = panes::counts(scene, &model);
    }
    model
}

#[test]
fn layouts() {
    let shown = [
        ("healthy", stage::healthy(), (200, 50), 5, true),
        ("matrix", stage::healthy(), (120, 40), 45, true),
        ("held", stage::sockets(), (120, 40), 30, true),
        ("banner", stage::sockets(), (120, 40), 205, true),
        ("blind", stage::healthy(), (80, 24), 700, false),
        ("small", stage::sockets(), (50, 14), 30, true),
    ];
    for (name, scene, size, seconds, facts) in shown {
        let model = wall(&scene, size, seconds, facts);
        let name = format!("kiosk-{name}-{}x{}", size.0, size.1);
        snapshot(&name, &stage::photograph(&scene, &model));
    }
}

/// What follows from a finding, and what is a note, is no finding more: the wall counts as the findings pane does.
#[test]
fn the_wall_counts_what_there_is_to_mend() {
    let one = sentences::scene("dead-rank-cascade");
    let mut two = one.clone();
    let mut other = two.findings[0].clone();
    other.key.push_str(" elsewhere");
    two.findings.insert(1, other);
    for (scene, more) in [(one, 0), (two, 1)] {
        let loud = |f: &&Finding| f.severity > Severity::Info && f.consequence_of.is_none();
        let causes = scene.findings.iter().filter(loud).count();
        assert_eq!(causes, 1 + more);
        assert!(scene.findings.len() > causes);
        let model = wall(&scene, (120, 40), 30, true);
        let text = stage::text(&stage::draw(&scene, &model, &Theme::probe(false))).join("\n");
        let title = format!("what is wrong, finding 1 of {causes}");
        assert_eq!(text.contains(&title), more > 0, "{text}");
        let others = format!("and {more} more finding");
        assert_eq!(text.contains(&others), more > 0, "{text}");
        assert_eq!(text.contains("more finding"), more > 0, "{text}");
    }
}

/// Who stands in front of a wall can't scroll: what is to be done is there whole.
#[test]
fn the_wall_shows_the_whole_fix() {
    let squeezed = |text: &str| -> String { text.split_whitespace().collect() };
    for (name, sizes) in [
        ("dead-rank-cascade", [(80, 24), (120, 40), (200, 50)]),
        ("sockets-inside-host", [(60, 20), (80, 24), (200, 50)]),
        // A whole policy.
        ("network-policy", [(100, 30), (120, 40), (200, 50)]),
    ] {
        let scene = sentences::scene(name);
        let fix = scene.findings[0].fix[0].lines().next().unwrap();
        for size in sizes {
            let model = wall(&scene, size, 30, true);
            let shown = stage::text(&stage::draw(&scene, &model, &Theme::probe(false)));
            let shown = squeezed(&shown.join("\n"));
            assert!(
                shown.contains(&squeezed(fix)),
                "{name} {size:?}: {fix}\n{shown}"
            );
        }
    }
}

#[test]
fn in_ascii_it_is_plain_words_and_every_size_is_survived() {
    let scene = stage::sockets();
    let model = wall(&scene, (100, 30), 30, true);
    let text = stage::text(&stage::draw(&scene, &model, &Theme::probe(true))).join("\n");
    assert!(text.is_ascii(), "{text}");
    assert!(text.contains("D E G R A D E D"), "{text}");
    for size in [
        (0, 0),
        (1, 1),
        (40, 8),
        (41, 9),
        (60, 16),
        (79, 23),
        (300, 90),
    ] {
        for seconds in [0, 200, 230, 250] {
            for scene in [stage::sockets(), stage::thousand(), Scene::default()] {
                stage::draw(
                    &scene,
                    &wall(&scene, size, seconds, true),
                    &Theme::probe(false),
                );
            }
        }
    }
}

#[test]
fn only_leaving_has_a_key() {
    let scene = stage::healthy();
    let model = wall(&scene, (80, 24), 1, true);
    let mut keys = vec![Code::Enter, Code::Esc, Code::Tab, Code::Up, Code::End];
    keys.extend((' '..='~').map(Code::Char));
    for code in keys {
        for ctrl in [false, true] {
            let key = Key {
                code,
                ctrl,
                alt: false,
            };
            let quits = key == Key::char('q') || key == Key::ctrl('c');
            let command = keys::command(&model.screen, key);
            assert_eq!(command, quits.then_some(Command::Quit), "{key}");
        }
    }
}

#[test]
fn panes_rotate_for_weeks_without_drift() {
    let mut kiosk = Kiosk::new(plan());
    let start = 1_700_000_000 * S;
    // Ticks come a little late, each by another bit; a week of them.
    for second in 0..7 * 86_400 {
        let late = (second * 7_919) % 900 * 1_000_000;
        kiosk.hear(start + second * S + late);
        assert!(kiosk.tick(start + second * S + late, None).is_empty());
        let turn = usize::try_from(second / 20 % 3).unwrap();
        let near = second % 20 == 0 || second % 20 == 19;
        assert!(
            near || kiosk.pane() == plan().panes[turn],
            "second {second}: {:?}",
            kiosk.pane()
        );
        assert!(kiosk.blind().is_empty());
    }
}

#[test]
fn events_without_time_rotate_by_ticks() {
    let mut kiosk = Kiosk::new(plan());
    for _ in 0..21 {
        kiosk.tick(0, None);
    }
    assert_eq!(kiosk.pane(), PaneId::Ranks);
}

#[test]
fn bad_news_is_held_then_a_banner_stays_until_it_clears() {
    let mut kiosk = Kiosk::new(plan());
    let mut now = 1_000 * S;
    let mut pass = |kiosk: &mut Kiosk, seconds: Nanos, what: Option<&Bad>| {
        for _ in 0..seconds {
            now += S;
            kiosk.hear(now);
            kiosk.tick(now, what);
        }
    };
    let a = bad("a");
    pass(&mut kiosk, 25, None);
    assert_eq!(kiosk.pane(), PaneId::Ranks);
    pass(&mut kiosk, 179, Some(&a));
    assert!(kiosk.holds() && kiosk.troubled());
    pass(&mut kiosk, 2, Some(&a));
    assert!(
        !kiosk.holds() && kiosk.troubled(),
        "the rotation goes on under a banner"
    );
    pass(&mut kiosk, 20, Some(&a));
    assert_eq!(kiosk.pane(), PaneId::Matrix);
    pass(&mut kiosk, 1, None);
    assert!(!kiosk.troubled(), "it cleared");
    // The same again within the hour is no news; another thing is.
    pass(&mut kiosk, 5, Some(&a));
    assert!(kiosk.troubled() && !kiosk.holds());
    pass(&mut kiosk, 5, Some(&bad("b")));
    assert!(kiosk.holds());
    // After an hour without it, it is news once more.
    pass(&mut kiosk, 3_601, None);
    pass(&mut kiosk, 1, Some(&a));
    assert!(kiosk.holds());
}

#[test]
fn workloads_take_turns_and_their_trouble_is_remembered() {
    let mut kiosk = Kiosk::new(plan());
    let list = [workload("a"), workload("b")];
    assert_eq!(watches(&kiosk.choice(&list)), Some("a"));
    kiosk.afresh();
    assert!(
        kiosk.choice(&list[..1]).is_empty(),
        "the one on screen is no choice"
    );
    let mut now = 1_000 * S;
    let wrong = bad("wrong");
    let mut around = |kiosk: &mut Kiosk, what: Option<&Bad>| {
        for _ in 0..1_000 {
            now += S;
            let effects = kiosk.tick(now, what);
            if !effects.is_empty() {
                return effects;
            }
        }
        panic!("nobody's turn ends");
    };
    assert_eq!(kiosk.turn(), Some((1, 2)));
    assert_eq!(watches(&around(&mut kiosk, Some(&wrong))), Some("b"));
    kiosk.afresh();
    let other: Vec<_> = kiosk.elsewhere().collect();
    assert_eq!(other, [("prod/lws/a", "wrong is wrong")]);
    // Around once: who is there is asked anew, and the turn goes on with the first.
    assert_eq!(around(&mut kiosk, None), [Effect::Errand(Errand::Choose)]);
    kiosk.afresh();
    let three = [workload("a"), workload("b"), workload("c")];
    assert_eq!(watches(&kiosk.choice(&three)), Some("c"));
    kiosk.afresh();
    assert_eq!(around(&mut kiosk, None), [Effect::Errand(Errand::Choose)]);
    assert_eq!(watches(&kiosk.choice(&three)), Some("a"));
    kiosk.afresh();
    assert_eq!(kiosk.elsewhere().count(), 1, "not seen again yet");
    assert_eq!(watches(&around(&mut kiosk, None)), Some("b"));
    assert_eq!(kiosk.elsewhere().count(), 0, "it is well again");
    kiosk.afresh();
    around(&mut kiosk, None);
    around(&mut kiosk, None);
    // All but one are gone.
    assert_eq!(watches(&kiosk.choice(&three[2..])), Some("c"));
    assert_eq!(kiosk.turn(), None);
}

#[test]
fn a_wall_without_a_workload_of_its_own_looks_around() {
    let roams = Plan {
        roams: true,
        ..plan()
    };
    let mut kiosk = Kiosk::new(roams);
    assert_eq!(watches(&kiosk.choice(&[workload("a")])), Some("a"));
    kiosk.afresh();
    // The one there is speaks for an hour, then falls silent: it may be gone, and another one in its place.
    let mut asked = None;
    for second in 0..7_200 {
        let now = (1_000 + second) * S;
        if second < 3_600 {
            kiosk.hear(now);
        }
        let effects = kiosk.tick(now, None);
        if !effects.is_empty() {
            assert_eq!(effects, [Effect::Errand(Errand::Choose)]);
            asked = Some(second);
            break;
        }
    }
    let asked = asked.expect("it looks around");
    assert!((4_200..4_300).contains(&asked), "after {asked} s");
    kiosk.afresh();
    assert_eq!(watches(&kiosk.choice(&[workload("b")])), Some("b"));
    // One that was named is waited for.
    let mut kiosk = Kiosk::new(plan());
    kiosk.watched(&[workload("a")]);
    for second in 0..7_200 {
        assert!(kiosk.tick((1_000 + second) * S, None).is_empty());
    }
}

#[test]
fn it_says_when_it_is_blind() {
    let mut kiosk = Kiosk::new(plan());
    let edge = |kiosk: &mut Kiosk, state| kiosk.edge("pods", &state);
    kiosk.hear(100 * S);
    kiosk.tick(100 * S, None);
    edge(
        &mut kiosk,
        EdgeState::Retrying {
            why: "connection refused".into(),
            in_ms: 4_000,
        },
    );
    kiosk.tick(105 * S, None);
    assert!(kiosk.blind().is_empty(), "short cuts mend themselves");
    kiosk.tick(111 * S, None);
    assert_eq!(kiosk.blind(), ["no pods: connection refused"]);
    edge(&mut kiosk, EdgeState::Up);
    assert!(kiosk.blind().is_empty());
    kiosk.tick(701 * S, None);
    assert_eq!(kiosk.blind(), ["nothing was heard for 10 minutes"]);
    kiosk.hear(702 * S);
    assert!(kiosk.blind().is_empty());
    // One log that is cut is no blindness, and what was said of another view says nothing of this one.
    kiosk.edge("logs", &EdgeState::Down { why: "gone".into() });
    edge(
        &mut kiosk,
        EdgeState::Forbidden {
            rule: "list pods".into(),
        },
    );
    kiosk.afresh();
    kiosk.tick(800 * S, None);
    assert!(kiosk.blind().is_empty());
}

#[test]
fn the_model_feeds_the_wall() {
    let scene = stage::sockets();
    let mut model = wall(&scene, (80, 24), 3, true);
    let send = |model: &mut Model, at, event| update(model, Stamped { seq: 1, at, event });
    assert!(model.screen.kiosk.as_ref().unwrap().holds());
    let at = model.now + 60 * S;
    let list = vec![workload("a"), workload("b")];
    assert_eq!(
        watches(&send(&mut model, at, Event::Choice(list))),
        Some("a")
    );
    let down = EdgeEvent {
        edge: "pods".into(),
        state: EdgeState::Down { why: "gone".into() },
    };
    send(&mut model, at, Event::Edge(down));
    send(&mut model, at + 11 * S, Event::Tick);
    assert_eq!(
        model.screen.kiosk.as_ref().unwrap().blind(),
        ["no pods: gone"]
    );
}
