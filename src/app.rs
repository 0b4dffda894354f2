//! The shell: the only layer that knows all.

pub mod report_cmd;
