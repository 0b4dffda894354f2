//! The test's container: as the workload's, and nothing of it that is not needed.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, ObjectFieldSelector, Pod,
    PodResourceClaim, ResourceClaim, ResourceRequirements, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Runner, Wish};
use crate::parse::perf;

/// Looks for an interpreter that has torch among its arguments; takes the first one that is there if none has.
const FIND_PYTHON: &str = r#"first=
for p in "$@"; do
  command -v "$p" >/dev/null 2>&1 || continue
  [ -n "$first" ] || first=$p
  "$p" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' && exec "$p" -u /ncclscope/allreduce.py
done
[ -z "$first" ] || exec "$first" -u /ncclscope/allreduce.py
echo "no python in this image" >&2
exit 11
"#;
/// Looks for nccl-tests where images keep it; the arguments are the largest size and the number of GPUs.
const FIND_TESTS: &str = r#"for p in all_reduce_perf /opt/nccl-tests/build/all_reduce_perf /opt/nccl_tests/build/all_reduce_perf /nccl-tests/build/all_reduce_perf /workspace/nccl-tests/build/all_reduce_perf /usr/local/bin/all_reduce_perf; do
  command -v "$p" >/dev/null 2>&1 && exec "$p" -b 8 -e "$1" -f 2 -g "$2" -c 1
done
echo "no all_reduce_perf in this image" >&2
exit 2
"#;
/// Waits for the worker that is handed in.
const AWAIT_WORKER: &str = r#"i=0
while [ ! -x "$1" ]; do
  i=$((i+1))
  [ "$i" -lt 180 ] || { echo "no worker came within 3 minutes" >&2; exit 2; }
  sleep 1
done
exec "$1" worker
"#;
/// Where it is handed in.
pub(crate) const WORKER_FOLDER: &str = "/tmp/ncclscope-worker";
/// Resources that are sized anew; every other one is a device or a network and is copied.
const ORDINARY: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Memory that a rank needs beside its GPU: torch, CUDA context, NCCL's buffers.
const PER_RANK: u64 = 4 << 30;
/// Variables that are copied beside the communication settings.
const ALSO: [&str; 8] = [
    "NVIDIA_DRIVER_CAPABILITIES",
    "VLLM_HOST_IP",
    "VLLM_NCCL_SO_PATH",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
];
/// Variables that would change what the test sees or where its words go.
const NOT: [&str; 4] = [
    "CUDA_VISIBLE_DEVICES",
    "NCCL_DEBUG",
    "NCCL_DEBUG_SUBSYS",
    "NCCL_DEBUG_FILE",
];

/// The workload's pods as a pattern.
pub(super) struct Like<'a> {
    /// The pod that is copied from.
    pub pod: &'a Pod,
    /// Its container with the GPUs.
    pub container: &'a Container,
    /// All that count.
    pub all: Vec<&'a Pod>,
    /// How many of them there are.
    pub pods: usize,
    /// GPUs that each has at least.
    pub gpus: u32,
    uneven: bool,
}

impl<'a> Like<'a> {
    /// Reads the workload. Pods without a GPU (a Ray head) do not count where others have some.
    pub fn of(pods: &'a [Pod]) -> Option<Self> {
        let mut named: Vec<&Pod> = pods.iter().filter(|p| p.spec.is_some()).collect();
        named.sort_by_key(|p| p.metadata.name.clone());
        let with: Vec<&Pod> = named.iter().copied().filter(|p| gpus_of(p) > 0).collect();
        let all = if with.is_empty() { named } else { with };
        let pod = *all.first()?;
        let container = richest(pod)?;
        let counts: Vec<u32> = all.iter().map(|p| gpus_of(p)).collect();
        let gpus = counts.iter().copied().min().unwrap_or(0);
        Some(Self {
            pod,
            container,
            pods: all.len(),
            all,
            gpus,
            uneven: counts.iter().any(|n| *n != gpus),
        })
    }

