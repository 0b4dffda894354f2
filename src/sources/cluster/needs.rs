//! What each level asks of RBAC, and what is missing on screen without it: one table for `rbac` and `doctor`.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use tokio::time::timeout;

use super::Connection;
use super::client::PATIENCE;
use super::trouble::Trouble;
use crate::model::event::Level;

/// Verbs on one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The level that needs it; the levels above need it too.
    pub level: Level,
    /// API group; empty: the core.
    pub group: &'static str,
    /// Resource, with its subresource: `pods/log`.
    pub resource: &'static str,
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// What is not there without it.
    pub panes: &'static str,
    /// Something is left without it: discovery tries every kind, and a name or a selector needs none.
    pub optional: bool,
    /// Of the cluster and not of a namespace.
    pub cluster: bool,
}

const fn need(
    level: Level,
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    panes: &'static str,
) -> Need {
    Need {
        level,
        group,
        resource,
        verbs,
        panes,
        optional: false,
        cluster: false,
    }
}

const fn kind(group: &'static str, resource: &'static str) -> Need {
    Need {
        optional: true,
        ..need(
            Level::Observe,
            group,
            resource,
            // Found by name or in a list; watched, because a workload is scaled.
            &["get", "list", "watch"],
            "workloads found by themselves, expected pods",
        )
    }
}

/// The table, in the order it is printed.
pub const NEEDS: &[Need] = &[
    need(
        Level::Observe,
        "",
        "pods",
        &["get", "list", "watch"],
        "every pane",
    ),
    need(
        Level::Observe,
        "",
        "pods/log",
        &["get"],
        "logs, ranks, matrix, findings, env",
    ),
    need(
        Level::Observe,
        "",
        "events",
        &["list", "watch"],
        "pods: why they wait and restart",
    ),
    kind("leaderworkerset.x-k8s.io", "leaderworkersets"),
    kind("jobset.x-k8s.io", "jobsets"),
    kind("ray.io", "rayclusters"),
    kind("kubeflow.org", "pytorchjobs"),
    kind("kubeflow.org", "mpijobs"),
    kind("batch.volcano.sh", "jobs"),
    kind("batch", "jobs"),
    kind("apps", "statefulsets"),
    kind("apps", "deployments"),
    Need {
        verbs: &["get"],
        ..kind("apps", "replicasets")
    },
    Need {
        optional: true,
        ..need(
            Level::Observe,
            "networking.k8s.io",
            "networkpolicies",
            &["list"],
            "checks: whether policies let the ranks meet",
        )
    },
    Need {
        optional: true,
        ..need(
            Level::Observe,
            "",
            "configmaps",
            &["get"],
            "ranks: what the file says that --config names, where it is mounted from a ConfigMap",
        )
    },
    Need {
        optional: true,
        cluster: true,
        ..need(
            Level::Observe,
            "",
            "nodes",
            &["get", "list", "watch"],
            "pods, checks: node conditions, GPU health taints, which nodes could hold a pod that waits",
        )
    },
    need(
        Level::Probe,
        "",
        "pods/exec",
        &["get", "create"],
        "vram, checks: what runs inside the pods",
    ),
    need(
        Level::Probe,
        "",
        "pods/proxy",
        &["get"],
        "vram, checks: metrics and health of the served model",
    ),
    Need {
        optional: true,
        ..need(
            Level::Act,
            "",
            "pods/proxy",
            &["create"],
            "checks: the token that `:generate` asks the served model for",
        )
    },
    Need {
        optional: true,
        cluster: true,
        ..need(
            Level::Act,
            "scheduling.k8s.io",
            "priorityclasses",
            &["list"],
            "test: whom its priority could push off a node",
        )
    },
    need(
        Level::Act,
        "batch",
        "jobs",
        &["create", "get", "list", "delete"],
        "test: the all-reduce",
    ),
    need(
        Level::Act,
        "",
        "services",
        &["create", "get", "list", "delete"],
        "test: the all-reduce",
    ),
    need(
        Level::Act,
        "",
        "configmaps",
        &["create", "get", "list", "delete"],
        "test: the all-reduce",
    ),
];

impl Need {
    /// `list pods/log`, `create jobs.batch`.
    #[must_use]
    pub fn rule(&self, verb: &str) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        format!("{verb} {}{dot}{}", self.resource, self.group)
    }
}

