//! How many bytes the weights of a model are: by its index, by its files, or by its configuration
//! (`reference/vllm.md` 8.2 and 8.4).

use crate::parse::probe::Model;

/// What says how much the weights weigh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// The numbers of its configuration, by the shape that most decoders have.
    Config,
    /// The tensors in its files.
    Files,
    /// `total_size` of its index.
    Index,
}

impl Basis {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Config => "an estimate by its config",
            Self::Files => "its files",
            Self::Index => "the index",
        }
    }
}

/// Bytes of a model's tensors, and what says so.
#[must_use]
pub fn weights(m: &Model) -> Option<(Basis, u64)> {
    let index = m.total.map(|n| (Basis::Index, n));
    index
        .or_else(|| files(m).map(|n| (Basis::Files, n)))
        .or_else(|| estimate(m).map(|n| (Basis::Config, n)))
}

/// What the tensors of all files come to; nothing while files are missing or on their way.
fn files(m: &Model) -> Option<u64> {
    if !m.incomplete.is_empty() || !m.pointers.is_empty() || m.more > 0 {
        return None;
    }
    // The first kind of which there is one is what is loaded.
    let kinds =
        ["consolidated", "", "", ""]
            .iter()
            .zip([".safetensors", ".safetensors", ".bin", ".pt"]);
    let native = m.files.contains_key("params.json");
    let names = kinds
        .filter(|(front, _)| front.is_empty() || native)
        .map(|(front, back)| -> Vec<&String> {
            let here = |n: &&String| n.starts_with(front) && n.ends_with(back);
            m.files.keys().filter(here).collect()
        })
        .find(|names| !names.is_empty())?;
    if m.shards.iter().any(|s| !m.files.contains_key(s)) {
        return None;
    }
    let listed = |n: &&&String| m.shards.is_empty() || m.shards.contains(**n);
    let sum = names.iter().filter(listed).map(|n| {
        let size = m.files.get(*n).copied().unwrap_or(0);
        let head = m.heads.get(*n);
        let own = head.map_or(0, |h| h.length.saturating_add(8));
        head.and_then(|h| h.end).unwrap_or(size.saturating_sub(own))
    });
    Some(sum.fold(0, u64::saturating_add)).filter(|n| *n > 0)
}

/// Bytes of the weights of a decoder whose layers are attention and a gated MLP or experts; nothing for others.
fn estimate(m: &Model) -> Option<u64> {
    let word = |k: &str| m.config.get(k).map(String::as_str);
    let number = |k: &str| -> Option<f64> {
        let n: f64 = word(k)?.parse().ok()?;
        (n.is_finite() && (0.0..1e9).contains(&n)).then_some(n)
    };
    let act = word("hidden_act").or_else(|| word("hidden_activation"))?;
    if !matches!(act, "silu" | "swish" | "swiglu" | "gelu_pytorch_tanh") {
        return None;
    }
    let hidden = number("hidden_size")?;
    let layers = number("num_hidden_layers")?;
    let heads = number("num_attention_heads")?;
    let inner = number("intermediate_size")?;
    let vocabulary = number("vocab_size")?;
    let attention = match number("kv_lora_rank").filter(|n| *n > 0.0) {
        // Projections through a small rank (MLA).
        Some(kv) => {
            let (nope, rope) = (number("qk_nope_head_dim")?, number("qk_rope_head_dim")?);
            let value = number("v_head_dim")?;
            let query = heads * (nope + rope);
            let query = match number("q_lora_rank").filter(|n| *n > 0.0) {
                Some(rank) => hidden * rank + rank * query,
                None => hidden * query,
            };
            query + hidden * (kv + rope) + kv * heads * (nope + value) + heads * value * hidden
        }
        None => {
            let size = number("head_dim").filter(|n| *n > 0.0);
            let size = size.unwrap_or(hidden / heads.max(1.0));
            let kv = number("num_key_value_heads").unwrap_or(heads);
            2.0 * hidden * size * (heads + kv)
        }
    };
    let gated = |width: f64| 3.0 * hidden * width;
    let experts = ["num_local_experts", "n_routed_experts", "num_experts"]
        .into_iter()
        .find_map(number)
        .filter(|n| *n > 1.0);
    let mlp = match experts {
        None => layers * gated(inner),
        Some(n) => {
            let width = number("moe_intermediate_size").filter(|n| *n > 0.0);
            let width = width.unwrap_or(inner);
            let shared = number("shared_expert_intermediate_size")
                .or_else(|| Some(number("n_shared_experts")? * width))
                .unwrap_or(0.0);
            let dense = number("first_k_dense_replace").unwrap_or(0.0).min(layers);
            dense * gated(inner)
                + (layers - dense) * (n * gated(width) + gated(shared) + hidden * n)
        }
    };
    let tied = word("tie_word_embeddings").is_some_and(|t| t.eq_ignore_ascii_case("true"));
    let tables = vocabulary * hidden * if tied { 1.0 } else { 2.0 };
    let plain = match word("torch_dtype").or_else(|| word("dtype")) {
        Some("float32") => 4.0,
        _ => 2.0,
    };
    let packed = match (word("quant_method"), number("bits")) {
        (Some("fp8"), _) => 1.0,
        (Some("mxfp4"), _) => 17.0 / 32.0,
        (Some(_), Some(bits)) if bits > 0.0 => bits / 8.0,
        // It is packed, and how tightly is not said.
        (Some(_), _) => return None,
        (None, _) => plain,
    };
    let bytes = (layers * attention + mlp) * packed + tables * plain;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes of models; casting saturates"
    )]
    (bytes > 0.0).then_some(bytes as u64)
}