    /// What can be said before anything is copied.
    pub fn warnings(&self, wish: &Wish) -> Vec<String> {
        let mut out = Vec::new();
        if self.uneven {
            out.push(format!(
                "the workload's pods have different numbers of GPUs: {} of each are tested",
                self.gpus
            ));
        }
        if let Some(class) = &wish.priority_class {
            out.push(preempts(class));
        }
        for from in self.container.env_from.iter().flatten() {
            let what = match (&from.config_map_ref, &from.secret_ref) {
                (Some(c), _) => format!("ConfigMap {}", c.name),
                (_, Some(s)) => format!("Secret {}", s.name),
                _ => continue,
            };
            out.push(format!(
                "variables from {what} are not copied: settings of NCCL in there are missing"
            ));
        }
        out
    }
}

/// What is warned of where a priority class is asked for.
pub(crate) fn preempts(class: &str) -> String {
    format!("priority class {class}: the test can push other pods off their nodes")
}

/// Name of the resource by which GPUs are asked for, and how many.
fn gpu_resource(c: &Container) -> Option<(String, u32)> {
    let resources = c.resources.as_ref()?;
    let all = resources.limits.iter().chain(resources.requests.iter());
    all.flatten()
        .filter(|(name, _)| is_gpu(name))
        .filter_map(|(name, q)| Some((name.clone(), q.0.parse::<u32>().ok()?)))
        .max_by_key(|(_, n)| *n)
}

fn is_gpu(name: &str) -> bool {
    let tail = name.rsplit('/').next().unwrap_or_default();
    matches!(tail, "gpu" | "gpu.shared" | "gaudi") || name.starts_with("nvidia.com/mig-")
}

fn gpus_of(pod: &Pod) -> u32 {
    richest(pod).and_then(gpu_resource).map_or(0, |(_, n)| n)
}

/// GPUs that a pod asks for, over all its containers.
pub(crate) fn gpus_requested(pod: &Pod) -> u32 {
    let all = pod.spec.iter().flat_map(|s| &s.containers);
    all.filter_map(gpu_resource).map(|(_, n)| n).sum()
}

/// GPUs among resources, for instance those that a node has to give.
pub(crate) fn gpus_in(resources: &BTreeMap<String, Quantity>) -> u32 {
    let gpus = resources.iter().filter(|(name, _)| is_gpu(name));
    gpus.filter_map(|(_, q)| q.0.parse::<u32>().ok()).sum()
}

fn richest(pod: &Pod) -> Option<&Container> {
    let all = &pod.spec.as_ref()?.containers;
    // The first of equals: the main container comes first.
    all.iter()
        .rev()
        .max_by_key(|c| gpu_resource(c).map_or(0, |(_, n)| n))
}

/// What is known of this run.
pub(super) struct Run<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
    pub run: &'a str,
    pub pods: u32,
    pub gpus: u32,
    pub port: u16,
    pub max_bytes: u64,
    pub pairs: bool,
    pub runner: Runner,
    pub image: Option<&'a str>,
}

/// The container and what it needs of the pod.
pub(super) struct Made {
    pub container: Container,
    pub volumes: Vec<Volume>,
    pub claims: Option<Vec<PodResourceClaim>>,
}

