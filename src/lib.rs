//! ncclscope: terminal UI dashboard for live cluster debugging of distributed vLLM.
//!
//! The house, bottom first. A layer uses itself and the layers above this line in the list, never a
//! later one; `tests/suite/architecture.rs` keeps that.
//!
//! | layer | rooms | knows |
//! |---|---|---|
//! | 1 | [`parse`] | bytes in, facts out |
//! | 2 | [`model`] | events in, state out |
//! | 3 | [`rules`] | model in, scene out |
//! | 4 | theme, panes | scene in, cells out |
//! | 5 | sources, jobs, worker, report | the world in, events out (use 1–3) |
//! | 6 | app | the shell, the only one that knows all |

pub mod app;
pub mod jobs;
pub mod model;
pub mod panes;
pub mod parse;
pub mod report;
pub mod rules;
pub mod sources;
pub mod theme;
pub mod worker;
