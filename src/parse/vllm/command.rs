//! Command lines of containers: what Kubernetes and a shell make of them, and what they start.
//!
//! Nothing is run. What can't be known from outside stays as it is written, with its `$`, and is no value.

mod shell;

use std::collections::BTreeMap;

use super::Settings;

/// Shells inside shells that are followed.
const DEPTH: usize = 3;
/// Variables that a script may set.
const NAMES: usize = 256;

/// What a command line starts, and what it tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// Arguments of vLLM.
    pub settings: Settings,
    /// It starts vLLM in words that are understood; else the settings are those of a program that is not known.
    pub vllm: bool,
    /// Arguments of torchrun.
    pub torchrun: Option<Torchrun>,
    /// What it does for a Ray cluster.
    pub ray: Option<Ray>,
    /// Variables that it sets on the way, by name.
    pub env: BTreeMap<String, String>,
}

/// How torchrun is told to spread its processes; values as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Torchrun {
    /// `--nnodes`; of `MIN:MAX` the least.
    pub nodes: Option<String>,
    /// `--nproc-per-node`.
    pub per_node: Option<String>,
    /// `--node-rank`.
    pub node_rank: Option<String>,
    /// `--master-addr`, else the host of `--rdzv-endpoint`.
    pub master: Option<String>,
    /// `--master-port`, else the port of `--rdzv-endpoint`.
    pub port: Option<String>,
}

/// Part in a Ray cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ray {
    /// `ray start --head`, or the leader's part of vLLM's multi-node script.
    Head {
        /// Nodes that it waits for.
        nodes: Option<String>,
    },
    /// `ray start --address=…`, or the worker's part.
    Worker {
        /// Address of the head, without port.
        head: Option<String>,
    },
}

/// Whether a value is one, rather than words that somebody still has to expand.
#[must_use]
pub fn is_known(value: &str) -> bool {
    !value.is_empty() && !value.contains(['$', '`'])
}

impl Command {
    /// Reads command and arguments of a container. `known` gives the value of a variable of its environment.
    pub fn read<'a>(
        argv: impl IntoIterator<Item = &'a str>,
        known: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let words: Vec<String> = argv
            .into_iter()
            .map(|w| shell::references(w, known))
            .collect();
        let mut reader = Reader {
            known,
            set: BTreeMap::new(),
            out: Self::default(),
            loose: Vec::new(),
        };
        reader.command(&words, 0);
        let Reader { mut out, loose, .. } = reader;
        if !out.vllm && out.ray.is_none() {
            for words in &loose {
                out.settings.flags(words, false);
            }
        }
        out
    }

    /// References to variables in the value of another, as Kubernetes expands them.
    pub fn expand(value: &str, known: &dyn Fn(&str) -> Option<String>) -> String {
        shell::references(value, known)
    }
}

struct Reader<'a> {
    known: &'a dyn Fn(&str) -> Option<String>,
    /// Variables that the script has set; nothing: set to what is not known here.
    set: BTreeMap<String, Option<String>>,
    out: Command,
    /// Commands that start nothing that is known.
    loose: Vec<Vec<String>>,
}

/// Last part of a path.
fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// `NAME=value`.
fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named = !name.is_empty()
        && name.chars().all(good)
        && !name.starts_with(|c: char| c.is_ascii_digit());
    named.then_some((name, value))
}

