//! The plan of the all-reduce test: what is created, shown whole, and what is never copied.

use k8s_openapi::api::core::v1::Pod;
use ncclscope::jobs::options::TestArgs;
use ncclscope::jobs::plan::{Plan, PlanError, Wish, plan};

/// A pod of a workload as its users write it, on one node, with `tail` added to its spec.
fn pod(index: u32, gpus: u32, tail: &str) -> Pod {
    let gpu = if gpus == 0 {
        "{}".to_owned()
    } else {
        format!(
            "{{ limits: {{ nvidia.com/gpu: \"{gpus}\", rdma/ib: \"8\", cpu: \"64\", memory: 800Gi }}, requests: {{ cpu: \"32\", memory: 400Gi }} }}"
        )
    };
    let text = format!(
        r#"
metadata:
  name: llm-{index}
  namespace: prod
  labels: {{ app: llm, team: search, kueue.x-k8s.io/queue-name: gpus }}
  annotations:
    k8s.v1.cni.cncf.io/networks: rdma-a,rdma-b
    prometheus.io/scrape: "true"
  ownerReferences: [{{ apiVersion: apps/v1, kind: StatefulSet, name: llm, uid: u1, controller: true }}]
spec:
  nodeName: gpu-{index}
  runtimeClassName: nvidia
  serviceAccountName: llm
  imagePullSecrets: [{{ name: registry }}]
  priorityClassName: high
  nodeSelector: {{ pool: h100 }}
  tolerations:
  - {{ key: nvidia.com/gpu, operator: Exists, effect: NoSchedule }}
  - {{ key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 300 }}
  securityContext: {{ runAsUser: 2000, fsGroup: 2000 }}
  volumes:
  - {{ name: shm, emptyDir: {{ medium: Memory, sizeLimit: 16Gi }} }}
  - {{ name: models, persistentVolumeClaim: {{ claimName: models }} }}
  - {{ name: topo, hostPath: {{ path: /opt/topo }} }}
  containers:
  - name: vllm
    image: vllm/vllm-openai:v0.11.2
    command: [/opt/venv/bin/python3, -m, vllm.entrypoints.openai.api_server]
    args: [--model, m]
    ports: [{{ containerPort: 8000 }}]
    readinessProbe: {{ httpGet: {{ path: /health, port: 8000 }} }}
    env:
    - {{ name: NCCL_IB_HCA, value: mlx5 }}
    - {{ name: NCCL_DEBUG, value: WARN }}
    - {{ name: NCCL_TOPO_FILE, value: /opt/topo/h100.xml }}
    - {{ name: GLOO_SOCKET_IFNAME, value: eth0 }}
    - {{ name: HF_TOKEN, value: hf_secret }}
    - {{ name: NCCL_AUTH_TOKEN, value: secret2 }}
    - {{ name: CUDA_VISIBLE_DEVICES, value: "0" }}
    - {{ name: VLLM_HOST_IP, valueFrom: {{ fieldRef: {{ fieldPath: status.podIP }} }} }}
    - {{ name: UCX_TLS, valueFrom: {{ secretKeyRef: {{ name: s, key: k }} }} }}
    envFrom: [{{ configMapRef: {{ name: tuning }} }}]
    resources: {gpu}
    securityContext: {{ capabilities: {{ add: [IPC_LOCK] }} }}
    volumeMounts:
    - {{ name: shm, mountPath: /dev/shm }}
    - {{ name: models, mountPath: /models }}
    - {{ name: topo, mountPath: /opt/topo, readOnly: true }}
  - {{ name: sidecar, image: envoy }}
{tail}"#
    );
    serde_yaml::from_str(&text).expect("a pod")
}

fn wish() -> Wish {
    Wish {
        run: "r4t7".into(),
        workload: "sts/llm".into(),
        ..Wish::default()
    }
}

