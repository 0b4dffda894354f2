//! All containers merged by time, or those that the filter asks for: fields understood, repeats folded, gaps counted.

mod fact;

use std::collections::BTreeMap;

use ratatui::layout::Rect;

use super::parts::{self, Pen};
use super::{Page, Pane, View, present};
use crate::model::event::SourceId;
use crate::model::logs::{Bad, Logs, Query, Row};
use crate::model::screen::{Counts, LAST, PaneId};
use crate::model::sources::Teller;
use crate::parse::{self, Block};
use crate::rules::scene::{ProcessView, Scene};
use crate::theme::Role;

/// The pane.
pub static PANE: Pane = Pane {
    id: PaneId::Logs,
    title: "every container's lines by time; filter: text or regex, !exclude, in:source, joined by &",
    min: (32, 3),
    draw,
    counts,
    drill,
    explain: drill,
    badge: |_| None,
};

/// Lines of a record that are shown with one of them.
const RECORD: usize = 100;

fn counts(view: &View<'_>, body: Rect) -> Counts {
    let Some(logs) = &view.model.logs else {
        return Counts::default();
    };
    let (first, rows) = (logs.first(), logs.rows());
    let row = view.screen.list(PaneId::Logs).cursor.row(first, rows);
    let mut problems = Vec::new();
    if let Some(row) = row {
        // The nearest ones and the outermost: enough to walk them all, and around the ends.
        problems.extend(logs.trouble(row, false));
        problems.extend(logs.trouble(row, true));
        problems.extend(logs.trouble(first, true));
        problems.extend(logs.trouble(first + rows - 1, false));
        problems.sort_unstable();
        problems.dedup();
    }
    let line = row.and_then(|r| logs.window(r, 1).first().map(|r| r.line.text.to_string()));
    Counts {
        first,
        rows,
        page: usize::from(body.height.saturating_sub(1)),
        problems,
        copy: line,
        ..Counts::default()
    }
}

fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let (x, width) = (area.x + 1, area.width.saturating_sub(2));
    let Some(logs) = &view.model.logs else {
        pen.text(
            x,
            area.y,
            width,
            "No log line is kept in this mode.",
            Role::Quiet,
        );
        return;
    };
    let (first, total) = (logs.first(), logs.rows());
    let list = view.screen.list(PaneId::Logs);
    status(
        view,
        logs,
        list.cursor.selected == LAST,
        Rect {
            x,
            y: area.y,
            width,
            height: 1,
        },
        pen,
    );
    if total == 0 {
        let text = match (logs.held().0, list.filter.as_str()) {
            (0, _) => "No line has arrived yet.".to_owned(),
            (_, filter) => format!("No kept line passes {filter}. esc shows all of them."),
        };
        pen.text(x, area.y + 2, width, &text, Role::Quiet);
        return;
    }
    let height = area.height.saturating_sub(1);
    let top = list.cursor.top(first, total, usize::from(height));
    let rows = logs.window(top, usize::from(height));
    let selected = list.cursor.row(first, total);
    let query = Query::of(&list.filter);
    let gutter = present::gutter(view);
    let (x, width) = (x + gutter, width.saturating_sub(gutter));
    let layout = Columns::of(view.scene, &rows, width, view.screen.is_on("raw"));
    let wrap = view.screen.is_on("wrap");
    let heights: Vec<u16> = rows
        .iter()
        .map(|r| if wrap { layout.lines(r) } else { 1 })
        .collect();
    // With wrapped lines not all of these rows fit: the selected one must.
    let mut skip = 0;
    let upto = rows
        .iter()
        .position(|r| Some(r.number) == selected)
        .unwrap_or(rows.len().saturating_sub(1));
    while skip < upto && heights.iter().take(upto + 1).skip(skip).sum::<u16>() > height {
        skip += 1;
    }
    let mut y = area.y + 1;
    let bottom = area.y + area.height;
    let mut before: Option<SourceId> = skip
        .checked_sub(1)
        .and_then(|i| rows.get(i))
        .map(|r| r.source);
    for (row, tall) in rows.iter().zip(&heights).skip(skip) {
        if y >= bottom {
            break;
        }
        let tall = (*tall).min(bottom - y);
        let place = Rect {
            x,
            y,
            width,
            height: tall,
        };
        layout.draw(
            view.scene,
            row,
            before == Some(row.source),
            list.cursor.x,
            &query,
            place,
            pen,
        );
        if selected == Some(row.number) {
            for line in y..y + tall {
                pen.overlay(area.x, line, area.width, Role::Selected);
            }
        }
        present::number(view, area.x + 1, y, row.number, pen);
        let lines = Rect {
            y,
            height: tall,
            ..area
        };
        present::pointer(view, lines, row.number, pen);
        before = Some(row.source);
        y += tall;
    }
}

