//! What is kept of the last scene never shows: a scene that is derived again and again from a model that grows is
//! the one that is derived from nothing, whatever came in between.

use std::sync::LazyLock;

use ncclscope::model::event::{Event, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::parse::Nanos;
use ncclscope::rules::kept::Kept;
use ncclscope::rules::scene::Scene;
use ncclscope::sources::sim;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// Two derivations of a thousand ranks at each look would take this test minutes.
const LARGEST: usize = 64;

/// Events at which a scene is derived in a row: what is kept is most likely to be taken again at the next one.
const ROW: usize = 3;

/// A scenario by its name, and what happens in it.
type Play = (String, Vec<(Nanos, Event)>);

static PLAYS: LazyLock<Vec<Play>> = LazyLock::new(|| {
    let names = sim::list().into_iter().map(|(name, _)| name);
    names
        .filter_map(|name| Some((sim::load(&name).ok()?, name)))
        .filter(|(s, _)| s.world() <= LARGEST)
        .map(|(s, name)| (name, sim::events(&s)))
        .collect()
});

/// The name of the first part that differs: a scene is too long to be read.
fn differs(again: &Scene, fresh: &Scene) -> Option<&'static str> {
    macro_rules! parts {
        ($($part:ident)*) => { $(if again.$part != fresh.$part { return Some(stringify!($part)); })* };
    }
    parts!(now verdict summary sources workloads processes folded communicators unattributed findings matrices);
    parts!(layout groups pods gpus serving usage variables checks test);
    (again != fresh).then_some("another part")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_scene_derived_again_is_the_one_derived_from_nothing(
        play in any::<Index>(),
        cuts in vec(any::<Index>(), 1..6),
        forgets in proptest::option::of((any::<Index>(), any::<bool>())),
    ) {
        let (name, events) = &PLAYS[play.index(PLAYS.len())];
        let looks: Vec<usize> = cuts.iter().map(|c| c.index(events.len())).collect();
        let forgets = forgets.map(|(at, all)| {
            (at.index(events.len()), if all { Event::Rewind } else { Event::Afresh })
        });
        let (mut model, mut kept) = (Model::default(), Kept::default());
        for (i, (at, event)) in events.iter().enumerate() {
            // What was seen is forgotten, and all of it comes a second time.
            if let Some((_, forget)) = forgets.as_ref().filter(|(place, _)| *place == i) {
                update(&mut model, Stamped { seq: 0, at: *at, event: forget.clone() });
                for (at, event) in &events[..i] {
                    update(&mut model, Stamped { seq: 0, at: *at, event: event.clone() });
                }
            }
            update(&mut model, Stamped { seq: i as u64 + 1, at: *at, event: event.clone() });
            let last = i + 1 == events.len();
            if last || looks.iter().any(|from| (*from..*from + ROW).contains(&i)) {
                let again = Scene::again(&model, &mut kept);
                prop_assert_eq!(differs(&again, &Scene::of(&model)), None, "{} at event {}", name, i + 1);
            }
        }
    }
}

/// The same over every event, where a scenario is small enough.
#[test]
fn nothing_of_a_small_job_is_kept_too_long() {
    let (_, events) = PLAYS.iter().min_by_key(|(_, events)| events.len()).unwrap();
    let (mut model, mut kept) = (Model::default(), Kept::default());
    for (seq, (at, event)) in (1..).zip(events) {
        let (at, event) = (*at, event.clone());
        update(&mut model, Stamped { seq, at, event });
        let again = Scene::again(&model, &mut kept);
        assert_eq!(differs(&again, &Scene::of(&model)), None, "event {seq}");
    }
}
