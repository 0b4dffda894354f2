//! One binary for the whole suite.

#[path = "suite/parse.rs"]
mod parse;
