//! Logs against scripted API servers: cuts, rotation, restarts, ends, and what is opened first.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ncclscope::model::event::{EdgeState, SourceEvent};
use ncclscope::sources::cluster::{ClusterOptions, connect};
use serde_json::{Value, json};

use crate::cluster::{Heard, Turns, api, change, list, pod};
use crate::fakeapi::{Answer, Piece};

pub fn lines(from: u32, to: u32) -> String {
    (from..=to)
        .map(|i| format!("2026-01-01T00:00:{:02}.{:09}Z line {i}\n", i / 10, i % 10))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_log_goes_on_without_loss_or_doubles() {
    let (one, first) = Answer::stream();
    // Two equal lines with one stamp are two lines; the last one arrives in half.
    let twice = "2026-01-01T00:00:03.000000005Z same\n".repeat(2);
    one.send(Piece::Bytes(
        (lines(1, 34) + &twice + "2026-01-01T00:00:03.9Z ha").into_bytes(),
    ))
    .unwrap();
    one.send(Piece::Cut).unwrap();
    let (two, second) = Answer::stream();
    let rest =
        "2026-01-01T00:00:03.900000000Z half and whole\n2026-01-01T00:00:09.000000000Z last\n";
    let again: String = lines(20, 34) + &twice + rest;
    two.send(Piece::Bytes(again.into_bytes())).unwrap();
    let logs = Turns::new([first, second]);
    let server = api(
        Turns::new([list("PodList", 5, &[pod("a", 3)])]),
        Turns::default(),
        move |_| logs.next(),
    )
    .await;
    let mut heard = Heard::start(&server).await;
    heard
        .until("the last line", |h| h.log("prod/a/vllm").contains("last"))
        .await;
    assert_eq!(heard.log("prod/a/vllm"), lines(1, 34) + &twice + rest);
    assert!(heard.lost().is_empty());
    let asked: Vec<_> = server
        .asked()
        .into_iter()
        .filter(|a| a.path.ends_with("/log"))
        .collect();
    assert_eq!(asked[0].param("sinceTime"), None);
    assert_eq!(asked[0].param("timestamps").as_deref(), Some("true"));
    assert_eq!(
        asked[1].param("sinceTime").as_deref(),
        Some("2026-01-01T00:00:02Z"),
        "floored, never rounded up"
    );
    assert!(
        heard
            .sources
            .iter()
            .any(|s| matches!(s, SourceEvent::Retrying { .. }))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_rotated_away_during_a_cut_is_a_loss_that_is_said() {
    let (one, first) = Answer::stream();
    one.send(Piece::Bytes(lines(1, 9).into_bytes())).unwrap();
    one.send(Piece::Cut).unwrap();
    let (two, second) = Answer::stream();
    two.send(Piece::Bytes(lines(50, 59).into_bytes())).unwrap();
    let logs = Turns::new([first, second]);
    let server = api(
        Turns::new([list("PodList", 5, &[pod("a", 3)])]),
        Turns::default(),
        move |a| match a.param("previous") {
            Some(_) => Answer::status(
                400,
                "BadRequest",
                "previous terminated container \"vllm\" in pod \"a\" not found",
            ),
            None => logs.next(),
        },
    )
    .await;
    let mut heard = Heard::start(&server).await;
    heard
        .until("the lines after", |h| {
            h.log("prod/a/vllm").contains("line 59")
        })
        .await;
    assert_eq!(heard.log("prod/a/vllm"), lines(1, 9) + &lines(50, 59));
    assert_eq!(
        heard.lost(),
        ["the kubelet rotated the log away during the cut"]
    );
}

/// The pod after its container restarted.
fn restarted(name: &str, version: u32, restarts: u32) -> Value {
    let mut p = pod(name, version);
    p["status"]["containerStatuses"][0]["restartCount"] = json!(restarts);
    p["status"]["containerStatuses"][0]["containerID"] = json!(format!("containerd://{restarts}"));
    p["status"]["containerStatuses"][0]["state"] =
        json!({"running": {"startedAt": "2026-01-01T00:10:00Z"}});
    p["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 1, "reason": "Error", "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:09:00Z", "containerID": "containerd://one"}});
    p
}

/// A pod of a Job: its container has ended and will not run again.
pub fn ended(name: &str, version: u32) -> Value {
    let mut p = pod(name, version);
    p["spec"]["restartPolicy"] = json!("Never");
    p["status"]["containerStatuses"][0]["state"] = json!({"terminated": {"exitCode": 0, "reason": "Completed",
        "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:09:00Z", "containerID": "containerd://one"}});
    p
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_container_that_ended_is_delivered_once_whatever_is_said_of_its_pod_later() {
    let (watch, answer) = Answer::stream();
    let server = api(
        Turns::new([list("PodList", 5, &[ended("a", 3)])]),
        Turns::new([answer]),
        |_| Answer::Text(lines(1, 9).into_bytes()),
    )
    .await;
    let mut heard = Heard::start(&server).await;
    let over = |h: &Heard| {
        let ends = |s: &&SourceEvent| matches!(s, SourceEvent::Ended { .. });
        h.sources.iter().filter(ends).count()
    };
    heard.until("its end", |h| over(h) == 1).await;
    // The phase follows the container, and the Job's controller takes its finalizer off.
    for version in 8..12 {
        let mut later = ended("a", version);
        later["status"]["phase"] = json!("Succeeded");
        watch.send(change("MODIFIED", &later)).unwrap();
    }
    watch.send(change("ADDED", &pod("b", 12))).unwrap();
    heard
        .until("another pod's log", |h| {
            h.log("prod/b/vllm").contains("line 9")
        })
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    watch.send(change("MODIFIED", &pod("b", 13))).unwrap();
    heard
        .until("what came meanwhile", |h| {
            h.pods.iter().filter(|p| *p == "b").count() == 2
        })
        .await;
    assert_eq!(heard.log("prod/a/vllm"), lines(1, 9));
    assert_eq!(over(&heard), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_completes_the_old_run_and_begins_the_new_one() {
    let (watch, answer) = Answer::stream();
    let (one, first) = Answer::stream();
    one.send(Piece::Bytes(lines(1, 9).into_bytes())).unwrap();
    let logs = Turns::new([first]);
    let (two, second) = Answer::stream();
    let fresh = "2026-01-01T00:10:01.000000000Z new run\n";
    two.send(Piece::Bytes(fresh.into())).unwrap();
    let later = Turns::new([second]);
    let server = api(
        Turns::new([list("PodList", 5, &[pod("a", 3)])]),
        Turns::new([answer]),
        move |a| {
            match (a.param("previous"), a.param("sinceTime")) {
                // The end of the old run, from the last second on.
                (Some(_), Some(_)) => Answer::Text(lines(1, 12).into_bytes()),
                (Some(_), None) => Answer::status(400, "BadRequest", "asked for more than needed"),
                (None, None) if logs.0.lock().unwrap().is_empty() => later.next(),
                _ => logs.next(),
            }
        },
    )
    .await;
    let mut heard = Heard::start(&server).await;
    heard
        .until("the first lines", |h| {
            h.log("prod/a/vllm").contains("line 9")
        })
        .await;
    watch
        .send(change("MODIFIED", &restarted("a", 8, 1)))
        .unwrap();
    one.send(Piece::Cut).unwrap();
    heard
        .until("the new run", |h| h.log("prod/a/vllm").contains("new run"))
        .await;
    assert_eq!(heard.log("prod/a/vllm"), lines(1, 12) + fresh);
    assert!(heard.lost().is_empty(), "{:?}", heard.lost());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_previous_container_is_read_once_as_its_own_source() {
    let server = api(
        Turns::new([list("PodList", 5, &[restarted("a", 3, 2)])]),
        Turns::default(),
        |a| match a.param("previous") {
            Some(_) => Answer::Text(b"2026-01-01T00:05:00.000000000Z the reason".to_vec()),
            None => {
                let (tx, answer) = Answer::stream();
                tx.send(Piece::Bytes(
                    b"2026-01-01T00:11:00.000000000Z now\n".to_vec(),
                ))
                .unwrap();
                std::mem::forget(tx);
                answer
            }
        },
    )
    .await;
    let mut heard = Heard::start(&server).await;
    heard
        .until("both", |h| {
            !h.log("prod/a/vllm").is_empty() && !h.log("prod/a/vllm@previous").is_empty()
        })
        .await;
    assert_eq!(
        heard.log("prod/a/vllm@previous"),
        "2026-01-01T00:05:00.000000000Z the reason\n"
    );
    let previous = server
        .asked()
        .iter()
        .filter(|a| a.param("previous").is_some())
        .count();
    assert_eq!(previous, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_vanishes_mid_stream_ends_its_log_and_nothing_is_lost() {
    let (watch, answer) = Answer::stream();
    let (one, first) = Answer::stream();
    one.send(Piece::Bytes(lines(1, 9).into_bytes())).unwrap();
    let logs = Turns::new([first]);
    let server = api(
        Turns::new([list("PodList", 5, &[pod("a", 3)])]),
        Turns::new([answer]),
        move |_| {
            if logs.0.lock().unwrap().is_empty() {
                return Answer::status(404, "NotFound", "pods \"a\" not found");
            }
            logs.next()
        },
    )
    .await;
    let mut heard = Heard::start(&server).await;
    heard
        .until("its lines", |h| h.log("prod/a/vllm").contains("line 9"))
        .await;
    drop(one);
    watch.send(change("DELETED", &pod("a", 9))).unwrap();
    heard
        .until("the end", |h| {
            h.sources
                .iter()
                .any(|s| matches!(s, SourceEvent::Ended { .. }))
        })
        .await;
    assert!(
        heard.sources.iter().any(
            |s| matches!(s, SourceEvent::Ended { why: Some(w), .. } if w == "the pod is gone")
        )
    );
    assert_eq!(heard.log("prod/a/vllm"), lines(1, 9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_long_log_the_head_and_the_end_are_read_and_the_middle_is_said_to_be_lost() {
    let server = api(
        Turns::new([list("PodList", 5, &[pod("a", 3)])]),
        Turns::default(),
        |a| {
            let (tx, answer) = Answer::stream();
            let text = match a.param("tailLines") {
                None => lines(1, 59),
                Some(_) => lines(55, 59) + "2026-01-01T00:00:30.000000000Z end\n",
            };
            tx.send(Piece::Bytes(text.into_bytes())).unwrap();
            std::mem::forget(tx);
            answer
        },
    )
    .await;
    let mut options = ClusterOptions {
        kubeconfig: Some(server.kubeconfig("{token: t}")),
        selector: Some("app=llm".into()),
        ..ClusterOptions::default()
    };
    options.limits.head = 1_000;
    let mut heard = Heard::of(connect(&options).await.unwrap(), options);
    heard
        .until("the end", |h| h.log("prod/a/vllm").ends_with("end\n"))
        .await;
    assert!(heard.log("prod/a/vllm").starts_with(&lines(1, 20)));
    let mut seen: Vec<_> = heard.log("prod/a/vllm").lines().collect();
    let all = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), all, "no doubles where head and end meet");
    assert!(
        heard
            .lost()
            .iter()
            .all(|w| w.contains("its middle was not read"))
            && !heard.lost().is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gpu_containers_open_first_and_never_more_than_the_limit_at_a_time() {
    let pods: Vec<Value> = (0..12)
        .map(|i| {
            let mut p = pod(&format!("p{i}"), 3);
            if i % 2 == 0 {
                p["spec"]["containers"][0]
                    .as_object_mut()
                    .unwrap()
                    .remove("resources");
            }
            p
        })
        .collect();
    let open = Arc::new(Mutex::new(0i32));
    let most = Arc::new(Mutex::new(0i32));
    let (o, m) = (open.clone(), most.clone());
    let server = api(
        Turns::new([list("PodList", 5, &pods)]),
        Turns::default(),
        move |_| {
            let now = {
                let mut open = o.lock().unwrap();
                *open += 1;
                *open
            };
            let mut most = m.lock().unwrap();
            *most = (*most).max(now);
            let (tx, answer) = Answer::stream();
            let open = o.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                *open.lock().unwrap() -= 1;
                // As young as can be: caught up with at once.
                let line = format!("{} hello\n", jiff::Timestamp::now());
                tx.send(Piece::Bytes(line.into_bytes())).unwrap();
                std::future::pending::<()>().await;
            });
            answer
        },
    )
    .await;
    let mut options = ClusterOptions {
        kubeconfig: Some(server.kubeconfig("{token: t}")),
        selector: Some("app=llm".into()),
        ..ClusterOptions::default()
    };
    options.limits.opening = 3;
    options.limits.pods = 10;
    let mut heard = Heard::of(connect(&options).await.unwrap(), options);
    heard
        .until("ten logs", |h| {
            h.logs.values().filter(|l| !l.is_empty()).count() == 10
        })
        .await;
    assert!(*most.lock().unwrap() <= 3, "{most:?}");
    let order: Vec<bool> = server
        .asked()
        .iter()
        .filter_map(|a| {
            a.path
                .strip_prefix("/api/v1/namespaces/prod/pods/p")?
                .strip_suffix("/log")?
                .parse::<u32>()
                .ok()
        })
        .map(|i| i % 2 == 1)
        .collect();
    assert_eq!(
        order.len(),
        10,
        "over the limit, pods without GPUs are left out"
    );
    assert!(order[..6].iter().all(|gpu| *gpu), "{order:?}");
    let down = EdgeState::Down {
        why: "there are 2 more than the 10 that are read".into(),
    };
    let last = |edge: &str| {
        let mut states = heard.edges.iter().rev();
        let last = states.find(|(name, _)| name == edge);
        last.map(|(_, state)| state.clone())
    };
    // Logs that come do not take it back.
    assert_eq!(last("logs of some pods"), Some(down), "{:?}", heard.edges);
    assert_eq!(last("logs"), Some(EdgeState::Up));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_out_is_read_when_there_is_room() {
    let (watch, changes) = Answer::stream();
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version: 5 (9)"});
    let server = api(
        Turns::new([
            list("PodList", 5, &[pod("a", 3), pod("b", 3), pod("c", 3)]),
            list("PodList", 9, &[pod("d", 8), pod("e", 8)]),
        ]),
        Turns::new([changes]),
        |a| {
            let (tx, answer) = Answer::stream();
            let line = format!("{} {}\n", jiff::Timestamp::now(), a.path);
            tx.send(Piece::Bytes(line.into_bytes())).unwrap();
            std::mem::forget(tx);
            answer
        },
    )
    .await;
    let mut options = ClusterOptions {
        kubeconfig: Some(server.kubeconfig("{token: t}")),
        selector: Some("app=llm".into()),
        ..ClusterOptions::default()
    };
    options.limits.pods = 2;
    let mut heard = Heard::of(connect(&options).await.unwrap(), options);
    let read =
        |name: &'static str| move |h: &Heard| !h.log(&format!("prod/{name}/vllm")).is_empty();
    heard.until("b's log", read("b")).await;
    assert!(heard.log("prod/c/vllm").is_empty());
    watch.send(change("DELETED", &pod("a", 6))).unwrap();
    heard.until("c's log", read("c")).await;
    // All of them are others now.
    watch.send(change("ERROR", &gone)).unwrap();
    heard.until("d's log", read("d")).await;
    heard.until("e's log", read("e")).await;
    let said: Vec<_> = heard
        .edges
        .iter()
        .filter(|(e, _)| e == "logs of some pods")
        .collect();
    assert!(
        matches!(said[..], [(_, EdgeState::Down { .. }), (_, EdgeState::Up)]),
        "{said:?}"
    );
}

/// Lines as young as can be, one every tenth of a second, after those that were there.
fn endless(before: String) -> Answer {
    let (tx, answer) = Answer::stream();
    tx.send(Piece::Bytes(before.into_bytes())).unwrap();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let line = format!("{} busy\n", jiff::Timestamp::now());
            if tx.send(Piece::Bytes(line.into_bytes())).is_err() {
                return;
            }
        }
    });
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_never_pause_are_all_opened_again_after_a_cut() {
    let began = jiff::Timestamp::now() - Duration::from_secs(60);
    let first = format!("{began} first\n");
    let opened = Arc::new(Mutex::new(std::collections::BTreeSet::new()));
    let server = api(
        Turns::new([list("PodList", 5, &[pod("a", 3), pod("b", 3), pod("c", 3)])]),
        Turns::default(),
        move |a| {
            let again = !opened.lock().unwrap().insert(a.path.clone());
            if again {
                return endless(first.clone());
            }
            let (tx, answer) = Answer::stream();
            tx.send(Piece::Bytes(first.clone().into_bytes())).unwrap();
            tokio::spawn(async move {
                // Long enough for all three to be open.
                tokio::time::sleep(Duration::from_secs(2)).await;
                let _ = tx.send(Piece::Cut);
            });
            answer
        },
    )
    .await;
    let mut options = ClusterOptions {
        kubeconfig: Some(server.kubeconfig("{token: t}")),
        selector: Some("app=llm".into()),
        ..ClusterOptions::default()
    };
    options.limits.opening = 1;
    let mut heard = Heard::of(connect(&options).await.unwrap(), options);
    heard
        .until("all three after the cut", |h| {
            h.logs.len() == 3 && h.logs.values().all(|l| l.contains("busy"))
        })
        .await;
}
