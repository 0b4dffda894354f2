//! The shell: the only layer that knows everything.

pub mod encode;
pub mod output;
pub mod report_cmd;
pub mod runloop;
pub mod terminal;
