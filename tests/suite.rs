//! One binary for the whole suite.

#[path = "suite/cluster.rs"]
mod cluster;
#[path = "suite/fakeapi.rs"]
mod fakeapi;
#[path = "suite/files.rs"]
mod files;
#[path = "generator.rs"]
mod generator;
#[path = "suite/keys.rs"]
mod keys;
#[path = "suite/output.rs"]
mod output;
#[path = "suite/parse.rs"]
mod parse;
#[path = "suite/report.rs"]
mod report;
#[path = "suite/runloop.rs"]
mod runloop;
#[path = "suite/scenarios.rs"]
mod scenarios;
#[path = "suite/screen.rs"]
mod screen;
#[path = "suite/screens.rs"]
mod screens;
#[path = "suite/stage.rs"]
mod stage;
#[path = "suite/vllm.rs"]
mod vllm;
