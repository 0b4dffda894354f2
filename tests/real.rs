//! The Kubernetes edge against a real control plane: etcd, kube-apiserver, controllers and scheduler, from
//! `tests/control-plane/`.
//!
//! Where Go is absent nothing of this can run: it says so in a line and counts as ignored, unless
//! `NCCLSCOPE_NEED_CLUSTER` is set, which makes that a failure.
//!
//! What differs from a real cluster is listed in `tests/control-plane/README.md`. Beside that: one API server
//! instead of several behind a load balancer, no idle timeouts on the way, no webhook that authorizes, clocks that
//! agree. Scripted servers (`tests/suite/cluster.rs`) play what a healthy API server never does: a 410 before the
//! stream begins, a watch that ends as soon as it begins, half a line, headers without a body.
//!
//! What the embedded cluster of `demo` (`src/sources/sim.rs`) does otherwise than this one: there is no API server in
//! it, so nothing is watched, cut, compacted or refused; one workload, in pods that are given rather than discovered;
//! logs are lost only where a scenario says `rotated`; probes are answered from the scenario's plan in the text that
//! our scripts print, no script runs, nobody is asked; samples are made by formula from the same plan; an all-reduce
//! test is played, no object is created; nodes and network policies exist only as far as a check needs them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    reason = "what fails in a helper of tests fails the test"
)]

#[path = "real/access.rs"]
mod access;
#[path = "real/allreduce.rs"]
mod allreduce;
#[path = "real/cases.rs"]
mod cases;
#[path = "real/dashboard.rs"]
mod dashboard;
#[path = "real/discovery.rs"]
mod discovery;
#[path = "real/heard.rs"]
mod heard;
#[path = "real/inside.rs"]
mod inside;
#[path = "real/levels.rs"]
mod levels;
#[path = "real/manners.rs"]
mod manners;
#[path = "real/plane.rs"]
mod plane;
#[path = "real/pods.rs"]
mod pods;
#[path = "real/readme.rs"]
mod readme;
#[path = "real/sampler.rs"]
mod sampler;
#[path = "real/screen.rs"]
mod screen;
#[path = "real/storms.rs"]
mod storms;
#[path = "real/typed.rs"]
mod typed;
#[path = "real/verbs.rs"]
mod verbs;

use std::process::ExitCode;
use std::time::Instant;

use plane::Plane;

fn main() -> ExitCode {
    // The flags of the ordinary test harness are taken and passed over; words are filters.
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let wanted =
        |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()));
    let chosen: Vec<_> = cases::CASES
        .iter()
        .filter(|(name, _)| wanted(name))
        .collect();
    if args.iter().any(|a| a == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let [flag, rest @ ..] = args.as_slice()
        && flag == "--follow-for-ever"
    {
        // Started by one of the tests, to be killed.
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(access::follow_for_ever(rest));
        return ExitCode::SUCCESS;
    }
    if let [flag, rest @ ..] = args.as_slice()
        && flag == "--sample-for-ever"
    {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(sampler::sample_for_ever(rest));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    if chosen.is_empty() {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let plane = match runtime.block_on(Plane::start()) {
        Ok(plane) => plane,
        Err(why) => {
            chosen
                .iter()
                .for_each(|(name, _)| println!("test {name} ... ignored, {why}"));
            let need = std::env::var_os("NCCLSCOPE_NEED_CLUSTER").is_some();
            let word = if need { "FAILED" } else { "ok" };
            println!(
                "\ntest result: {word}. 0 passed; 0 failed; {} ignored: {why}",
                chosen.len()
            );
            return if need {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let mut failed = Vec::new();
    for (name, case) in &chosen {
        let begun = Instant::now();
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(case(&plane)));
        let ok = std::panic::catch_unwind(run).is_ok();
        runtime.block_on(plane.clear());
        println!(
            "test {name} ... {} ({:.1} s)",
            if ok { "ok" } else { "FAILED" },
            begun.elapsed().as_secs_f32()
        );
        if !ok {
            failed.push(*name);
        }
    }
    drop(plane);
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored{}",
        if failed.is_empty() { "ok" } else { "FAILED" },
        chosen.len() - failed.len(),
        failed.len(),
        if failed.is_empty() {
            String::new()
        } else {
            format!(": {}", failed.join(", "))
        },
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
