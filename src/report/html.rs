//! The report as one page: for a ticket, a mail, a printer.
//!
//! Nothing outside the page is asked for and no script runs in it; what can be opened is `details`, so that a keyboard
//! does. On paper everything is open. Every text from outside is redacted, cleaned of control characters and escaped
//! on its way in, in one place ([`Page::text`]).

mod curves;
mod pictures;
mod style;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use super::redact::Redactor;
use super::text::{count, remark};
use super::{confidence, parts, severity, verdict};
use crate::model::Model;
use crate::model::speakers::Stage;
use crate::parse::clean;
use crate::rules::findings::fix::Shape;
use crate::rules::findings::{followers, ranges, whom};
use crate::rules::scene::{
    CheckVerdict, Communicator, Evidence, Finding, ProcessView, Scene, SourceView,
};

/// Evidence lines of a finding; the JSON report has all.
const EVIDENCE: usize = 24;
/// Findings that follow from one another.
const CHAIN: u8 = 8;
/// Rows of a table; a sentence says how many more there are.
const LISTED: usize = 512;

const STAGES: [Stage; 10] = [
    Stage::Started,
    Stage::Config,
    Stage::DistributedInit,
    Stage::NcclInit,
    Stage::Download,
    Stage::Weights,
    Stage::Profile,
    Stage::Compile,
    Stage::Graphs,
    Stage::Serving,
];

/// Writes the page; `model` is what the scene was derived from, and keeps what was measured over time.
///
/// # Errors
/// What `out` says.
pub fn write(
    mut out: impl Write,
    scene: &Scene,
    model: &Model,
    redactor: &mut Redactor,
) -> io::Result<()> {
    let mut page = Page {
        out: String::new(),
        scene,
        model,
        redactor,
    };
    page.head();
    page.answer();
    page.findings();
    page.ladder();
    page.matrix();
    page.memory();
    page.test();
    page.pods();
    page.checks();
    page.communicators();
    page.sources();
    page.foot();
    out.write_all(page.out.as_bytes())
}

struct Page<'a> {
    out: String,
    scene: &'a Scene,
    model: &'a Model,
    redactor: &'a mut Redactor,
}

/// Text that means nothing to a browser.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// What a browser must not be told: controls, and marks that turn the direction of reading.
fn tame(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    clean(text.as_bytes()).replace(turns, "\u{fffd}")
}

