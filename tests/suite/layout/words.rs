//! What the words of a command line say: flags, scripts, launchers.

use ncclscope::parse::vllm::{Command, Ray};

/// Reads a command line where these variables are known.
fn read(argv: &[&str], known: &[(&str, &str)]) -> Command {
    Command::read(argv.iter().copied(), &|name| {
        let found = known.iter().find(|(n, _)| *n == name);
        found.map(|(_, v)| (*v).to_owned())
    })
}

/// A Ray worker that looks for its head there.
fn worker_of(head: &str) -> Option<Ray> {
    let head = Some(head.into());
    Some(Ray::Worker { head })
}

fn told(c: &Command, names: &[&str]) -> Vec<String> {
    let value = |n: &&str| c.settings.get(n).unwrap_or("-").to_owned();
    names.iter().map(value).collect()
}

/// Every spelling of 4.5, for every size.
#[test]
fn flags_in_all_their_spellings() {
    let flags = [
        ("tensor_parallel_size", "tp"),
        ("pipeline_parallel_size", "pp"),
        ("decode_context_parallel_size", "dcp"),
        ("prefill_context_parallel_size", "pcp"),
        ("data_parallel_size", "dp"),
        ("data_parallel_size_local", "dpl"),
        ("data_parallel_rank", "dpn"),
        ("data_parallel_start_rank", "dpr"),
        ("data_parallel_address", "dpa"),
        ("data_parallel_rpc_port", "dpp"),
        ("nnodes", "n"),
        ("node_rank", "r"),
    ];
    for (long, short) in flags {
        let dashed = long.replace('_', "-");
        for words in [
            vec![format!("--{dashed}"), "4".into()],
            vec![format!("--{dashed}=4")],
            vec![format!("--{long}"), "4".into()],
            vec![format!("--{long}=4")],
            vec![format!("-{short}"), "4".into()],
            vec![format!("-{short}=4")],
        ] {
            let mut argv = vec!["vllm", "serve", "/models/m"];
            argv.extend(words.iter().map(String::as_str));
            argv.extend(["--headless", "--port", "8000"]);
            let c = read(&argv, &[]);
            assert_eq!(c.settings.get(long), Some("4"), "{words:?}");
            assert_eq!(c.settings.get("model"), Some("/models/m"), "{words:?}");
            assert_eq!(c.settings.get("port"), Some("8000"), "{words:?}");
            assert!(c.vllm, "{words:?}");
        }
    }
    // A switch takes no value, and can be taken back.
    let c = read(
        &[
            "vllm",
            "serve",
            "--headless",
            "-ep",
            "/models/m",
            "--no-enable-eplb",
        ],
        &[],
    );
    assert_eq!(
        told(
            &c,
            &["model", "headless", "enable_expert_parallel", "enable_eplb"]
        ),
        ["/models/m", "true", "true", "False"]
    );
}

/// What shells make of start scripts: continuation, quotes, variables, defaults, arithmetic, branches.
#[test]
fn start_scripts_are_read_as_a_shell_would() {
    let names = [
        "tensor_parallel_size",
        "node_rank",
        "master_addr",
        "data_parallel_start_rank",
    ];
    let script = r#"
        set -euo pipefail   # vllm serve /not/this --tensor-parallel-size 99
        export TP=8
        DP_LOCAL=${DP_LOCAL:-2}
        START=$(( ${LWS_WORKER_INDEX:-0} * DP_LOCAL ))
        python3 /opt/wait.py --node-rank 77 && echo "ready; go" | tee /dev/null
        exec vllm serve "/models/m" \
          --tensor-parallel-size "$TP" --node-rank=$LWS_WORKER_INDEX \
          --master-addr ${LWS_LEADER_ADDRESS} --data-parallel-start-rank $START 2>&1
    "#;
    let lws = [
        ("LWS_WORKER_INDEX", "3"),
        ("LWS_LEADER_ADDRESS", "llm-0.llm.prod"),
    ];
    for shell in [
        &["sh", "-c"][..],
        &["/bin/bash", "-lc"],
        &["bash", "-x", "-c"],
    ] {
        let argv: Vec<&str> = shell.iter().copied().chain([script]).collect();
        let c = read(&argv, &lws);
        assert_eq!(
            told(&c, &names),
            ["8", "3", "llm-0.llm.prod", "6"],
            "{shell:?}"
        );
        assert_eq!(c.settings.get("model"), Some("/models/m"));
        // What is not known stays as it is written.
        let c = read(&argv, &[]);
        assert_eq!(c.settings.get("node_rank"), Some("$LWS_WORKER_INDEX"));
        assert_eq!(c.settings.get("tensor_parallel_size"), Some("8"));
    }
    // Only the branch that this pod takes.
    let script = "if [ \"$LWS_WORKER_INDEX\" -eq 0 ]; then\n vllm serve /m -dp 4 -dpl 2\nelse\n vllm serve /m -dp 4 -dpl 2 --headless -dpr $((LWS_WORKER_INDEX*2))\nfi";
    let head = read(&["sh", "-c", script], &[("LWS_WORKER_INDEX", "0")]);
    assert_eq!(
        told(&head, &["headless", "data_parallel_start_rank"]),
        ["-", "-"]
    );
    let worker = read(&["sh", "-c", script], &[("LWS_WORKER_INDEX", "1")]);
    assert_eq!(
        told(&worker, &["headless", "data_parallel_start_rank"]),
        ["true", "2"]
    );
    // Kubernetes expands what stands in parentheses, and nothing else.
    let c = read(
        &[
            "vllm",
            "serve",
            "/m",
            "--node-rank=$(INDEX)",
            "--master-addr",
            "$(NOBODY).svc",
            "--served-model-name",
            "$$(INDEX)",
        ],
        &[("INDEX", "1")],
    );
    assert_eq!(
        told(&c, &["node_rank", "master_addr", "served_model_name"]),
        ["1", "$(NOBODY).svc", "$(INDEX)"]
    );
    // The ordinal of a StatefulSet's pod.
    let c = read(
        &["sh", "-c", "vllm serve /m --node-rank ${HOSTNAME##*-}"],
        &[("HOSTNAME", "llm-12")],
    );
    assert_eq!(c.settings.get("node_rank"), Some("12"));
    // An image whose entry point is a shell.
    let c = read(&["vllm serve /m --tensor-parallel-size=2"], &[]);
    assert_eq!(told(&c, &["model", "tensor_parallel_size"]), ["/m", "2"]);
}

