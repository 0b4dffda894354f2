//! A GET (or POST) of a pod's port through the API server: reaches what no route from here does, by the rights of the person.

use std::time::Instant;

use http_body::Body as _;
use tokio::time::timeout;

use super::Connection;
use super::access::{Get, turned_away};
use super::trouble::{Kind, Trouble};
use crate::model::event::{PodKey, ProbeOutcome};

/// Asks once, with a POST where there is a body; after a 401 with fresh credentials once more.
pub(super) async fn get(
    link: &Connection,
    pod: &PodKey,
    get: &Get,
    body: Option<&str>,
) -> ProbeOutcome {
    let begun = Instant::now();
    let mut again = true;
    loop {
        let trouble = match timeout(get.limit, once(link, pod, get, body)).await {
            Ok(Ok((code, mut body))) => {
                let cut = body.len() > get.cap;
                body.truncate(get.cap);
                return ProbeOutcome::Answered {
                    code,
                    out: String::from_utf8_lossy(&body).into_owned(),
                    err: String::new(),
                    cut,
                    ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                };
            }
            Ok(Err(trouble)) => trouble,
            Err(_) => {
                let why = format!("no answer within {} s", get.limit.as_secs());
                return ProbeOutcome::Failed { why };
            }
        };
        let rule = || {
            let verb = if body.is_some() { "create" } else { "get" };
            format!("{verb} pods/proxy in namespace {}", pod.namespace)
        };
        let why = "RBAC does not allow requests to pods";
        if let Some(outcome) = turned_away(link, trouble, &mut again, why, rule).await {
            return outcome;
        }
    }
}

/// Status and at most a little more than the cap of the body.
async fn once(
    link: &Connection,
    pod: &PodKey,
    get: &Get,
    posted: Option<&str>,
) -> Result<(i32, Vec<u8>), Trouble> {
    let url = format!(
        "/api/v1/namespaces/{}/pods/{}:{}/proxy{}",
        pod.namespace, pod.name, get.port, get.path
    );
    let request = match posted {
        None => http::Request::get(url).body(kube::client::Body::empty()),
        Some(text) => http::Request::post(url)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(kube::client::Body::from(text.as_bytes().to_vec())),
    };
    let request = request.map_err(|e| Trouble::status(400, "", &e.to_string()))?;
    let answer = link.client().send(request).await;
    let (head, body) = answer.map_err(|e| Trouble::of(&e))?.into_parts();
    let mut body = std::pin::pin!(body);
    let mut text = Vec::new();
    while text.len() <= get.cap {
        let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        match frame {
            None => break,
            Some(Ok(frame)) => text.extend_from_slice(frame.data_ref().map_or(&[], |d| &**d)),
            Some(Err(e)) => {
                let why = super::one_line(&e.to_string());
                return Err(Trouble {
                    kind: Kind::Network,
                    text: format!("the answer was cut: {why}"),
                });
            }
        }
    }
    match own(head.status.as_u16(), &text) {
        Some(trouble) => Err(trouble),
        None => Ok((i32::from(head.status.as_u16()), text)),
    }
}

/// The API server's own no, as against an answer of the pod that is no success.
fn own(code: u16, body: &[u8]) -> Option<Trouble> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        kind: String,
        api_version: String,
        #[serde(default)]
        reason: String,
        #[serde(default)]
        message: String,
    }
    let status: Status = (code >= 400).then(|| serde_json::from_slice(body).ok())??;
    (status.kind == "Status" && status.api_version == "v1")
        .then(|| Trouble::status(code, &status.reason, &status.message))
}
