//! What is created for a test: a pure function from the workload's pods.
//!
//! The test must run as the workload runs (image, network, devices, user) and must touch nothing of it: own labels,
//! no volumes of its own, no secrets, no priority.

mod container;
mod place;

pub(crate) use container::{WORKER_FOLDER, gpus_in, gpus_requested, preempts};

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Pod, PodSpec, PodTemplateSpec, Service, ServicePort,
    ServiceSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::Value;

use super::{MANAGED_BY, MANAGED_LABEL, RUN_LABEL, SCRIPT};
use crate::model::testrun::Planned;

/// File name of the script in its ConfigMap.
const FILE: &str = "allreduce.py";
/// Port of the rendezvous where nothing else can sit on it.
const PORT: u16 = 29500;

/// What measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Runner {
    /// Our script on torch.
    #[default]
    Script,
    /// `all_reduce_perf` of nccl-tests, where the image has it.
    NcclTests,
    /// `ncclscope worker` from an image of its own.
    Worker,
    /// `ncclscope worker`, handed into the waiting pod.
    WorkerOverExec,
}

impl Runner {
    /// It knows one pod alone.
    #[must_use]
    pub fn alone(self) -> bool {
        self != Self::Script
    }
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// What measures.
    pub runner: Runner,
    /// Name of this run: lower-case letters and digits, at most 8.
    pub run: String,
    /// Name of the workload, for the name of the Job.
    pub workload: String,
    /// Pods; as many as the workload has if not given.
    pub pods: Option<u32>,
    /// GPUs of each pod; as many as the workload's if not given. 0: gloo on CPU alone.
    pub gpus: Option<u32>,
    /// Any node that suits rather than the workload's own.
    pub other_nodes: bool,
    /// Largest size, bytes; 0 leaves it to the script.
    pub max_bytes: u64,
    /// Only where asked for: a test must not push others away.
    pub priority_class: Option<String>,
    /// Another image than the workload's.
    pub image: Option<String>,
    /// Every two pods alone, too.
    pub pairs: bool,
    /// Seconds after which the API server ends it.
    pub deadline: u32,
    /// Seconds that the finished Job is kept, should nobody delete it.
    pub keep: u32,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            runner: Runner::Script,
            run: "test".into(),
            workload: String::new(),
            pods: None,
            gpus: None,
            other_nodes: false,
            max_bytes: 0,
            priority_class: None,
            image: None,
            pairs: false,
            deadline: 900,
            keep: 600,
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to take it from.
    #[error("the workload has no pod: there is nothing to take image and network from")]
    NoPods,
    /// More pods than nodes.
    #[error(
        "{asked} pods were asked for, and the workload has {has}: --other-nodes lifts the limit"
    )]
    TooMany {
        /// Asked for.
        asked: u32,
        /// There are.
        has: u32,
    },
    /// More GPUs than the workload's pods.
    #[error("{asked} GPUs a pod were asked for, and the workload's pods have {has}")]
    TooManyGpus {
        /// Asked for.
        asked: u32,
        /// There are.
        has: u32,
    },
    /// Several pods where one alone can be measured.
    #[error(
        "{asked} pods were asked for: nccl-tests over several pods needs MPI, and the worker takes the GPUs of one; without --pods one is tested"
    )]
    OnePod {
        /// Asked for.
        asked: u32,
    },
    /// Nothing that it could measure.
    #[error("nccl-tests and the worker measure GPUs, and none is asked for")]
    NoGpu,
    /// No pod, or a container without an image.
    #[error("0 pods can't be tested")]
    Nothing,
}

