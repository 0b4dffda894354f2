//! The README stays true.

use ncclscope::model::keys;

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

#[test]
fn every_line_that_calls_the_program_parses() {
    let calls = README.lines().filter_map(|l| {
        let at = l.find("ncclscope ")?;
        let call = l.get(at..)?.split('#').next()?.trim();
        (l.starts_with("ncclscope ") || l.contains("| ncclscope ")).then_some(call)
    });
    let mut seen = 0;
    for call in calls {
        let words: Vec<&str> = call.split_whitespace().collect();
        if let Err(e) = <ncclscope::app::cli::Cli as clap::Parser>::try_parse_from(&words) {
            panic!("{call}: {e}");
        }
        seen += 1;
    }
    assert!(seen >= 4);
}
