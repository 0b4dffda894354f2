//! A live look without a screen: what it reads, when it stops, what it keeps.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ncclscope::app::headless;
use ncclscope::app::record::{Keeper, Recorder, create};
use ncclscope::model::event::Command;
use ncclscope::model::event::Stamped;
use ncclscope::model::screen::{PaneId, Screen};
use ncclscope::model::{Model, update};
use ncclscope::report::redact::Redactor;
use ncclscope::report::{self, Report};
use ncclscope::rules::scene::Scene;
use ncclscope::sources::cluster::ClusterOptions;
use ncclscope::sources::recording::{Header, Reader};
use ncclscope::theme::Theme;
use serde_json::json;

use super::{Turns, api, list, pod};
use crate::clusterlogs::{ended, lines};
use crate::fakeapi::{Answer, FakeApi, Piece};
use crate::stage;

/// What `report` does over a cluster, with the options of the fake one.
async fn observed(server: &FakeApi, limit: u64) -> Result<(usize, u64, Vec<String>), String> {
    let options = ClusterOptions {
        kubeconfig: Some(server.kubeconfig("{token: t}")),
        selector: Some("app=llm".into()),
        ..ClusterOptions::default()
    };
    let limit = Duration::from_secs(limit);
    let seen = headless::observe(
        options,
        Default::default(),
        limit,
        &Default::default(),
        &mut Keeper::default(),
    )
    .await;
    seen.map(|(model, at, notes)| {
        assert!(at > 0);
        let lines = model.sources.iter().map(|(_, s)| s.lines).sum();
        (model.pods.iter().count(), lines, notes)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_report_reads_what_exists_and_stops_when_nothing_new_comes() {
    let open = Arc::new(Mutex::new(Vec::new()));
    let server = api(
        Turns::new([list(
            "PodList",
            5,
            &[pod("a", 3), ended("b", 4), pod("silent", 4)],
        )]),
        Turns::default(),
        move |a| match a.path.contains("silent") {
            true => Answer::status(403, "Forbidden", "no logs of this one"),
            false if a.path.contains("/a/") => {
                let (tx, answer) = Answer::stream();
                tx.send(Piece::Bytes(lines(1, 9).into_bytes())).unwrap();
                open.lock().unwrap().push(tx);
                answer
            }
            false => Answer::Text(lines(1, 5).into_bytes()),
        },
    )
    .await;
    let begun = std::time::Instant::now();
    let (pods, lines, notes) = observed(&server, 20).await.unwrap();
    assert_eq!((pods, lines), (3, 14));
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    let said = notes.join("\n");
    assert!(said.contains("prod/silent/vllm"), "{said}");
    assert!(!said.contains("prod/a/vllm"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_report_that_can_see_nothing_says_why() {
    let server = FakeApi::start(|a| match a.path.as_str() {
        "/version" => Answer::Json(200, json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0",
            "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""})),
        _ => Answer::status(403, "Forbidden", "no"),
    })
    .await;
    let said = observed(&server, 20).await.unwrap_err();
    assert_eq!(said, "not allowed to list and watch pods in namespace prod");
    let server = FakeApi::start(|_| Answer::Nothing).await;
    let said = observed(&server, 3).await.unwrap_err();
    assert!(said.contains("API server"), "{said}");
}

/// A cluster that is looked at and recorded: the recording shows the same screens and gives the same report.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_live_look_saw_replays_to_the_same_screens_and_report() {
    let log = "llm-0:1:1 [0] NCCL INFO Bootstrap : Using eth0:10.0.0.1<0>\n\
         llm-0:1:1 [0] NCCL INFO ncclCommInitRank comm 0x55 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 1000 commId 0xabc - Init START\n\
         llm-0:1:1 [0] misc/socket.cc:1 NCCL WARN socketPollConnect: connect to 10.0.0.2<1234> returned Connection refused, exceeded error retry count after 3 attempts\n";
    let open = Arc::new(Mutex::new(Vec::new()));
    let server = api(
        Turns::new([list("PodList", 5, &[pod("a", 3), ended("b", 4)])]),
        Turns::default(),
        move |a| match a.path.contains("/a/") {
            true => {
                let (tx, answer) = Answer::stream();
                let stamped = log.lines().map(|l| format!("2026-01-01T00:00:01Z {l}\n"));
                tx.send(Piece::Bytes(stamped.collect::<String>().into_bytes()))
                    .unwrap();
                open.lock().unwrap().push(tx);
                answer
            }
            false => Answer::Text(lines(1, 5).into_bytes()),
        },
    )
    .await;
    let options = ClusterOptions {
        kubeconfig: Some(server.kubeconfig("{token: t}")),
        selector: Some("app=llm".into()),
        ..ClusterOptions::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("live.rec");
    let header = Header::new("report", 1, true);
    let recorder = Recorder::start(create(&path).unwrap(), &header, Redactor::new()).unwrap();
    let mut keeper = Keeper {
        recorder: Some(recorder),
        ..Keeper::default()
    };
    let limit = Duration::from_secs(20);
    let (setup, stall) = (Default::default(), Default::default());
    let seen = headless::observe(options, setup, limit, &stall, &mut keeper).await;
    let (mut live, ..) = seen.unwrap();
    let summary = keeper.recorder.unwrap().close().unwrap();
    assert_eq!(summary.lost, 0);
    let mut again = Model::default();
    for (seq, entry) in (1..).zip(Reader::open(&path).unwrap()) {
        let (at, event) = (entry.at, entry.event);
        update(&mut again, Stamped { seq, at, event });
    }
    let printed = |model: &Model| {
        let mut out = Vec::new();
        let scene = Scene::of(model);
        report::json::write(&mut out, &Report::of(&scene, None), &RefCell::default()).unwrap();
        String::from_utf8(out).unwrap()
    };
    let told = printed(&live);
    assert!(told.contains("nccl.connect-timeout"), "{told}");
    assert_eq!(told, printed(&again));
    for id in PaneId::ALL {
        let draw = |model: &mut Model| {
            model.screen = Screen::new(120, 40);
            let scene = Scene::of(model);
            stage::act(&scene, model, &[Command::Pane(id.id().into())]);
            stage::text(&stage::draw(&scene, model, &Theme::probe(false)))
        };
        assert_eq!(draw(&mut live), draw(&mut again), "{}", id.id());
    }
}
