//! Probes: every script is run for real, on stub tools and folders of our own, by the shells that images have.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ncclscope::parse::probe::{Answer, Link, Reached, answer};
use ncclscope::rules::probes::{PROBES, get};

/// Shells of images: Debian's and Ubuntu's `sh` is dash, others have bash.
const SHELLS: [&str; 2] = ["dash", "bash"];

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(place.path("bin")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A tool that the script finds first.
    fn tool(&self, name: &str, script: &str) {
        self.file(&format!("bin/{name}"), format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(
            self.path(&format!("bin/{name}")),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
    }

    /// Only these tools of the system, beside our own.
    fn only(&self, tools: &[&str]) {
        for t in tools {
            let found = ["/usr/bin", "/bin"]
                .iter()
                .map(|d| Path::new(d).join(t))
                .find(|p| p.exists());
            if let Some(found) = found {
                let _ = symlink(found, self.path(&format!("bin/{t}")));
            }
        }
    }

    /// Runs a probe's script; its path begins with our folder.
    fn run(&self, shell: &str, probe: &str, args: &[&str], path: &str) -> String {
        let script = get(probe).unwrap().script;
        // The script adds the usual folders behind PATH: where tools must be absent, that is taken away.
        let script = if path.is_empty() {
            script.replace(
                ":/usr/sbin:/sbin:/usr/local/nvidia/bin:/usr/local/cuda/bin",
                "",
            )
        } else {
            script.to_owned()
        };
        let shell = ["/usr/bin", "/bin"]
            .iter()
            .map(|d| Path::new(d).join(shell))
            .find(|p| p.exists())
            .unwrap();
        let own = self.at("bin");
        let path = if path.is_empty() {
            own
        } else {
            format!("{own}:{path}")
        };
        let out = Command::new(shell)
            .arg("-c")
            .arg(script)
            .arg("ncclscope")
            .args(args)
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.at("home"))
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{probe}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert_eq!(
            String::from_utf8_lossy(&out.stderr),
            "",
            "{probe} says nothing beside its answer"
        );
        String::from_utf8(out.stdout).unwrap()
    }
}

fn shells() -> impl Iterator<Item = &'static str> {
    SHELLS.into_iter().filter(|s| {
        ["/usr/bin", "/bin"]
            .iter()
            .any(|d| Path::new(d).join(s).exists())
    })
}

const SYSTEM: &str = "/usr/local/bin:/usr/bin:/bin";
const BASICS: &[&str] = &[
    "sh", "cat", "tr", "head", "tail", "cut", "sort", "sed", "grep", "stat", "id", "dirname", "wc",
    "od", "timeout", "df", "date", "getent",
];

#[test]
fn gpus_are_counted_and_their_errors_read() {
    let p = Place::new();
    p.tool(
        "nvidia-smi",
        r#"case $1 in
-L) echo 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aa)'; echo 'GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bb)' ;;
--query-gpu=*) echo '0, 00000000:1B:00.0, 0'; echo '1, 00000000:1C:00.0, 3' ;;
--query-remapped-rows=*) echo '00000000:1B:00.0, 0, No, No'; echo '00000000:1C:00.0, 1, Yes, No' ;;
esac"#,
    );
    for shell in shells() {
        let Some(Answer::Gpus(g)) = answer("gpus", &p.run(shell, "gpus", &[], SYSTEM)) else {
            panic!("{shell}")
        };
        assert_eq!(g.count(), Some(2), "{shell}");
        assert_eq!(g.list[1].uuid, "GPU-bb");
        assert_eq!(g.ecc[1].uncorrected, Some(3));
        assert!(g.remap[1].pending && !g.remap[0].pending);
    }
    // A tool that fails is no GPU less: it is not known.
    p.tool(
        "nvidia-smi",
        "echo 'Failed to initialize NVML: Unknown Error'; exit 255",
    );
    for shell in shells() {
        let Some(Answer::Gpus(g)) = answer("gpus", &p.run(shell, "gpus", &[], SYSTEM)) else {
            panic!("{shell}")
        };
        assert_eq!(g.count(), None, "{shell}");
        assert!(
            g.trouble[0].why.contains("Failed to initialize NVML"),
            "{g:?}"
        );
    }
    let bare = Place::new();
    bare.only(BASICS);
    for shell in shells() {
        let Some(Answer::Gpus(g)) = answer("gpus", &bare.run(shell, "gpus", &[], "")) else {
            panic!("{shell}")
        };
        assert!(
            g.trouble[0].why.contains("nvidia-smi is not there"),
            "{g:?}"
        );
    }
}

