//! What vLLM's HTTP endpoints answer: `/metrics` by the names of every version, `/v1/models`, `/version`.

use serde_json::Value;

use super::prom::samples;
use super::text::clean;

/// The few metrics that say whether it works. Engines of one server are added up, shares are the highest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// Requests that run.
    pub running: Option<f64>,
    /// Requests that wait.
    pub waiting: Option<f64>,
    /// Share of the KV cache in use, 0 to 1.
    pub kv_usage: Option<f64>,
    /// Tokens read and made so far.
    pub tokens: Option<f64>,
    /// Requests put off for want of KV cache, so far.
    pub preemptions: Option<f64>,
}

/// Reads a page of `/metrics`. An absent metric is not 0.
#[must_use]
pub fn metrics(page: &[u8]) -> Metrics {
    let mut m = Metrics::default();
    // The newer name goes before the older one where a version prints both (v0.9.2 to v0.11).
    let mut old_kv: Option<f64> = None;
    for s in samples(page, |name| name.starts_with(b"vllm:")) {
        let add = |to: &mut Option<f64>| *to = Some(to.unwrap_or(0.0) + s.value);
        let most = |to: &mut Option<f64>| *to = Some(to.unwrap_or(0.0).max(s.value));
        match s.name.as_str() {
            "vllm:num_requests_running" => add(&mut m.running),
            "vllm:num_requests_waiting" => add(&mut m.waiting),
            "vllm:kv_cache_usage_perc" => most(&mut m.kv_usage),
            "vllm:gpu_cache_usage_perc" => most(&mut old_kv),
            "vllm:prompt_tokens_total" | "vllm:generation_tokens_total" => add(&mut m.tokens),
            "vllm:num_preemptions_total" => add(&mut m.preemptions),
            _ => {}
        }
    }
    m.kv_usage = m.kv_usage.or(old_kv);
    m
}

/// A model that is served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// Name to ask for.
    pub id: String,
    /// Longest request, tokens.
    pub max_len: Option<u64>,
    /// The model that this one adapts.
    pub parent: Option<String>,
}

/// Reads `/v1/models`.
#[must_use]
pub fn models(body: &str) -> Vec<Model> {
    let Ok(all) = serde_json::from_str::<Value>(body) else {
        return Vec::new();
    };
    let text = |v: &Value| v.as_str().map(|t| clean(t.as_bytes()));
    all.get("data")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .take(64)
        .filter_map(|m| {
            Some(Model {
                id: text(m.get("id")?)?,
                max_len: m.get("max_model_len").and_then(Value::as_u64),
                parent: m.get("parent").and_then(text),
            })
        })
        .collect()
}

/// Reads `/version`.
#[must_use]
pub fn version(body: &str) -> Option<String> {
    let all: Value = serde_json::from_str(body).ok()?;
    let version = all.get("version")?.as_str()?;
    Some(clean(version.as_bytes()))
}

/// How many tokens the answer to a completion has, and its text; nothing where it is none.
#[must_use]
pub fn completion(body: &str) -> Option<(u64, String)> {
    let all: Value = serde_json::from_str(body).ok()?;
    let tokens = all.get("usage")?.get("completion_tokens")?.as_u64()?;
    let text = all.get("choices")?.get(0)?.get("text")?.as_str()?;
    Some((tokens, clean(text.as_bytes())))
}
