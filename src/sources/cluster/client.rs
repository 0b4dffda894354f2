//! The connection to the API server: kubeconfig as kubectl resolves it, login, proxy, renewal.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::ClusterOptions;
use super::login::login;
use super::proxy::Environment;
use super::trouble::{ClusterError, Trouble, one_line};

/// Longest wait for one ordinary request. Watches and logs have none: they may be silent for long.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Credentials are not renewed more often than this; where that fails, ever more seldom: a plug-in that opens a browser
/// must not do so all night.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Longest pause after a renewal that failed.
const RENEW_SELDOM: Duration = Duration::from_secs(300);
/// Renewed so long before they expire.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

/// A connection to a cluster. Cheap to clone; all clones see renewed credentials.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    /// What the client is built from, the login plug-in still in it; `None` for a client given from outside.
    config: Option<Config>,
    context: Option<String>,
    kubeconfig: Option<String>,
    namespace: String,
    server: String,
    client: watch::Sender<Client>,
    renewed: Mutex<Renewals>,
    expires: watch::Sender<Option<Timestamp>>,
    /// Counts the times that a lost network came back: streams that were silent since must be opened anew.
    network: watch::Sender<u64>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing of the configuration: it holds tokens.
        f.debug_struct("Connection")
            .field("server", &self.inner.server)
            .finish_non_exhaustive()
    }
}

/// Reads the kubeconfig, runs a login plug-in, builds the client. Sends nothing to the API server.
///
/// Call it while the terminal is still free: a plug-in may prompt.
pub async fn connect(options: &ClusterOptions) -> Result<Connection, ClusterError> {
    let (mut config, context) = configure(options).await?;
    if let Some(user) = &options.impersonate {
        config.auth_info.impersonate = Some(user.clone());
    }
    if !options.impersonate_groups.is_empty() {
        config.auth_info.impersonate_groups = Some(options.impersonate_groups.clone());
    }
    // The library's own retry would hang a call for minutes when the server is overloaded.
    config.default_retry = false;
    // So that an audit log tells who asked.
    let agent = http::HeaderValue::from_static(concat!("ncclscope/", env!("CARGO_PKG_VERSION")));
    config.headers.push((http::header::USER_AGENT, agent));
    config.connect_timeout = Some(Duration::from_secs(10));
    let namespace = options
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let server = config
        .cluster_url
        .to_string()
        .trim_end_matches('/')
        .to_string();
    let (client, expires) = build(&config, true).await?;
    Ok(Connection {
        inner: Arc::new(Inner {
            config: Some(config),
            kubeconfig: context
                .is_some()
                .then(|| named(options.kubeconfig.as_deref())),
            context,
            namespace,
            server,
            client: watch::Sender::new(client),
            renewed: Mutex::new(Renewals::new()),
            expires: watch::Sender::new(expires),
            network: watch::Sender::new(0),
        }),
    })
}

impl Connection {
    /// A connection over a client that exists already.
    #[must_use]
    pub fn over(client: Client, namespace: &str) -> Self {
        Self {
            inner: Arc::new(Inner {
                config: None,
                context: None,
                kubeconfig: None,
                namespace: namespace.into(),
                server: String::new(),
                client: watch::Sender::new(client),
                renewed: Mutex::new(Renewals::new()),
                expires: watch::Sender::new(None),
                network: watch::Sender::new(0),
            }),
        }
    }

    /// The client with the newest credentials. Take a fresh one for every request.
    #[must_use]
    pub fn client(&self) -> Client {
        self.inner.client.borrow().clone()
    }

    /// Context of the kubeconfig; `None` inside a cluster.
    #[must_use]
    pub fn context(&self) -> Option<&str> {
        self.inner.context.as_deref()
    }

    /// Files of the kubeconfig; `None` inside a cluster.
    #[must_use]
    pub fn kubeconfig(&self) -> Option<&str> {
        self.inner.kubeconfig.as_deref()
    }

