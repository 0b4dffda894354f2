//! Engine arguments, from what vLLM prints and from command lines.

use super::scan::{Cur, text};

/// Engine arguments worth keeping, by the long name with underscores; values as written, unquoted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Name and value in the order they were written.
    pub pairs: Vec<(&'static str, String)>,
}

/// Names that are kept, with the short flags and older spellings that mean the same.
const KNOWN: [(&str, &[&str]); 54] = [
    ("model", &["model_tag"]),
    ("served_model_name", &[]),
    ("tokenizer", &[]),
    ("revision", &[]),
    ("download_dir", &[]),
    ("load_format", &[]),
    ("trust_remote_code", &[]),
    ("dtype", &[]),
    ("quantization", &["q"]),
    ("kv_cache_dtype", &[]),
    ("max_model_len", &["max_seq_len"]),
    ("max_num_seqs", &[]),
    ("max_num_batched_tokens", &[]),
    ("gpu_memory_utilization", &[]),
    ("kv_cache_memory_bytes", &[]),
    ("cpu_offload_gb", &[]),
    ("swap_space", &[]),
    ("block_size", &[]),
    ("seed", &[]),
    ("enforce_eager", &[]),
    ("enable_prefix_caching", &[]),
    ("disable_custom_all_reduce", &[]),
    ("disable_nccl_for_dp_synchronization", &[]),
    ("distributed_timeout_seconds", &[]),
    ("cpu_distributed_timeout_seconds", &[]),
    ("tensor_parallel_size", &["tp"]),
    ("pipeline_parallel_size", &["pp"]),
    ("decode_context_parallel_size", &["dcp"]),
    ("prefill_context_parallel_size", &["pcp"]),
    ("data_parallel_size", &["dp"]),
    ("data_parallel_size_local", &["dpl"]),
    ("data_parallel_rank", &["dpn"]),
    ("data_parallel_start_rank", &["dpr"]),
    ("data_parallel_address", &["dpa"]),
    ("data_parallel_rpc_port", &["dpp"]),
    ("data_parallel_backend", &["dpb"]),
    ("data_parallel_hybrid_lb", &["dph"]),
    ("data_parallel_external_lb", &["dpe"]),
    ("data_parallel_multi_port_external_lb", &["dpm"]),
    ("enable_expert_parallel", &["ep"]),
    ("enable_eplb", &[]),
    ("all2all_backend", &[]),
    ("nnodes", &["n"]),
    ("node_rank", &["r"]),
    ("master_addr", &[]),
    ("master_port", &[]),
    ("headless", &[]),
    ("speculative_config", &[]),
    ("distributed_executor_backend", &[]),
    ("worker_use_ray", &["engine_use_ray"]),
    ("api_server_count", &["asc"]),
    ("host", &[]),
    ("port", &[]),
    ("config", &[]),
];

/// Settings that are on by being named.
const SWITCHES: [&str; 12] = [
    "trust_remote_code",
    "enforce_eager",
    "enable_prefix_caching",
    "disable_custom_all_reduce",
    "disable_nccl_for_dp_synchronization",
    "data_parallel_hybrid_lb",
    "data_parallel_external_lb",
    "data_parallel_multi_port_external_lb",
    "enable_expert_parallel",
    "enable_eplb",
    "headless",
    "worker_use_ray",
];

fn known(name: &str) -> Option<&'static str> {
    KNOWN
        .iter()
        .find(|(n, _)| *n == name)
        .or_else(|| {
            KNOWN
                .iter()
                .find(|(_, also)| also.iter().any(|a| a.len() > 3 && *a == name))
        })
        .map(|(n, _)| *n)
}

fn short(name: &str) -> Option<&'static str> {
    KNOWN
        .iter()
        .find(|(_, also)| also.contains(&name))
        .map(|(n, _)| *n)
}

