//! On the way to the cluster: login plug-ins that prompt, and proxies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::plane::{Plane, pod};
use crate::screen::Screen;

/// The administrator's kubeconfig, to be changed.
fn kubeconfig(p: &Plane) -> Value {
    let text = std::fs::read_to_string(p.kubeconfig("admin")).unwrap();
    serde_json::to_value(kube::config::Kubeconfig::from_yaml(&text).unwrap()).unwrap()
}

pub async fn a_login_plug_in_prompts_before_the_screen_is_taken(p: &Plane) {
    let dir = tempfile::tempdir().unwrap();
    p.namespace("login").await;
    p.pods(vec![pod(
        "login",
        "llm-0",
        json!({"app": "llm"}),
        json!({}),
    )])
    .await;
    let token = p.ready["tokens"]["admin"].as_str().unwrap();
    // As those do that ask for a one-time code: on the terminal, and the answer on standard output.
    let script = format!(
        "printf 'Code for the cluster: ' >&2; read -r code; [ \"$code\" = 4711 ] || {{ echo 'wrong code' >&2; exit 1; }}; \
         printf '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"%s\"}}}}' {token}"
    );
    let mut config = kubeconfig(p);
    config["users"][0]["user"] = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1",
        "interactiveMode": "Always", "command": "sh", "args": ["-c", script]}});
    let path = dir.path().join("config");
    std::fs::write(&path, config.to_string()).unwrap();
    let args = [
        "--kubeconfig",
        path.to_str().unwrap(),
        "-n",
        "login",
        "-l",
        "app=llm",
        "--read-only",
    ];
    let mut screen = Screen::start(&args);
    screen
        .until("the prompt", |s| s.contains("Code for the cluster:"))
        .await;
    assert!(!screen.is_taken(), "the plug-in has the terminal");
    screen.key("4711\r");
    screen.has_one_pod().await;
    screen.until("the lock", |s| s.contains("locked")).await;
    assert!(screen.is_taken());
    screen.key(":q\r");
    screen.ended().await;
    // Who types something else is told by the plug-in's own words, on an ordinary terminal.
    let mut screen = Screen::start(&args);
    screen
        .until("the prompt", |s| s.contains("Code for the cluster:"))
        .await;
    screen.key("0815\r");
    screen
        .until("the failure", |s| {
            s.contains("wrong code") && s.contains("the login plug-in sh failed")
        })
        .await;
    assert!(!screen.is_taken());
}

/// A proxy that only knows CONNECT, and how often it was asked.
async fn proxy() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match client.read_u8().await {
                        Ok(b) => head.push(b),
                        Err(_) => return,
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                // Whatever the name, it is on this machine: only the proxy knows it.
                let target = head
                    .strip_prefix("CONNECT ")
                    .and_then(|r| r.split(' ').next()?.rsplit_once(':'));
                let Some((_, port)) = target else { return };
                let Ok(mut server) = TcpStream::connect(format!("127.0.0.1:{port}")).await else {
                    return;
                };
                count.fetch_add(1, Ordering::SeqCst);
                if client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_ok() {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    (address, asked)
}

pub async fn proxies_are_honoured_as_kubectl_does(p: &Plane) {
    let dir = tempfile::tempdir().unwrap();
    let (address, asked) = proxy().await;
    let write = |name: &str, config: &Value| {
        let path = dir.path().join(name);
        std::fs::write(&path, config.to_string()).unwrap();
        path
    };
    let plain = kubeconfig(p);
    let mut named = plain.clone();
    named["clusters"][0]["cluster"]["proxy-url"] = json!(address);
    let named = write("named", &named);
    // A server whose name only the proxy knows.
    let mut hidden = plain.clone();
    let cluster = &mut hidden["clusters"][0]["cluster"];
    let (_, port) = p.ready["server"]
        .as_str()
        .unwrap()
        .rsplit_once(':')
        .unwrap();
    cluster["server"] = json!(format!("https://api.cplane.test:{port}"));
    cluster["tls-server-name"] = json!("127.0.0.1");
    let hidden = write("hidden", &hidden);
    let plain = write("plain", &plain);
    // Whether the API server was reached, and whether through the proxy.
    let doctor = async |config: &std::path::Path, env: &[(&str, &str)]| {
        let before = asked.load(Ordering::SeqCst);
        let out = tokio::process::Command::new(env!("CARGO_BIN_EXE_ncclscope"))
            .args(["doctor", "--format", "json", "--kubeconfig"])
            .arg(config)
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy")
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .envs(env.iter().copied())
            .output()
            .await
            .unwrap();
        let said: Value = serde_json::from_slice(&out.stdout).unwrap();
        let lines = said["checks"].as_array().unwrap();
        let reach = lines.iter().find(|l| l["id"] == "doctor.reach").unwrap();
        (
            reach["verdict"] == "pass",
            asked.load(Ordering::SeqCst) > before,
        )
    };
    let through = ("HTTPS_PROXY", address.as_str());
    assert_eq!(
        doctor(&named, &[]).await,
        (true, true),
        "the kubeconfig's own proxy"
    );
    assert_eq!(doctor(&plain, &[]).await, (true, false), "no proxy at all");
    assert_eq!(
        doctor(&plain, &[through]).await,
        (true, false),
        "loopback needs none"
    );
    assert_eq!(
        doctor(&hidden, &[through]).await,
        (true, true),
        "the environment's proxy"
    );
    let spared = [through, ("NO_PROXY", ".cplane.test")];
    assert_eq!(
        doctor(&hidden, &spared).await,
        (false, false),
        "the API server's own name is spared"
    );
}