/// What is shown of how much, what was trimmed and lost, and whether the newest line is followed.
fn status(view: &View<'_>, logs: &Logs, follows: bool, area: Rect, pen: &mut Pen<'_>) {
    let (kept, trimmed) = logs.held();
    let sources = view.scene.streams().count() as u64;
    let lost: u64 = view.scene.sources.iter().map(|s| s.dropped_lines).sum();
    let cut: Vec<&str> = view
        .scene
        .sources
        .iter()
        .filter_map(|s| s.trouble.as_deref())
        .collect();
    let what = if sources == 1 {
        "1 log".to_owned()
    } else {
        format!("{} logs by time", parts::grouped(sources))
    };
    let mut spans: Vec<(String, Role)> = vec![(what, Role::Strong)];
    let rows = logs.rows();
    if rows == kept {
        spans.push((
            format!("   {}", parts::count(kept as u64, "line", "lines")),
            Role::Quiet,
        ));
    } else {
        let of = format!(
            "   {} rows of {} lines",
            parts::grouped(rows as u64),
            parts::grouped(kept as u64)
        );
        spans.push((of, Role::Quiet));
    }
    if trimmed > 0 {
        spans.push((
            format!("   trimmed {}", parts::grouped(trimmed)),
            Role::Quiet,
        ));
    }
    if lost > 0 {
        spans.push((format!("   lost {}", parts::grouped(lost)), Role::Warn));
    }
    if let Some(first) = cut.first() {
        let more = if cut.len() > 1 {
            format!(", {} more cut", cut.len() - 1)
        } else {
            String::new()
        };
        spans.push((format!("   {first}{more}"), Role::Warn));
    }
    if let Some(complaint) = logs.complaint() {
        spans.push((format!("   {complaint}"), Role::Warn));
    }
    let state = if follows {
        ("following", Role::Ok)
    } else {
        ("stands still, f follows", Role::Waiting)
    };
    let right = parts::columns(state.0);
    let spans: Vec<(&str, Role)> = spans.iter().map(|(t, r)| (t.as_str(), *r)).collect();
    pen.spans(area.x, area.y, area.width.saturating_sub(right + 2), &spans);
    pen.right(area.x, area.y, area.width, state.0, state.1);
}

/// Where the fields of a row go.
struct Columns {
    /// What the sources of the rows are called.
    names: BTreeMap<u32, String>,
    time: u16,
    source: u16,
    rank: u16,
    text: u16,
    raw: bool,
}

