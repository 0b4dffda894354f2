//! vLLM, torch, Ray and launcher lines.

/// What a line that is not NCCL's says about start-up.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum VllmFact {
    /// A line of vLLM without further meaning here.
    Other,
}

/// Reads one line that carries no NCCL head. `msg` is the line after its outer prefixes, without ANSI codes
/// and line end; the caller's prefilter has thrown out what can't matter (access logs, blank lines).
#[must_use]
pub fn line(msg: &[u8], outer: &super::Outer) -> Option<VllmFact> {
    let _ = (msg, outer);
    None
}