impl Settings {
    /// The value of a setting by its long name with underscores.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .rev()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v.as_str())
    }

    /// A setting that is a whole number.
    #[must_use]
    pub fn num(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// A switch: on, off, or not said.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            "True" | "true" | "1" | "" => Some(true),
            "False" | "false" | "0" => Some(false),
            _ => None,
        }
    }

    fn push(&mut self, name: &'static str, value: String) {
        // `None` in a printed configuration means that nothing was said.
        if value != "None" {
            self.pairs.push((name, value));
        }
    }

    /// Reads a printed Python dict, Namespace or configuration (`'a': 1, b='x', c={…}`); what is nested in
    /// values is not looked at.
    #[must_use]
    pub fn from_python(printed: &[u8]) -> Self {
        let mut out = Self::default();
        let mut c = Cur::new(printed);
        while !c.rest.is_empty() {
            c.while_(|b| !(b.is_ascii_alphabetic() || b == b'\'' || b == b'"' || b == b'_'));
            let quoted = c.eat("'") || c.eat("\"");
            let Some(name) = c.name() else {
                continue;
            };
            let is_key = if quoted {
                (c.eat("'") || c.eat("\"")) && c.eat(":")
            } else {
                c.eat("=")
            };
            if !is_key {
                continue;
            }
            c.blanks();
            let value = value(&mut c);
            if let Some(n) = std::str::from_utf8(name).ok().and_then(known) {
                out.push(n, unquote(value));
            }
        }
        out
    }

    /// Reads a command line: `vllm serve MODEL --tensor-parallel-size 8 -pp=2 …`, alone or inside the text that
    /// a shell runs (`sh -c "exec vllm serve …"`). No variable is known here: `$X` stays `$X`.
    pub fn from_argv<'a>(argv: impl IntoIterator<Item = &'a str>) -> Self {
        super::Command::read(argv, &|_| None).settings
    }

    /// Reads the flags of vLLM's command line; `serve`: the model stands by itself before or behind them.
    pub(in crate::parse) fn flags(&mut self, words: &[String], mut serve: bool) {
        let mut it = words.iter().map(String::as_str).peekable();
        while let Some(w) = it.next() {
            let Some(flag) = w.strip_prefix('-').filter(|f| !f.is_empty()) else {
                if serve && !w.contains('>') {
                    self.push("model", w.to_owned());
                    serve = false;
                }
                continue;
            };
            let (flag, given) = match flag.split_once('=') {
                Some((f, v)) => (f, Some(v)),
                None => (flag, None),
            };
            let mut off = false;
            let name = match flag.strip_prefix('-') {
                Some(long) => {
                    let long = long.replace('-', "_");
                    let no = long.strip_prefix("no_").and_then(known);
                    off = no.is_some();
                    no.or_else(|| known(&long)).or_else(|| short(&long))
                }
                None => short(flag),
            };
            if let Some(n) = name.filter(|n| SWITCHES.contains(n)) {
                let said = |v: &str| matches!(v, "true" | "True" | "false" | "False");
                let value = given.or_else(|| it.next_if(|n| said(n)));
                let value = if off {
                    "False"
                } else {
                    value.unwrap_or("true")
                };
                self.push(n, value.to_owned());
                continue;
            }
            // A switch has no value: what follows is another flag or the end.
            let value = given.map(str::to_owned).or_else(|| {
                it.next_if(|n| !n.starts_with('-') || n.parse::<f64>().is_ok())
                    .map(str::to_owned)
            });
            // `vllm serve --unknown X`: X may be the flag's value or the model; we can't know.
            if let Some(n) = name {
                self.push(n, value.unwrap_or_else(|| "true".into()));
            }
        }
    }
}

/// A Python value up to the comma that ends it.
fn value<'a>(c: &mut Cur<'a>) -> &'a [u8] {
    let mut depth = 0usize;
    let mut quote = None;
    let mut escaped = false;
    let mut n = c.rest.len();
    for (i, b) in c.rest.iter().enumerate() {
        if let Some(q) = quote {
            match b {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                _ if *b == q => quote = None,
                _ => {}
            }
            continue;
        }
        match b {
            // Only at the start of a value or element; `it's` inside bare text opens nothing.
            b'\'' | b'"' if i == 0 || depth > 0 => quote = Some(*b),
            b'(' | b'[' | b'{' | b'<' => depth += 1,
            b')' | b']' | b'}' | b'>' if depth > 0 => depth -= 1,
            b')' | b'}' | b',' if depth == 0 => {
                n = i;
                break;
            }
            _ => {}
        }
    }
    let (v, rest) = c.rest.split_at_checked(n).unwrap_or_default();
    c.rest = rest;
    v
}

fn unquote(v: &[u8]) -> String {
    let v = v.trim_ascii();
    let v = v
        .strip_prefix(b"'")
        .and_then(|v| v.strip_suffix(b"'"))
        .or_else(|| v.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")))
        .unwrap_or(v);
    text(v)
}
