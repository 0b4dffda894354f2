//! vLLM, torch, Ray and launcher lines.

/// What a line that is not NCCL's says about start-up.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum VllmFact {
    /// A line of vLLM without further meaning here.
    Other,
}