#[test]
fn refused_is_reached_and_a_name_that_is_none_is_told() {
    // A port on which nothing listens: bound, then let go.
    let port = {
        let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        l.local_addr().unwrap().port().to_string()
    };
    let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let open_port = open.local_addr().unwrap().port().to_string();
    let bare = Place::new();
    bare.only(BASICS);
    bare.only(&["bash"]);
    for (path, tool) in [(SYSTEM, "python3"), ("", "bash")] {
        for shell in shells() {
            let place = &bare;
            let out = place.run(
                shell,
                "reach",
                &["no-such-name.invalid", &port, "127.0.0.1"],
                path,
            );
            let Some(Answer::Reach(r)) = answer("reach", &out) else {
                panic!("{shell}")
            };
            if tool == "python3" && r.tool.as_deref() != Some("python3") {
                continue;
            }
            assert_eq!(r.tool.as_deref(), Some(tool), "{out}");
            assert_eq!(r.tcp[0].what, Reached::Refused, "{out}");
            assert!(matches!(r.resolved, Some(Err(_))), "{out}");
            let out = place.run(
                shell,
                "reach",
                &["localhost", &open_port, "127.0.0.1"],
                path,
            );
            let Some(Answer::Reach(r)) = answer("reach", &out) else {
                panic!("{shell}")
            };
            assert_eq!(r.tcp[0].what, Reached::Open, "{out}");
            assert!(matches!(&r.resolved, Some(Ok(l)) if !l.is_empty()), "{out}");
        }
    }
    let none = Place::new();
    none.only(&["sh", "tr"]);
    for shell in shells() {
        let out = none.run(shell, "reach", &["", &port, "127.0.0.1"], "");
        let Some(Answer::Reach(r)) = answer("reach", &out) else {
            panic!("{shell}")
        };
        assert_eq!((r.tool.as_deref(), r.tcp.len()), (Some("none"), 0), "{out}");
    }
}

