//! NetworkPolicies, from the list that the API server sends (JSON) or a scenario holds (YAML).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The policies of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Policies {
    /// One each.
    #[serde(default)]
    pub items: Vec<Policy>,
}

impl Policies {
    pub(super) fn read(out: &str) -> Option<Self> {
        serde_json::from_str(out)
            .ok()
            .or_else(|| serde_yaml::from_str(out).ok())
    }
}

/// A NetworkPolicy (networking.k8s.io/v1).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "the fields carry the names of the Kubernetes API"
)]
pub struct Policy {
    pub metadata: Meta,
    pub spec: Spec,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "the fields carry the names of the Kubernetes API"
)]
pub struct Meta {
    pub name: String,
    pub namespace: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(
    missing_docs,
    reason = "the fields carry the names of the Kubernetes API"
)]
pub struct Spec {
    pub pod_selector: Selector,
    pub policy_types: Option<Vec<String>>,
    pub ingress: Option<Vec<Rule>>,
    pub egress: Option<Vec<Rule>>,
}

/// A label selector.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(
    missing_docs,
    reason = "the fields carry the names of the Kubernetes API"
)]
pub struct Selector {
    pub match_labels: BTreeMap<String, String>,
    pub match_expressions: Vec<Requirement>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "the fields carry the names of the Kubernetes API"
)]
pub struct Requirement {
    pub key: String,
    pub operator: String,
    pub values: Vec<String>,
}

/// A rule: peers in `from` or `to`, and ports.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "the fields carry the names of the Kubernetes API"
)]
pub struct Rule {
    pub from: Vec<Peer>,
    pub to: Vec<Peer>,
    pub ports: Vec<PortRange>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(
    missing_docs,
    reason = "the fields carry the names of the Kubernetes API"
)]
pub struct Peer {
    pub pod_selector: Option<Selector>,
    pub namespace_selector: Option<Selector>,
    pub ip_block: Option<IpBlock>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "the fields carry the names of the Kubernetes API"
)]
pub struct IpBlock {
    pub cidr: String,
    pub except: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(
    missing_docs,
    reason = "the fields carry the names of the Kubernetes API"
)]
pub struct PortRange {
    pub protocol: Option<String>,
    pub port: Option<NumberOrName>,
    pub end_port: Option<u16>,
}

/// A port by number or by the name that the destination gives it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "says it itself")]
pub enum NumberOrName {
    Number(u16),
    Name(String),
    Other(IgnoredAny),
}