fn of(pods: &[Pod], wish: &Wish) -> Plan {
    plan(pods, wish).expect("a plan")
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn the_manifest_is_the_workload_and_nothing_of_it() {
    let plan = of(&[pod(1, 8, ""), pod(0, 8, "")], &wish());
    let warnings: Vec<String> = plan
        .warnings
        .iter()
        .map(|w| format!("# warning: {w}\n"))
        .collect();
    let shown = format!("{}{}", warnings.concat(), plan.yaml(true));
    for secret in [
        "hf_secret",
        "secret2",
        "HF_TOKEN",
        "models",
        "team",
        "high",
        "envoy",
    ] {
        assert!(!shown.contains(secret), "{secret} was copied");
    }
    snapshot("allreduce-manifest", &shown);
    assert_eq!(
        plan.objects(),
        ["job", "service", "configmap"].map(|k| format!("{k}/prod/ncclscope-llm-r4t7"))
    );
    assert_eq!(plan.planned().world(), 16);
}

#[test]
fn the_whole_manifest_can_be_applied() {
    let plan = of(&[pod(0, 8, "")], &wish());
    let text = plan.yaml(false);
    let mut documents = text.split("\n---\n");
    let job: k8s_openapi::api::batch::v1::Job =
        serde_yaml::from_str(documents.next().expect("a job")).expect("a job");
    assert_eq!(job, plan.job);
    let service: k8s_openapi::api::core::v1::Service =
        serde_yaml::from_str(documents.next().expect("a service")).expect("a service");
    assert_eq!(service, plan.service);
    let map: k8s_openapi::api::core::v1::ConfigMap =
        serde_yaml::from_str(documents.next().expect("a map")).expect("a map");
    assert_eq!(map, plan.script);
}

#[test]
fn fewer_pods_and_gpus_but_never_more() {
    let pods = [pod(0, 8, ""), pod(1, 8, "")];
    let few = of(
        &pods,
        &Wish {
            pods: Some(1),
            gpus: Some(2),
            ..wish()
        },
    );
    assert_eq!(
        (few.pods, few.gpus, few.nodes.as_slice()),
        (1, 2, ["gpu-0".to_owned()].as_slice())
    );
    assert_eq!(
        plan(
            &pods,
            &Wish {
                gpus: Some(9),
                ..wish()
            }
        ),
        Err(PlanError::TooManyGpus { asked: 9, has: 8 })
    );
    assert_eq!(
        plan(
            &pods,
            &Wish {
                pods: Some(3),
                ..wish()
            }
        ),
        Err(PlanError::TooMany { asked: 3, has: 2 })
    );
    assert_eq!(
        plan(
            &pods,
            &Wish {
                pods: Some(0),
                ..wish()
            }
        ),
        Err(PlanError::Nothing)
    );
    assert_eq!(plan(&[], &wish()), Err(PlanError::NoPods));
    let more = of(
        &pods,
        &Wish {
            pods: Some(3),
            other_nodes: true,
            ..wish()
        },
    );
    assert!(more.nodes.is_empty());
    let spec = more.job.spec.and_then(|s| s.template.spec).expect("a pod");
    assert_eq!(
        spec.node_selector
            .and_then(|s| s.get("pool").cloned())
            .as_deref(),
        Some("h100")
    );
}

#[test]
fn a_pod_without_gpus_does_not_count_beside_others() {
    let mixed = of(&[pod(0, 0, ""), pod(1, 8, ""), pod(2, 4, "")], &wish());
    assert_eq!((mixed.pods, mixed.gpus), (2, 4));
    assert!(
        mixed
            .warnings
            .iter()
            .any(|w| w.contains("different numbers of GPUs")),
        "{:?}",
        mixed.warnings
    );
    let none = of(&[pod(0, 0, "")], &wish());
    assert_eq!((none.gpus, none.planned().world()), (0, 1));
    assert!(
        none.warnings
            .iter()
            .any(|w| w.contains("gloo on CPU alone"))
    );
}

#[test]
fn a_priority_is_asked_for_and_warned_of() {
    let plain = of(&[pod(0, 8, "")], &wish());
    let asked = of(
        &[pod(0, 8, "")],
        &Wish {
            priority_class: Some("high".into()),
            ..wish()
        },
    );
    let class = |p: &Plan| {
        p.job
            .spec
            .as_ref()
            .and_then(|s| s.template.spec.as_ref()?.priority_class_name.clone())
    };
    assert_eq!(class(&plain), None);
    assert_eq!(class(&asked).as_deref(), Some("high"));
    assert!(
        asked
            .warnings
            .iter()
            .any(|w| w.contains("push other pods off"))
    );
}

#[test]
fn on_the_hosts_network_it_keeps_off_the_workloads_port() {
    let plan = of(&[pod(0, 8, "  hostNetwork: true\n")], &wish());
    let spec = plan.job.spec.and_then(|s| s.template.spec).expect("a pod");
    assert_eq!(spec.dns_policy.as_deref(), Some("ClusterFirstWithHostNet"));
    let env = spec.containers[0].env.clone().unwrap_or_default();
    let port = env
        .iter()
        .find(|e| e.name == "MASTER_PORT")
        .and_then(|e| e.value.clone());
    assert_ne!(port.as_deref(), Some("29500"));
}

/// What measures is another command on the same plan, over one pod.
#[test]
fn nccl_tests_and_the_worker_take_one_pod() {
    let pods = [pod(0, 8, ""), pod(1, 8, "")];
    let of = |line: &str| {
        let args = TestArgs::typed(line).expect("options");
        plan(&pods, &args.wish("r1".into(), "llm"))
    };
    let command = |plan: &Plan| {
        let spec = plan
            .job
            .spec
            .as_ref()
            .and_then(|j| j.template.spec.clone())
            .expect("pods");
        let container = spec.containers.into_iter().next().expect("a container");
        (
            container.image.expect("an image"),
            container.command.expect("a command").join(" "),
        )
    };
    let tests = of("--nccl-tests --max-bytes 4G --gpus 4").expect("a plan");
    assert_eq!((tests.pods, tests.nodes.len()), (1, 1));
    let (image, line) = command(&tests);
    assert_eq!(image, "vllm/vllm-openai:v0.11.2");
    assert!(
        line.contains("all_reduce_perf") && line.ends_with(" sh 4294967296 4"),
        "{line}"
    );
    let (image, line) = command(&of("--worker-image tools:1").expect("a plan"));
    assert_eq!(
        (image.as_str(), line.as_str()),
        ("tools:1", "ncclscope worker")
    );
    let handed = of("--worker").expect("a plan");
    assert!(
        command(&handed)
            .1
            .ends_with(" sh /tmp/ncclscope-worker/ncclscope")
    );
    assert!(
        handed
            .warnings
            .iter()
            .any(|w| w.contains("create pods/exec"))
    );
    let yaml = handed.yaml(true);
    assert!(
        yaml.contains("emptyDir") && yaml.contains("mountPath: /tmp/ncclscope-worker"),
        "{yaml}"
    );
    assert_eq!(of("--worker --pods 2"), Err(PlanError::OnePod { asked: 2 }));
    assert_eq!(of("--nccl-tests --gpus 0"), Err(PlanError::NoGpu));
}

#[test]
fn what_is_typed_after_the_command_is_read_as_on_the_command_line() {
    let args = TestArgs::typed("--gpus 0 --pods 2 --pairs").expect("options");
    assert_eq!((args.gpus, args.pods, args.pairs), (Some(0), Some(2), true));
    let wrong = TestArgs::typed("--gpu 0").expect_err("no such option");
    assert!(wrong.starts_with("unexpected argument '--gpu'"), "{wrong}");
    let both = TestArgs::typed("--pairs --worker").expect_err("not together");
    assert!(both.contains("cannot be used with"), "{both}");
    assert!(TestArgs::typed("--max-bytes 1X").is_err());
}