/// A safetensors file: a head and so many bytes of tensors.
fn safetensors(bytes: usize, cut: usize) -> Vec<u8> {
    let head = format!(
        r#"{{"__metadata__":{{"format":"pt"}},"a":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#
    );
    let mut out = (head.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(head.as_bytes());
    out.extend(std::iter::repeat_n(7u8, bytes - cut));
    out
}

const INDEX: &str = r#"{"metadata":{},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;

#[test]
fn a_model_is_compared_with_its_index() {
    let p = Place::new();
    p.file("m/config.json", "{}");
    p.file("m/tokenizer.json", "{}");
    p.file("m/model.safetensors.index.json", INDEX);
    p.file("m/model-00001-of-00002.safetensors", safetensors(100, 0));
    let bare = Place::new();
    bare.only(BASICS);
    for (place, path, python) in [(&p, SYSTEM, true), (&bare, "", false)] {
        for shell in shells() {
            let out = place.run(shell, "model-files", &[&p.at("m")], path);
            let Some(Answer::Model(m)) = answer("model-files", &out) else {
                panic!("{shell}")
            };
            assert_eq!(m.shards.len(), 2, "{out}");
            assert_eq!(m.files.len(), 4, "{out}");
            let head = &m.heads["model-00001-of-00002.safetensors"];
            assert!(head.length > 20 && !head.bad, "{out}");
            assert_eq!(head.end, python.then_some(100), "{out}");
            let said: Vec<String> = ncclscope::rules::modelfiles::problems(&m)
                .into_iter()
                .map(|p| p.text)
                .collect();
            assert!(
                said.iter()
                    .any(|t| t.contains("1 of 2 shards") && t.contains("model-00002")),
                "{said:?}"
            );
        }
    }
}

/// What tells how much the weights weigh, and nothing else of the configuration.
#[test]
fn the_weights_are_told_by_index_files_and_config() {
    use ncclscope::rules::modelsize::{Basis, weights};
    const CONFIG: &str = r#"{"model_type": "mixtral", "hidden_act": "silu", "hidden_size": 4096, "head_dim": null,
        "intermediate_size": 14336, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "num_local_experts": 8, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 32000,
        "auto_map": {"AutoConfig": "hidden--secret"}}"#;
    let whole = INDEX.replace("{}", r#"{"total_size": 93405585408}"#);
    for (index, shards, want) in [
        (whole.as_str(), 1, (Basis::Index, 93_405_585_408)),
        (INDEX, 2, (Basis::Files, 200)),
        // A shard is missing: what the files weigh is not what the model weighs.
        (INDEX, 1, (Basis::Config, 93_405_052_928)),
    ] {
        for (path, place) in [(SYSTEM, Place::new()), ("", Place::new())] {
            if path.is_empty() {
                place.only(BASICS);
            }
            place.file("m/config.json", CONFIG);
            place.file("m/tokenizer.json", "{}");
            place.file("m/model.safetensors.index.json", index);
            for i in 1..=shards {
                let name = format!("m/model-0000{i}-of-00002.safetensors");
                place.file(&name, safetensors(100, 0));
            }
            for shell in shells() {
                let out = place.run(shell, "model-files", &[&place.at("m")], path);
                let Some(Answer::Model(m)) = answer("model-files", &out) else {
                    panic!("{shell}: {out}")
                };
                assert_eq!(weights(&m), Some(want), "{shell} {path}: {out}");
                assert!(!out.contains("secret") && !out.contains("mixtral"), "{out}");
            }
        }
    }
}

#[test]
fn broken_files_of_every_kind_are_told() {
    use ncclscope::rules::modelfiles::{Weight, problems};
    let p = Place::new();
    p.file("m/config.json", "{\"a\": ");
    p.file("m/tokenizer.model", "x");
    p.file("m/model.safetensors", safetensors(100, 40));
    p.file(
        "m/other.safetensors",
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    );
    p.file("m/x.incomplete", "x");
    symlink("nowhere", p.path("m/gone.safetensors")).unwrap();
    for shell in shells() {
        let out = p.run(shell, "model-files", &[&p.at("m")], SYSTEM);
        let Some(Answer::Model(m)) = answer("model-files", &out) else {
            panic!("{shell}")
        };
        let said: Vec<String> = problems(&m)
            .into_iter()
            .filter(|p| p.weight > Weight::Note)
            .map(|p| p.text)
            .collect();
        for word in [
            "git-lfs",
            "gone.safetensors",
            "did not end",
            "model.safetensors has",
            "config.json can't be read",
        ] {
            assert!(
                said.iter().any(|t| t.contains(word)),
                "{word}: {said:?}\n{out}"
            );
        }
        let out = p.run(shell, "model-files", &[&p.at("not-there")], SYSTEM);
        let Some(Answer::Model(m)) = answer("model-files", &out) else {
            panic!("{shell}")
        };
        assert!(problems(&m)[0].text.contains("not there"), "{out}");
    }
}

#[test]
fn a_model_of_the_hub_is_found_in_its_cache() {
    let p = Place::new();
    let snap = "home/.cache/huggingface/hub/models--org--q/snapshots/abc";
    p.file(&format!("{snap}/config.json"), "{}");
    p.file(
        "home/.cache/huggingface/hub/models--org--q/blobs/1.incomplete",
        "",
    );
    let bare = Place::new();
    bare.only(BASICS);
    for (place, path) in [(&p, SYSTEM), (&bare, "")] {
        if path.is_empty() {
            let _ = symlink(p.path("home"), bare.path("home"));
        }
        for shell in shells() {
            let out = place.run(shell, "model-files", &["org/q"], path);
            let Some(Answer::Model(m)) = answer("model-files", &out) else {
                panic!("{shell}")
            };
            assert!(
                m.at.as_deref()
                    .is_some_and(|a| a.ends_with("snapshots/abc")),
                "{out}"
            );
            assert!(
                m.files.contains_key("config.json") && m.incomplete.len() == 1,
                "{out}"
            );
        }
    }
}

/// Names with line ends, tabs, quotes, escapes and commands in them stay one field, and nothing of them is run.
#[test]
fn hostile_names_stay_names() {
    let p = Place::new();
    let evil = "m/$(touch PWNED) `id` '\"; \n\tfile\t1\tfake\u{1b}[31m.json";
    p.file(evil, "{}");
    p.file("m/config.json", "{}");
    let bare = Place::new();
    bare.only(BASICS);
    for (place, path) in [(&p, SYSTEM), (&bare, "")] {
        for shell in shells() {
            let out = place.run(shell, "model-files", &[&p.at("m")], path);
            assert!(out.lines().all(|l| !l.contains('\u{1b}')), "{out:?}");
            let Some(Answer::Model(m)) = answer("model-files", &out) else {
                panic!("{shell}")
            };
            assert_eq!(m.files.len(), 2, "{out:?}");
            assert!(
                m.files.keys().any(|n| n.starts_with("$(touch PWNED)")),
                "{m:?}"
            );
            // The model's own name may be as hostile.
            let name = "/nowhere/$(touch PWNED)';touch PWNED;'\n/x";
            for probe in ["model-files", "model-access"] {
                place.run(shell, probe, &[name], path);
            }
            place.run(
                shell,
                "reach",
                &["$(touch PWNED);x", "1", "127.0.0.1;touch PWNED"],
                path,
            );
            assert!(!p.path("PWNED").exists() && !Path::new("PWNED").exists());
        }
    }
}

#[test]
fn access_tells_who_we_are_and_what_we_may() {
    let p = Place::new();
    p.file("deep/m/config.json", "{}");
    for shell in shells() {
        let out = p.run(shell, "model-access", &[&p.at("deep/m")], SYSTEM);
        let Some(Answer::Access(a)) = answer("model-access", &out) else {
            panic!("{shell}")
        };
        assert!(a.id.is_some(), "{out}");
        assert_eq!(a.steps.last().map(|s| s.path.as_str()), Some("/"), "{out}");
        assert!(
            a.steps[0].may.contains('r') && a.steps[0].path.ends_with("deep/m"),
            "{out}"
        );
        assert!(
            a.caches
                .iter()
                .any(|c| c.name == "HOME" && c.writable.is_some()),
            "{out}"
        );
    }
}

/// What smells of a secret never leaves the container; what is not on the list is not even named.
#[test]
fn the_environment_passes_an_allow_list() {
    let p = Place::new();
    let env = [
        "NCCL_DEBUG=INFO",
        "HF_TOKEN=hf_verysecret",
        "VLLM_API_KEY=sk-verysecret",
        "RAY_REDIS_PASSWORD=verysecret",
        "HF_ENDPOINT=http://me:verysecret@mirror/x",
        "MY_OWN=verysecret",
        "DATABASE_URL=verysecret",
        "CERT=-----\nNCCL_FAKE=verysecret\n-----",
        "NCCL_WEIRD=a\tb\nc $(touch PWNED)",
        "VLLM_HOST_IP=10.42.0.5",
    ];
    p.file("proc/1/environ", "PATH=/bin\0");
    p.file("proc/1/cmdline", "sleep\0");
    p.file(
        "proc/27/cmdline",
        "/usr/bin/python3\0/usr/local/bin/vllm\0serve\0",
    );
    p.file("proc/27/environ", env.join("\0") + "\0");
    for shell in shells() {
        let out = p.run(shell, "env", &[&p.at("proc")], SYSTEM);
        assert!(
            !out.contains("verysecret") && !out.contains("MY_OWN") && !out.contains("DATABASE"),
            "{out}"
        );
        let Some(Answer::Environment(e)) = answer("env", &out) else {
            panic!("{shell}")
        };
        assert_eq!(e.process.as_ref().map(|p| p.0), Some(27), "{out}");
        assert_eq!(e.vars["NCCL_DEBUG"], "INFO");
        assert_eq!(e.vars["HF_ENDPOINT"], "http://***@mirror/x");
        assert!(
            !e.vars.contains_key("NCCL_FAKE"),
            "a line of another value is no variable"
        );
        assert_eq!(e.vars["NCCL_WEIRD"], "a?b c $(touch PWNED)");
        let secrets: Vec<&str> = e.secrets.iter().map(String::as_str).collect();
        assert_eq!(secrets, ["HF_TOKEN", "RAY_REDIS_PASSWORD", "VLLM_API_KEY"]);
    }
}

#[test]
fn shared_memory_and_limits_are_read() {
    let p = Place::new();
    p.file(
        "proc/1/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max stack size            8388608              unlimited            bytes     \n\
         Max open files            1048576              1048576              files     \n\
         Max locked memory         8388608              8388608              bytes     \n",
    );
    p.file("proc/1/status", "Name:\tvllm\nCapEff:\t00000000a80465fb\n");
    p.file("cg/memory.max", "1000\n");
    p.file("cg/memory.current", "900\n");
    p.file("cg/memory.stat", "anon 500\nfile 300\nshmem 100\n");
    p.file("cg/memory.events", "low 0\noom 1\noom_kill 2\n");
    p.file(
        "cg/memory.pressure",
        "some avg10=1.00 avg60=0\nfull avg10=7.50 avg60=0\n",
    );
    for shell in shells() {
        let out = p.run(shell, "limits", &[&p.at("proc"), &p.at("cg")], SYSTEM);
        let Some(Answer::Limits(l)) = answer("limits", &out) else {
            panic!("{shell}")
        };
        assert_eq!(l.soft["Max locked memory"], Some(8_388_608), "{out}");
        assert_eq!(l.soft["Max open files"], Some(1_048_576));
        assert_eq!(l.ipc_lock(), Some(true));
        assert_eq!((l.memory_max, l.memory_held), (Some(1000), Some(600)));
        assert_eq!((l.oom_kills, l.pressure), (Some(2), Some(7.5)));
        p.tool("df", "echo 'Filesystem 1024-blocks Used Available Capacity Mounted on'; echo 'shm 65536 1024 64512 2% /dev/shm'");
        let Some(Answer::Shm(s)) = answer("shm", &p.run(shell, "shm", &["/dev/shm"], SYSTEM))
        else {
            panic!("{shell}")
        };
        assert_eq!((s.total, s.used, s.free), (65_536, 1024, 64_512));
    }
}

#[test]
fn rdma_is_read_from_sysfs() {
    let p = Place::new();
    let port = "ib/mlx5_0/ports/1";
    p.file(&format!("{port}/state"), "4: ACTIVE\n");
    p.file(&format!("{port}/phys_state"), "5: LinkUp\n");
    p.file(&format!("{port}/rate"), "400 Gb/sec (4X NDR)\n");
    p.file(&format!("{port}/link_layer"), "Ethernet\n");
    p.file(
        &format!("{port}/gids/0"),
        "fe80:0000:0000:0000:0e42:a1ff:fe00:0001\n",
    );
    p.file(
        &format!("{port}/gids/1"),
        "0000:0000:0000:0000:0000:0000:0000:0000\n",
    );
    p.file(
        &format!("{port}/gids/3"),
        "0000:0000:0000:0000:0000:ffff:0a2a:0011\n",
    );
    p.file(&format!("{port}/gid_attrs/types/3"), "RoCE v2\n");
    p.file(&format!("{port}/gid_attrs/ndevs/3"), "net1\n");
    p.file("ib/mlx5_0/device/infiniband_verbs/uverbs0/dev", "");
    p.file("ib/mlx5_0/device/net/net1/mtu", "9000\n");
    p.file("ib/mlx5_9/device/infiniband_verbs/uverbs9/dev", "");
    p.file("dev/uverbs0", "");
    for shell in shells() {
        let out = p.run(shell, "rdma", &[&p.at("ib"), &p.at("dev")], SYSTEM);
        let Some(Answer::Rdma(r)) = answer("rdma", &out) else {
            panic!("{shell}")
        };
        assert_eq!(r.usable().collect::<Vec<_>>(), ["mlx5_0"], "{out}");
        assert!(r.ports[0].active());
        assert_eq!(r.ports[0].gigabits(), Some(400.0));
        let v2: Vec<_> = r
            .gids
            .iter()
            .filter_map(|g| Some((g.index, g.ipv4()?)))
            .collect();
        assert_eq!(v2, [(3, "10.42.0.17".to_owned())], "{out}");
        assert_eq!(r.nets[0].2, Some(9000));
    }
}

#[test]
fn the_matrix_of_the_gpus_is_understood_with_its_escapes() {
    let p = Place::new();
    p.tool(
        "nvidia-smi",
        r#"case $1 in
topo) printf '\t\033[4mGPU0\tGPU1\tGPU2\tNIC0\tCPU Affinity\tNUMA Affinity\033[0m\n'
printf 'GPU0\t X \tNV18\tSYS\tPIX\t0-47\t0\nGPU1\tNV18\t X \tPHB\tSYS\t0-47\t0\nGPU2\tSYS\tPHB\t X \tSYS\t0-47\t0\nNIC0\tPIX\tSYS\tSYS\t X \n\nLegend:\n\n  X    = Self\n' ;;
nvlink) printf 'GPU 0: NVIDIA H100 (UUID: GPU-aa)\n\t Link 0: 26.562 GB/s\n\t Link 1: <inactive>\n' ;;
esac"#,
    );
    p.tool("lspci", "printf '\\t\\tACSCtl:\\tSrcValid- TransBlk- ReqRedir- CmpltRedir-\\n\\t\\tACSCtl:\\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+\\n'");
    for shell in shells() {
        let out = p.run(shell, "topo", &[], SYSTEM);
        let Some(Answer::Topology(t)) = answer("topo", &out) else {
            panic!("{shell}")
        };
        assert_eq!(t.link(1, 0), Some(Link::Nvlink(18)), "{out:?}");
        assert_eq!(t.link(0, 2), Some(Link::Sys));
        assert_eq!(t.link(1, 2), Some(Link::Host));
        assert_eq!(t.links.len(), 3, "{t:?}");
        assert_eq!(t.acs, Some((1, 2)), "{out}");
        assert_eq!(t.inactive.len(), 1);
    }
}