impl Page<'_> {
    fn put(&mut self, html: &str) {
        self.out.push_str(html);
    }

    /// Text from outside, ready for the page. The only way in.
    fn text(&mut self, text: &str) -> String {
        escape(&tame(&self.redactor.text(text)))
    }

    /// The same for text of several lines.
    fn lines(&mut self, text: &str) -> String {
        let clean = self.redactor.text(text).into_owned();
        let lines: Vec<String> = clean.lines().map(|l| escape(&tame(l))).collect();
        lines.join("\n")
    }

    /// What to do: commands and settings to be copied, sentences to be read.
    fn fixes(&mut self, fixes: &[String]) {
        for fix in fixes {
            let shape = Shape::of(fix);
            let fix = self.lines(fix);
            self.put(&match shape {
                Shape::Command | Shape::Piece => {
                    format!("<pre class=\"fix\" tabindex=\"0\">{fix}</pre>\n")
                }
                Shape::Words => format!("<p>{fix}</p>\n"),
            });
        }
    }

    fn section(&mut self, id: &str, title: &str, about: &str) {
        self.put(&format!(
            "<section id=\"{id}\"><h2>{title}{}</h2>\n",
            if about.is_empty() {
                String::new()
            } else {
                format!(" <span class=\"about\">{about}</span>")
            }
        ));
    }

    fn head(&mut self) {
        let name = self.name();
        let word = verdict(self.scene.verdict);
        self.put(&format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n\
             <title>{word}: {name} · ncclscope</title>\n<style>{}</style>\n</head>\n<body>\n\
             <a class=\"skip\" href=\"#findings\">to the findings</a>\n",
            style::CSS
        ));
    }

    /// What the report is about, in a word or two.
    fn name(&mut self) -> String {
        let names: Vec<&str> = self
            .scene
            .workloads
            .iter()
            .filter_map(|w| w.name.as_deref().or(w.model.as_deref()))
            .collect();
        let streams: Vec<_> = self.scene.streams().collect();
        let name = match (names.as_slice(), streams.as_slice()) {
            ([one], _) => (*one).to_owned(),
            ([], [one]) => one.name.clone(),
            ([], all) => count(all.len(), "log", "logs"),
            (all, _) => count(all.len(), "workload", "workloads"),
        };
        self.text(&name)
    }

    fn answer(&mut self) {
        let scene = self.scene;
        let word = verdict(scene.verdict);
        let (name, summary) = (self.name(), self.text(&scene.summary));
        self.put(&format!(
            "<header class=\"{word}\"><p class=\"what\">{name}</p>\n<h1><span class=\"badge\">{}</span> {summary}</h1>\n<dl class=\"facts\">\n",
            word.to_uppercase()
        ));
        let ranks = scene.processes.iter().filter_map(|p| p.global_rank).count();
        let mut facts: Vec<(&str, String)> = Vec::new();
        if let [one] = scene.workloads.as_slice() {
            facts.extend(one.model.clone().map(|m| ("model", m)));
            let sizes: Vec<String> = ["TP", "PP", "DP", "EP"]
                .iter()
                .zip(one.sizes)
                .filter_map(|(n, s)| s.map(|s| format!("{n} {s}")))
                .collect();
            if !sizes.is_empty() {
                facts.push(("layout", sizes.join(" × ")));
            }
            facts.extend(
                one.expected_ranks
                    .map(|n| ("ranks", format!("{ranks} of {n} seen"))),
            );
        } else if ranks > 0 {
            facts.push(("ranks", ranks.to_string()));
        }
        let all = |of: &dyn Fn(&ProcessView) -> Vec<String>| {
            let mut all: Vec<String> = scene.processes.iter().flat_map(of).collect();
            all.sort();
            all.dedup();
            all.join(", ")
        };
        facts.push(("processes", scene.processes.len().to_string()));
        facts.push(("pods", scene.pods.len().to_string()));
        facts.push(("NCCL", all(&|p| p.nccl_versions.clone())));
        facts.push(("vLLM", all(&|p| p.vllm_version.iter().cloned().collect())));
        facts.push(("network", all(&|p| p.network.iter().cloned().collect())));
        facts.extend(super::stamp(scene.now).map(|at| ("newest fact", at)));
        for (name, value) in facts {
            if !value.is_empty() && value != "0" {
                let value = self.text(&value);
                self.put(&format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"));
            }
        }
        self.put("</dl></header>\n<main>\n");
    }

    fn findings(&mut self) {
        let scene = self.scene;
        let n = scene.findings.len();
        let about = if n == 0 {
            "none".to_owned()
        } else {
            n.to_string()
        };
        self.section("findings", "Findings", &about);
        if n == 0 {
            self.put("<p>Nothing that was seen speaks of trouble.</p>\n");
        }
        let told = |key: &str| scene.findings.iter().any(|f| f.key == key);
        for (i, finding) in scene.findings.iter().enumerate() {
            // What follows from another one is told with that one.
            if !finding.consequence_of.as_deref().is_some_and(told) {
                self.chain(i + 1, finding, 0);
            }
        }
        self.put("</section>\n");
    }

    /// A finding, and beneath it what follows from it.
    fn chain(&mut self, number: usize, f: &Finding, depth: u8) {
        self.finding(number, f);
        if depth < CHAIN {
            for (index, echo) in followers(self.scene, f) {
                self.chain(index + 1, echo, depth + 1);
            }
        }
    }

    fn finding(&mut self, number: usize, f: &Finding) {
        let word = severity(f.severity);
        let echo = f.consequence_of.is_some();
        let title = self.text(&f.title);
        self.put(&format!(
            "<details class=\"finding {word}{}\"{}><summary><span class=\"n\">{number}</span> \
             <span class=\"sev\">{word}</span> {title}</summary>\n<div class=\"body\">\n",
            if echo { " echo" } else { "" },
            if echo || word == "info" { "" } else { " open" }
        ));
        let mut about = vec![
            f.id.to_owned(),
            confidence(f.confidence).to_owned(),
            super::class(f.class).to_owned(),
        ];
        about.extend(whom(self.scene, f));
        about.extend(
            f.communicator
                .as_ref()
                .map(|key| format!("communicator {key}")),
        );
        if !f.hosts.is_empty() {
            about.push(format!("on {}", f.hosts.join(", ")));
        }
        if !f.pods.is_empty() && f.pods != f.hosts {
            about.push(format!("pods {}", f.pods.join(", ")));
        }
        about.extend(super::stamp(f.since).map(|since| format!("since {since}")));
        let about = self.text(&about.join(" · "));
        self.put(&format!("<p class=\"meta\">{about}</p>\n"));
        if !f.cause.is_empty() {
            let cause = self.text(&f.cause);
            self.put(&format!("<p>{cause}</p>\n"));
        }
        if !f.fix.is_empty() {
            self.put("<h3>Fix</h3>\n");
            self.fixes(&f.fix);
        }
        self.put("<h3>Proof</h3>\n<ol class=\"proof\">\n");
        for evidence in f.evidence().iter().take(EVIDENCE) {
            let (place, text) = match evidence {
                Evidence::Line(line) => {
                    let (file, number) = self.scene.place(line);
                    (format!("{file}:{number}"), line.text.to_string())
                }
                Evidence::Object(text) => ("object".to_owned(), text.clone()),
                Evidence::Sample(text) => ("sample".to_owned(), text.clone()),
                Evidence::Check(text) => ("check".to_owned(), text.clone()),
            };
            let (place, text) = (self.text(&place), self.text(&text));
            self.put(&format!(
                "<li><span class=\"place\">{place}</span><code>{text}</code></li>\n"
            ));
        }
        self.put("</ol>\n");
        let more = f.evidence().len().saturating_sub(EVIDENCE);
        if more > 0 {
            self.put(&format!(
                "<p class=\"meta\">and {more} more in the JSON report</p>\n"
            ));
        }
        if let Some(cause) = &f.consequence_of {
            let at = self
                .scene
                .findings
                .iter()
                .position(|other| other.key == *cause);
            let which = at.map_or_else(|| cause.clone(), |at| format!("finding {}", at + 1));
            let which = self.text(&which);
            self.put(&format!("<p class=\"meta\">follows from {which}</p>\n"));
        }
        self.put("</div></details>\n");
    }

    /// Ranks that are alike stand on one rung; those that hold the others up come first.
    fn ladder(&mut self) {
        type Rung = (Option<Stage>, bool, String, String);
        let mut rungs: BTreeMap<Rung, Vec<&ProcessView>> = BTreeMap::new();
        // Engines and servers beside the ranks stay where they are while the ranks start.
        let ranked = self
            .scene
            .processes
            .iter()
            .any(|p| p.stage.is_some() && p.global_rank.is_some());
        let all = self.scene.processes.iter();
        for p in all.filter(|p| p.stage.is_some() && (!ranked || p.global_rank.is_some())) {
            let progress = p.progress.as_ref().map_or_else(String::new, |at| at.told());
            let rung = (p.stage, p.alive != Some(false), progress, p.place());
            rungs.entry(rung).or_default().push(p);
        }
        if rungs.is_empty() {
            return;
        }
        self.section(
            "ladder",
            "Start-up",
            "furthest stage each rank has proven; those behind first",
        );
        self.put("<div class=\"wide\"><table class=\"ladder\"><thead><tr><th>ranks</th><th>on</th><th>stage</th>");
        self.put("<th class=\"bar\"><span class=\"sr\">how far</span></th><th>progress</th></tr></thead><tbody>\n");
        for ((stage, alive, progress, place), same) in rungs.iter().take(LISTED) {
            let mut ranks: Vec<u32> = same.iter().filter_map(|p| p.global_rank).collect();
            ranks.sort_unstable();
            ranks.dedup();
            let ranks = if ranks.is_empty() {
                count(same.len(), "process", "processes")
            } else {
                ranges(&ranks)
            };
            let (progress, place, ranks) =
                (self.text(progress), self.text(place), self.text(&ranks));
            let word = stage.map_or("", parts::stage);
            let steps: String = STAGES
                .iter()
                .map(|s| {
                    let reached = stage.is_some_and(|here| *s <= here);
                    let class = if !reached {
                        ""
                    } else if *stage == Some(*s) && *s != Stage::Serving {
                        " class=\"here\""
                    } else {
                        " class=\"done\""
                    };
                    format!("<i{class} title=\"{}\"></i>", parts::stage(*s))
                })
                .collect();
            let end = if *alive {
                ""
            } else {
                " <b class=\"bad\">ended</b>"
            };
            self.put(&format!(
                "<tr><td>{ranks}</td><td>{place}</td><td>{word}{end}</td><td class=\"bar\">{steps}</td><td>{progress}</td></tr>\n"
            ));
        }
        self.put("</tbody></table></div>\n");
        for f in &self.scene.folded {
            let said = self.text(&f.sentence());
            self.put(&format!("<p>{said}</p>\n"));
        }
        self.put("</section>\n");
    }

    fn table(&mut self, head: &[&str], rows: Vec<Vec<String>>) {
        let all = rows.len();
        self.put("<div class=\"wide\"><table><thead><tr>");
        for title in head {
            self.put(&format!("<th>{title}</th>"));
        }
        self.put("</tr></thead><tbody>\n");
        for row in rows.into_iter().take(LISTED) {
            self.put("<tr>");
            for cell in row {
                let cell = self.text(&cell);
                self.put(&format!("<td>{cell}</td>"));
            }
            self.put("</tr>\n");
        }
        self.put("</tbody></table></div>\n");
        if all > LISTED {
            self.put(&format!(
                "<p class=\"meta\">and {} more in the JSON report</p>\n",
                all - LISTED
            ));
        }
    }

    fn pods(&mut self) {
        if self.scene.pods.is_empty() {
            return;
        }
        self.section("pods", "Pods", &self.scene.pods.len().to_string());
        let rows = self
            .scene
            .pods
            .iter()
            .map(|p| {
                vec![
                    p.name.clone(),
                    p.status.clone(),
                    p.ready.clone(),
                    p.restarts.clone(),
                    p.gpus.to_string(),
                    ranges(&p.ranks),
                    p.node.clone().unwrap_or_default(),
                    p.why.clone().unwrap_or_default(),
                ]
            })
            .collect();
        self.table(
            &[
                "pod", "status", "ready", "restarts", "GPUs", "ranks", "node", "why",
            ],
            rows,
        );
        self.put("</section>\n");
    }

    fn checks(&mut self) {
        if self.scene.checks.is_empty() {
            return;
        }
        let bad = self
            .scene
            .checks
            .iter()
            .filter(|c| matches!(c.verdict, CheckVerdict::Fail | CheckVerdict::Warn))
            .count();
        let about = match bad {
            0 => self.scene.checks.len().to_string(),
            n => format!("{n} of {} not passed", self.scene.checks.len()),
        };
        self.section("checks", "Checks", &about);
        for check in &self.scene.checks {
            let word = super::check(check).verdict;
            let (title, subject) = (self.text(&check.title), self.text(&check.subject));
            let (ran, output) = (self.lines(&check.ran), self.lines(&check.output));
            self.put(&format!(
                "<details class=\"check {word}\"><summary><span class=\"sev\">{word}</span> {title} \
                 <span class=\"about\">{subject}</span></summary><div class=\"body\">\n<p class=\"meta\">{}</p>\n",
                check.id
            ));
            if !ran.is_empty() {
                self.put(&format!("<p class=\"meta\">ran <code>{ran}</code></p>\n"));
            }
            if !output.is_empty() {
                self.put(&format!("<pre tabindex=\"0\">{output}</pre>\n"));
            }
            self.fixes(&check.fix);
            self.put("</div></details>\n");
        }
        self.put("</section>\n");
    }

    fn communicators(&mut self) {
        if self.scene.communicators.is_empty() {
            return;
        }
        self.section(
            "communicators",
            "Communicators",
            &self.scene.communicators.len().to_string(),
        );
        let row = |c: &Arc<Communicator>| {
            vec![
                c.group.clone().unwrap_or_default(),
                c.key.clone(),
                parts::comm_state(c.state).to_owned(),
                format!(
                    "{} of {}",
                    c.nranks.saturating_sub(c.unseen_count),
                    c.nranks
                ),
                c.missing_ranks.as_deref().map(ranges).unwrap_or_default(),
                ranges(&c.incomplete_ranks),
                c.nccl_version.clone().unwrap_or_default(),
                c.init_seconds
                    .map(|s| format!("{s:.2} s"))
                    .unwrap_or_default(),
            ]
        };
        let rows = self.scene.communicators.iter().map(row).collect();
        self.table(
            &[
                "group",
                "key",
                "state",
                "ranks seen",
                "missing",
                "not complete",
                "NCCL",
                "init",
            ],
            rows,
        );
        self.put("</section>\n");
    }

    fn sources(&mut self) {
        let files = self.scene.streams().flat_map(SourceView::by_file);
        let rows: Vec<_> = files
            .map(|s| {
                vec![
                    s.name.clone(),
                    s.lines.to_string(),
                    s.nccl_lines.to_string(),
                    s.vllm_lines.to_string(),
                    s.dropped_lines.to_string(),
                    remark(&s),
                ]
            })
            .collect();
        self.section("sources", "Sources", &rows.len().to_string());
        self.table(&["name", "lines", "NCCL", "vLLM", "lost", ""], rows);
        self.put("</section>\n");
    }

    fn foot(&mut self) {
        let taken = match (self.redactor.is_on(), self.redactor.total()) {
            (false, _) => "secrets were left in".to_owned(),
            (true, 0) => "no secret was found".to_owned(),
            (true, n) => format!("{n} times a secret was taken out"),
        };
        self.put(&format!(
            "</main>\n<footer>ncclscope {} · {taken}</footer>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION")
        ));
    }
}