    /// The namespace asked for, else that of the context.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// Address of the API server.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.inner.server
    }

    /// Asks the API server for its version: true words about a refused connection, a bad certificate or an
    /// expired token before anything else is tried.
    pub async fn check(&self) -> Result<(), ClusterError> {
        let client = self.client();
        let ask = client.apiserver_version();
        let trouble = match tokio::time::timeout(Duration::from_secs(10), ask).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(e)) => Trouble::of(&e),
            Err(_) => Trouble::timeout(Duration::from_secs(10)),
        };
        // An answer that says no is an answer; versions that can't be read are met in the wild.
        match trouble.kind {
            super::trouble::Kind::Forbidden
            | super::trouble::Kind::NotFound
            | super::trouble::Kind::Other => Ok(()),
            _ if self.inner.server.is_empty() => Err(trouble.into()),
            _ => Err(ClusterError(format!(
                "{}: {}",
                self.inner.server, trouble.text
            ))),
        }
    }

    /// Builds the client anew, after a 401 or shortly before the credentials expire. A plug-in runs silently.
    pub async fn renew(&self) -> Result<(), ClusterError> {
        let Some(config) = &self.inner.config else {
            return Ok(());
        };
        let mut renewed = self.inner.renewed.lock().await;
        if !renewed.due() {
            return Ok(());
        }
        let built = build(config, false).await;
        renewed.done(built.is_ok());
        let (client, expires) = built?;
        self.inner.client.send_replace(client);
        self.inner.expires.send_replace(expires);
        Ok(())
    }

    /// Keeps the credentials fresh until dropped.
    pub(super) async fn keep_fresh(self) {
        loop {
            let expires = *self.inner.expires.borrow();
            let Some(at) = expires else { return };
            let left = at.duration_since(Timestamp::now());
            let left = Duration::try_from(left)
                .unwrap_or_default()
                .saturating_sub(RENEW_BEFORE);
            tokio::time::sleep(left.max(RENEW_EVERY)).await;
            if let Err(e) = self.renew().await {
                tracing::warn!("credentials not renewed: {e}");
            }
        }
    }

    /// Says that the network was lost and is back.
    pub(crate) fn network_back(&self) {
        self.inner.network.send_modify(|n| *n += 1);
    }

    /// Tells when [`Self::network_back`] was called.
    pub(crate) fn network(&self) -> watch::Receiver<u64> {
        self.inner.network.subscribe()
    }
}

/// When credentials were renewed last, and how long they are not renewed again.
#[derive(Debug)]
struct Renewals {
    last: Instant,
    pause: Duration,
}

impl Renewals {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            pause: RENEW_EVERY,
        }
    }

    fn due(&self) -> bool {
        self.last.elapsed() >= self.pause
    }

    fn done(&mut self, well: bool) {
        self.last = Instant::now();
        self.pause = match well {
            true => RENEW_EVERY,
            false => (self.pause * 2).min(RENEW_SELDOM),
        };
    }
}

async fn build(
    config: &Config,
    may_prompt: bool,
) -> Result<(Client, Option<Timestamp>), ClusterError> {
    let mut config = config.clone();
    let expires = login(&mut config.auth_info, may_prompt).await?;
    let client = Client::try_from(config).map_err(|e| match &e {
        kube::Error::ProxyProtocolUnsupported { proxy_url } => ClusterError(format!(
            "the proxy {} is of an unknown kind: http, https and socks5 work",
            host(proxy_url)
        )),
        kube::Error::Auth(a) => ClusterError(format!("login failed: {}", one_line(&a.to_string()))),
        other => ClusterError(format!(
            "the kubeconfig can't be used: {}",
            one_line(&other.to_string())
        )),
    })?;
    Ok((client, expires))
}

fn host(uri: &http::Uri) -> String {
    uri.host().unwrap_or("?").into()
}

