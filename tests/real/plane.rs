//! The control plane under test: starting it, disturbing it, filling it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use ncclscope::sources::cluster::{ClusterOptions, Connection, connect};
use serde_json::{Value, json};

/// A running control plane; ends with this.
pub struct Plane {
    child: Mutex<Child>,
    pipe: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    pub ready: Value,
    /// An administrator's client of the test itself, past the proxy that is disturbed.
    pub admin: Client,
    /// Made by the case that runs.
    namespaces: Mutex<Vec<String>>,
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ = self
            .pipe
            .lock()
            .unwrap()
            .0
            .write_all(b"{\"cmd\":\"stop\"}\n");
        let _ = self.child.lock().unwrap().wait();
    }
}

impl Plane {
    /// Builds it if need be and starts it. `Err` says in a sentence why it can't.
    pub async fn start() -> Result<Self, String> {
        let go = Command::new("go")
            .arg("version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !go.is_ok_and(|s| s.success()) {
            return Err("Go is not installed, so there is no control plane to test against".into());
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/control-plane/build");
        let built = Command::new(script)
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| format!("{script}: {e}"))?;
        assert!(built.status.success(), "the control plane does not build");
        let binary = String::from_utf8(built.stdout)
            .unwrap()
            .lines()
            .last()
            .unwrap()
            .to_string();
        let mut child = Command::new(binary)
            .args(["up", "--log-reader", "poll"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).expect("the control plane came up");
        let file = PathBuf::from(ready["kubeconfig"]["admin"].as_str().unwrap());
        let mut config = kube::Config::from_custom_kubeconfig(
            kube::config::Kubeconfig::read_from(file).unwrap(),
            &kube::config::KubeConfigOptions::default(),
        )
        .await
        .unwrap();
        config.cluster_url = ready["direct"].as_str().unwrap().parse().unwrap();
        let admin = Client::try_from(config).unwrap();
        Ok(Self {
            child: child.into(),
            pipe: Mutex::new((input, output)),
            ready,
            admin,
            namespaces: Mutex::default(),
        })
    }

    /// Gives a command; the answer must be ok.
    pub fn tell(&self, command: &Value) -> Value {
        let mut pipe = self.pipe.lock().unwrap();
        writeln!(pipe.0, "{command}").unwrap();
        let mut line = String::new();
        pipe.1.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["ok"], true, "{command}: {answer}");
        answer
    }

    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.ready["kubeconfig"][user].as_str().unwrap().into()
    }

    /// Options of a user in a namespace.
    pub fn options(&self, user: &str, namespace: &str) -> ClusterOptions {
        ClusterOptions {
            kubeconfig: Some(self.kubeconfig(user)),
            namespace: Some(namespace.into()),
            ..ClusterOptions::default()
        }
    }

    pub async fn link(&self, options: &ClusterOptions) -> Connection {
        connect(options).await.unwrap()
    }

    /// Deletes what a case made, so that the next one finds the GPUs free. Waits for nothing.
    pub async fn clear(&self) {
        let names = std::mem::take(&mut *self.namespaces.lock().unwrap());
        let namespaces: Api<Namespace> = Api::all(self.admin.clone());
        for name in names {
            if let Err(e) = namespaces.delete(&name, &DeleteParams::background()).await {
                println!("  namespace {name} stays: {e}");
            }
        }
    }

    /// A namespace of the test's own, ready for pods; it ends with the case.
    pub async fn namespace(&self, name: &str) {
        self.namespaces.lock().unwrap().push(name.into());
        let object =
            serde_json::from_value::<Namespace>(json!({"metadata": {"name": name}})).unwrap();
        Api::all(self.admin.clone())
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin.clone(), name);
        eventually("the namespace's service account", async || {
            accounts.get_opt("default").await.unwrap().is_some()
        })
        .await;
    }

    /// Creates an object of any kind.
    pub async fn create(&self, object: Value) -> DynamicObject {
        let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
            Some((g, v)) => (g, v),
            None => ("", "v1"),
        };
        let gvk = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
        let namespace = object["metadata"]["namespace"]
            .as_str()
            .unwrap()
            .to_string();
        let api =
            Api::namespaced_with(self.admin.clone(), &namespace, &ApiResource::from_gvk(&gvk));
        let name = object["metadata"]["name"].clone();
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let what = format!("{} {name}", gvk.kind);
        api.create(&PostParams::default(), &object)
            .await
            .unwrap_or_else(|e| panic!("{what}: {e}"))
    }

    /// Creates many pods, many at a time.
    pub async fn pods(&self, pods: Vec<Value>) {
        let make = |p: Value| async move {
            let pod: Pod = serde_json::from_value(p).unwrap();
            let ns = pod.metadata.namespace.clone().unwrap();
            Api::<Pod>::namespaced(self.admin.clone(), &ns)
                .create(&PostParams::default(), &pod)
                .await
                .unwrap();
        };
        futures::stream::iter(pods.into_iter().map(make))
            .buffer_unordered(24)
            .collect::<Vec<_>>()
            .await;
    }

    pub fn api(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), namespace)
    }

    /// Requests that our program made since a place in the audit log: verb and URI. And the new place.
    pub fn audit(&self, from: u64) -> (Vec<Request>, u64) {
        let path = Path::new(self.ready["audit_log"].as_str().unwrap());
        let text = std::fs::read(path).unwrap();
        let new = &text[usize::try_from(from).unwrap().min(text.len())..];
        let whole = new.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let lines = new[..whole]
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty());
        let entries = lines
            .filter_map(|l| serde_json::from_slice::<Value>(l).ok())
            .filter(|e| {
                e["userAgent"]
                    .as_str()
                    .is_some_and(|a| a.starts_with("ncclscope/"))
                    && e["stage"] != "ResponseStarted"
            });
        let requests = entries
            .filter(|e| e["stage"] == "RequestReceived" || e["verb"] != "")
            .map(|e| Request {
                verb: e["verb"].as_str().unwrap_or("").into(),
                resource: e["objectRef"]["resource"].as_str().unwrap_or("").into(),
                subresource: e["objectRef"]["subresource"].as_str().unwrap_or("").into(),
                uri: e["requestURI"].as_str().unwrap_or("").into(),
                id: e["auditID"].as_str().unwrap_or("").into(),
            })
            .collect();
        (requests, from + whole as u64)
    }
}

/// A request in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    pub id: String,
    pub verb: String,
    pub resource: String,
    pub subresource: String,
    pub uri: String,
}

/// Waits until something is so.
pub async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !so().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A pod with one container, `vllm`.
pub fn pod(namespace: &str, name: &str, labels: Value, annotations: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": labels, "annotations": annotations},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "vllm", "image": "vllm:1"}]},
    })
}