#[test]
fn launchers_are_understood() {
    let c = read(
        &[
            "torchrun",
            "--nnodes=2",
            "--nproc_per_node",
            "8",
            "--node-rank",
            "1",
            "--rdzv-endpoint=job-0.job:29500",
            "run.py",
            "--tensor-parallel-size",
            "16",
            "--distributed-executor-backend=external_launcher",
        ],
        &[],
    );
    let t = c.torchrun.as_ref().unwrap();
    assert_eq!(
        (
            t.nodes.as_deref(),
            t.per_node.as_deref(),
            t.node_rank.as_deref()
        ),
        (Some("2"), Some("8"), Some("1"))
    );
    assert_eq!(
        (t.master.as_deref(), t.port.as_deref()),
        (Some("job-0.job"), Some("29500"))
    );
    assert_eq!(
        told(
            &c,
            &["tensor_parallel_size", "distributed_executor_backend"]
        ),
        ["16", "external_launcher"]
    );

    let head = "bash /vllm-workspace/examples/online_serving/multi-node-serving.sh leader --ray_cluster_size=$(LWS_GROUP_SIZE); vllm serve meta-llama/X --port 8080 --tensor-parallel-size 8 --pipeline_parallel_size 2";
    let c = read(&["sh", "-c", head], &[("LWS_GROUP_SIZE", "2")]);
    assert_eq!(
        c.ray,
        Some(Ray::Head {
            nodes: Some("2".into())
        })
    );
    assert_eq!(
        told(
            &c,
            &["tensor_parallel_size", "pipeline_parallel_size", "port"]
        ),
        ["8", "2", "8080"]
    );
    let worker = "bash /vllm-workspace/examples/online_serving/multi-node-serving.sh worker --ray_address=$(LWS_LEADER_ADDRESS)";
    let c = read(
        &["sh", "-c", worker],
        &[("LWS_LEADER_ADDRESS", "llm-0.llm")],
    );
    assert_eq!(c.ray, worker_of("llm-0.llm"));

    let c = read(
        &[
            "sh",
            "-c",
            "ray start --head --port=6379 --num-gpus=8 && vllm serve /m -tp 16 --distributed-executor-backend ray",
        ],
        &[],
    );
    assert_eq!(c.ray, Some(Ray::Head { nodes: None }));
    // Ray's port is not the server's.
    assert_eq!(told(&c, &["tensor_parallel_size", "port"]), ["16", "-"]);
    let c = read(
        &["ray", "start", "--address=10.42.0.4:6379", "--block"],
        &[],
    );
    assert_eq!(c.ray, worker_of("10.42.0.4"));

    let c = read(
        &[
            "python3",
            "examples/offline_inference/data_parallel.py",
            "--model=/m",
            "--dp-size=4",
            "--tp-size",
            "2",
            "--node-size=2",
            "--node-rank=1",
            "--master-addr=10.0.0.1",
        ],
        &[],
    );
    assert_eq!(
        told(
            &c,
            &[
                "data_parallel_size",
                "tensor_parallel_size",
                "nnodes",
                "node_rank",
                "master_addr"
            ]
        ),
        ["4", "2", "2", "1", "10.0.0.1"]
    );
}

/// A folder or a package of that name starts nothing: what comes after it is what counts.
#[test]
fn the_name_alone_starts_nothing() {
    for before in ["cd /opt/vllm", "pip install vllm", "ls -l /usr/bin/vllm"] {
        let script = format!("{before} && python own.py --tensor-parallel-size 8");
        let c = read(&["sh", "-c", &script], &[]);
        assert!(!c.vllm, "{script}");
        assert_eq!(told(&c, &["tensor_parallel_size"]), ["8"], "{script}");
    }
}

/// Whatever stands in a command line: it is read or not, it never ends us.
#[test]
fn hostile_scripts_are_only_text() {
    let deep = "$((".repeat(200) + &"(".repeat(500);
    let doubling = (0..64)
        .map(|i| format!("V{}=$V{i}$V{i}\n", i + 1))
        .collect::<String>();
    for script in [
        deep.as_str(),
        &format!("V0=aaaa\n{doubling}vllm serve /m -tp $V64"),
        "if if if else elif fi fi fi then vllm serve",
        "vllm serve \"unterminated -tp 4",
        "vllm serve $(a (b) -tp `x -pp ${Y -dp $((1/0)) \\",
        "sh -c 'sh -c \"sh -c sh -c vllm serve\"'",
        "vllm serve /m -tp $((9223372036854775807 + 1)) -pp $((5 / 0))",
        "ü${ü}$(ü)`ü`'ü",
    ] {
        let c = read(&["sh", "-c", script], &[]);
        assert!(c.settings.pairs.iter().all(|(_, v)| v.len() < 64 * 1024));
    }
}
