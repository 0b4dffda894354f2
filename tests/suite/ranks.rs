//! The ranks pane on scenarios: the folded list in mid-start, the layout over hosts with what carries each group.

use std::collections::BTreeSet;

use ncclscope::model::event::{Command, Stamped};
use ncclscope::model::screen::PaneId;
use ncclscope::model::{Model, update};
use ncclscope::rules::scene::{Scene, Stage};
use ncclscope::sources::sim;

use crate::screens::snapshot;
use crate::stage;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 50)];

/// The scene so many seconds after a scenario began; 0: at its end.
fn after(name: &str, seconds: i64) -> Scene {
    let s = sim::load(name).unwrap();
    let until = match seconds {
        0 => i64::MAX,
        n => s.start_ns() + n * 1_000_000_000,
    };
    let mut model = Model::default();
    for (seq, (at, event)) in (1..).zip(sim::events(&s)) {
        if at <= until {
            update(&mut model, Stamped { seq, at, event });
        }
    }
    Scene::of(&model)
}

fn toggle(what: &str) -> Command {
    Command::Toggle(what.into())
}

fn photos(name: &str, scene: &Scene, commands: &[Command]) {
    for (w, h) in SIZES {
        let mut model = stage::model(w, h);
        stage::act(
            scene,
            &mut model,
            &[Command::Pane(PaneId::Ranks.id().into())],
        );
        stage::act(scene, &mut model, commands);
        snapshot(
            &format!("{name}-{w}x{h}"),
            &stage::photograph(scene, &model),
        );
    }
}

#[test]
fn the_list_in_the_middle_of_a_load() {
    photos("ranks-loading", &after("healthy", 30), &[]);
}

#[test]
fn a_stalled_load_is_on_top_and_says_for_how_long() {
    let scene = after("loading-stalled", 0);
    assert!(
        scene
            .processes
            .iter()
            .any(|p| p.still.is_some_and(|s| !s.waits)),
        "somebody is suspected"
    );
    photos("ranks-stalled", &scene, &[]);
}

/// A tensor-parallel group over two hosts on TCP is seen at a glance.
#[test]
fn the_grid_shows_a_group_that_leaves_its_host() {
    let scene = after("tp-over-network", 0);
    photos("ranks-grid-tcp", &scene, &[toggle("grid")]);
    photos(
        "ranks-grid-group",
        &scene,
        &[toggle("grid"), Command::Enter],
    );
}

#[test]
fn the_grid_of_a_healthy_job() {
    let scene = after("healthy", 0);
    photos("ranks-grid-healthy", &scene, &[toggle("grid")]);
}

/// Alike ranks are one row, the one that differs has its own, and `u` shows all of them.
#[test]
fn alike_ranks_fold_and_unfold() {
    let scene = after("healthy", 0);
    let mut model = stage::model(120, 40);
    stage::act(
        &scene,
        &mut model,
        &[Command::Pane(PaneId::Ranks.id().into())],
    );
    let others = scene
        .processes
        .iter()
        .filter(|p| p.global_rank.is_none())
        .count();
    let ranks = scene.processes.len() - others;
    assert!(
        scene
            .processes
            .iter()
            .filter(|p| p.global_rank.is_some())
            .all(|p| p.stage == Some(Stage::Serving))
    );
    // Who is no rank is folded by what it is: API server, engine core, the parents of both pods.
    let parts: BTreeSet<_> = scene.processes.iter().filter_map(|p| p.part).collect();
    assert_eq!((parts.len(), others), (3, 4));
    assert_eq!(model.screen.counts.rows, 1 + parts.len());
    stage::act(&scene, &mut model, &[toggle("each")]);
    assert_eq!(model.screen.counts.rows, ranks + others);
}