/// Everything that is created.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Name of the run.
    pub run: String,
    /// Namespace.
    pub namespace: String,
    /// Pods.
    pub pods: u32,
    /// GPUs of each pod.
    pub gpus: u32,
    /// Nodes it is bound to; empty: any.
    pub nodes: Vec<String>,
    /// The workload it is like.
    pub workload: String,
    /// Largest size, bytes; 0 leaves it to the script.
    pub max_bytes: u64,
    /// What measures.
    pub runner: Runner,
    /// The Job; created first, owns the others.
    pub job: Job,
    /// Gives pod 0 its name.
    pub service: Service,
    /// Holds the script.
    pub script: ConfigMap,
    /// What is not as in the workload, or could hurt somebody.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Name of the Job, its Service and its ConfigMap.
    #[must_use]
    pub fn name(&self) -> &str {
        self.job.metadata.name.as_deref().unwrap_or_default()
    }

    /// The plan in the words of the model.
    #[must_use]
    pub fn planned(&self) -> Planned {
        let template = self
            .job
            .spec
            .as_ref()
            .and_then(|j| j.template.spec.as_ref());
        let image = template
            .and_then(|s| s.containers.first())
            .and_then(|c| c.image.clone());
        Planned {
            run: self.run.clone(),
            namespace: self.namespace.clone(),
            workload: self.workload.clone(),
            image: image.unwrap_or_default(),
            max_bytes: self.max_bytes,
            table: None,
            job: self.name().to_owned(),
            pods: self.pods,
            gpus: self.gpus,
            nodes: self.nodes.clone(),
            manifest: self.yaml(false),
            warnings: self.warnings.clone(),
        }
    }

    /// The priority class that was asked for.
    #[must_use]
    pub fn priority_class(&self) -> Option<&str> {
        let template = self.job.spec.as_ref()?.template.spec.as_ref()?;
        template.priority_class_name.as_deref()
    }

    /// What is created, in words: `job/prod/x`.
    #[must_use]
    pub fn objects(&self) -> Vec<String> {
        ["job", "service", "configmap"]
            .iter()
            .map(|kind| format!("{kind}/{}/{}", self.namespace, self.name()))
            .collect()
    }

    /// The selector that finds everything of this run.
    #[must_use]
    pub fn selector(&self) -> String {
        format!("{RUN_LABEL}={}", self.run)
    }

    /// Service and ConfigMap, to vanish with the Job that has this UID.
    #[must_use]
    pub fn owned(&self, uid: &str) -> (Service, ConfigMap) {
        let owner = OwnerReference {
            api_version: "batch/v1".into(),
            kind: "Job".into(),
            name: self.name().into(),
            uid: uid.into(),
            controller: Some(false),
            // True needs a right that few have.
            block_owner_deletion: Some(false),
        };
        let (mut service, mut script) = (self.service.clone(), self.script.clone());
        service.metadata.owner_references = Some(vec![owner.clone()]);
        script.metadata.owner_references = Some(vec![owner]);
        (service, script)
    }

    /// The manifest, as `kubectl apply -f` takes it. With `short`, the script is named and not printed.
    #[must_use]
    pub fn yaml(&self, short: bool) -> String {
        let mut script = self.script.clone();
        if short {
            let what = "# the script; --dry-run prints it".to_owned();
            script.data = Some(BTreeMap::from([(FILE.to_owned(), what)]));
        }
        let documents = [
            document(&self.job),
            document(&self.service),
            document(&script),
        ];
        let mut out = String::from(
            "# The Job is created first; Service and ConfigMap get an owner reference to it, so that they go with it.\n",
        );
        out.push_str(&documents.join("---\n"));
        out
    }
}

