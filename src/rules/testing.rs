//! The all-reduce test as people see it: how far it is, what it measured, how that compares.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::busbw::{self, Grade, Table, size};
use super::pairs::{self, Judged, Pairs};
use super::scene::{Cell, Glyph, Matrix, Scene, Slot};
use crate::model::Model;
use crate::model::testrun::{Failure, Phase, Planned, TestRun};
use crate::parse::Nanos;
use crate::parse::perf::{Half, Row};

/// Connections that leave their host.
const BETWEEN: &str = "between hosts";

/// A phase that was reached.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseView {
    /// Which.
    pub phase: Phase,
    /// How long it took, or takes by now.
    pub took: Nanos,
    /// It goes on.
    pub open: bool,
    /// What is to be said of it.
    pub note: Option<String>,
}

/// What was measured by one way, in one type.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What a person calls it: `gloo`, `float32`, `pynccl`.
    pub label: String,
    /// By what: as [`Row::by`].
    pub by: String,
    /// Type.
    pub kind: String,
    /// Best half of each row and its wrong elements, by size.
    pub points: BTreeMap<u64, (Half, Option<u64>)>,
}

impl Series {
    /// It went over the GPUs.
    #[must_use]
    pub fn on_gpus(&self) -> bool {
        self.by != "gloo"
    }
}

/// Connections of one kind of place, in the workload and in the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// `inside hosts`, `between hosts`.
    pub place: &'static str,
    /// Transports of the workload with their cells, best first.
    pub workload: Vec<(Glyph, usize)>,
    /// Those of the test.
    pub test: Vec<(Glyph, usize)>,
    /// The worst of the test beside the worst of the workload; `Equal` where one is not known.
    pub test_is: Ordering,
}

impl Compared {
    /// In a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let side = |all: &[(Glyph, usize)]| {
            let each = all.iter().map(|(g, n)| format!("{} ({n})", g.words()));
            let each: Vec<String> = each.collect();
            match each.as_slice() {
                [] => "nothing that is known".to_owned(),
                each => each.join(", "),
            }
        };
        format!(
            "{}: the workload uses {}, the test {}: {}",
            self.place,
            side(&self.workload),
            side(&self.test),
            self.outcome()
        )
    }

    /// Which of the two does better, in words.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self.test_is {
            Ordering::Equal if self.workload.is_empty() || self.test.is_empty() => {
                "nothing to compare"
            }
            Ordering::Equal => "the same",
            Ordering::Greater => "the test does better: the hardware can, the workload doesn't",
            Ordering::Less => "the test does worse",
        }
    }
}

/// The test.
#[derive(Debug, Clone, PartialEq)]
pub struct TestView {
    /// The plan.
    pub planned: Option<Arc<Planned>>,
    /// It runs, or is cleaned up.
    pub running: bool,
    /// Phases in order.
    pub phases: Vec<PhaseView>,
    /// What was measured.
    pub series: Vec<Series>,
    /// Ranks that spoke.
    pub ranks: usize,
    /// Failures: causes as they came, then their echoes.
    pub failures: Vec<Failure>,
    /// What was left out, with the reason.
    pub skipped: Vec<(String, String)>,
    /// One sentence: how far it is, then the verdict.
    pub sentence: String,
    /// The verdict, once it has ended.
    pub verdict: Option<busbw::Verdict>,
    /// Expected bus bandwidth, GB/s, as soon as the ranks told of GPUs and networks.
    pub expected: Option<f64>,
    /// Rates between every two pods, and what they prove.
    pub pairs: Pairs,
    /// See [`pairs::judge`].
    pub judged: Judged,
    /// Names of the pods' nodes, by number.
    pub pods: Vec<String>,
    /// What is left in the cluster; `None` while nothing was cleaned up.
    pub left: Option<Vec<String>>,
    /// What NCCL said in the test's pods.
    pub scene: Scene,
    /// Its transports beside those of the workload.
    pub compared: Vec<Compared>,
}

