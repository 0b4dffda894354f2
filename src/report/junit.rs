//! The report for a pipeline: checks and findings as test cases of JUnit's XML.
//!
//! A case fails where the report would end with exit code 1; what could not be decided is skipped, with
//! the reason; a warning passes and says its text in `system-out`.

use std::io::{self, Write};

use super::redact::Redactor;
use super::{FailOn, check, confidence, severity, verdict};
use crate::parse::is_unseen;
use crate::rules::busbw::Grade;
use crate::rules::scene::{CheckVerdict, Evidence, Finding, Scene, Severity, Verdict};
use crate::rules::testing::state;

/// Evidence lines of a case.
const EVIDENCE: usize = 12;

/// Writes the report.
///
/// # Errors
/// What `out` says.
pub fn write(
    out: impl Write,
    scene: &Scene,
    fail_on: FailOn,
    redactor: &mut Redactor,
) -> io::Result<()> {
    Suite {
        out,
        scene,
        fail_on,
        redactor,
    }
    .all()
}

struct Suite<'a, W> {
    out: W,
    scene: &'a Scene,
    fail_on: FailOn,
    redactor: &'a mut Redactor,
}

/// A case: its name and what came of it.
struct Case {
    class: String,
    name: String,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    /// Passed, with something to say.
    Warned(String),
    Skipped(String),
    Failed {
        kind: String,
        message: String,
        body: String,
    },
}

impl<W: Write> Suite<'_, W> {
    /// Text from outside for an attribute or an element: redacted, without what XML 1.0 has no way to say.
    fn text(&mut self, text: &str) -> String {
        let controls = |c: char| {
            is_unseen(c) && !matches!(c, '\n' | '\t') || matches!(c, '\u{fffe}' | '\u{ffff}')
        };
        let clean = self.redactor.text(text).replace(controls, "\u{fffd}");
        let escaped = super::html::escape(&clean);
        escaped.replace('\n', "&#10;").replace('\t', "&#9;")
    }

    fn fails(&self, severity: Severity) -> bool {
        match self.fail_on {
            FailOn::Warning => severity >= Severity::Warning,
            FailOn::Error => severity >= Severity::Error,
            FailOn::Failed => severity >= Severity::Error && self.scene.verdict == Verdict::Failed,
        }
    }

    fn verdict(&self) -> Case {
        let scene = self.scene;
        let failed = super::exit_code(scene, self.fail_on) == 1;
        Case {
            class: "ncclscope".to_owned(),
            name: "verdict".to_owned(),
            outcome: match (failed, scene.verdict) {
                (true, _) => Outcome::Failed {
                    kind: verdict(scene.verdict).to_owned(),
                    message: scene.summary.clone(),
                    body: String::new(),
                },
                (false, Verdict::Unknown) => Outcome::Skipped(scene.summary.clone()),
                (false, _) => Outcome::Passed,
            },
        }
    }

    fn finding(&self, f: &Finding) -> Case {
        let mut body = vec![f.cause.clone()];
        for fix in &f.fix {
            body.push(format!("fix: {fix}"));
        }
        for evidence in f.evidence().iter().take(EVIDENCE) {
            body.push(match evidence {
                Evidence::Line(line) => {
                    let (file, number) = self.scene.place(line);
                    format!("{file}:{number}: {}", line.text)
                }
                Evidence::Object(text) | Evidence::Sample(text) | Evidence::Check(text) => {
                    text.clone()
                }
            });
        }
        Case {
            class: format!("finding.{}", f.id),
            name: f.key.clone(),
            outcome: if self.fails(f.severity) {
                Outcome::Failed {
                    kind: format!("{} ({})", severity(f.severity), confidence(f.confidence)),
                    message: f.title.clone(),
                    body: body.join("\n"),
                }
            } else {
                Outcome::Skipped(format!("{}: {}", severity(f.severity), f.title))
            },
        }
    }

    /// The all-reduce test: it fails where numbers or elements are bad, whatever the workload's verdict is.
    fn test(&self) -> Option<Case> {
        let test = self.scene.test.as_deref()?;
        let (word, grade) = state(test);
        let said = || format!("{word}: {}", test.sentence);
        Some(Case {
            class: "allreduce".to_owned(),
            name: super::tests::id(test).to_owned(),
            outcome: match grade {
                Some(Grade::Good) => Outcome::Passed,
                Some(Grade::Warn) => Outcome::Warned(said()),
                Some(Grade::Below | Grade::Wrong) => {
                    let failures = test.failures.iter().map(ToString::to_string);
                    let next = test.next().map(str::to_owned);
                    let body: Vec<String> = failures.take(EVIDENCE).chain(next).collect();
                    Outcome::Failed {
                        kind: word.to_owned(),
                        message: test.sentence.clone(),
                        body: body.join("\n"),
                    }
                }
                Some(Grade::Failed | Grade::Undecided) | None => Outcome::Skipped(said()),
            },
        })
    }

    fn all(&mut self) -> io::Result<()> {
        let mut cases = vec![self.verdict()];
        cases.extend(self.test());
        for c in &self.scene.checks {
            let word = check(c).verdict;
            let outcome = match c.verdict {
                CheckVerdict::Pass => Outcome::Passed,
                CheckVerdict::Warn => {
                    Outcome::Warned([&[c.output.clone()][..], &c.fix].concat().join("\n"))
                }
                CheckVerdict::Fail => Outcome::Failed {
                    kind: word.to_owned(),
                    message: c.output.lines().next().unwrap_or(word).to_owned(),
                    body: [&[c.output.clone()][..], &c.fix].concat().join("\n"),
                },
                CheckVerdict::NotApplicable
                | CheckVerdict::Waiting
                | CheckVerdict::Unknown
                | CheckVerdict::Forbidden => Outcome::Skipped(format!("{word}: {}", c.output)),
            };
            cases.push(Case {
                class: c.id.to_owned(),
                name: if c.subject.is_empty() {
                    c.title.clone()
                } else {
                    format!("{}: {}", c.title, c.subject)
                },
                outcome,
            });
        }
        for f in &self.scene.findings {
            cases.push(self.finding(f));
        }
        let failed = cases
            .iter()
            .filter(|c| matches!(c.outcome, Outcome::Failed { .. }))
            .count();
        let skipped = cases
            .iter()
            .filter(|c| matches!(c.outcome, Outcome::Skipped(_)))
            .count();
        let counts = format!(
            "tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\"",
            cases.len()
        );
        writeln!(self.out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
        writeln!(
            self.out,
            "<testsuites {counts}>\n<testsuite name=\"ncclscope\" {counts}>"
        )?;
        for case in cases {
            let (class, name) = (self.text(&case.class), self.text(&case.name));
            write!(self.out, "<testcase classname=\"{class}\" name=\"{name}\"")?;
            match case.outcome {
                Outcome::Passed => writeln!(self.out, "/>")?,
                Outcome::Warned(said) => {
                    let said = self.text(&said);
                    writeln!(self.out, "><system-out>{said}</system-out></testcase>")?;
                }
                Outcome::Skipped(why) => {
                    let why = self.text(&why);
                    writeln!(self.out, "><skipped message=\"{why}\"/></testcase>")?;
                }
                Outcome::Failed {
                    kind,
                    message,
                    body,
                } => {
                    let (kind, message, body) =
                        (self.text(&kind), self.text(&message), self.text(&body));
                    writeln!(
                        self.out,
                        "><failure type=\"{kind}\" message=\"{message}\">{body}</failure></testcase>"
                    )?;
                }
            }
        }
        writeln!(self.out, "</testsuite>\n</testsuites>")
    }
}
