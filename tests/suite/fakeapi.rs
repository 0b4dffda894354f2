//! A small API server on loopback: says what a test tells it to, and remembers what it was asked.
//!
//! Real sockets, so that cuts are cuts and a kubeconfig is a file; a real control plane is in `tests/real.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub path: String,
    pub query: String,
    pub authorization: Option<String>,
}

impl Asked {
    /// Value of a query parameter, percent signs decoded.
    pub fn param(&self, name: &str) -> Option<String> {
        let raw = self
            .query
            .split('&')
            .find_map(|p| p.split_once('=').filter(|(k, _)| *k == name))?
            .1;
        let mut bytes = Vec::new();
        let mut rest = raw.bytes();
        while let Some(b) = rest.next() {
            match b {
                b'%' => {
                    let hex = [rest.next().unwrap(), rest.next().unwrap()];
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
                }
                b'+' => bytes.push(b' '),
                b => bytes.push(b),
            }
        }
        Some(String::from_utf8(bytes).unwrap())
    }

    pub fn is_watch(&self) -> bool {
        self.param("watch").is_some()
    }
}

/// A piece of a streamed answer.
pub enum Piece {
    Bytes(Vec<u8>),
    /// The connection breaks here.
    Cut,
}

/// What is answered.
pub enum Answer {
    Json(u16, serde_json::Value),
    /// A stream; it ends in order when the sender is dropped.
    Stream(mpsc::UnboundedReceiver<Piece>),
    /// A stream that ends in order after these bytes.
    Text(Vec<u8>),
    /// The connection is closed without a word.
    Nothing,
}

impl Answer {
    /// A refusal in the API's words.
    pub fn status(code: u16, reason: &str, message: &str) -> Self {
        let body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "reason": reason, "message": message, "code": code,
        });
        Self::Json(code, body)
    }

    pub fn stream() -> (mpsc::UnboundedSender<Piece>, Self) {
        let (tx, rx) = mpsc::unbounded_channel();
        (tx, Self::Stream(rx))
    }
}

type Rule = dyn Fn(&Asked) -> Answer + Send + Sync;

/// The server; stops when dropped.
pub struct FakeApi {
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
    dir: tempfile::TempDir,
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeApi {
    pub async fn start(rule: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, rule): (_, Arc<Rule>) = (asked.clone(), Arc::new(rule));
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                open.spawn(serve(socket, log.clone(), rule.clone()));
            }
        });
        Self {
            addr,
            asked,
            task,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Everything asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Requests whose path ends so.
    pub fn count(&self, tail: &str) -> usize {
        self.asked()
            .iter()
            .filter(|a| a.path.ends_with(tail))
            .count()
    }

    /// A kubeconfig for it; `user` is YAML of the user's entry.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        let path = self.dir.path().join("config");
        std::fs::write(&path, kubeconfig(&format!("http://{}", self.addr), user)).unwrap();
        path
    }
}

/// A kubeconfig with one context, `lab`.
pub fn kubeconfig(server: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
         clusters: [{{name: c, cluster: {{server: \"{server}\"}}}}]\n\
         contexts: [{{name: lab, context: {{cluster: c, user: u, namespace: prod}}}}]\n\
         users: [{{name: u, user: {user}}}]\n"
    )
}

async fn serve(mut socket: TcpStream, log: Arc<Mutex<Vec<Asked>>>, rule: Arc<Rule>) -> Option<()> {
    let (read, mut write) = socket.split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        if read.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let mut words = line.split_whitespace();
        let target = words.nth(1)?.to_string();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut asked = Asked {
            path: path.into(),
            query: query.into(),
            authorization: None,
        };
        let mut length = 0;
        loop {
            let mut header = String::new();
            read.read_line(&mut header).await.ok()?;
            let Some((name, value)) = header.trim_end().split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => asked.authorization = Some(value.trim().into()),
                "content-length" => length = value.trim().parse().ok()?,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        read.read_exact(&mut body).await.ok()?;
        log.lock().unwrap().push(asked.clone());
        match rule(&asked) {
            Answer::Nothing => return None,
            Answer::Json(code, value) => {
                let body = value.to_string();
                let head = format!(
                    "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                write.write_all(head.as_bytes()).await.ok()?;
                write.write_all(body.as_bytes()).await.ok()?;
            }
            Answer::Text(bytes) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len());
                write.write_all(head.as_bytes()).await.ok()?;
                write.write_all(&bytes).await.ok()?;
            }
            Answer::Stream(mut pieces) => {
                write
                    .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                    .await
                    .ok()?;
                while let Some(piece) = pieces.recv().await {
                    match piece {
                        Piece::Bytes(b) => {
                            write
                                .write_all(format!("{:x}\r\n", b.len()).as_bytes())
                                .await
                                .ok()?;
                            write.write_all(&b).await.ok()?;
                            write.write_all(b"\r\n").await.ok()?;
                        }
                        Piece::Cut => {
                            // What was written must arrive before the cut does.
                            write.flush().await.ok()?;
                            tokio::time::sleep(Duration::from_millis(100)).await;
                            return None;
                        }
                    }
                }
                write.write_all(b"0\r\n\r\n").await.ok()?;
            }
        }
    }
}