impl TestView {
    /// How far it is, in a word: what was cleaned up is done.
    #[must_use]
    pub fn phase(&self) -> Option<&'static str> {
        let last = self.phases.last()?;
        let over = self.left.is_some() && last.phase == Phase::Cleaning;
        Some(if over { Phase::Done } else { last.phase }.word())
    }

    /// What to do next where it is slow and nobody is named: with two pods there is but one pair.
    #[must_use]
    pub fn next(&self) -> Option<&'static str> {
        let slow = self
            .verdict
            .as_ref()
            .is_some_and(|v| matches!(v.grade, Grade::Below | Grade::Warn));
        (slow && self.pairs.is_empty() && self.pods.len() > 1).then_some(match self.pods.len() {
            2 => "Next: it is the link between these two pods or one of their nodes: a test over three pods or more \
                  with --pairs names which.",
            _ => "Next: :allreduce --pairs measures every two pods alone and names the slow node or link.",
        })
    }

    /// Sizes measured, smallest first.
    #[must_use]
    pub fn sizes(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self
            .series
            .iter()
            .flat_map(|s| s.points.keys().copied())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What the grade is about: its type over NCCL; before there is one, the first that goes over GPUs, else gloo.
    #[must_use]
    pub fn graded(&self) -> Option<&Series> {
        let kind = self.verdict.as_ref().and_then(|v| v.kind.as_deref());
        let sweeps = || {
            self.series
                .iter()
                .filter(|s| s.on_gpus() && s.by != "pynccl")
        };
        let of_kind = sweeps().find(|s| kind == Some(s.kind.as_str()));
        of_kind.or(sweeps().next()).or(self.series.first())
    }

    /// Bus bandwidth of [`Self::graded`] at a size, where it went over GPUs.
    #[must_use]
    pub fn busbw(&self, bytes: u64) -> Option<f64> {
        let series = self.graded().filter(|s| s.on_gpus())?;
        series.points.get(&bytes).map(|(half, _)| half.busbw)
    }

    /// Wrong elements at a size; `None` where nothing was checked.
    #[must_use]
    pub fn wrong(&self, bytes: u64) -> Option<u64> {
        let all = self.series.iter().filter_map(|s| s.points.get(&bytes)?.1);
        all.reduce(u64::saturating_add)
    }

    /// The matrix over all ranks of the test, once NCCL said something.
    #[must_use]
    pub fn matrix(&self) -> Option<&Matrix> {
        let first = self.scene.matrices.first().map(|m| &**m);
        first.filter(|m| !m.slots.is_empty())
    }
}

/// The test of a model; `scene` holds what is known of the workload.
#[must_use]
pub fn of(scene: &Scene, model: &Model) -> Option<Box<TestView>> {
    let run = model.test.as_ref()?;
    let inner = Scene::of(&run.world);
    let user = run.planned.as_ref().and_then(|p| p.table.as_deref());
    // A table that can't be read was refused before the test began.
    let user = user.and_then(|text| Table::read(text).ok());
    let table = user.as_ref().unwrap_or_else(|| Table::shared());
    let (graded, compared) = judge(scene, &inner, run, table);
    let running = run.ending.is_none();
    let sentence = if running {
        progress(run, model.now)
    } else {
        graded.sentence.clone()
    };
    let skipped = run.skipped.iter();
    let mut failures = run.failures.clone();
    failures.sort_by_key(|f| f.echo);
    Some(Box::new(TestView {
        planned: run.planned.clone(),
        running,
        phases: phases(run, model.now),
        series: series(&run.rows),
        ranks: run.ranks.len(),
        failures,
        skipped: skipped.map(|(s, w)| (s.clone(), w.clone())).collect(),
        sentence,
        expected: graded.expected,
        judged: pairs::judge(&run.pairs),
        pods: (0..run.planned.as_ref().map_or(0, |p| p.pods.min(1_024)))
            .map(|pod| run.pod_name(pod))
            .collect(),
        pairs: run.pairs.clone(),
        verdict: (!running).then_some(graded),
        left: run.left.clone(),
        scene: inner,
        compared,
    }))
}