impl Reader<'_> {
    fn value(&self, name: &str) -> Option<String> {
        match self.set.get(name) {
            Some(value) => value.clone(),
            None => (self.known)(name),
        }
    }

    fn assign(&mut self, name: &str, value: &str, sure: bool) {
        if self.set.len() >= NAMES && !self.set.contains_key(name) {
            return;
        }
        let known = sure && is_known(value);
        self.set
            .insert(name.to_owned(), known.then(|| value.to_owned()));
        if known {
            self.out.env.insert(name.to_owned(), value.to_owned());
        } else {
            self.out.env.remove(name);
        }
    }

    /// One command, its words as the program would get them.
    fn command(&mut self, words: &[String], depth: usize) {
        for (i, w) in words.iter().enumerate() {
            let rest = words.get(i + 1..).unwrap_or_default();
            let next = rest.first().map(String::as_str);
            match base(w) {
                "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" if depth < DEPTH => {
                    let at = rest.iter().position(|f| {
                        f.starts_with('-') && !f.starts_with("--") && f.contains('c')
                    });
                    if let Some(script) = at.and_then(|at| rest.get(at + 1)) {
                        return self.script(script, depth + 1);
                    }
                }
                "vllm"
                    if matches!(
                        next,
                        Some("serve" | "bench" | "chat" | "complete" | "run-batch")
                    ) =>
                {
                    return self.vllm(rest, true);
                }
                // Elsewhere it is a name of something: `cd /opt/vllm`, `pip install vllm`.
                "vllm" if i == 0 => return self.vllm(rest, false),
                "torchrun" => return self.torchrun(rest),
                "ray" if next == Some("start") => return self.ray(rest),
                "multi-node-serving.sh" | "multi_node_serving.sh" => return self.multi_node(rest),
                "api_server.py" => return self.vllm(rest, false),
                script if script.starts_with("data_parallel") && script.ends_with(".py") => {
                    return self.vllm(&offline(rest), false);
                }
                "-m" => match next {
                    Some(module) if module.starts_with("vllm.") => {
                        return self.vllm(rest.get(1..).unwrap_or_default(), false);
                    }
                    Some("torch.distributed.run" | "torch.distributed.launch") => {
                        return self.torchrun(rest.get(1..).unwrap_or_default());
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        // The image's own entry point may be a shell that waits for its script.
        let starts = |w: &String| {
            w.contains(char::is_whitespace)
                && ["vllm", "ray start", "torchrun"]
                    .iter()
                    .any(|p| w.contains(p))
        };
        if depth == 0
            && let Some(script) = words.iter().find(|w| starts(w))
        {
            return self.script(script, 1);
        }
        self.loose.push(words.to_vec());
    }

    fn script(&mut self, text: &str, depth: usize) {
        let mut rest = text;
        let mut branches = shell::Branches::default();
        while !rest.is_empty() {
            let (words, after) = shell::command(rest, &|name| self.value(name));
            rest = after;
            let words = branches.step(words);
            let taken = branches.taken();
            if taken == Some(false) {
                continue;
            }
            let exported = words
                .first()
                .is_some_and(|w| matches!(w.as_str(), "export" | "local" | "readonly" | "declare"));
            let mut at = 0;
            for (i, w) in words.iter().enumerate() {
                match assignment(w) {
                    Some((name, value)) => self.assign(name, value, taken == Some(true)),
                    None if exported && (i == 0 || w.starts_with('-')) => {}
                    None => break,
                }
                at = i + 1;
            }
            let words = words.get(at..).unwrap_or_default();
            if !words.is_empty() && !exported {
                self.command(words, depth);
            }
        }
    }

    fn vllm(&mut self, words: &[String], serve: bool) {
        self.out.vllm = true;
        let words = words.get(usize::from(serve)..).unwrap_or_default();
        self.out.settings.flags(words, serve);
    }

    fn torchrun(&mut self, words: &[String]) {
        let mut t = Torchrun::default();
        let mut at = 0;
        let mut module = false;
        let mut endpoint = None;
        while let Some(flag) = words.get(at).and_then(|w| w.strip_prefix('-')) {
            let flag = flag.trim_start_matches('-');
            let (name, given) = match flag.split_once('=') {
                Some((n, v)) => (n, Some(v.to_owned())),
                None => (flag, None),
            };
            let name = name.replace('_', "-");
            at += 1;
            if matches!(name.as_str(), "standalone" | "no-python" | "run-path") {
                continue;
            }
            if matches!(name.as_str(), "m" | "module") {
                module = true;
                break;
            }
            let value = given.or_else(|| {
                at += 1;
                words.get(at - 1).cloned()
            });
            match name.as_str() {
                "nnodes" => t.nodes = value.map(|v| v.split(':').next().unwrap_or(&v).to_owned()),
                "nproc-per-node" => t.per_node = value,
                "node-rank" => t.node_rank = value,
                "master-addr" => t.master = value,
                "master-port" => t.port = value,
                "rdzv-endpoint" => endpoint = value,
                _ => {}
            }
        }
        if let Some(endpoint) = endpoint {
            let (host, port) = match endpoint.rsplit_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port.to_owned())),
                None => (endpoint, None),
            };
            t.master.get_or_insert(host);
            t.port = t.port.or(port);
        }
        self.out.torchrun = Some(t);
        // The script or module, then what is meant for it.
        let vllm = words.get(at).is_some_and(|w| w.contains("vllm"));
        let rest = words.get(at + 1..).unwrap_or_default();
        if module && vllm {
            self.out.vllm = true;
        }
        self.out.settings.flags(rest, false);
    }

    fn ray(&mut self, words: &[String]) {
        let value = |name: &str| {
            words.iter().enumerate().find_map(|(i, w)| {
                let flag = w.strip_prefix("--")?.strip_prefix(name)?;
                match flag.strip_prefix('=') {
                    Some(v) => Some(v.to_owned()),
                    None if flag.is_empty() => words.get(i + 1).cloned(),
                    None => None,
                }
            })
        };
        if words.iter().any(|w| w == "--head") {
            self.out.ray = Some(Ray::Head { nodes: None });
        } else {
            self.out.ray = Some(Ray::Worker {
                head: value("address").map(|a| host(&a)),
            });
        }
    }

    /// vLLM's own script: `leader --ray_cluster_size=N`, `worker --ray_address=A`.
    fn multi_node(&mut self, words: &[String]) {
        let value = |name: &str| {
            words.iter().enumerate().find_map(|(i, w)| {
                let flag = w.strip_prefix("--")?.replace('-', "_");
                let (n, v) = match flag.split_once('=') {
                    Some((n, _)) => (n.to_owned(), w.split_once('=').map(|(_, v)| v.to_owned())),
                    None => (flag.clone(), words.get(i + 1).cloned()),
                };
                (n == name).then_some(v)?
            })
        };
        self.out.ray = match words.first().map(String::as_str) {
            Some("leader") => Some(Ray::Head {
                nodes: value("ray_cluster_size"),
            }),
            Some("worker") => Some(Ray::Worker {
                head: value("ray_address").map(|a| host(&a)),
            }),
            _ => return,
        };
    }
}

/// The address without its port.
fn host(address: &str) -> String {
    match address.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host.to_owned(),
        _ => address.to_owned(),
    }
}

/// Flags of vLLM's offline example under the names of the engine.
fn offline(words: &[String]) -> Vec<String> {
    words
        .iter()
        .map(|w| {
            let name = w.split('=').next().unwrap_or(w);
            let long = match name.replace('_', "-").as_str() {
                "--dp-size" => "--data-parallel-size",
                "--tp-size" => "--tensor-parallel-size",
                "--pp-size" => "--pipeline-parallel-size",
                "--node-size" => "--nnodes",
                _ => return w.clone(),
            };
            w.replacen(name, long, 1)
        })
        .collect()
}
