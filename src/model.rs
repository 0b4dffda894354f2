//! Events in, state out. Deterministic: no clock, no hash order, no I/O.

pub mod commands;
pub mod event;
pub mod keys;
pub mod screen;