/// Makes it.
pub(super) fn container(like: &Like<'_>, run: &Run<'_>, warnings: &mut Vec<String>) -> Made {
    let from = like.container;
    let env = environment(like, run, warnings);
    let (mut volumes, mut mounts) = volumes(like, &env);
    mounts.insert(
        0,
        VolumeMount {
            read_only: Some(true),
            ..mount("script", "/ncclscope")
        },
    );
    if read_only(from) && !mounts.iter().any(|m| m.mount_path == "/tmp") {
        volumes.push(empty("tmp", None, None));
        mounts.push(mount("tmp", "/tmp"));
    }
    if run.runner == Runner::WorkerOverExec {
        volumes.push(empty("worker", None, None));
        mounts.push(mount("worker", WORKER_FOLDER));
        warnings.push(format!(
            "this program is copied into the waiting pod over exec (create pods/exec): {WORKER_FOLDER}/ncclscope"
        ));
    }
    let (claims, own_claims) = claims(like, warnings);
    let mut resources = resources(like, run);
    resources.claims = own_claims;
    let container = Container {
        name: "allreduce".into(),
        image: run.image.map(str::to_owned).or_else(|| from.image.clone()),
        image_pull_policy: from.image_pull_policy.clone(),
        command: Some(command(from, run)),
        env: Some(env),
        resources: Some(resources),
        security_context: from.security_context.clone(),
        volume_mounts: Some(mounts),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..Container::default()
    };
    Made {
        container,
        volumes,
        claims,
    }
}

/// Interpreters to try: the workload's own first.
fn interpreters(from: &Container) -> Vec<String> {
    let own = from.command.iter().flatten().next();
    let own = own.filter(|c| {
        c.rsplit('/')
            .next()
            .is_some_and(|n| n.starts_with("python"))
    });
    let mut all: Vec<String> = own.cloned().into_iter().collect();
    for p in [
        "python3",
        "/opt/venv/bin/python3",
        "/usr/local/bin/python3",
        "/usr/bin/python3",
        "python",
    ] {
        if !all.iter().any(|have| have == p) {
            all.push(p.into());
        }
    }
    all
}

fn environment(like: &Like<'_>, run: &Run<'_>, warnings: &mut Vec<String>) -> Vec<EnvVar> {
    let mut env: Vec<EnvVar> = Vec::new();
    for e in like.container.env.iter().flatten() {
        let wanted = perf::may_show(&e.name) || ALSO.contains(&e.name.as_str());
        if !wanted || NOT.contains(&e.name.as_str()) {
            continue;
        }
        let secret = e
            .value_from
            .as_ref()
            .is_some_and(|v| v.secret_key_ref.is_some());
        if secret {
            warnings.push(format!("{} comes from a Secret and is not copied", e.name));
            continue;
        }
        env.push(e.clone());
    }
    let mut set = |name: &str, value: String| {
        env.push(EnvVar {
            name: name.into(),
            value: Some(value),
            value_from: None,
        });
    };
    set("NCCL_DEBUG", "INFO".into());
    set(
        "NCCL_DEBUG_SUBSYS",
        "INIT,BOOTSTRAP,ENV,NET,GRAPH,TUNING".into(),
    );
    set(
        "MASTER_ADDR",
        format!("{0}-0.{0}.{1}.svc", run.name, run.namespace),
    );
    set("MASTER_PORT", run.port.to_string());
    set("NCCLSCOPE_RUN", run.run.into());
    set("NCCLSCOPE_NODES", run.pods.to_string());
    set("NCCLSCOPE_NPROC", run.gpus.max(1).to_string());
    set("NCCLSCOPE_NEED_GPUS", u8::from(run.gpus > 0).to_string());
    set("NCCLSCOPE_MAX_BYTES", run.max_bytes.to_string());
    if run.pairs {
        set("NCCLSCOPE_PAIRS", "1".into());
    }
    // A user without an entry in passwd: torch asks for its name, and caches must be writable. So where the image is
    // read-only, whoever it is.
    if user(like) != Some(0) || read_only(like.container) {
        for (name, value) in [
            ("USER", "ncclscope"),
            ("LOGNAME", "ncclscope"),
            ("HOME", "/tmp"),
            ("XDG_CACHE_HOME", "/tmp/.cache"),
            ("TRITON_CACHE_DIR", "/tmp/.triton"),
            ("TORCHINDUCTOR_CACHE_DIR", "/tmp/.inductor"),
        ] {
            set(name, value.into());
        }
    }
    env.push(EnvVar {
        name: "NCCLSCOPE_NODE".into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "spec.nodeName".into(),
                api_version: None,
            }),
            ..EnvVarSource::default()
        }),
    });
    env
}