/// Plans a test from the workload's pods.
pub fn plan(pods: &[Pod], wish: &Wish) -> Result<Plan, PlanError> {
    let like = container::Like::of(pods).ok_or(PlanError::NoPods)?;
    let mut warnings = like.warnings(wish);
    let namespace = like.pod.metadata.namespace.clone().unwrap_or_default();
    let has = u32::try_from(like.pods).unwrap_or(u32::MAX);
    let count = match wish.pods {
        Some(asked) if wish.runner.alone() && asked > 1 => {
            return Err(PlanError::OnePod { asked });
        }
        None if wish.runner.alone() => 1,
        given => given.unwrap_or(has),
    };
    if count == 0 {
        return Err(PlanError::Nothing);
    }
    if count > has && !wish.other_nodes {
        return Err(PlanError::TooMany { asked: count, has });
    }
    let gpus = wish.gpus.unwrap_or(like.gpus);
    if gpus > like.gpus {
        return Err(PlanError::TooManyGpus {
            asked: gpus,
            has: like.gpus,
        });
    }
    if gpus == 0 && wish.runner.alone() {
        return Err(PlanError::NoGpu);
    }
    if gpus == 0 {
        warnings.push("no GPU: gloo on CPU alone is tested, which says nothing of NCCL".into());
    }
    let name = job_name(&wish.workload, &wish.run);
    let labels = labels(&name, &wish.run);
    let spec = like.pod.spec.clone().unwrap_or_default();
    let port = if spec.host_network == Some(true) {
        // The workload may sit on the usual one, on the same node.
        20_000 + 2 * (hash(&wish.run) % 4_000)
    } else {
        PORT
    };
    let run = container::Run {
        name: &name,
        namespace: &namespace,
        run: &wish.run,
        pods: count,
        gpus,
        port,
        max_bytes: wish.max_bytes,
        pairs: wish.pairs,
        runner: wish.runner,
        image: wish.image.as_deref(),
    };
    let made = container::container(&like, &run, &mut warnings);
    let place = place::place(&like, wish, count, &mut warnings);
    let mut volumes = vec![Volume {
        name: "script".into(),
        config_map: Some(ConfigMapVolumeSource {
            name: name.clone(),
            default_mode: Some(0o444),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }];
    volumes.extend(made.volumes);
    let host_network = spec.host_network.filter(|h| *h);
    let mut pod_labels = labels.clone();
    pod_labels.extend(place.queue_labels.clone());
    // A mesh would keep the Job from ending and stands between the ranks.
    pod_labels.insert("sidecar.istio.io/inject".into(), "false".into());
    let mut job_labels = labels.clone();
    job_labels.extend(place.queue_labels);
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(place.annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            restart_policy: Some("Never".into()),
            subdomain: Some(name.clone()),
            containers: vec![made.container],
            volumes: Some(volumes),
            affinity: place.affinity,
            node_selector: place.node_selector,
            tolerations: place.tolerations,
            topology_spread_constraints: place.spread,
            scheduler_name: spec
                .scheduler_name
                .clone()
                .filter(|s| s != "default-scheduler"),
            priority_class_name: wish.priority_class.clone(),
            runtime_class_name: spec.runtime_class_name.clone(),
            image_pull_secrets: spec.image_pull_secrets.clone(),
            service_account_name: spec.service_account_name.clone(),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: spec.security_context.clone(),
            host_network,
            host_ipc: spec.host_ipc.filter(|h| *h),
            host_aliases: spec.host_aliases.clone(),
            dns_policy: host_network.map(|_| "ClusterFirstWithHostNet".into()),
            dns_config: spec.dns_config.clone(),
            resource_claims: made.claims,
            termination_grace_period_seconds: Some(10),
            ..PodSpec::default()
        }),
    };
    let completions = i32::try_from(count).ok();
    let job = Job {
        metadata: meta(&name, &namespace, job_labels),
        spec: Some(JobSpec {
            completion_mode: Some("Indexed".into()),
            completions,
            parallelism: completions,
            // One rank lost is the run lost.
            backoff_limit: Some(0),
            pod_failure_policy: Some(failure_policy()),
            active_deadline_seconds: Some(i64::from(wish.deadline)),
            ttl_seconds_after_finished: i32::try_from(wish.keep).ok(),
            // Kueue lifts it when there is room.
            suspend: place.suspend.then_some(true),
            template,
            ..JobSpec::default()
        }),
        ..Job::default()
    };
    let service = Service {
        metadata: meta(&name, &namespace, labels.clone()),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            // Ranks look for each other before anything is ready.
            publish_not_ready_addresses: Some(true),
            selector: Some(BTreeMap::from([(
                "batch.kubernetes.io/job-name".to_owned(),
                name.clone(),
            )])),
            ports: Some(vec![ServicePort {
                name: Some("rendezvous".into()),
                port: i32::from(port),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    let script = ConfigMap {
        metadata: meta(&name, &namespace, labels),
        data: Some(BTreeMap::from([(FILE.to_owned(), SCRIPT.to_owned())])),
        ..ConfigMap::default()
    };
    Ok(Plan {
        run: wish.run.clone(),
        namespace,
        pods: count,
        gpus,
        nodes: place.nodes,
        workload: wish.workload.clone(),
        max_bytes: wish.max_bytes,
        runner: wish.runner,
        job,
        service,
        script,
        warnings,
    })
}

/// Every failure of ours ends the Job, and says that a rule did it.
fn failure_policy() -> PodFailurePolicy {
    let fail = |rule: PodFailurePolicyRule| PodFailurePolicyRule {
        action: "FailJob".into(),
        ..rule
    };
    PodFailurePolicy {
        rules: vec![
            fail(PodFailurePolicyRule {
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".into(),
                    status: "True".into(),
                }]),
                ..PodFailurePolicyRule::default()
            }),
            fail(PodFailurePolicyRule {
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: None,
                    operator: "NotIn".into(),
                    values: vec![0],
                }),
                ..PodFailurePolicyRule::default()
            }),
        ],
    }
}