/// Whether we may: asked of the API server, which changes nothing.
///
/// # Errors
/// What kept it from answering.
pub async fn allowed(
    link: &Connection,
    need: &Need,
    verb: &str,
    namespace: &str,
) -> Result<bool, Trouble> {
    let (resource, sub) = match need.resource.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub.to_owned())),
        None => (need.resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(need.group.to_owned()).filter(|g| !g.is_empty()),
                resource: Some(resource.to_owned()),
                subresource: sub,
                verb: Some(verb.to_owned()),
                namespace: (!need.cluster).then(|| namespace.to_owned()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(link.client());
    let answer = timeout(PATIENCE, reviews.create(&PostParams::default(), &review))
        .await
        .map_err(|_| Trouble::timeout(PATIENCE))?
        .map_err(|e| Trouble::of(&e))?;
    Ok(answer.status.is_some_and(|s| s.allowed))
}

/// Role and binding that suffice for a level, as YAML for `kubectl apply -f -`. Nodes are of the cluster: they come as
/// a ClusterRole of their own, after a comment that says what is missing without it.
#[must_use]
pub fn yaml(level: Level, namespace: &str, subjects: &[Subject]) -> String {
    let word = match level {
        Level::Observe => "observe",
        Level::Probe => "probe",
        Level::Act => "act",
    };
    let name = format!("ncclscope-{word}");
    let of_level = |cluster: bool| {
        NEEDS
            .iter()
            .filter(move |n| n.level <= level && n.cluster == cluster)
    };
    let mut out = format!(
        "# What ncclscope needs to {word} in namespace {namespace}, and nothing else.\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata:\n  name: {name}\n  namespace: {}\nrules:\n",
        quote(namespace)
    );
    rules(of_level(false), &mut out);
    if level >= Level::Probe {
        out.push_str(
            "# Where commands in pods are forbidden, GPUs are read from DCGM's exporter on their node. In its namespace:\n\
             # ncclscope rbac probe -n gpu-operator\n",
        );
    }
    out.push_str(&format!(
        "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata:\n  name: {name}\n  namespace: {}\n\
         roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: Role\n  name: {name}\nsubjects:\n",
        quote(namespace)
    ));
    bound(subjects, namespace, &mut out);
    out.push_str(&format!(
        "---\n# Nodes belong to the cluster. Without this, what nodes say of themselves is missing; the rest works.\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: {name}\nrules:\n"
    ));
    rules(of_level(true), &mut out);
    out.push_str(&format!(
        "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata:\n  name: {}\n\
         roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: ClusterRole\n  name: {name}\nsubjects:\n",
        quote(&format!("{name}-{namespace}"))
    ));
    bound(subjects, namespace, &mut out);
    out
}

/// Rules with equal group and verbs become one.
fn rules(needs: impl Iterator<Item = &'static Need>, out: &mut String) {
    let mut rules: Vec<(&str, Vec<&str>, Vec<&str>)> = Vec::new();
    for need in needs {
        let verbs = need.verbs.to_vec();
        if let Some((.., known)) = rules
            .iter_mut()
            .find(|(group, resources, _)| *group == need.group && *resources == [need.resource])
        {
            let fresh: Vec<&str> = verbs
                .iter()
                .filter(|v| !known.contains(v))
                .copied()
                .collect();
            known.extend(fresh);
            continue;
        }
        rules.push((need.group, vec![need.resource], verbs));
    }
    let mut merged: Vec<(&str, Vec<&str>, Vec<&str>)> = Vec::new();
    for (group, resources, verbs) in rules {
        match merged
            .iter_mut()
            .find(|(g, _, v)| *g == group && *v == verbs)
        {
            Some((_, known, _)) => known.extend(resources),
            None => merged.push((group, resources, verbs)),
        }
    }
    for (group, resources, verbs) in merged {
        out.push_str(&format!(
            "- apiGroups: [\"{group}\"]\n  resources: [{}]\n  verbs: [{}]\n",
            resources.join(", "),
            verbs.join(", ")
        ));
    }
}

/// Who gets the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A user, as the API server knows them.
    User(String),
    /// A group.
    Group(String),
    /// A service account of the namespace.
    ServiceAccount(String),
}

fn bound(subjects: &[Subject], namespace: &str, out: &mut String) {
    for subject in subjects {
        let (kind, name, rest) = match subject {
            Subject::User(name) => (
                "User",
                name,
                "  apiGroup: rbac.authorization.k8s.io\n".to_owned(),
            ),
            Subject::Group(name) => (
                "Group",
                name,
                "  apiGroup: rbac.authorization.k8s.io\n".to_owned(),
            ),
            Subject::ServiceAccount(name) => (
                "ServiceAccount",
                name,
                format!("  namespace: {}\n", quote(namespace)),
            ),
        };
        out.push_str(&format!("- kind: {kind}\n  name: {}\n{rest}", quote(name)));
    }
}

/// A YAML scalar that is nothing but this text.
fn quote(text: &str) -> String {
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !matches!(
            text,
            "null" | "true" | "false" | "yes" | "no" | "on" | "off"
        );
    if plain {
        text.to_owned()
    } else {
        // JSON's strings are YAML's.
        serde_json::Value::String(text.to_owned()).to_string()
    }
}
