//! The README stays true.

use ncclscope::model::keys;

use crate::calls;

const README: &str = include_str!("../../README.md");

#[test]
fn it_begins_with_what_it_is_and_has_its_two_commands() {
    assert!(
        README
            .starts_with("*Terminal UI dashboard for live cluster debugging* of distributed vLLM.")
    );
    for command in ["cargo run --release -- demo", "cargo test"] {
        assert!(README.contains(command), "the README lost {command}");
    }
}

#[test]
fn its_keys_are_those_that_dispatch() {
    assert!(
        README.contains(keys::markdown().trim()),
        "the README's keys differ from the table; it should hold:\n{}",
        keys::markdown()
    );
}

/// They are run by `tests/pty/readme.rs` and, where they need a cluster, by `tests/real/readme.rs`.
#[test]
fn every_line_that_calls_the_program_parses() {
    let all = calls::all();
    let live = all.iter().filter(|c| calls::needs_a_cluster(c)).count();
    assert!(live > 5 && all.len() - live > 5, "{live} of {}", all.len());
    for call in all {
        let Some((_, call)) = call.split_once("ncclscope ") else {
            continue;
        };
        let words = ["ncclscope"].into_iter().chain(call.split_whitespace());
        if let Err(e) = <ncclscope::app::cli::Cli as clap::Parser>::try_parse_from(words) {
            panic!("{call}: {e}");
        }
    }
}