fn meta(name: &str, namespace: &str, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(namespace.into()),
        labels: Some(labels),
        ..ObjectMeta::default()
    }
}

fn labels(name: &str, run: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "ncclscope-allreduce"),
        ("app.kubernetes.io/instance", name),
        (MANAGED_LABEL, MANAGED_BY),
        (RUN_LABEL, run),
    ]
    .iter()
    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
    .collect()
}

/// At most 55 characters: pods add their index to it and must stay a DNS label.
fn job_name(workload: &str, run: &str) -> String {
    let base = workload.rsplit('/').next().unwrap_or_default();
    let mut short: String = base
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(30)
        .collect();
    short = short.trim_matches('-').to_owned();
    if short.is_empty() {
        format!("ncclscope-{run}")
    } else {
        format!("ncclscope-{short}-{run}")
    }
}

/// FNV-1a, 16 bits of it.
fn hash(text: &str) -> u16 {
    let h = text.bytes().fold(0x811c_9dc5_u32, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    });
    u16::try_from((h >> 16) & 0xffff).unwrap_or(0)
}

/// Distinct nodes of the pods, in order.
fn nodes(pods: &[&Pod]) -> Vec<String> {
    let all: BTreeSet<String> = pods
        .iter()
        .filter_map(|p| p.spec.as_ref()?.node_name.clone())
        .filter(|n| !n.is_empty())
        .collect();
    all.into_iter().collect()
}

/// An object as YAML, text of several lines as a block.
fn document<K: Serialize>(object: &K) -> String {
    let value = serde_json::to_value(object).unwrap_or(Value::Null);
    serde_yaml::to_string(&Shown(&value)).unwrap_or_else(|e| format!("# can't be shown: {e}\n"))
}

struct Shown<'a>(&'a Value);

impl Serialize for Shown<'_> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(text) if text.contains('\n') => serde_yaml::LitStr(text).serialize(s),
            Value::Array(list) => s.collect_seq(list.iter().map(Shown)),
            Value::Object(map) => {
                // What identifies an object comes first, as everybody writes it.
                let mut out = s.serialize_map(Some(map.len()))?;
                let first = ["apiVersion", "kind", "metadata", "name"];
                for key in first {
                    if let Some(v) = map.get(key) {
                        out.serialize_entry(key, &Shown(v))?;
                    }
                }
                for (k, v) in map.iter().filter(|(k, _)| !first.contains(&k.as_str())) {
                    out.serialize_entry(k, &Shown(v))?;
                }
                out.end()
            }
            other => other.serialize(s),
        }
    }
}
