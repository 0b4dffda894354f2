//! Tests by their names, for those that must be able to say what they left out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// Runs the tests that the command line asks for, and prints what cargo's own harness would. A test says `Err` and why
/// where it can't run here; `there` says what all of them stand on, or why none can run.
pub fn run<T>(
    tests: &[(&str, T)],
    there: Result<&str, &str>,
    test: impl Fn(&T) -> Result<(), String>,
) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filter = args.iter().find(|a| !a.starts_with('-'));
    let wanted = |name: &str| filter.is_none_or(|f| name.contains(f.as_str()));
    let chosen: Vec<_> = tests.iter().filter(|(name, _)| wanted(name)).collect();
    if args.iter().any(|a| a == "--list") {
        for (name, _) in chosen {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    match there {
        Ok("") => {}
        Ok(said) => println!("{said}"),
        Err(why) => {
            let ignored = chosen.len();
            println!("left out: {why}\n\ntest result: ok. 0 passed; 0 failed; {ignored} ignored");
            return ExitCode::SUCCESS;
        }
    }
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for (name, what) in chosen {
        match catch_unwind(AssertUnwindSafe(|| test(what))) {
            Ok(Ok(())) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Ok(Err(why)) => {
                ignored += 1;
                println!("test {name} ... ignored, {why}");
            }
            Err(_) => {
                failed += 1;
                println!("test {name} ... FAILED");
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored");
    ExitCode::from(u8::from(failed > 0))
}