/// Grades a test, and holds it against the transports of the workload as far as its scene knows them; `inner` is the
/// scene of the test's own pods.
#[must_use]
pub fn judge(
    workload: &Scene,
    inner: &Scene,
    run: &TestRun,
    table: &Table,
) -> (busbw::Verdict, Vec<Compared>) {
    let mut verdict = busbw::grade(run, table);
    let compared = match (workload.matrices.first(), inner.matrices.first()) {
        (Some(workload), Some(test)) => compare(workload, test),
        _ => Vec::new(),
    };
    let worst = |all: &[(Glyph, usize)]| all.last().map(|(g, _)| *g);
    if let Some(c) = compared.iter().find(|c| c.place == BETWEEN)
        && let (Some(workload), Some(test)) = (worst(&c.workload), worst(&c.test))
    {
        busbw::beside(&mut verdict, run, table, workload, test);
    }
    (verdict, compared)
}

/// Word for a grade, or for a test that runs.
#[must_use]
pub fn state(test: &TestView) -> (&'static str, Option<Grade>) {
    match &test.verdict {
        Some(v) => (v.grade.word(), Some(v.grade)),
        None => ("running", None),
    }
}

fn phases(run: &TestRun, now: Nanos) -> Vec<PhaseView> {
    let over = run.cleaned.is_some();
    let ends = run.phases.iter().skip(1).map(|(_, at, _)| *at);
    let last = run.phases.len().saturating_sub(1);
    run.phases
        .iter()
        .zip(ends.chain([run.cleaned.unwrap_or(now)]))
        .enumerate()
        .map(|(i, ((phase, at, note), end))| PhaseView {
            phase: *phase,
            took: (end - at).max(0),
            open: i == last && !over,
            note: note.clone(),
        })
        .collect()
}

fn progress(run: &TestRun, now: Nanos) -> String {
    let Some((phase, since, note)) = run.phases.last() else {
        return "asked for".into();
    };
    if let Some(cause) = run.cause() {
        return format!("{cause}.");
    }
    if run.wrong() > 0 {
        let first = run.first_wrong().map(|w| format!(", first {w}"));
        return format!(
            "{} elements were wrong{}.",
            run.wrong(),
            first.unwrap_or_default()
        );
    }
    if *phase == Phase::Planned {
        return "The manifest waits for a yes; nothing was created.".into();
    }
    let row = run.rows.iter().rfind(|r| r.by != "gloo");
    if let (true, Some(half), Some(row)) = (*phase >= Phase::Sizes, row.and_then(Row::best), row) {
        return format!(
            "{}: {} of {} measured, {:.2} GB/s at the last.",
            phase.word(),
            size(row.bytes),
            row.kind,
            half.busbw
        );
    }
    let mut word = phase.word().to_owned();
    if let Some(note) = note {
        word.push_str(": ");
        word.push_str(note.trim_end_matches('.'));
    }
    let seconds = (now - since).max(0) / 1_000_000_000;
    if seconds >= 5 {
        word.push_str(&format!(", for {seconds} s"));
    }
    format!("{word}.")
}

fn series(rows: &[Row]) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for row in rows {
        let Some(half) = row.best() else { continue };
        let at = all
            .iter()
            .position(|s| s.by == row.by && s.kind == row.kind);
        let at = at.unwrap_or_else(|| {
            let label = match row.by.as_str() {
                "sweep" => row.kind.clone(),
                by => by.to_owned(),
            };
            all.push(Series {
                label,
                by: row.by.clone(),
                kind: row.kind.clone(),
                points: BTreeMap::new(),
            });
            all.len() - 1
        });
        if let Some(s) = all.get_mut(at) {
            s.points.insert(row.bytes, (half, row.wrong()));
        }
    }
    all
}

