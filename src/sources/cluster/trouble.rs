//! What went wrong with the cluster, as one sentence that says what to do.

use std::error::Error as _;
use std::time::Duration;

/// Why a cluster could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ClusterError(pub String);

/// Kind of a failed request: decides whether and when it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 401: token expired or not known.
    Unauthorized,
    /// 403: RBAC or admission refuses.
    Forbidden,
    /// 404.
    NotFound,
    /// 410, or a resource version that the server forgot.
    Gone,
    /// 400 and 422: the request itself is wrong.
    Invalid,
    /// 429: slow down.
    Busy,
    /// No connection: refused, reset, timed out, no such host.
    Network,
    /// TLS: certificate or protocol.
    Tls,
    /// The login plug-in or the token file.
    Login,
    /// Anything else: 5xx, bad JSON.
    Other,
}

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Kind.
    pub kind: Kind,
    /// One sentence without a full stop.
    pub text: String,
}

impl Trouble {
    /// A request that took longer than `limit`.
    #[must_use]
    pub fn timeout(limit: Duration) -> Self {
        Self {
            kind: Kind::Network,
            text: format!("the API server did not answer within {} s", limit.as_secs()),
        }
    }

    /// Reads an answer of the API server that says no.
    #[must_use]
    pub fn status(code: u16, reason: &str, message: &str) -> Self {
        let message = one_line(message);
        let (kind, text) = match code {
            401 => (
                Kind::Unauthorized,
                "the API server does not accept our credentials (401): the token may have expired, log in again".into(),
            ),
            403 => (Kind::Forbidden, message),
            404 => (Kind::NotFound, message),
            410 => (Kind::Gone, message),
            400 if reason == "Expired" => (Kind::Gone, message),
            400 | 422 => (Kind::Invalid, message),
            429 => (Kind::Busy, "the API server asks us to slow down (429)".into()),
            503 => (Kind::Other, format!("the API server is not ready (503){}", after_colon(&message))),
            _ => (Kind::Other, format!("the API server answered {code}{}", after_colon(&message))),
        };
        Self { kind, text }
    }

    /// Reads a client error.
    #[must_use]
    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(s) => Self::status(s.code, &s.reason, &s.message),
            kube::Error::Auth(e) => Self {
                kind: Kind::Login,
                text: format!("login failed: {}", one_line(&e.to_string())),
            },
            kube::Error::SerdeError(e) => Self {
                kind: Kind::Other,
                text: format!(
                    "the API server's answer can't be read: {}",
                    one_line(&e.to_string())
                ),
            },
            other => Self::transport(&chain(other)),
        }
    }

    /// Reads the texts of a chain of errors below HTTP.
    fn transport(chain: &[String]) -> Self {
        let all = chain.join(": ");
        let has = |words: &[&str]| words.iter().any(|w| all.contains(w));
        let network = |text: &str| Self {
            kind: Kind::Network,
            text: text.into(),
        };
        if has(&["onnection refused"]) {
            network("the API server refuses the connection: is it running, is the address right")
        } else if has(&["certificate", "tls", "TLS", "handshake"]) {
            let last = chain.last().cloned().unwrap_or_default();
            let hint = if has(&["UnknownIssuer"]) {
                "its certificate is signed by an authority that the kubeconfig does not name".into()
            } else if has(&["NotValidForName"]) {
                "its certificate is for another name".into()
            } else if has(&["Expired"]) {
                "its certificate has expired".into()
            } else {
                last
            };
            Self {
                kind: Kind::Tls,
                text: format!("no secure connection to the API server: {hint}"),
            }
        } else if has(&["dns error", "failed to lookup", "Name or service not known"]) {
            network("the API server's name can't be resolved")
        } else if has(&["timed out", "deadline has elapsed", "timeout"]) {
            network("the API server can't be reached: connection timed out")
        } else if has(&["unreachable"]) {
            network("the API server can't be reached: no route to it")
        } else if has(&[
            "reset",
            "closed",
            "broken pipe",
            "Broken pipe",
            "unexpected EOF",
            "end of file",
        ]) {
            network("the connection to the API server was cut")
        } else {
            network(&format!(
                "no connection to the API server: {}",
                chain.last().map_or("", String::as_str)
            ))
        }
    }
}

impl From<Trouble> for ClusterError {
    fn from(t: Trouble) -> Self {
        Self(t.text)
    }
}

/// The texts of an error and everything beneath it.
fn chain(error: &kube::Error) -> Vec<String> {
    let mut texts = vec![one_line(&error.to_string())];
    let mut next = error.source();
    // A chain of errors that never ends must not hang us.
    for _ in 0..16 {
        let Some(e) = next else { break };
        texts.push(one_line(&e.to_string()));
        next = e.source();
    }
    texts
}

/// The first line of a text, at most 300 characters, control characters dropped.
#[must_use]
pub fn one_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

fn after_colon(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}