impl Columns {
    fn of(scene: &Scene, rows: &[Row<'_>], width: u16, raw: bool) -> Self {
        let mut names = BTreeMap::new();
        for row in rows {
            let name = || label(scene, row.source);
            names.entry(row.source.0).or_insert_with(name);
        }
        let widest = names.values().map(|n| parts::columns(n)).max();
        let many = scene.streams().count() > 1;
        let source = if many && width >= 50 {
            widest.unwrap_or(0).min(width / 6).min(24) + 1
        } else {
            0
        };
        let time = if rows.iter().any(|r| r.line.at.is_some()) && width >= 40 {
            9
        } else {
            0
        };
        let ranked = scene.processes.iter().any(|p| p.global_rank.is_some());
        let rank = if ranked && width >= 70 { 5 } else { 0 };
        Self {
            names,
            time,
            source,
            rank,
            text: width.saturating_sub(time + source + rank),
            raw,
        }
    }

    fn lines(&self, row: &Row<'_>) -> u16 {
        let body = body(row.line.text.as_ref(), self.raw);
        let last = places(&body, self.text).last();
        last.map_or(1, |p| p.line.saturating_add(1))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one row with everything that decides how it looks"
    )]
    fn draw(
        &self,
        scene: &Scene,
        row: &Row<'_>,
        same_source: bool,
        skip: usize,
        query: &Query,
        area: Rect,
        pen: &mut Pen<'_>,
    ) {
        let mut x = area.x;
        if self.time > 0 {
            let time = row.line.at.map_or(String::new(), parts::clock);
            pen.text(x, area.y, self.time - 1, &time, Role::LogTime);
            x += self.time;
        }
        if self.source > 0 {
            // A name that repeats is quiet, so that the eye finds where the speaker changes.
            let role = if same_source {
                Role::Quiet
            } else {
                Role::LogSource
            };
            let name = self.names.get(&row.source.0).map_or("?", String::as_str);
            let name = parts::tail(name, self.source - 1);
            pen.text(x, area.y, self.source - 1, &name, role);
            x += self.source;
        }
        if self.rank > 0 {
            if let Some(rank) = rank_of(scene, row) {
                pen.right(x, area.y, self.rank - 1, &rank.to_string(), Role::LogSource);
            }
            x += self.rank;
        }
        let text = row.line.text.as_ref();
        let times = if row.times > 1 {
            format!("  × {}", parts::grouped(row.times as u64))
        } else {
            String::new()
        };
        let kept = parts::columns(&times);
        let shown = body(text, self.raw);
        let spans = fields(&shown, row.line.bad);
        if area.height == 1 {
            let room = self.text.saturating_sub(kept);
            let mut at = x;
            let mut left = skip;
            for (piece, role) in &spans {
                let (cut, rest) = parts::drop_columns(piece, left);
                left = rest;
                at += pen.text(at, area.y, (x + room).saturating_sub(at), cut, *role);
            }
            pen.text(at, area.y, kept, &times, Role::Notice);
        } else {
            let roles = spans
                .iter()
                .flat_map(|(piece, role)| piece.chars().map(move |_| *role));
            let mut letter = [0; 4];
            for (place, role) in places(&shown, self.text).zip(roles) {
                let (at, y) = (x + place.column, area.y.saturating_add(place.line));
                if place.line < area.height {
                    let c = &*place.c.encode_utf8(&mut letter);
                    pen.text(at, y, place.wide, c, role);
                }
            }
        }
        for (start, end) in query.hits(&shown) {
            if area.height == 1 {
                let before = shown.get(..start).map_or(0, parts::columns);
                let wide = shown.get(start..end).map_or(0, parts::columns);
                for column in before..before.saturating_add(wide) {
                    let column = usize::from(column).checked_sub(skip);
                    let column = column.and_then(|c| u16::try_from(c).ok());
                    if let Some(column) = column.filter(|c| *c < self.text) {
                        pen.overlay(x + column, area.y, 1, Role::Match);
                    }
                }
                continue;
            }
            let hit = shown
                .char_indices()
                .map(|(at, _)| (start..end).contains(&at));
            for (place, _) in places(&shown, self.text).zip(hit).filter(|(_, hit)| *hit) {
                if place.line < area.height {
                    let y = area.y + place.line;
                    pen.overlay(x + place.column, y, place.wide, Role::Match);
                }
            }
        }
    }
}

/// Where a character of a wrapped line stands.
struct Place {
    c: char,
    wide: u16,
    line: u16,
    column: u16,
}

/// The characters of a text, broken into lines of so many columns. A wide one is never cut in half.
fn places(text: &str, columns: u16) -> impl Iterator<Item = Place> + '_ {
    let (mut line, mut column) = (0u16, 0u16);
    parts::visible(text, false).map(move |(c, wide)| {
        if column > 0 && column.saturating_add(wide) > columns {
            line = line.saturating_add(1);
            column = 0;
        }
        let here = Place {
            c,
            wide,
            line,
            column,
        };
        column += wide;
        here
    })
}

/// What a source is called in its column: the pod of a container, else [`short`]; of two files with one name as much
/// of the path as tells them apart: `a/vllm.log`, `b/vllm.log`.
fn label(scene: &Scene, id: SourceId) -> String {
    let Some(view) = scene.sources.get(id.0 as usize) else {
        return "?".into();
    };
    let name = view.name.as_str();
    // A file in one of the kubelet's folders.
    if let Some(pod) = view.pod.as_deref().filter(|pod| !name.starts_with(pod)) {
        let before = if view.previous { "@previous" } else { "" };
        return format!("{}{before}", pod.rsplit('/').next().unwrap_or(pod));
    }
    let own = short(name);
    if !name.ends_with(own) {
        return own.into();
    }
    let all = scene.sources.iter().map(|s| s.name.as_str());
    let alike: Vec<&str> = all.filter(|n| *n != name && short(n) == own).collect();
    let taken = |end: &str| {
        let under = |n: &&str| {
            n.strip_suffix(end)
                .is_some_and(|r| r.is_empty() || r.ends_with('/'))
        };
        alike.iter().any(under)
    };
    let ends = name
        .rmatch_indices('/')
        .filter_map(|(at, _)| name.get(at + 1..));
    let mut ends = ends.chain([name]);
    ends.find(|end| !taken(end)).unwrap_or(name).into()
}

