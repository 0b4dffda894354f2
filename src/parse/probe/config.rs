//! The file that `vllm serve --config` names: settings by the names of the flags, dashes or underscores, that count
//! where the command line says nothing (`reference/vllm.md` 4.5).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::rows;
use crate::parse::vllm::Settings;

/// Largest file that is read, bytes.
pub const LARGEST: usize = 256 << 10;
/// Longest value that is taken for one, bytes.
const VALUE: usize = 1024;

/// Settings that leave a container or a ConfigMap: the cut of the job, where its ranks meet, what memory they take.
const KEPT: [&str; 37] = [
    "model",
    "model_tag",
    "served_model_name",
    "dtype",
    "quantization",
    "load_format",
    "port",
    "headless",
    "nnodes",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "decode_context_parallel_size",
    "prefill_context_parallel_size",
    "data_parallel_size_local",
    "data_parallel_rank",
    "data_parallel_start_rank",
    "data_parallel_address",
    "data_parallel_rpc_port",
    "data_parallel_backend",
    "enable_expert_parallel",
    "enable_eplb",
    "all2all_backend",
    "distributed_executor_backend",
    "node_rank",
    "master_addr",
    "master_port",
    "api_server_count",
    "disable_custom_all_reduce",
    "enforce_eager",
    "gpu_memory_utilization",
    "kv_cache_dtype",
    "kv_cache_memory_bytes",
    "cpu_offload_gb",
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
];

/// What came of reading the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServeConfig {
    /// What it says.
    pub settings: Settings,
    /// Why what it does not say can't be taken for a default; nothing where it was read whole.
    pub open: Option<String>,
}

impl ServeConfig {
    pub(super) fn read(out: &str) -> Option<Self> {
        let mut lines = String::new();
        let (mut open, mut ended) = (None, false);
        for (word, row) in rows(out) {
            match word.as_str() {
                "line" => {
                    lines.push_str(row.0.first().map_or("", String::as_str));
                    lines.push('\n');
                }
                "odd" => {
                    let n = row.num::<u64>(0).unwrap_or(1);
                    let (s, are) = if n == 1 { ("", "is") } else { ("s", "are") };
                    open = Some(format!("{n} line{s} of it {are} no plain `name: value`"));
                }
                "absent" => open = Some("it is not there".into()),
                "denied" => open = Some("it may not be read".into()),
                "long" => open = Some(format!("it is larger than {} KiB", LARGEST >> 10)),
                "end" => ended = true,
                _ => {}
            }
        }
        if open.is_none() && !ended {
            open = Some("its end did not come".into());
        }
        Some(match settings(&lines) {
            Ok(settings) => Self { settings, open },
            Err(why) => Self {
                settings: Settings::default(),
                open: open.or(Some(why)),
            },
        })
    }
}

/// One value of the file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Value {
    Switch(bool),
    Whole(i64),
    Number(f64),
    Text(String),
    Other(serde::de::IgnoredAny),
}

/// As vLLM makes flags of them: `name: value` is `--name value`, a switch that is on is `--name`.
fn settings(lines: &str) -> Result<Settings, String> {
    if lines.trim().is_empty() {
        return Ok(Settings::default());
    }
    let read: Result<BTreeMap<String, Value>, _> = serde_yaml::from_str(lines);
    let read = read.map_err(|_| "it is no YAML that can be read line by line".to_owned())?;
    let mut words = Vec::new();
    for (name, value) in read {
        let value = match value {
            Value::Switch(true) => "true".to_owned(),
            // vLLM leaves the flag out.
            Value::Switch(false) => continue,
            Value::Whole(n) => n.to_string(),
            Value::Number(n) => n.to_string(),
            Value::Text(text) if text.len() <= VALUE => text,
            Value::Text(_) | Value::Other(_) => {
                return Err(format!("its {name} is no plain value"));
            }
        };
        words.push(format!("--{name}={value}"));
    }
    let mut out = Settings::default();
    out.flags(&words, false);
    Ok(out)
}

/// What the script in the pod would say of a file of this text: for who has the text from elsewhere.
#[must_use]
pub fn kept(path: &str, text: &str) -> String {
    let mut out = format!("at\t{path}\t{}\n", text.len());
    if text.len() > LARGEST {
        out.push_str("long\n");
        return out;
    }
    let (mut odd, mut begun) = (0_u64, false);
    for line in text.lines() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty()
            || line.starts_with([' ', '\t', '#'])
            || line == "-"
            || line.starts_with("- ")
        {
            continue;
        }
        if line == "---" || line.starts_with("--- ") {
            odd += u64::from(begun);
            begun = true;
            continue;
        }
        begun = true;
        let key = line
            .split_once(':')
            .filter(|(_, rest)| rest.is_empty() || rest.starts_with([' ', '\t']))
            .map(|(key, _)| bare(key.trim_end_matches([' ', '\t'])));
        let plain = |k: &&str| {
            !k.is_empty()
                && k.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        match key.filter(plain) {
            None => odd += 1,
            Some(key) if KEPT.contains(&key.replace('-', "_").as_str()) => {
                let line: String = line
                    .chars()
                    .map(|c| if c.is_control() { '?' } else { c })
                    .collect();
                out.push_str(&format!("line\t{line}\n"));
            }
            Some(_) => {}
        }
    }
    if odd > 0 {
        out.push_str(&format!("odd\t{odd}\n"));
    }
    out.push_str("end\n");
    out
}

/// A name without its quotes.
fn bare(key: &str) -> &str {
    let inside = |q: char| key.strip_prefix(q).and_then(|k| k.strip_suffix(q));
    inside('"').or_else(|| inside('\'')).unwrap_or(key)
}
