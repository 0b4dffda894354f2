//! One binary for the whole suite.
#[path = "suite/scenarios.rs"]
mod scenarios;
#[path = "suite/vllm.rs"]
mod vllm;
