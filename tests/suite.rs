//! One binary for the whole suite.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    reason = "what fails in a helper of tests fails the test"
)]

#[path = "suite/again.rs"]
mod again;
#[path = "suite/architecture.rs"]
mod architecture;
#[path = "suite/bundle.rs"]
mod bundle;
#[path = "suite/calls.rs"]
mod calls;
#[path = "suite/checks.rs"]
mod checks;
#[path = "suite/cli.rs"]
mod cli;
#[path = "suite/cluster.rs"]
mod cluster;
#[path = "suite/clusterlogs.rs"]
mod clusterlogs;
#[path = "suite/connection.rs"]
mod connection;
#[path = "suite/dcgm.rs"]
mod dcgm;
#[path = "suite/director.rs"]
mod director;
#[path = "suite/fakeapi.rs"]
mod fakeapi;
#[path = "suite/files.rs"]
mod files;
#[path = "suite/findings.rs"]
mod findings;
#[path = "suite/fold.rs"]
mod fold;
#[path = "suite/frames.rs"]
mod frames;
#[path = "suite/gate.rs"]
mod gate;
#[path = "generator.rs"]
mod generator;
#[path = "suite/glyphs.rs"]
mod glyphs;
#[path = "suite/gpu.rs"]
mod gpu;
#[path = "suite/hostile.rs"]
mod hostile;
#[path = "suite/jobs.rs"]
mod jobs;
#[path = "suite/joins.rs"]
mod joins;
#[path = "suite/kept.rs"]
mod kept;
#[path = "suite/keys.rs"]
mod keys;
#[path = "suite/kiosk.rs"]
mod kiosk;
#[path = "suite/layout.rs"]
mod layout;
#[path = "suite/leaks.rs"]
mod leaks;
#[path = "suite/lives.rs"]
mod lives;
#[path = "suite/looks.rs"]
mod looks;
#[path = "suite/meant.rs"]
mod meant;
#[path = "suite/mend.rs"]
mod mend;
#[path = "suite/newyear.rs"]
mod newyear;
#[path = "suite/output.rs"]
mod output;
#[path = "suite/pages.rs"]
mod pages;
#[path = "suite/pairs.rs"]
mod pairs;
#[path = "suite/parse.rs"]
mod parse;
#[path = "suite/perf.rs"]
mod perf;
#[path = "suite/picker.rs"]
mod picker;
#[path = "suite/podlogs.rs"]
mod podlogs;
#[path = "suite/pods.rs"]
mod pods;
#[path = "suite/present.rs"]
mod present;
#[path = "suite/probed.rs"]
mod probed;
#[path = "suite/probes.rs"]
mod probes;
#[path = "suite/props.rs"]
mod props;
#[path = "suite/ranks.rs"]
mod ranks;
#[path = "suite/readme.rs"]
mod readme;
#[path = "suite/reconnect.rs"]
mod reconnect;
#[path = "suite/recording.rs"]
mod recording;
#[path = "suite/records.rs"]
mod records;
#[path = "suite/redact.rs"]
mod redact;
#[path = "suite/report.rs"]
mod report;
#[path = "suite/room.rs"]
mod room;
#[path = "suite/rotated.rs"]
mod rotated;
#[path = "suite/routes.rs"]
mod routes;
#[path = "suite/runloop.rs"]
mod runloop;
#[path = "suite/sampler.rs"]
mod sampler;
#[path = "suite/saved.rs"]
mod saved;
#[path = "suite/scenarios.rs"]
mod scenarios;
#[path = "suite/screen.rs"]
mod screen;
#[path = "suite/screens.rs"]
mod screens;
#[path = "suite/sentences.rs"]
mod sentences;
#[path = "suite/serving.rs"]
mod serving;
#[path = "suite/settings.rs"]
mod settings;
#[path = "suite/sick.rs"]
mod sick;
#[path = "suite/speakers.rs"]
mod speakers;
#[path = "suite/stage.rs"]
mod stage;
#[path = "suite/stages.rs"]
mod stages;
#[path = "suite/testpane.rs"]
mod testpane;
#[path = "suite/testrun.rs"]
mod testrun;
#[path = "suite/themes.rs"]
mod themes;
#[path = "suite/vllm.rs"]
mod vllm;
#[path = "suite/vram.rs"]
mod vram;
#[path = "suite/wait.rs"]
mod wait;
#[path = "suite/weights.rs"]
mod weights;
#[path = "suite/worker.rs"]
mod worker;