#[test]
fn interfaces_versions_memory_and_clock_are_read() {
    let p = Place::new();
    p.file("net/eth0/mtu", "8900\n");
    p.file("net/eth0/operstate", "up\n");
    p.file("net/lo/mtu", "65536\n");
    p.file(
        "route",
        "Iface\tDestination\tGateway\neth0\t00000000\t0101A8C0\n",
    );
    p.tool("ip", "echo '1: lo    inet 127.0.0.1/8 scope host lo'; echo '2: eth0@if9    inet 10.42.0.17/24 brd x scope global eth0'");
    let library = p.at("lib/libnccl.so.2");
    p.file(
        "lib/libnccl.so.2",
        b"\0\x01ELF...NCCL version 2.27.5+cuda12.8\0more".as_slice(),
    );
    p.file(
        "proc/27/maps",
        format!("7f00-7f01 r-xp 00000000 08:01 5 {library}\n"),
    );
    p.file(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.124.06  Wed Feb 26\n",
    );
    p.tool(
        "nvidia-smi",
        r#"case $1 in
--query-gpu=driver_version) echo 570.124.06 ;;
--query-gpu=*) echo '0, GPU-aa, 00000000:1B:00.0, 71000, 81559, 97' ;;
--query-compute-apps=*) echo 'GPU-aa, 4711, 70000, VLLM::Worker_TP0' ;;
esac"#,
    );
    for shell in shells() {
        let out = p.run(shell, "interfaces", &[&p.at("net"), &p.at("route")], SYSTEM);
        let Some(Answer::Interfaces(i)) = answer("interfaces", &out) else {
            panic!("{shell}")
        };
        assert_eq!(i.of("10.42.0.17"), Some("eth0"), "{out}");
        assert_eq!(i.list["eth0"].0, Some(8900));
        assert_eq!(i.default.as_deref(), Some("eth0"));
        let out = p.run(shell, "versions", &[&p.at("proc")], SYSTEM);
        let Some(Answer::Versions(v)) = answer("versions", &out) else {
            panic!("{shell}")
        };
        assert_eq!(
            v.libraries[&library].as_deref(),
            Some("2.27.5+cuda12.8"),
            "{out}"
        );
        assert_eq!(v.driver.as_deref(), Some("570.124.06"));
        let out = p.run(shell, "gpu-memory", &[], SYSTEM);
        let Some(Answer::GpuMemory(m)) = answer("gpu-memory", &out) else {
            panic!("{shell}")
        };
        assert_eq!(m.gpus[0].used_mib, Some(71_000), "{out}");
        assert_eq!(m.apps[0].pid, Some(4711));
        let Some(Answer::Clock(ns)) = answer("clock", &p.run(shell, "clock", &[], SYSTEM)) else {
            panic!("{shell}")
        };
        assert!(ns > 1_700_000_000_000_000_000);
    }
}

/// The whole command as it goes to a container: bounded, with values as arguments.
#[test]
fn the_command_carries_values_as_arguments_alone() {
    for p in PROBES {
        let argv = p.argv(&["$(touch PWNED)".into()]);
        assert_eq!(argv.last().map(String::as_str), Some("$(touch PWNED)"));
        assert!(!argv[..argv.len() - 1].iter().any(|a| a.contains("PWNED")));
        assert!(p.script.len() < 32_000, "{}", p.name);
    }
    let argv = get("clock").unwrap().argv(&[]);
    let out = Command::new(&argv[0]).args(&argv[1..]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(
        matches!(answer("clock", &text), Some(Answer::Clock(_))),
        "{text}"
    );
}