/// `prod/mixtral-0-1/vllm` is said `mixtral-0-1`; a path by its file.
fn short(name: &str) -> &str {
    let mut parts = name.rsplit('/');
    let last = parts.next().unwrap_or(name);
    match (parts.next(), parts.next(), parts.next()) {
        // namespace/pod/container
        (Some(pod), Some(namespace), None) if !namespace.is_empty() && !last.contains('.') => pod,
        _ => last,
    }
}

/// The line as it is shown: without what may not reach a screen and, unless `raw`, without what has its own column
/// or says nothing to people (stamps, host:pid:tid in front of NCCL's lines).
pub(super) fn body(text: &str, raw: bool) -> String {
    let clean = |t: &str| parts::visible(t, false).map(|(c, _)| c).collect::<String>();
    if raw {
        return clean(text);
    }
    let rest = match crate::model::logs::stamp(text) {
        Some(_) => text.split_once(' ').map_or("", |(_, rest)| rest),
        None => text,
    };
    let mut out = clean(rest);
    // [2026-03-02 03:10:59] in front of NCCL's warnings
    if shaped(&out, b"[0000-00-00 00:00:00] ") {
        out.replace_range(..22, "");
    }
    if let Some(at) = out.find(" NCCL ") {
        // What stands before the head stays: it may be the launcher's label.
        let head = out.get(..at).unwrap_or_default();
        let start = head.rfind(" [").map_or(head.len(), |i| i);
        let word = head
            .get(..start)
            .unwrap_or_default()
            .rfind(' ')
            .map_or(0, |i| i + 1);
        if head
            .get(word..start)
            .is_some_and(|w| w.matches(':').count() >= 2)
        {
            out.replace_range(word..(start + 1).min(out.len()), "");
        }
        return out;
    }
    // INFO 11-21 03:14:01 [worker.py:12]
    for level in ["INFO ", "WARNING ", "ERROR ", "DEBUG ", "CRITICAL "] {
        let Some(at) = out.find(level).map(|i| i + level.len()) else {
            continue;
        };
        let stamp = out.get(at..).is_some_and(|t| shaped(t, b"00-00 00:00:00 "));
        if stamp {
            out.replace_range(at..at + 15, "");
            break;
        }
    }
    out
}

/// Whether a text begins like this, a zero standing for any digit.
fn shaped(text: &str, like: &[u8]) -> bool {
    let mut shape = text
        .bytes()
        .map(|b| if b.is_ascii_digit() { b'0' } else { b });
    like.iter().all(|want| shape.next() == Some(*want))
}

/// The process that printed a line, if its head, its prefix or its source names it.
fn rank_of(scene: &Scene, row: &Row<'_>) -> Option<u32> {
    let source = part_of(scene, row).unwrap_or(row.source.0);
    let all = &scene.processes;
    let start = all.partition_point(|p| p.source < source);
    let own = all.get(start..)?;
    let own: &[ProcessView] = own.get(..own.partition_point(|p| p.source == source))?;
    let pid = pid_of(&row.line.text);
    match (own, pid) {
        (_, Some(pid)) => own.iter().rev().find(|p| p.pid == Some(pid))?.global_rank,
        ([one], None) => one.global_rank,
        _ => None,
    }
}

/// The part of a stream of several pods that a line belongs to, by the prefix in front of it.
fn part_of(scene: &Scene, row: &Row<'_>) -> Option<u32> {
    let mut parts = (0u32..)
        .zip(&scene.sources)
        .filter(|(_, s)| s.within == Some(row.source.0))
        .peekable();
    parts.peek()?;
    let teller = Teller::of(&parse::outer(&row.line.text))?.said();
    let mut theirs = parts.filter(|(_, s)| s.teller.as_ref() == Some(&teller));
    theirs.next().map(|(id, _)| id)
}