/// What is run.
fn command(from: &Container, run: &Run<'_>) -> Vec<String> {
    let shell = |script: &str| ["/bin/sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    let largest = if run.max_bytes == 0 {
        1 << 30
    } else {
        run.max_bytes
    };
    match run.runner {
        Runner::Script => {
            let mut all = shell(FIND_PYTHON);
            all.extend(interpreters(from));
            all
        }
        Runner::NcclTests => {
            let mut all = shell(FIND_TESTS);
            all.extend([largest.to_string(), run.gpus.to_string()]);
            all
        }
        Runner::Worker => ["ncclscope", "worker"].map(str::to_owned).to_vec(),
        Runner::WorkerOverExec => {
            let mut all = shell(AWAIT_WORKER);
            all.push(format!("{WORKER_FOLDER}/ncclscope"));
            all
        }
    }
}

/// The user it runs as; `None` where the image decides.
fn user(like: &Like<'_>) -> Option<i64> {
    let own = like.container.security_context.as_ref();
    own.and_then(|s| s.run_as_user).or_else(|| {
        let spec = like.pod.spec.as_ref()?;
        spec.security_context.as_ref()?.run_as_user
    })
}

/// Nothing can be written but into volumes.
fn read_only(container: &Container) -> bool {
    let security = container.security_context.as_ref();
    security.and_then(|s| s.read_only_root_filesystem) == Some(true)
}

