//! The world in, events out. Sources read clocks, files and sockets; they conclude nothing.
//!
//! Adding a source: one file here that sends [`crate::model::event::Event`]s, and one arm in the shell.

pub mod cluster;
pub mod endpoints;
pub mod files;
pub mod gate;
pub mod nvml;
pub mod podlogs;
pub mod recording;
pub mod sampler;
pub mod sim;
pub mod simlog;
