//! One binary for the whole suite.
#[path = "suite/scenarios.rs"]
mod scenarios;
