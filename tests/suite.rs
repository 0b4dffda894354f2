//! One binary for the whole suite.

#[path = "suite/vllm.rs"]
mod vllm;
