//! One binary for the whole suite.
#[path = "suite/scenarios.rs"]
mod scenarios;
#[path = "suite/vllm.rs"]
mod vllm;
#[path = "suite/screens.rs"]
mod screens;
#[path = "suite/stage.rs"]
mod stage;