async fn configure(options: &ClusterOptions) -> Result<(Config, Option<String>), ClusterError> {
    let Some(kubeconfig) = read(options.kubeconfig.as_deref())? else {
        if options.context.is_some() {
            return Err(ClusterError(
                "--context needs a kubeconfig, and none was found".into(),
            ));
        }
        let config = Config::incluster().map_err(|_| {
            ClusterError(
                "no kubeconfig was found (KUBECONFIG, ~/.kube/config) and we are not inside a cluster".into(),
            )
        })?;
        return Ok((config, None));
    };
    let context = options
        .context
        .clone()
        .or_else(|| kubeconfig.current_context.clone().filter(|c| !c.is_empty()));
    let Some(name) = context.clone() else {
        return Err(ClusterError(
            "the kubeconfig has no current context: name one with --context".into(),
        ));
    };
    let Some(found) = kubeconfig.contexts.iter().find(|c| c.name == name) else {
        let known: Vec<_> = kubeconfig
            .contexts
            .iter()
            .map(|c| c.name.as_str())
            .take(8)
            .collect();
        return Err(ClusterError(format!(
            "the kubeconfig has no context {name:?}; it has: {}",
            known.join(", ")
        )));
    };
    let cluster = found
        .context
        .as_ref()
        .map(|c| c.cluster.clone())
        .unwrap_or_default();
    let proxy_url = kubeconfig
        .clusters
        .iter()
        .find(|c| c.name == cluster)
        .and_then(|c| c.cluster.as_ref()?.proxy_url.clone())
        .filter(|p| !p.is_empty());
    let wanted = KubeConfigOptions {
        context: Some(name),
        ..KubeConfigOptions::default()
    };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &wanted)
        .await
        .map_err(|e| {
            ClusterError(format!(
                "the kubeconfig can't be used: {}",
                one_line(&e.to_string())
            ))
        })?;
    let proxy = proxy_url.or_else(|| Environment::read().proxy(&config.cluster_url));
    config.proxy_url = match proxy {
        Some(p) => Some(
            p.parse()
                .map_err(|_| ClusterError("the proxy's address can't be read".into()))?,
        ),
        None => None,
    };
    Ok((config, context))
}

/// Files of the kubeconfig that are there, as kubectl looks for them.
fn files() -> Vec<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let mut paths: Vec<PathBuf> = std::env::split_paths(&listed)
        .filter(|p| !p.as_os_str().is_empty())
        .collect();
    if paths.is_empty() {
        paths.extend(std::env::home_dir().map(|h| h.join(".kube").join("config")));
    }
    paths.retain(|p| p.exists());
    paths
}

/// The same in words.
fn named(explicit: Option<&Path>) -> String {
    let files = explicit.map_or_else(files, |path| vec![path.to_owned()]);
    let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    names.join(", ")
}

/// The merged kubeconfig; `None` where there is none at all.
fn read(explicit: Option<&Path>) -> Result<Option<Kubeconfig>, ClusterError> {
    if let Some(path) = explicit {
        return parse(path).map(Some);
    }
    let mut merged: Option<Kubeconfig> = None;
    // kubectl passes over files that do not exist; the first file to say something wins.
    for path in &files() {
        let next = parse(path)?;
        merged = Some(match merged {
            None => next,
            Some(m) => m.merge(next).map_err(|e| {
                ClusterError(format!(
                    "kubeconfig {}: {}",
                    path.display(),
                    one_line(&e.to_string())
                ))
            })?,
        });
    }
    Ok(merged)
}

fn parse(path: &Path) -> Result<Kubeconfig, ClusterError> {
    Kubeconfig::read_from(path).map_err(|e| {
        let why = match &e {
            kube::config::KubeconfigError::ReadConfig(io, _) => format!("can't be read: {io}"),
            kube::config::KubeconfigError::Parse(p) => {
                format!("is not valid YAML: {}", one_line(&p.to_string()))
            }
            other => format!("can't be used: {}", one_line(&other.to_string())),
        };
        ClusterError(format!("kubeconfig {} {why}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_login_that_fails_is_tried_ever_more_seldom() {
        let mut renewals = Renewals::new();
        let mut tried = 0;
        for _ in 0..3_600 {
            tokio::time::advance(Duration::from_secs(1)).await;
            if renewals.due() {
                tried += 1;
                renewals.done(false);
            }
        }
        assert!((12..=18).contains(&tried), "{tried} times in an hour");
        // Until one succeeds.
        tokio::time::advance(RENEW_SELDOM).await;
        renewals.done(true);
        tokio::time::advance(RENEW_EVERY).await;
        assert!(renewals.due());
    }
}