/// Value of a quantity in its smallest unit: bytes, or cores with `milli`.
fn amount(q: &Quantity) -> Option<f64> {
    let end =
        q.0.find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(q.0.len());
    let (number, unit) = (q.0.get(..end)?, q.0.get(end..)?);
    let factor = match unit {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

fn resources(like: &Like<'_>, run: &Run<'_>) -> ResourceRequirements {
    let from = like.container.resources.clone().unwrap_or_default();
    let limits = from.limits.unwrap_or_default();
    let mut asked = from.requests.unwrap_or_default();
    // As the API server does it.
    for (name, q) in &limits {
        asked.entry(name.clone()).or_insert_with(|| q.clone());
    }
    let gpu = gpu_resource(like.container).map(|(name, _)| name);
    let devices = |all: &BTreeMap<String, Quantity>| {
        let mut out = BTreeMap::new();
        for (name, q) in all {
            if ORDINARY.contains(&name.as_str()) {
                continue;
            }
            let is_gpu = Some(name) == gpu.as_ref();
            // Without GPUs there is nothing that the network devices could serve.
            if run.gpus > 0 || name.starts_with("hugepages-") {
                let q = if is_gpu {
                    Quantity(run.gpus.to_string())
                } else {
                    q.clone()
                };
                out.insert(name.clone(), q);
            }
        }
        out
    };
    let ranks = f64::from(run.gpus.max(1));
    // A pod that owns its cores whole is placed by other rules: then the test must be one, too.
    let whole = ["cpu", "memory"]
        .iter()
        .all(|r| limits.contains_key(*r) && limits.get(*r) == asked.get(*r));
    let (mut requests, mut limited) = (devices(&asked), devices(&limits));
    for name in ["cpu", "memory"] {
        let has = asked.get(name);
        let small = || {
            let has = has.and_then(amount);
            if name == "cpu" {
                written(
                    has.unwrap_or(ranks).min(2.0 * ranks) * 1000.0,
                    &[("", 1000.0), ("m", 1.0)],
                )
            } else {
                #[expect(clippy::cast_precision_loss, reason = "a few GiB")]
                let enough = PER_RANK as f64 * ranks;
                let bytes = has.unwrap_or(enough).min(enough);
                let mib = (bytes / 1_048_576.0).floor().max(1.0);
                written(mib, &[("Gi", 1024.0), ("Mi", 1.0)])
            }
        };
        let q = has.filter(|_| whole).cloned().unwrap_or_else(small);
        requests.insert(name.into(), q);
        if let Some(q) = limits.get(name) {
            limited.insert(name.into(), q.clone());
        }
    }
    ResourceRequirements {
        limits: Some(limited).filter(|l| !l.is_empty()),
        requests: Some(requests),
        claims: None,
    }
}

/// A whole number in the largest of the units that leaves it whole, as the API server writes it.
fn written(n: f64, units: &[(&str, f64)]) -> Quantity {
    let n = n.floor();
    let unit = units.iter().find(|(_, size)| n % size == 0.0);
    let (unit, size) = unit.copied().unwrap_or(("", 1.0));
    Quantity(format!("{:.0}{unit}", n / size))
}

/// Shared memory as the workload has it, and host files that its settings point to. Nothing else: no models, no
/// secrets, no claims that only one pod may hold.
fn volumes(like: &Like<'_>, env: &[EnvVar]) -> (Vec<Volume>, Vec<VolumeMount>) {
    let spec = like.pod.spec.as_ref();
    let all: Vec<&Volume> = spec
        .and_then(|s| s.volumes.as_ref())
        .into_iter()
        .flatten()
        .collect();
    let (mut volumes, mut mounts) = (Vec::new(), Vec::new());
    let mut shm = None;
    for m in like.container.volume_mounts.iter().flatten() {
        let Some(volume) = all.iter().find(|v| v.name == m.name) else {
            continue;
        };
        let huge = volume.empty_dir.as_ref().is_some_and(|e| {
            e.medium
                .as_deref()
                .is_some_and(|medium| medium.starts_with("HugePages"))
        });
        if m.mount_path == "/dev/shm" {
            shm = volume.empty_dir.as_ref().and_then(|e| e.size_limit.clone());
        } else if huge || (volume.host_path.is_some() && pointed_at(&m.mount_path, env)) {
            if !volumes.iter().any(|v: &Volume| v.name == volume.name) {
                volumes.push((*volume).clone());
            }
            mounts.push(m.clone());
        }
    }
    // The size of the workload's, so that the test shows the same defect; else all the pod may have.
    volumes.push(empty("shm", Some("Memory"), shm));
    mounts.push(mount("shm", "/dev/shm"));
    (volumes, mounts)
}

/// A device, or a path that a setting names.
fn pointed_at(path: &str, env: &[EnvVar]) -> bool {
    let path = path.trim_end_matches('/');
    if path.starts_with("/dev/") {
        return true;
    }
    let parts = env.iter().filter_map(|e| e.value.as_deref());
    parts.flat_map(|v| v.split([':', ','])).any(|part| {
        !path.is_empty()
            && part
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn empty(name: &str, medium: Option<&str>, size: Option<Quantity>) -> Volume {
    Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(str::to_owned),
            size_limit: size,
        }),
        ..Volume::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        ..VolumeMount::default()
    }
}

/// Claims for devices that a template makes anew for each pod; one that is shared is the workload's.
fn claims(
    like: &Like<'_>,
    warnings: &mut Vec<String>,
) -> (Option<Vec<PodResourceClaim>>, Option<Vec<ResourceClaim>>) {
    let spec = like.pod.spec.as_ref();
    let all = spec.and_then(|s| s.resource_claims.as_ref());
    let mut kept = Vec::new();
    for claim in all.into_iter().flatten() {
        if claim.resource_claim_template_name.is_some() {
            kept.push(claim.clone());
        } else {
            warnings.push(format!(
                "the claim {} belongs to the workload and is not copied",
                claim.name
            ));
        }
    }
    if kept.is_empty() {
        return (None, None);
    }
    let own = like.container.resources.as_ref();
    let own = own.and_then(|r| r.claims.clone()).map(|own| {
        own.into_iter()
            .filter(|c| kept.iter().any(|k| k.name == c.name))
            .collect()
    });
    (Some(kept), own)
}
