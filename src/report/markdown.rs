//! The report for a ticket or a chat: Markdown that stays readable where nobody renders it.

use std::io::{self, Write};

use super::redact::Redactor;
use super::text::count;
use super::{check, confidence, matrix, parts, severity, verdict};
use crate::parse::clean;
use crate::rules::findings::fix::Shape;
use crate::rules::findings::{followers, whom};
use crate::rules::scene::{Evidence, Finding, ProcessView, Scene};
use crate::rules::testing::state;

/// Evidence lines of a finding; the JSON report has all.
const EVIDENCE: usize = 6;
/// Longest matrix side that is drawn.
const MATRIX_SIDE: usize = 32;
/// Rows of a table.
const LISTED: usize = 64;

/// Writes the report.
///
/// # Errors
/// What `out` says.
pub fn write(out: impl Write, scene: &Scene, redactor: &mut Redactor) -> io::Result<()> {
    Page {
        out,
        scene,
        redactor,
    }
    .all()
}

struct Page<'a, W> {
    out: W,
    scene: &'a Scene,
    redactor: &'a mut Redactor,
}

impl<W: Write> Page<'_, W> {
    /// Text from outside that no renderer takes for markup.
    fn text(&mut self, text: &str) -> String {
        let clean = clean(self.redactor.text(text).as_bytes());
        let mut out = String::with_capacity(clean.len());
        for c in clean.chars() {
            match c {
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '&' => out.push_str("&amp;"),
                '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' | '@' | '$' => {
                    out.push('\\');
                    out.push(c);
                }
                '\n' | '\r' => out.push(' '),
                c => out.push(c),
            }
        }
        out
    }

    /// Text from outside as code of its own lines, fenced by more backticks than it holds.
    fn code(&mut self, language: &str, text: &str) -> io::Result<()> {
        let text = self.redactor.text(text).into_owned();
        let lines: Vec<String> = text.lines().map(|l| clean(l.as_bytes())).collect();
        let most = lines
            .iter()
            .flat_map(|l| l.split(|c| c != '`').map(str::len))
            .max()
            .unwrap_or(0);
        let fence = "`".repeat(most.max(2) + 1);
        writeln!(self.out, "{fence}{language}")?;
        for line in lines {
            writeln!(self.out, "{line}")?;
        }
        writeln!(self.out, "{fence}\n")
    }

    fn row(&mut self, cells: &[String]) -> io::Result<()> {
        let cells: Vec<String> = cells.iter().map(|c| self.text(c)).collect();
        writeln!(self.out, "| {} |", cells.join(" | "))
    }

    fn head(&mut self, titles: &[&str]) -> io::Result<()> {
        writeln!(self.out, "| {} |", titles.join(" | "))?;
        writeln!(self.out, "|{}", "---|".repeat(titles.len()))
    }

    fn all(&mut self) -> io::Result<()> {
        let scene = self.scene;
        let summary = self.text(&scene.summary);
        writeln!(
            self.out,
            "# {}: {summary}\n",
            verdict(scene.verdict).to_uppercase()
        )?;
        for (i, finding) in scene.findings.iter().enumerate() {
            // What follows from another one is told with that one.
            if finding.consequence_of.is_none() {
                self.finding(i + 1, finding)?;
            }
        }
        self.test()?;
        self.ranks()?;
        self.matrix()?;
        if !scene.pods.is_empty() {
            writeln!(self.out, "## Pods\n")?;
            self.head(&["pod", "status", "ready", "restarts", "node", "why"])?;
            for p in scene.pods.iter().take(LISTED) {
                let (node, why) = (p.node.clone(), p.why.clone());
                self.row(&[
                    p.name.clone(),
                    p.status.clone(),
                    p.ready.clone(),
                    p.restarts.clone(),
                    node.unwrap_or_default(),
                    why.unwrap_or_default(),
                ])?;
            }
            self.more(scene.pods.len())?;
            writeln!(self.out)?;
        }
        if !scene.checks.is_empty() {
            writeln!(self.out, "## Checks\n")?;
            self.head(&["verdict", "check", "about", "what came back"])?;
            for c in &scene.checks {
                let first = c.output.lines().next().unwrap_or_default().to_owned();
                self.row(&[
                    check(c).verdict.to_owned(),
                    c.title.clone(),
                    c.subject.clone(),
                    first,
                ])?;
            }
            writeln!(self.out)?;
        }
        let lines: u64 = scene.sources.iter().map(|s| s.lines).sum();
        writeln!(
            self.out,
            "ncclscope {} read {} with {lines} lines.",
            env!("CARGO_PKG_VERSION"),
            count(scene.streams().count(), "log", "logs")
        )
    }

    fn finding(&mut self, number: usize, f: &Finding) -> io::Result<()> {
        let title = self.text(&f.title);
        writeln!(
            self.out,
            "## {number}. {} {title}\n",
            severity(f.severity).to_uppercase()
        )?;
        let mut about = vec![format!("`{}`", f.id), confidence(f.confidence).to_owned()];
        about.extend(whom(self.scene, f).map(|w| self.text(&w)));
        if !f.hosts.is_empty() {
            let hosts = self.text(&f.hosts.join(", "));
            about.push(format!("on {hosts}"));
        }
        about.extend(super::stamp(f.since).map(|since| format!("since {since}")));
        writeln!(self.out, "{}\n", about.join(" · "))?;
        if !f.cause.is_empty() {
            let cause = self.text(&f.cause);
            writeln!(self.out, "{cause}\n")?;
        }
        for fix in &f.fix {
            match Shape::of(fix) {
                Shape::Command => self.code("sh", fix)?,
                Shape::Piece => self.code("", fix)?,
                Shape::Words => {
                    let words = self.text(fix);
                    writeln!(self.out, "{words}\n")?;
                }
            }
        }
        let mut proof = String::new();
        for evidence in f.evidence().iter().take(EVIDENCE) {
            match evidence {
                Evidence::Line(line) => {
                    let (file, number) = self.scene.place(line);
                    proof.push_str(&format!("{file}:{number}: {}\n", line.text));
                }
                Evidence::Object(text) | Evidence::Sample(text) | Evidence::Check(text) => {
                    proof.push_str(text);
                    proof.push('\n');
                }
            }
        }
        self.code("", &proof)?;
        let mut echoes = followers(self.scene, f).peekable();
        if echoes.peek().is_some() {
            writeln!(self.out, "What follows from it:\n")?;
            for (index, echo) in echoes {
                let whom = whom(self.scene, echo).map_or_else(String::new, |w| format!(", {w}"));
                let (title, whom) = (self.text(&echo.title), self.text(&whom));
                let (number, word) = (index + 1, severity(echo.severity));
                writeln!(
                    self.out,
                    "- **{number}** {word}: {title} (`{}`{whom})",
                    echo.id
                )?;
            }
            writeln!(self.out)?;
        }
        Ok(())
    }

    /// What an all-reduce test came to; its rows are in the JSON report.
    fn test(&mut self) -> io::Result<()> {
        let Some(test) = self.scene.test.as_deref() else {
            return Ok(());
        };
        let (word, _) = state(test);
        let id = self.text(super::tests::id(test));
        let said = self.text(&test.sentence);
        writeln!(self.out, "## All-reduce test: {word}\n")?;
        writeln!(self.out, "{id}: {said}\n")?;
        let failures = test.failures.iter().filter(|f| !f.echo);
        for failure in failures.take(EVIDENCE) {
            let failure = self.text(&failure.to_string());
            writeln!(self.out, "- {failure}")?;
        }
        if let Some(next) = test.next() {
            let next = self.text(next);
            writeln!(self.out, "{next}\n")?;
        }
        Ok(())
    }

    fn ranks(&mut self) -> io::Result<()> {
        let scene = self.scene;
        if scene.processes.iter().all(|p| p.stage.is_none()) {
            return Ok(());
        }
        writeln!(self.out, "## Start-up\n")?;
        self.head(&["rank", "on", "stage", "progress"])?;
        let staged = scene.processes.iter().filter(|p| p.stage.is_some());
        // By rank; who has no number (API servers, engine cores) comes last, as the processes come.
        let mut staged: Vec<&ProcessView> = staged.collect();
        staged.sort_by_key(|p| (p.global_rank.is_none(), p.global_rank));
        for p in staged.iter().take(LISTED) {
            let progress = p.progress.as_ref().map_or_else(String::new, |at| at.told());
            let stage = p.stage.map_or("", parts::stage);
            let end = if p.alive == Some(false) {
                ", ended"
            } else {
                ""
            };
            self.row(&[
                p.global_rank.map_or_else(String::new, |r| r.to_string()),
                p.place(),
                format!("{stage}{end}"),
                progress,
            ])?;
        }
        self.more(staged.len())?;
        for f in &scene.folded {
            writeln!(self.out, "\n{}", f.sentence())?;
        }
        for f in scene.former.iter() {
            let sentence = self.text(&f.sentence());
            writeln!(self.out, "\nEarlier: {sentence}")?;
        }
        writeln!(self.out)
    }

    /// How many rows of a table were left out.
    fn more(&mut self, all: usize) -> io::Result<()> {
        match all.saturating_sub(LISTED) {
            0 => Ok(()),
            more => writeln!(self.out, "\n{more} more in the JSON report."),
        }
    }

    fn matrix(&mut self) -> io::Result<()> {
        let Some(m) = self.scene.matrices.first().filter(|m| !m.cells.is_empty()) else {
            return Ok(());
        };
        writeln!(self.out, "## Transports\n")?;
        let headline = self.text(&m.headline);
        if !headline.is_empty() {
            writeln!(self.out, "{headline}\n")?;
        }
        if m.slots.len() > MATRIX_SIDE {
            return Ok(());
        }
        let page = matrix::grid(m).join("\n") + "\n";
        self.code("", &page)?;
        writeln!(self.out, "{}\n", matrix::legend(m))
    }
}
