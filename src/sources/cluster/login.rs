//! Login plug-ins, run by us and not by the client library.
//!
//! The library would run the plug-in up to three times for one client, let it write over the screen when
//! the token is renewed, and never renew a token without an expiry. Here it runs once while the terminal is
//! still free, may prompt then, and later runs silently.

use std::io::IsTerminal as _;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use kube::config::{AuthInfo, ExecConfig, ExecInteractiveMode};
use serde::Deserialize;

use super::trouble::{ClusterError, one_line};

/// A plug-in that prompts may wait for a person.
const PATIENCE: Duration = Duration::from_secs(300);
/// One that may not prompt has no reason to.
const SILENT_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct Credential {
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<Timestamp>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// Replaces the plug-in in `auth` by what it answers. Returns when that expires.
pub async fn login(
    auth: &mut AuthInfo,
    may_prompt: bool,
) -> Result<Option<Timestamp>, ClusterError> {
    let Some(exec) = auth.exec.clone() else {
        return Ok(None);
    };
    // As kubectl has it: what the file itself says goes before a plug-in.
    if auth.token.is_some() || auth.token_file.is_some() || auth.username.is_some() {
        auth.exec = None;
        return Ok(None);
    }
    let status = run(&exec, may_prompt).await?;
    auth.exec = None;
    if let (Some(cert), Some(key)) = (status.client_certificate_data, status.client_key_data) {
        auth.client_certificate_data = Some(base64(cert)?);
        auth.client_key_data = Some(base64(key)?.into());
    }
    auth.token = status.token.map(Into::into);
    if auth.token.is_none() && auth.client_certificate_data.is_none() {
        return Err(ClusterError(format!(
            "the login plug-in {} gave neither a token nor a certificate",
            name(&exec)
        )));
    }
    Ok(status.expiration_timestamp)
}

fn name(exec: &ExecConfig) -> String {
    exec.command
        .clone()
        .unwrap_or_else(|| "without a command".into())
}

/// The client takes certificates from a kubeconfig, where they are base64.
fn base64(text: String) -> Result<String, ClusterError> {
    let json = serde_json::to_value(k8s_openapi::ByteString(text.into_bytes()));
    let coded = json.ok().and_then(|v| v.as_str().map(String::from));
    coded.ok_or_else(|| ClusterError("the login plug-in's certificate can't be used".into()))
}

async fn run(exec: &ExecConfig, may_prompt: bool) -> Result<Status, ClusterError> {
    let Some(command) = &exec.command else {
        return Err(ClusterError(
            "the kubeconfig names a login plug-in without a command".into(),
        ));
    };
    let asks = exec.interactive_mode != Some(ExecInteractiveMode::Never);
    // What a plug-in that asks would read from a pipe is no answer of a person.
    let interactive = may_prompt && asks && std::io::stdin().is_terminal();
    if !interactive && exec.interactive_mode == Some(ExecInteractiveMode::Always) {
        return Err(ClusterError(if may_prompt {
            format!(
                "the login plug-in {command} must ask you, and standard input is no terminal: start in a terminal"
            )
        } else {
            format!(
                "the login has expired and the plug-in {command} must ask you: leave and start again"
            )
        }));
    }
    let mut spec = serde_json::json!({ "interactive": interactive });
    if exec.provide_cluster_info
        && let (Some(map), Some(cluster)) = (spec.as_object_mut(), &exec.cluster)
        && let Ok(cluster) = serde_json::to_value(cluster)
    {
        map.insert("cluster".into(), cluster);
    }
    let version = exec
        .api_version
        .as_deref()
        .unwrap_or("client.authentication.k8s.io/v1");
    let info = serde_json::json!({ "apiVersion": version, "kind": "ExecCredential", "spec": spec });

    let mut c = tokio::process::Command::new(command);
    c.args(exec.args.iter().flatten())
        .env("KUBERNETES_EXEC_INFO", info.to_string());
    for entry in exec.env.iter().flatten() {
        if let (Some(k), Some(v)) = (entry.get("name"), entry.get("value")) {
            c.env(k, v);
        }
    }
    c.stdout(Stdio::piped()).kill_on_drop(true);
    if interactive {
        c.stdin(Stdio::inherit()).stderr(Stdio::inherit());
    } else {
        c.stdin(Stdio::null()).stderr(Stdio::piped());
    }
    let child = c.spawn().map_err(|e| {
        let hint = exec
            .install_hint
            .as_deref()
            .map(|h| format!(" ({})", one_line(h)))
            .unwrap_or_default();
        ClusterError(format!(
            "the login plug-in {command} can't be started: {e}{hint}"
        ))
    })?;
    let patience = if interactive {
        PATIENCE
    } else {
        SILENT_PATIENCE
    };
    let out = tokio::time::timeout(patience, child.wait_with_output())
        .await
        .map_err(|_| {
            ClusterError(format!(
                "the login plug-in {command} did not end within {} s",
                patience.as_secs()
            ))
        })?
        .map_err(|e| ClusterError(format!("the login plug-in {command} can't be read: {e}")))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        let last = said
            .trim()
            .lines()
            .last()
            .map(|l| format!(": {}", one_line(l)))
            .unwrap_or_default();
        return Err(ClusterError(format!(
            "the login plug-in {command} failed ({}){last}",
            out.status
        )));
    }
    // Plug-ins answer in JSON, some in YAML, of which JSON is a part.
    let text = String::from_utf8_lossy(&out.stdout);
    let credential: Credential = serde_yaml::from_str(&text).map_err(|_| {
        ClusterError(format!(
            "the login plug-in {command} did not answer with an ExecCredential"
        ))
    })?;
    credential
        .status
        .ok_or_else(|| ClusterError(format!("the login plug-in {command} gave no credentials")))
}
