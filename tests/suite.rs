//! One binary for the whole suite.

#[path = "suite/keys.rs"]
mod keys;
#[path = "suite/output.rs"]
mod output;
#[path = "suite/runloop.rs"]
mod runloop;
#[path = "suite/scenarios.rs"]
mod scenarios;
#[path = "suite/screen.rs"]
mod screen;
#[path = "suite/stages.rs"]
mod stages;
#[path = "suite/vllm.rs"]
mod vllm;
