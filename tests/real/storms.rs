//! Watches and logs through what goes wrong: restarts, compaction, cuts, rotation, expired tokens, many pods.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Resource as _;
use kube::api::{DeleteParams, ListParams, LogParams, ObjectList};
use ncclscope::model::event::EdgeState;
use ncclscope::sources::cluster::ClusterOptions;
use serde_json::{Value, json};

use crate::heard::Heard;
use crate::plane::{Plane, pod};

pub async fn expired_credentials_are_said_and_nothing_hangs(p: &Plane) {
    let options = ClusterOptions {
        selector: Some("a=b".into()),
        ..p.options("expired", "default")
    };
    let link = p.link(&options).await;
    let said = link.check().await.unwrap_err().to_string();
    assert!(
        said.ends_with(
            "does not accept our credentials (401): the token may have expired, log in again"
        ),
        "{said}"
    );
    let mut heard = Heard::of(link, options);
    heard
        .until("a sentence", |h| h.state("pods").is_some())
        .await;
    assert!(
        matches!(heard.state("pods"), Some(EdgeState::Retrying { why, .. }) if why.contains("401"))
    );
    let options = p.options("expired-cert", "default");
    let said = p
        .link(&options)
        .await
        .check()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("(401)") || said.contains("certificate"),
        "{said}"
    );

    // A token that ends while we look: the plug-in is asked again, silently, and the watch goes on.
    p.namespace("tokens").await;
    p.create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "v", "namespace": "tokens"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "tokens"}]}))
        .await;
    let dir = tempfile::tempdir().unwrap();
    let token = |ttl: &str| {
        let t = p.tell(
            &json!({"cmd": "token", "namespace": "tokens", "account": "default", "ttl": ttl}),
        );
        std::fs::write(dir.path().join("token"), t["token"].as_str().unwrap()).unwrap();
        t["kubeconfig"].as_str().unwrap().to_string()
    };
    let file = token("3s");
    let given: Value = {
        let text = std::fs::read_to_string(&file).unwrap();
        serde_json::to_value(kube::config::Kubeconfig::from_yaml(&text).unwrap()).unwrap()
    };
    let mut config = given;
    let script = format!(
        "echo run >> {0}/runs; printf '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"%s\"}}}}' \"$(cat {0}/token)\"",
        dir.path().display()
    );
    config["users"][0]["user"] = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1",
        "interactiveMode": "IfAvailable", "command": "sh", "args": ["-c", script]}});
    let path = dir.path().join("config");
    std::fs::write(&path, config.to_string()).unwrap();
    let options = ClusterOptions {
        kubeconfig: Some(path),
        namespace: Some("tokens".into()),
        selector: Some("app=t".into()),
        ..ClusterOptions::default()
    };
    let mut heard = Heard::of(p.link(&options).await, options);
    heard.until("a first list", |h| h.pods.synced()).await;
    token("1h");
    // The API server remembers a good token for ten seconds; then cut what is open.
    heard.listen(Duration::from_secs(15)).await;
    p.tell(&json!({"cmd": "proxy", "action": "reset"}));
    p.pods(vec![pod("tokens", "new", json!({"app": "t"}), json!({}))])
        .await;
    heard.until("the new pod", |h| h.names() == ["new"]).await;
    let runs = std::fs::read_to_string(dir.path().join("runs"))
        .unwrap()
        .lines()
        .count();
    assert!((2..=4).contains(&runs), "the plug-in ran {runs} times");
    assert_eq!(heard.lists, 1, "the watch went on from its place");
}