/// Process id of an NCCL head (`host:pid:tid [dev] NCCL`) or of a `(NAME pid=N)` prefix.
fn pid_of(text: &str) -> Option<u64> {
    if let Some((head, _)) = text.split_once(" NCCL ") {
        let word = head.rsplit(' ').find(|w| w.matches(':').count() >= 2)?;
        return word.split(':').nth(1)?.parse().ok();
    }
    let (_, rest) = text.split_once("pid=")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// A line as fields with roles: who, level, stamp, place in the code, message.
fn fields(text: &str, bad: Option<Bad>) -> Vec<(&str, Role)> {
    let loud = match bad {
        Some(Bad::Error) => Role::Fail,
        Some(Bad::Warning) => Role::Warn,
        None => Role::Text,
    };
    let mut out = Vec::new();
    let mut rest = text;
    // (Worker_TP0 pid=211) and its kin, one after another.
    while let Some((label, tail)) = rest.strip_prefix('(').and_then(|r| r.split_once(") ")) {
        if !label.contains("pid=") {
            break;
        }
        let (label, _) = rest.split_at(rest.len() - tail.len());
        out.push((label, Role::LogSource));
        rest = tail;
    }
    if let Some(at) = rest.find(" NCCL ") {
        let (head, tail) = rest.split_at(at);
        let level = tail
            .get(6..)
            .and_then(|t| t.find(' '))
            .map_or(tail.len(), |i| i + 6);
        let (word, message) = tail.split_at(level);
        out.push((head, Role::Quiet));
        out.push((word, if bad.is_some() { loud } else { Role::Quiet }));
        out.push((message, loud));
        return out;
    }
    let level = ["INFO ", "WARNING ", "ERROR ", "DEBUG ", "CRITICAL "]
        .into_iter()
        .find(|l| rest.starts_with(l));
    if let Some(level) = level {
        let (word, tail) = rest.split_at(level.len());
        out.push((word, if bad.is_some() { loud } else { Role::Quiet }));
        rest = tail;
        // 11-21 03:14:07 [worker.py:12]
        if let Some(at) = rest.find("] ").filter(|at| *at < 80) {
            let (place, message) = rest.split_at(at + 2);
            out.push((place, Role::Quiet));
            rest = message;
        }
    }
    out.push((rest, loud));
    out
}

fn drill(view: &View<'_>, width: u16) -> Option<Page> {
    let logs = view.model.logs.as_ref()?;
    let cursor = view.screen.list(PaneId::Logs).cursor;
    let row = cursor.row(logs.first(), logs.rows())?;
    let rows = logs.window(row, 1);
    let row = rows.first()?;
    let (file, number) = view.scene.stands(row.source.0, row.line.number);
    let mut page = Page::about(format!("line {number} of {file}"));
    if let Some(at) = row.line.at {
        page.line(&[("at      ", Role::Label), (&parts::clock(at), Role::Text)]);
    }
    if let Some(rank) = rank_of(view.scene, row) {
        page.line(&[("rank    ", Role::Label), (&rank.to_string(), Role::Text)]);
    }
    if row.times > 1 {
        let text = format!(
            "{} alike lines in a row, this is the first; u shows each",
            parts::grouped(row.times as u64)
        );
        page.line(&[("repeats ", Role::Label), (&text, Role::Text)]);
    }
    page.head("THE LINE");
    page.prose(&row.line.text, width.saturating_sub(4), 0, Role::Text);
    if let Some(last) = page.lines.last_mut() {
        last.copy = Some(row.line.text.to_string());
    }
    let record = logs.record(row);
    if record.len() > 1 {
        page.head("ITS RECORD");
        let near = record.iter().position(|l| l.number == row.line.number);
        let from = near.unwrap_or(0).saturating_sub(RECORD / 2);
        for line in record.iter().skip(from).take(RECORD) {
            let here = if line.number == row.line.number {
                "> "
            } else {
                "  "
            };
            let text = body(&line.text, false);
            page.line(&[(here, Role::Strong), (&text, Role::Text)]);
        }
        let more = record.len().saturating_sub(RECORD);
        if more > 0 {
            let text = format!(
                "  {} of its lines in all",
                parts::grouped(record.len() as u64)
            );
            page.line(&[(&text, Role::Quiet)]);
        }
    }
    page.head("UNDERSTOOD AS");
    let block = Block::new(row.line.number, row.line.text.as_bytes().to_vec());
    if block.recs.is_empty() {
        page.line(&[("nothing that the dashboard needs", Role::Quiet)]);
    }
    for rec in &block.recs {
        fact::tell(rec, &mut page);
    }
    Some(page)
}
