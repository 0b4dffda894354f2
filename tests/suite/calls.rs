//! The README's commands, for whoever parses or runs them.

const README: &str = include_str!("../../README.md");

/// Every command line that calls the program, without its comment; also at the end of a pipe, and by way of cargo.
pub fn all() -> Vec<String> {
    let mut inside = false;
    let mut out = Vec::new();
    for line in README.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
            continue;
        }
        let call = line.split('#').next().unwrap_or_default().trim();
        let calls = ["ncclscope ", "cargo run "];
        let ours = calls.iter().any(|c| call.starts_with(c)) || call.contains("| ncclscope ");
        if inside && ours {
            out.push(call.to_owned());
        }
    }
    assert!(out.len() > 20, "the README's commands are not found");
    out
}

/// It asks an API server.
pub fn needs_a_cluster(call: &str) -> bool {
    let word = |w: &str| call.split_whitespace().any(|x| x == w);
    call.starts_with("ncclscope ") && (word("-n") || word("-A")) && !word("rbac")
}
