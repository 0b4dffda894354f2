//! The test pane: before a test, while one runs, when it has failed; keys and commands that go with it.

use std::sync::Arc;

use ncclscope::model::event::{Command, Effect, Errand, Event, SourceId, Stamped};
use ncclscope::model::keys::{self, Key};
use ncclscope::model::screen::PaneId;
use ncclscope::model::testrun::{Ending, Phase, Planned, TestEvent};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::rules::scene::Scene;
use ncclscope::rules::testing;

use crate::screens::snapshot;
use crate::stage;
use crate::testrun::{RUN, line, row};

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 50)];
const SEC: i64 = 1_000_000_000;

/// A model to which tests happen second by second.
struct Play {
    model: Model,
    at: i64,
}

impl Play {
    fn new((w, h): (u16, u16)) -> Self {
        Self {
            model: stage::model(w, h),
            at: 1_800_000_000 * SEC,
        }
    }

    fn tell(&mut self, event: TestEvent) {
        self.at += SEC;
        let event = Event::Test(event);
        let stamped = Stamped {
            seq: 1,
            at: self.at,
            event,
        };
        assert_eq!(update(&mut self.model, stamped), []);
    }

    fn phase(&mut self, phase: Phase, note: Option<&str>) {
        self.tell(TestEvent::Phase(phase, note.map(str::to_owned)));
    }

    fn say(&mut self, lines: &[String]) {
        let block = Arc::new(Block::new(1, lines.concat().into_bytes()));
        let source = SourceId(0);
        self.tell(TestEvent::Log { source, block });
    }

    fn plan(&mut self) {
        self.tell(TestEvent::Planned(Arc::new(Planned {
            run: RUN.into(),
            namespace: "prod".into(),
            workload: "mixtral-0".into(),
            image: "vllm/vllm-openai:v0.11.2".into(),
            job: "ncclscope-mixtral-0-r1".into(),
            pods: 2,
            gpus: 8,
            nodes: vec!["gpu-node-11".into(), "gpu-node-12".into()],
            manifest: "apiVersion: batch/v1\nkind: Job\n".into(),
            warnings: vec!["variables from Secret s are not copied".into()],
            ..Planned::default()
        })));
    }

    fn rows(&mut self) {
        for shift in (3..=24).step_by(3) {
            self.say(&[row("gloo", 1 << shift, 16, 0.02 * f64::from(shift), 0)]);
        }
        self.say(&[line(0, "nccl", "start", ""), line(0, "sweep", "start", "")]);
        for shift in 3..=28 {
            let busbw = 440.0 / (1.0 + f64::from(1 << 25) / f64::from(1 << shift));
            self.say(&[row(
                "sweep",
                1 << shift,
                16,
                busbw,
                u64::from(shift == 20) * 3,
            )]);
        }
    }

    fn scene(&self, of: Scene) -> Scene {
        let test = testing::of(&of, &self.model);
        Scene { test, ..of }
    }

    fn photo(&mut self, name: &str, commands: &[Command]) {
        let scene = self.scene(stage::sockets());
        stage::act(&scene, &mut self.model, &[Command::Pane("test".into())]);
        stage::act(&scene, &mut self.model, commands);
        let (w, h) = self.model.screen.size;
        snapshot(
            &format!("{name}-{w}x{h}"),
            &stage::photograph(&scene, &self.model),
        );
    }
}

#[test]
fn before_a_test_it_says_what_would_run() {
    for size in SIZES {
        Play::new(size).photo("test-before", &[]);
    }
}

#[test]
fn rows_and_phases_as_they_arrive() {
    for size in SIZES {
        let mut play = Play::new(size);
        play.plan();
        play.phase(Phase::Created, None);
        play.phase(
            Phase::Queued,
            Some("0 of 2 pods have a node: 0/5 nodes are available"),
        );
        if size.0 == 80 {
            play.photo("test-queued", &[]);
        }
        play.phase(Phase::Starting, None);
        play.say(&[
            line(0, "rendezvous", "start", ""),
            line(0, "gloo", "start", ""),
        ]);
        play.rows();
        play.photo("test-sizes", &[]);
    }
}

#[test]
fn a_failure_names_the_rank_and_its_echoes() {
    let mut play = Play::new((80, 24));
    play.plan();
    play.phase(Phase::Created, None);
    play.say(&[
        row("gloo", 1 << 20, 16, 1.0, 0),
        line(0, "nccl", "start", ""),
        line(0, "nccl", "peer", ", \"peer\": 3, \"error\": \"rank 3 is gone: its connection was closed\""),
        line(3, "nccl", "fail", ", \"error\": \"RuntimeError: NCCL error: remote process exited or there was a network error\""),
    ]);
    play.tell(TestEvent::Ended(Ending::Failed("the Job failed".into())));
    play.tell(TestEvent::Cleaned(Vec::new()));
    play.photo("test-failed", &[]);
    play.photo("test-drill", &[Command::Enter]);
}

/// The test's own words are no news of the workload.
#[test]
fn the_workload_hears_nothing_of_the_test() {
    let mut play = Play::new((80, 24));
    play.plan();
    let host = "ncclscope-mixtral-0-r1-0:7:7 [0] NCCL INFO";
    play.say(&[
        format!("{host} ncclCommInitRank comm 0x55 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 3b000 commId 0xabc - Init START\n"),
        format!("{host} Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read\n"),
    ]);
    let scene = Scene::of(&play.model);
    assert!(scene.processes.is_empty() && scene.communicators.is_empty());
    let test = scene.test.expect("a test");
    assert_eq!(test.scene.communicators.len(), 1);
}

#[test]
fn keys_launch_and_cancel_only_when_that_does_something() {
    let words = |model: &Model| -> Vec<&str> {
        keys::hints(&model.screen)
            .into_iter()
            .map(|(_, w)| w)
            .collect()
    };
    let mut play = Play::new((120, 40));
    let scene = play.scene(stage::healthy());
    stage::act(&scene, &mut play.model, &[Command::Pane("test".into())]);
    let now = words(&play.model);
    assert!(now.contains(&"run") && !now.contains(&"cancel"), "{now:?}");
    let a = keys::command(&play.model.screen, Key::char('a')).expect("a key");
    let asked = play.model.screen.apply(&a);
    assert_eq!(asked, [Effect::Errand(Errand::Line("allreduce".into()))]);
    play.plan();
    let scene = play.scene(stage::healthy());
    stage::act(&scene, &mut play.model, &[]);
    let now = words(&play.model);
    assert!(now.contains(&"cancel") && !now.contains(&"run"), "{now:?}");
    let typed = Command::Line("allreduce --gpus 0".into());
    let asked = play.model.screen.apply(&typed);
    assert_eq!(
        asked,
        [Effect::Errand(Errand::Line("allreduce --gpus 0".into()))]
    );
    assert_eq!(play.model.screen.pane, PaneId::Test);
}
