//! The report for a person: the answer first, its proof below, one screen for a healthy job.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::parts::{comm_state, family, nccl_step, stage};
use super::{confidence, matrix, severity, verdict};
use crate::parse::clean;
use crate::rules::busbw::Grade;
use crate::rules::findings::{followers, ranges, whom};
use crate::rules::scene::{
    Communicator, Evidence, Finding, ProcessView, Scene, Severity, SourceView, Verdict,
};
use crate::rules::testing::state;

/// Longest matrix side that is printed cell by cell: with its margin it fits 80 columns.
const MATRIX_SIDE: usize = 32;

/// Evidence lines printed per finding; the JSON report has all.
const EVIDENCE: usize = 3;

/// Communicators and processes printed one by one; beyond, a sentence says how many there are.
const LISTED: usize = 64;

/// How the text is dressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Colour for severities, bold for headings: only for a terminal.
    pub colour: bool,
}

/// Writes the report.
///
/// # Errors
/// What `out` says.
pub fn write(mut out: impl Write, scene: &Scene, style: Style) -> io::Result<()> {
    let mut page = Page {
        out: &mut out,
        style,
        scene,
    };
    page.answer()?;
    page.findings()?;
    page.test()?;
    page.workloads()?;
    page.former()?;
    page.processes()?;
    page.communicators()?;
    page.matrix()?;
    page.open_lines()?;
    page.sources()
}

struct Page<'a, W> {
    out: W,
    style: Style,
    scene: &'a Scene,
}

/// Text from outside, harmless on a terminal.
fn tame(text: &str) -> String {
    clean(text.as_bytes())
}