pub async fn watches_survive_restarts_compaction_and_cut_connections(p: &Plane) {
    p.namespace("storm").await;
    let labels = json!({"app": "storm"});
    p.pods(
        (0..20)
            .map(|i| pod("storm", &format!("p{i}"), labels.clone(), json!({})))
            .collect(),
    )
    .await;
    let options = ClusterOptions {
        selector: Some("app=storm".into()),
        ..p.options("admin", "storm")
    };
    let mut heard = Heard::of(p.link(&options).await, options);
    heard.until("all pods", |h| h.pods.len() == 20).await;
    let api = p.api("storm");
    let change = async |i: u32| {
        api.delete(&format!("p{i}"), &DeleteParams::default().grace_period(0))
            .await
            .unwrap();
        p.pods(vec![pod(
            "storm",
            &format!("new{i}"),
            labels.clone(),
            json!({}),
        )])
        .await;
    };
    let agree = async |heard: &mut Heard, what: &str| {
        let mut want: BTreeMap<String, String> = BTreeMap::new();
        for _ in 0..100 {
            let list: ObjectList<Pod> = api
                .list(&ListParams::default().labels("app=storm"))
                .await
                .unwrap();
            want = list
                .items
                .iter()
                .map(|p| {
                    (
                        p.meta().name.clone().unwrap(),
                        p.meta().uid.clone().unwrap(),
                    )
                })
                .collect();
            let have: BTreeMap<_, _> = heard
                .pods
                .iter()
                .map(|(k, v)| (k.name.clone(), v.uid.clone()))
                .collect();
            if want == have {
                return;
            }
            heard.listen(Duration::from_millis(500)).await;
        }
        panic!("{what}: {want:?} against {:?}", heard.names());
    };

    p.tell(&json!({"cmd": "proxy", "action": "reset"}));
    change(0).await;
    agree(&mut heard, "a reset").await;
    p.tell(&json!({"cmd": "proxy", "action": "close"}));
    change(1).await;
    agree(&mut heard, "a close").await;
    p.tell(&json!({"cmd": "proxy", "action": "refuse"}));
    change(2).await;
    heard
        .until("reconnecting", |h| {
            matches!(h.state("pods"), Some(EdgeState::Retrying { .. }))
        })
        .await;
    p.tell(&json!({"cmd": "proxy", "action": "resume"}));
    agree(&mut heard, "a refusal").await;
    heard
        .until("healed", |h| h.state("pods") == Some(&EdgeState::Up))
        .await;
    assert_eq!(heard.lists, 1, "cut connections need no list");

    p.tell(
        &json!({"cmd": "component", "name": "kube-apiserver", "action": "restart", "down": "3s"}),
    );
    change(3).await;
    agree(&mut heard, "an API server restart").await;
    let lists = heard.lists;

    // Forgotten while we could not look: 410, and everything is listed again.
    p.tell(&json!({"cmd": "proxy", "action": "refuse"}));
    change(4).await;
    p.tell(&json!({"cmd": "compact", "restart": true}));
    change(5).await;
    p.tell(&json!({"cmd": "proxy", "action": "resume"}));
    agree(&mut heard, "compaction").await;
    heard
        .until("healed", |h| h.state("pods") == Some(&EdgeState::Up))
        .await;
    assert_eq!(heard.lists, lists + 1, "one list for one 410");
    assert_eq!(heard.pods.len(), 20);
}

pub async fn every_line_of_64_pods_comes_once_or_is_counted(p: &Plane) {
    const LINES: u32 = 400;
    p.namespace("lines").await;
    let log =
        json!({"generate": LINES, "rate": 20, "prefix": "{pod} run {restart} ", "maxSize": 8000})
            .to_string();
    let plan = json!({"exits": 1, "exit": 1, "after": "9s", "backoff": "1s"}).to_string();
    let steady =
        json!({"generate": LINES, "rate": 20, "prefix": "{pod} run {restart} "}).to_string();
    let pods = (0..64).map(|i| {
        // A third rotates, a third restarts, a third is steady.
        let notes = match i % 3 {
            0 => json!({"cplane.test/log": log}),
            1 => json!({"cplane.test/log": steady, "cplane.test/plan": plan}),
            _ => json!({"cplane.test/log": steady}),
        };
        pod("lines", &format!("p{i}"), json!({"app": "lines"}), notes)
    });
    p.pods(pods.collect()).await;
    let options = ClusterOptions {
        selector: Some("app=lines".into()),
        ..p.options("admin", "lines")
    };
    let mut heard = Heard::of(p.link(&options).await, options);
    heard
        .until("64 logs", |h| {
            h.logs.values().filter(|l| !l.is_empty()).count() >= 64
        })
        .await;
    heard.listen(Duration::from_secs(2)).await;
    p.tell(&json!({"cmd": "proxy", "action": "reset"}));
    heard.listen(Duration::from_secs(4)).await;
    p.tell(&json!({"cmd": "component", "name": "kube-apiserver", "action": "restart", "down": "3s", "noWait": true}));
    heard.listen(Duration::from_secs(12)).await;
    p.tell(&json!({"cmd": "proxy", "action": "close"}));
    let is_last = |l: &String| number(l) == Some(LINES - 1);
    heard
        .until("the last line of every pod", |h| {
            (0..64).all(|i| {
                h.logs
                    .get(&format!("lines/p{i}/vllm"))
                    .is_some_and(|l| l.last().is_some_and(is_last))
            })
        })
        .await;
    let mut gaps = 0;
    let mut lines = 0;
    for i in 0..64 {
        let name = format!("lines/p{i}/vllm");
        let mut seen: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for l in &heard.logs[&name] {
            let (run, _) = l.rsplit_once(' ').unwrap();
            seen.entry(run.to_string())
                .or_default()
                .push(number(l).unwrap());
            lines += 1;
        }
        let lost = heard.lost.iter().filter(|(n, _)| *n == name).count();
        let mut holes = 0;
        for (run, numbers) in &seen {
            assert!(
                numbers.is_sorted() && numbers.windows(2).all(|w| w[0] < w[1]),
                "{name} {run}: doubles or disorder"
            );
            holes += numbers.windows(2).filter(|w| w[0] + 1 != w[1]).count()
                + usize::from(numbers[0] != 0);
        }
        assert!(
            holes <= lost,
            "{name}: {holes} gaps, {lost} of them said; {:?}",
            heard.lost
        );
        gaps += holes;
        // The end of a run that ended while nobody could look is read from the run before.
        if i % 3 == 1 {
            let previous = LogParams {
                previous: true,
                ..LogParams::default()
            };
            let old = p
                .api("lines")
                .logs(&format!("p{i}"), &previous)
                .await
                .unwrap();
            let end = old.lines().last().and_then(number);
            assert_eq!(
                seen[&format!("p{i} run 0")].last().copied(),
                end,
                "{name}: the old run's end"
            );
        }
    }
    println!(
        "  {lines} lines of 64 pods, {} reconnects, {gaps} gaps, each said ({} said)",
        heard.retries,
        heard.lost.len()
    );
}