/// Transports inside and between hosts. Ranks of the test need not stand where the workload's of the same number
/// stand, so kinds of places are compared and not pairs.
fn compare(workload: &Matrix, test: &Matrix) -> Vec<Compared> {
    if test.cells.is_empty() {
        return Vec::new();
    }
    let mut out = Vec::new();
    for (place, inside) in [("inside hosts", true), (BETWEEN, false)] {
        let (w, t) = (transports(workload, inside), transports(test, inside));
        if w.is_empty() && t.is_empty() {
            continue;
        }
        let worst = |all: &[(Glyph, usize)]| all.last().map(|(g, _)| *g);
        let test_is = match (worst(&t), worst(&w)) {
            // The better transport comes first in the order of glyphs.
            (Some(t), Some(w)) => w.cmp(&t),
            _ => Ordering::Equal,
        };
        out.push(Compared {
            place,
            workload: w,
            test: t,
            test_is,
        });
    }
    out
}

/// Matrices of the test for the list of matrices: its transports rank by rank, its pairs pod by pod.
///
/// Their cells lead nowhere: processes and connections behind them are those of [`TestView::scene`].
#[must_use]
pub fn matrices(test: &TestView) -> Vec<Matrix> {
    let mut out = Vec::new();
    if let Some(own) = test.matrix() {
        let mut own = own.clone();
        own.name = "test".into();
        own.label = "test".into();
        own.headline = format!("all-reduce test: {}", own.headline);
        for slot in &mut own.slots {
            slot.process = None;
        }
        for cell in &mut own.cells {
            cell.edges.clear();
            cell.open.clear();
        }
        out.push(own);
    }
    if !test.pairs.is_empty() {
        out.push(pair_matrix(test));
    }
    out
}

/// Pod by pod, the worst transport between two, marked where the pair is guilty.
fn pair_matrix(test: &TestView) -> Matrix {
    let slots = (0..).zip(&test.pods).map(|(number, name)| Slot {
        number,
        proven: true,
        process: None,
        host: name.clone(),
    });
    // Ranks stand in order of their pods.
    let per_pod = test.planned.as_ref().map_or(1, |p| p.gpus.max(1));
    let mut worst: BTreeMap<(u32, u32), Glyph> = BTreeMap::new();
    for cell in test.matrix().into_iter().flat_map(|m| &m.cells) {
        let pair = (cell.from / per_pod, cell.to / per_pod);
        let known = worst.entry(pair).or_insert(cell.glyph);
        *known = cell.glyph.max(*known);
    }
    let mut cells = Vec::new();
    for (a, b) in test.pairs.keys() {
        for (from, to) in [(*a, *b), (*b, *a)] {
            let glyph = worst.get(&(from, to)).copied();
            cells.push(Cell {
                from,
                to,
                // Over gloo alone it is TCP.
                glyph: glyph.unwrap_or(Glyph::Tcp),
                downgraded: test.judged.guilty.contains(&(*a, *b)),
                disagree: false,
                inferred: test.judged.suspected.contains(&(*a, *b)),
                edges: Vec::new(),
                open: Vec::new(),
            });
        }
    }
    cells.sort_by_key(|c| (c.from, c.to));
    let name = |pod: u32| {
        let name = usize::try_from(pod).ok().and_then(|p| test.pods.get(p));
        name.cloned().unwrap_or_else(|| format!("pod {pod}"))
    };
    Matrix {
        name: "test pairs".into(),
        label: "test pairs".into(),
        slots: slots.collect(),
        cells,
        groups: Vec::new(),
        undecided: Vec::new(),
        headline: pairs::sentence(&test.judged, &name),
    }
}

fn transports(matrix: &Matrix, inside: bool) -> Vec<(Glyph, usize)> {
    let host = |i: u32| matrix.slots.get(i as usize).map(|s| s.host.as_str());
    let mut all: BTreeMap<Glyph, usize> = BTreeMap::new();
    for cell in &matrix.cells {
        let known = !matches!(cell.glyph, Glyph::Doubt | Glyph::Missing);
        if known && (host(cell.from) == host(cell.to)) == inside {
            *all.entry(cell.glyph).or_default() += 1;
        }
    }
    all.into_iter().collect()
}