impl<W: Write> Page<'_, W> {
    fn paint(&self, code: &str, text: &str) -> String {
        if self.style.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn heading(&mut self, title: &str, rest: &str) -> io::Result<()> {
        let title = self.paint("1", title);
        let gap = if rest.is_empty() { "" } else { "  " };
        writeln!(self.out, "\n{title}{gap}{rest}")
    }

    fn table(&mut self, rows: &[Vec<String>]) -> io::Result<()> {
        let mut widths: Vec<usize> = Vec::new();
        for row in rows {
            for (i, cell) in row.iter().enumerate() {
                let width = unicode_width::UnicodeWidthStr::width(cell.as_str());
                match widths.get_mut(i) {
                    Some(w) => *w = width.max(*w),
                    None => widths.push(width),
                }
            }
        }
        for row in rows {
            let mut line = String::from(" ");
            for (cell, width) in row.iter().zip(&widths) {
                let pad =
                    width.saturating_sub(unicode_width::UnicodeWidthStr::width(cell.as_str()));
                line.push(' ');
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', pad + 1));
            }
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn answer(&mut self) -> io::Result<()> {
        let (word, code) = match self.scene.verdict {
            Verdict::Healthy => ("HEALTHY", "1;32"),
            Verdict::Starting => ("STARTING", "1;36"),
            Verdict::Unknown => ("UNKNOWN", "1"),
            Verdict::Degraded => ("DEGRADED", "1;33"),
            Verdict::Failed => ("FAILED", "1;31"),
        };
        let word = self.paint(code, word);
        writeln!(self.out, "{word}  {}", tame(&self.scene.summary))
    }

    fn findings(&mut self) -> io::Result<()> {
        let scene = self.scene;
        for (i, finding) in scene.findings.iter().enumerate() {
            // What follows from another one is told with that one.
            if finding.consequence_of.is_none() {
                self.finding(i + 1, finding)?;
            }
        }
        Ok(())
    }

    fn finding(&mut self, number: usize, f: &Finding) -> io::Result<()> {
        let code = match f.severity {
            Severity::Error => "31",
            Severity::Warning => "33",
            Severity::Info => "36",
        };
        let word = self.paint(code, &format!("{:<7}", severity(f.severity)));
        let title = self.paint("1", &tame(&f.title));
        writeln!(self.out, "\n{number:>2}  {word}  {title}")?;
        let mut about = vec![format!("{}, {}", f.id, confidence(f.confidence))];
        about.extend(whom(self.scene, f).map(|w| tame(&w)));
        about.extend(
            f.communicator
                .as_deref()
                .map(|key| format!("communicator {}", tame(key))),
        );
        if !f.hosts.is_empty() {
            about.push(format!("on {}", some_of(&f.hosts, 6)));
        }
        about.extend(super::stamp(f.since).map(|since| format!("since {since}")));
        writeln!(self.out, "    {}", about.join(" · "))?;
        if !f.cause.is_empty() {
            writeln!(self.out, "    why    {}", tame(&f.cause))?;
        }
        for (i, fix) in f.fix.iter().enumerate() {
            for (j, line) in fix.lines().enumerate() {
                let label = if i + j == 0 { "fix" } else { "" };
                writeln!(self.out, "    {label:<5}  {}", tame(line))?;
            }
        }
        for (i, evidence) in f.evidence().iter().take(EVIDENCE).enumerate() {
            let label = if i == 0 { "proof" } else { "" };
            let text = match evidence {
                Evidence::Line(line) => {
                    let (file, number) = self.scene.place(line);
                    format!("{}:{number}  {}", tame(file), tame(&line.text))
                }
                Evidence::Object(text) | Evidence::Sample(text) | Evidence::Check(text) => {
                    tame(text)
                }
            };
            writeln!(self.out, "    {label:<5}  {text}")?;
        }
        let more = f.evidence().len().saturating_sub(EVIDENCE);
        if more > 0 {
            writeln!(self.out, "           and {more} more in --format json")?;
        }
        for (i, (index, echo)) in followers(self.scene, f).enumerate() {
            let label = if i == 0 { "also" } else { "" };
            let whom = whom(self.scene, echo).map_or_else(String::new, |w| format!(", {w}"));
            let (number, title) = (index + 1, tame(&echo.title));
            let word = severity(echo.severity);
            writeln!(
                self.out,
                "    {label:<5}  {number}  {word}: {title} ({}{})",
                echo.id,
                tame(&whom)
            )?;
        }
        Ok(())
    }

    /// What an all-reduce test came to; its rows are in the JSON report.
    fn test(&mut self) -> io::Result<()> {
        let Some(test) = self.scene.test.as_deref() else {
            return Ok(());
        };
        let (word, grade) = state(test);
        let code = match grade {
            Some(Grade::Good) => "1;32",
            Some(Grade::Warn) => "1;33",
            Some(Grade::Below | Grade::Wrong | Grade::Failed) => "1;31",
            Some(Grade::Undecided) | None => "1",
        };
        let word = self.paint(code, word);
        self.heading("ALL-REDUCE TEST", &tame(super::tests::id(test)))?;
        writeln!(self.out, "  {word}  {}", tame(&test.sentence))?;
        for failure in test.failures.iter().filter(|f| !f.echo).take(EVIDENCE) {
            writeln!(self.out, "  {}", tame(&failure.to_string()))?;
        }
        if let Some(next) = test.next() {
            writeln!(self.out, "  {next}")?;
        }
        Ok(())
    }

    fn workloads(&mut self) -> io::Result<()> {
        if self.scene.workloads.is_empty() {
            return Ok(());
        }
        self.heading("WORKLOADS", "")?;
        let mut rows = Vec::new();
        for (i, w) in self.scene.workloads.iter().take(LISTED).enumerate() {
            let mut what = vec![count(w.processes.len(), "process", "processes")];
            what.push(count(
                w.communicators.len(),
                "communicator",
                "communicators",
            ));
            what.extend(w.expected_ranks.map(|n| format!("{n} ranks expected")));
            let sizes = w.cut();
            if !sizes.is_empty() {
                what.push(sizes.join(" × "));
            }
            what.extend(w.model.as_deref().map(tame));
            let name = w
                .name
                .as_deref()
                .map_or_else(|| format!("workload {}", i + 1), tame);
            rows.push(vec![name, verdict(w.verdict).to_owned(), what.join(" · ")]);
            if w.summary != self.scene.summary {
                rows.push(vec![String::new(), String::new(), tame(&w.summary)]);
            }
        }
        self.table(&rows)?;
        if let Some(origins) = self.scene.layout.origins() {
            writeln!(self.out, "  cut by {}", tame(&origins))?;
        }
        for t in self.scene.layout.disputed().take(LISTED) {
            writeln!(self.out, "  disagreement about {}", tame(&t.dispute()))?;
        }
        self.more(self.scene.workloads.len())
    }

    /// What came before the present run in the same logs.
    fn former(&mut self) -> io::Result<()> {
        if self.scene.former.is_empty() {
            return Ok(());
        }
        self.heading("EARLIER RUNS", "in the same logs, over")?;
        for former in self.scene.former.iter() {
            let word = verdict(former.verdict);
            writeln!(self.out, "  {word}  {}", tame(&former.sentence()))?;
        }
        Ok(())
    }

    fn more(&mut self, all: usize) -> io::Result<()> {
        match all.saturating_sub(LISTED) {
            0 => Ok(()),
            more => writeln!(self.out, "  and {more} more in --format json"),
        }
    }

    /// Processes that are alike in everything but their number stand on one line per place.
    fn processes(&mut self) -> io::Result<()> {
        if self.scene.processes.is_empty() {
            return Ok(());
        }
        let mut alike: BTreeMap<Vec<String>, Vec<&ProcessView>> = BTreeMap::new();
        let mut order: Vec<Vec<String>> = Vec::new();
        for p in &self.scene.processes {
            let versions = p.nccl_versions.join(" and ");
            let network = p.network.as_deref().map(tame).unwrap_or_default();
            let mut progress = p.stage.map(|s| stage(s).to_owned()).unwrap_or_default();
            if let Some(at) = &p.progress {
                progress = format!("{progress} {}", at.told());
            }
            let ended = if p.alive == Some(false) { "ended" } else { "" };
            let key = vec![
                tame(&p.place()),
                tame(&versions),
                network,
                p.nccl_step.map(nccl_step).unwrap_or_default().to_owned(),
                progress,
                ended.to_owned(),
            ];
            let same = alike.entry(key.clone()).or_default();
            if same.is_empty() {
                order.push(key);
            }
            same.push(p);
        }
        self.heading("PROCESSES", &self.scene.processes.len().to_string())?;
        let mut rows = vec![
            [
                "on", "ranks", "pids", "NCCL", "network", "step", "stage", "",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        for key in order.iter().take(LISTED) {
            let Some(same) = alike.get(key) else { continue };
            let mut ranks: Vec<u32> = same.iter().filter_map(|p| p.global_rank).collect();
            ranks.sort_unstable();
            ranks.dedup();
            let mut pids: Vec<u32> = same
                .iter()
                .filter_map(|p| p.pid.and_then(|pid| u32::try_from(pid).ok()))
                .collect();
            pids.sort_unstable();
            pids.dedup();
            let pids = if pids.len() > 8 {
                count(pids.len(), "process", "processes")
            } else {
                ranges(&pids)
            };
            let mut row = key.clone();
            row.splice(1..1, [ranges(&ranks), pids]);
            rows.push(row);
        }
        drop_empty_columns(&mut rows);
        self.table(&rows)?;
        self.more(order.len())?;
        for f in &self.scene.folded {
            writeln!(self.out, "  {}", f.sentence())?;
        }
        Ok(())
    }

    fn communicators(&mut self) -> io::Result<()> {
        if self.scene.communicators.is_empty() {
            return Ok(());
        }
        self.heading("COMMUNICATORS", &self.scene.communicators.len().to_string())?;
        for c in self.scene.communicators.iter().take(LISTED) {
            self.communicator(c)?;
        }
        self.more(self.scene.communicators.len())
    }

    fn communicator(&mut self, c: &Communicator) -> io::Result<()> {
        let mut about = vec![comm_state(c.state).to_owned()];
        about.extend(c.group.as_deref().map(tame));
        about.push(format!(
            "{} of {} ranks seen",
            c.nranks.saturating_sub(c.unseen_count),
            c.nranks
        ));
        about.extend(
            c.nccl_version
                .as_deref()
                .map(|v| format!("NCCL {}", tame(v))),
        );
        about.extend(c.init_seconds.map(|s| format!("init {s:.2} s")));
        about.extend(
            c.parent
                .as_deref()
                .map(|p| format!("split from {}", tame(p))),
        );
        let key = self.paint("1", &tame(&c.key));
        writeln!(self.out, "  {key}  {}", about.join(" · "))?;
        let mut lists: Vec<(&str, &[u32])> = Vec::new();
        lists.extend(
            c.missing_ranks
                .as_deref()
                .map(|missing| ("missing", missing)),
        );
        lists.push(("not complete", &c.incomplete_ranks));
        lists.push(("no line from", &c.unseen_ranks));
        for (what, ranks) in lists {
            if !ranks.is_empty() {
                let s = if ranks.len() == 1 { "" } else { "s" };
                writeln!(self.out, "      {what}: rank{s} {}", ranges(ranks))?;
            }
        }
        // Transports, the most used first.
        let mut kinds: BTreeMap<(Option<&str>, &str), (usize, usize)> = BTreeMap::new();
        for e in &c.edges {
            let (edges, inferred) = kinds.entry((family(e.family), &e.transport)).or_default();
            *edges += 1;
            *inferred += usize::from(e.attribution == crate::rules::scene::Attribution::Inferred);
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|&((family, transport), (edges, _))| {
            (std::cmp::Reverse(edges), family, transport)
        });
        let most = 6;
        for ((_, transport), (edges, inferred)) in kinds.iter().take(most) {
            let doubt = match inferred {
                0 => String::new(),
                n => format!(", {n} of them inferred"),
            };
            writeln!(
                self.out,
                "      {}: {}{doubt}",
                tame(transport),
                count(*edges, "edge", "edges")
            )?;
        }
        if kinds.len() > most {
            writeln!(
                self.out,
                "      and {} other transports",
                kinds.len() - most
            )?;
        }
        if !c.rings.is_empty() || c.channel_counts.is_some() {
            let mut shape = Vec::new();
            if !c.rings.is_empty() {
                shape.push(count(c.rings.len(), "ring", "rings"));
            }
            if let Some((coll, nvls, p2p, per_peer)) = c.channel_counts {
                let nvls = nvls.map(|n| format!(", {n} NVLS")).unwrap_or_default();
                shape.push(format!(
                    "channels: {coll} collective{nvls}, {p2p} send/recv ({per_peer} per peer)"
                ));
            }
            writeln!(self.out, "      {}", shape.join(" · "))?;
        }
        Ok(())
    }

    fn matrix(&mut self) -> io::Result<()> {
        let Some(merged) = self.scene.matrices.first() else {
            return Ok(());
        };
        if merged.cells.is_empty() {
            return Ok(());
        }
        let by_host;
        let shown = if merged.slots.len() <= MATRIX_SIDE {
            self.heading("MATRIX", "row sends to column")?;
            merged
        } else {
            by_host = merged.by_host();
            if by_host.slots.len() > MATRIX_SIDE {
                self.heading("MATRIX", &tame(&merged.headline))?;
                return Ok(());
            }
            self.heading(
                "MATRIX",
                "by host, the worst transport; row sends to column",
            )?;
            &by_host
        };
        for line in matrix::grid(shown) {
            writeln!(self.out, "  {line}")?;
        }
        if merged.slots.len() > MATRIX_SIDE {
            for slot in &shown.slots {
                writeln!(self.out, "  {:>3}  {}", slot.number, tame(&slot.host))?;
            }
        }
        if !merged.headline.is_empty() {
            writeln!(self.out, "  {}", tame(&merged.headline))?;
        }
        writeln!(self.out, "  {}", matrix::legend(shown))
    }

    fn open_lines(&mut self) -> io::Result<()> {
        let lines: u64 = self.scene.unattributed.iter().map(|u| u.lines).sum();
        if lines == 0 {
            return Ok(());
        }
        let early: u64 = self
            .scene
            .unattributed
            .iter()
            .filter(|u| u.candidates.is_empty())
            .map(|u| u.lines)
            .sum();
        self.heading("IN DOUBT", "")?;
        if lines > early {
            writeln!(
                self.out,
                "  {} connection lines fit several communicators",
                lines - early
            )?;
        }
        if early > 0 {
            writeln!(
                self.out,
                "  {early} connection lines came before any communicator was seen to start"
            )?;
        }
        Ok(())
    }

    fn sources(&mut self) -> io::Result<()> {
        let files: Vec<_> = (self.scene.streams())
            .flat_map(SourceView::by_file)
            .collect();
        self.heading("SOURCES", &files.len().to_string())?;
        let number = |n: u64| n.to_string();
        let mut rows = vec![
            ["name", "lines", "NCCL", "vLLM", "lost", ""]
                .map(str::to_owned)
                .to_vec(),
        ];
        for s in files.iter().take(LISTED) {
            let lost = if s.dropped_lines == 0 {
                String::new()
            } else {
                number(s.dropped_lines)
            };
            rows.push(vec![
                tame(&s.name),
                number(s.lines),
                number(s.nccl_lines),
                number(s.vllm_lines),
                lost,
                remark(s),
            ]);
        }
        drop_empty_columns(&mut rows);
        self.table(&rows)?;
        self.more(files.len())
    }
}

pub(super) fn remark(s: &SourceView) -> String {
    let mut words = Vec::new();
    // What could not be read is not known to be empty.
    if s.bytes == 0 && s.trouble.is_none() {
        words.push("empty".to_owned());
    }
    if s.head_missing == Some(true) {
        words.push("starts in mid-life".to_owned());
    }
    if s.unclear_lines > 0 {
        let lines = if s.unclear_lines == 1 {
            "line names"
        } else {
            "lines name"
        };
        words.push(format!(
            "several pods without their names: {} {lines} only a pid that ranks share",
            s.unclear_lines
        ));
    }
    words.extend(s.trouble.as_deref().map(tame));
    words.join("; ")
}

/// Columns where no row but the first, the titles, says anything.
fn drop_empty_columns(rows: &mut [Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    for column in (0..columns).rev() {
        let said = rows
            .iter()
            .skip(1)
            .any(|row| row.get(column).is_some_and(|cell| !cell.is_empty()));
        if !said {
            for row in rows.iter_mut() {
                row.remove(column);
            }
        }
    }
}

pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn some_of(names: &[String], most: usize) -> String {
    let mut shown = names
        .iter()
        .take(most)
        .map(|n| tame(n))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > most {
        shown.push_str(&format!(" and {} more", names.len() - most));
    }
    shown
}
