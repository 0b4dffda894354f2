//! Which proxy stands between us and the API server.
//!
//! The client library matches `NO_PROXY` against the proxy's own address; this does it as Go's
//! `httpproxy`, and so kubectl, does: against the API server's.

use std::net::IpAddr;

/// Proxy settings of the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `HTTPS_PROXY` or `https_proxy`.
    pub https: Option<String>,
    /// `HTTP_PROXY` or `http_proxy`.
    pub http: Option<String>,
    /// `NO_PROXY` or `no_proxy`.
    pub none: Option<String>,
}

impl Environment {
    /// Reads it.
    #[must_use]
    pub fn read() -> Self {
        let any = |names: [&str; 2]| {
            names
                .iter()
                .find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()))
        };
        Self {
            https: any(["HTTPS_PROXY", "https_proxy"]),
            http: any(["HTTP_PROXY", "http_proxy"]),
            none: any(["NO_PROXY", "no_proxy"]),
        }
    }

    /// The proxy for a server, as written with a scheme; `None` is a direct connection.
    #[must_use]
    pub fn proxy(&self, server: &http::Uri) -> Option<String> {
        let tls = server.scheme_str() != Some("http");
        let proxy = if tls {
            self.https.as_ref()
        } else {
            self.http.as_ref()
        }?;
        let host = server
            .host()?
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        let port = server.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if local || self.excluded(&host, port) {
            return None;
        }
        Some(if proxy.contains("://") {
            proxy.clone()
        } else {
            format!("http://{proxy}")
        })
    }

    fn excluded(&self, host: &str, port: u16) -> bool {
        let list = self.none.as_deref().unwrap_or_default();
        list.split(',')
            .map(|e| e.trim().to_ascii_lowercase())
            .filter(|e| !e.is_empty())
            .any(|entry| {
                if entry == "*" {
                    return true;
                }
                if let Some((net, bits)) = entry.split_once('/') {
                    return in_net(host, net, bits);
                }
                let (name, wanted) = match entry.rsplit_once(':') {
                    // An IPv6 address has colons of its own.
                    Some((n, p)) if !n.contains(':') || n.ends_with(']') => {
                        (n, p.parse::<u16>().ok())
                    }
                    _ => (entry.as_str(), None),
                };
                if wanted.is_some_and(|p| p != port) {
                    return false;
                }
                let name = name.trim_start_matches('[').trim_end_matches(']');
                if name.parse::<IpAddr>().is_ok() {
                    return name == host;
                }
                let name = name.strip_prefix('*').unwrap_or(name);
                match name.strip_prefix('.') {
                    Some(domain) => host.strip_suffix(domain).is_some_and(|h| h.ends_with('.')),
                    None => {
                        host == name || host.strip_suffix(name).is_some_and(|h| h.ends_with('.'))
                    }
                }
            })
    }
}

fn in_net(host: &str, net: &str, bits: &str) -> bool {
    let (Ok(host), Ok(net), Ok(bits)) = (
        host.parse::<IpAddr>(),
        net.parse::<IpAddr>(),
        bits.parse::<u32>(),
    ) else {
        return false;
    };
    match (host, net) {
        (IpAddr::V4(h), IpAddr::V4(n)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            h.to_bits() & mask == n.to_bits() & mask
        }
        (IpAddr::V6(h), IpAddr::V6(n)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            h.to_bits() & mask == n.to_bits() & mask
        }
        _ => false,
    }
}