/// The number at the end of a generated line.
fn number(line: &str) -> Option<u32> {
    line.rsplit(' ').next()?.parse().ok()
}

pub async fn five_hundred_pods_are_followed_in_bounded_memory(p: &Plane) {
    const PODS: usize = 512;
    const LINES: usize = 60;
    p.namespace("many").await;
    let log = json!({"generate": LINES, "prefix": "{pod} "}).to_string();
    let pods = (0..PODS).map(|i| {
        let notes = json!({"cplane.test/log": log});
        pod("many", &format!("p-{i:03}"), json!({"app": "many"}), notes)
    });
    p.pods(pods.collect()).await;
    let options = ClusterOptions {
        selector: Some("app=many".into()),
        ..p.options("admin", "many")
    };
    let begun = Instant::now();
    let mut heard = Heard::of(p.link(&options).await, options);
    heard
        .until("every line of 512 pods", |h| {
            h.logs.len() == PODS && h.logs.values().all(|l| l.len() >= LINES)
        })
        .await;
    println!(
        "  512 pods: every line after {:.1} s",
        begun.elapsed().as_secs_f32()
    );
    for (name, lines) in &heard.logs {
        let distinct: BTreeSet<_> = lines.iter().collect();
        assert_eq!((lines.len(), distinct.len()), (LINES, LINES), "{name}");
    }
    assert!(heard.lost.is_empty(), "{:?}", heard.lost);
    drop(heard);
    // The program itself, without a screen: what it holds for 512 pods and their connections.
    let config = p.kubeconfig("admin");
    let arguments = [
        "report",
        "--kubeconfig",
        config.to_str().unwrap(),
        "-n",
        "many",
        "-l",
        "app=many",
    ];
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ncclscope"))
        .args(arguments)
        .args(["--format", "json", "--timeout", "2m"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let memory = std::thread::spawn(move || {
        let mut peak = 0;
        while let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
            peak = kib.unwrap_or(peak);
            std::thread::sleep(Duration::from_millis(20));
        }
        peak
    });
    let mut text = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut text).unwrap();
    let code = child.wait().unwrap().code();
    let peak = memory.join().unwrap() / 1024;
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["pods"].as_array().unwrap().len(), PODS);
    let lines: u64 = report["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["lines"].as_u64().unwrap())
        .sum();
    assert_eq!(lines, (PODS * LINES) as u64);
    assert_eq!(code, Some(3), "no line of NCCL or vLLM: unknown");
    assert!(report["observed_at"].is_string());
    println!("  report over 512 pods: {peak} MiB at its peak");
    assert!(peak < 400, "{peak} MiB");
    p.api("many")
        .delete_collection(
            &DeleteParams::default().grace_period(0),
            &ListParams::default(),
        )
        .await
        .unwrap();
}
