//! Events in, state out. Deterministic: no clock, no hash order, no I/O.

pub mod event;
pub mod pods;
