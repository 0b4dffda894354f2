//! Scene in, cells out. A pane never computes conclusions (the rules do) and never keeps anything.
//!
//! A pane is one file with one `pub static PANE` in [`PANES`]; keys, tabs, help and hints follow from the tables
//! of the model. Details, explanations and the help are [`Page`]s: lines of spans that scroll.

pub mod checks;
pub mod chrome;
pub mod env;
pub mod export;
pub mod findings;
pub mod help;
pub mod kiosk;
pub mod logs;
pub mod matrix;
pub mod overview;
pub mod parts;
pub mod pods;
pub mod present;
pub mod ranks;
mod reach;
pub mod table;
pub mod test;
pub mod vram;
pub mod workloads;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::model::Model;
use crate::model::event::Session;
use crate::model::kiosk::Kiosk;
use crate::model::screen::{Ask, Counts, Mode, PaneId, Screen};
use crate::rules::scene::{Finding, Scene};
use crate::theme::{Role, Theme};
use parts::Pen;

/// All that a pane may look at.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Everything derived.
    pub scene: &'a Scene,
    /// What the person did to the screen.
    pub screen: &'a Screen,
    /// What this run is about.
    pub session: &'a Session,
    /// Everything known, for what the scene does not repeat: kept log lines, pods as the API server has them.
    pub model: &'a Model,
    /// What roles look like.
    pub theme: &'a Theme,
}

impl<'a> View<'a> {
    fn new(scene: &'a Scene, model: &'a Model, theme: &'a Theme) -> Self {
        Self {
            scene,
            screen: &model.screen,
            session: &model.session,
            model,
            theme,
        }
    }
}

/// A pane.
pub struct Pane {
    /// Which; key and command follow from it.
    pub id: PaneId,
    /// One line for the help.
    pub title: &'static str,
    /// Smallest body that it is drawn in.
    pub min: (u16, u16),
    /// Draws the body.
    pub draw: fn(&View<'_>, Rect, &mut Pen<'_>),
    /// Says what keys act on, for a body of this size.
    pub counts: fn(&View<'_>, Rect) -> Counts,
    /// Details of what is selected.
    pub drill: fn(&View<'_>, u16) -> Option<Page>,
    /// Explanation of what is selected.
    pub explain: fn(&View<'_>, u16) -> Option<Page>,
    /// How many there are and how bad they are, beside the name in its tab.
    pub badge: fn(&Scene) -> Option<(usize, Role)>,
}

/// Every pane, in the order of the tabs.
pub static PANES: &[&Pane] = &[
    &overview::PANE,
    &pods::PANE,
    &ranks::PANE,
    &matrix::PANE,
    &vram::PANE,
    &checks::PANE,
    &findings::PANE,
    &test::PANE,
    &logs::PANE,
    &env::PANE,
];

/// A line of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// Pieces from left to right.
    pub spans: Vec<(String, Role)>,
    /// What `c` copies while it is selected.
    pub copy: Option<String>,
    /// A problem: `e` jumps here.
    pub problem: bool,
}

impl Line {
    /// A line of these pieces.
    #[must_use]
    pub fn of(spans: &[(&str, Role)]) -> Self {
        let spans = spans.iter().map(|(t, r)| ((*t).to_owned(), *r)).collect();
        Self {
            spans,
            copy: None,
            problem: false,
        }
    }

    /// Its text alone.
    #[must_use]
    pub fn text(&self) -> String {
        self.spans.iter().map(|(t, _)| t.as_str()).collect()
    }
}

/// Lines that scroll: details, explanations, the help.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// What it is about.
    pub title: String,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Page {
    /// A page about something.
    #[must_use]
    pub fn about(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            lines: Vec::new(),
        }
    }

    /// Adds a line.
    pub fn line(&mut self, spans: &[(&str, Role)]) {
        self.lines.push(Line::of(spans));
    }

    /// Adds an empty line, unless the page is empty or ends in one.
    pub fn gap(&mut self) {
        if self.lines.last().is_some_and(|l| !l.spans.is_empty()) {
            self.lines.push(Line::default());
        }
    }

    /// Adds the head of a section after a gap.
    pub fn head(&mut self, text: &str) {
        self.gap();
        self.line(&[(text, Role::Label)]);
    }

    /// Adds wrapped prose.
    pub fn prose(&mut self, text: &str, width: u16, indent: u16, role: Role) {
        let pad = " ".repeat(usize::from(indent));
        for line in parts::wrap(text, width.saturating_sub(indent).max(10)) {
            self.line(&[(&pad, Role::Text), (&line, role)]);
        }
    }

    /// Adds something to paste in lines of at most `width` columns: what does not fit goes on deeper in, so that nothing
    /// of it is out of sight; copying any of the lines copies it whole.
    pub fn wrapped_code(&mut self, text: &str, width: u16) {
        for line in text.lines() {
            let room = width.saturating_sub(6).max(10);
            let shown = if parts::columns(line) + 4 <= width {
                vec![line.to_owned()]
            } else {
                parts::wrap(line, room)
            };
            for (i, part) in shown.iter().enumerate() {
                let pad = if i == 0 { "    " } else { "      " };
                let line = Line::of(&[(pad, Role::Text), (part, Role::Code)]);
                self.lines.push(Line {
                    copy: Some(text.to_owned()),
                    ..line
                });
            }
        }
    }

    /// Adds something to paste: never wrapped, because a wrapped command can't be pasted.
    pub fn code(&mut self, text: &str) {
        for line in text.lines() {
            let line = Line::of(&[("    ", Role::Text), (line, Role::Code)]);
            self.lines.push(Line {
                copy: Some(text.to_owned()),
                ..line
            });
        }
    }
}

/// Where the parts of the screen are, as (x, y, width, height).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Regions {
    /// Who, where, how well, how old.
    pub header: Rect,
    /// Panes; empty on low terminals.
    pub tabs: Rect,
    /// The one rule; empty on low terminals.
    pub rule: Rect,
    /// The pane.
    pub body: Rect,
    /// Keys, or what is typed.
    pub footer: Rect,
}

/// Smallest screen that holds a pane.
pub const SMALLEST: (u16, u16) = (40, 8);

/// Splits the screen. Low terminals lose the rule first, then the tabs.
#[must_use]
pub fn regions(area: Rect) -> Regions {
    let row = |y: u16, h: u16| Rect {
        x: area.x,
        y: area.y.saturating_add(y),
        width: area.width,
        height: h,
    };
    let (tabs, rule) = match area.height {
        0..=11 => (0, 0),
        12..=15 => (1, 0),
        _ => (1, 1),
    };
    let top = 1 + tabs + rule;
    let body = area.height.saturating_sub(top + 1);
    Regions {
        header: row(0, if area.height > 0 { 1 } else { 0 }),
        tabs: row(1, tabs),
        rule: row(1 + tabs, rule),
        body: row(top, body),
        footer: row(
            area.height.saturating_sub(1),
            if area.height > 1 { 1 } else { 0 },
        ),
    }
}

/// How the screen is split now.
fn split(screen: &Screen, area: Rect) -> Regions {
    if screen.presenting() {
        present::regions(area)
    } else {
        regions(area)
    }
}

/// The rectangle that a pane is told to fill.
fn canvas(screen: &Screen, parts: &Regions) -> Rect {
    // The matrix has air of its own, and is worth most when it is whole.
    let whole = screen.pane == PaneId::Matrix && screen.mode() == Mode::Normal;
    if screen.presenting() && !whole {
        present::shrunk(parts.body)
    } else {
        parts.body
    }
}

/// Draws the whole screen. Pure: the same scene, screen and size give the same cells.
pub fn view(scene: &Scene, model: &Model, theme: &Theme, area: Rect, buf: &mut Buffer) {
    if let Some(kiosk) = &model.screen.kiosk {
        let theme = theme.loud().unmanned();
        return wall(&View::new(scene, model, &theme), kiosk, area, buf);
    }
    let presenting = model.screen.presenting();
    let loud = presenting.then(|| theme.loud());
    let theme = loud.as_ref().unwrap_or(theme);
    let view = &View::new(scene, model, theme);
    let mut pen = Pen::new(buf, theme);
    pen.clear(area);
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        chrome::too_small(view, area, SMALLEST, &mut pen);
        return;
    }
    let parts = split(view.screen, area);
    if presenting {
        present::header(view, parts.header, &mut pen);
        present::title(view, parts.tabs, &mut pen);
    } else {
        chrome::header(view, parts.header, &mut pen);
        chrome::tabs(view, parts.tabs, &mut pen);
    }
    if parts.rule.height > 0 {
        let rule = parts.rule;
        pen.fill(rule.x, rule.y, rule.width, '─', Role::Rule);
    }
    let telling = if parts.rule.height > 0 {
        parts.rule
    } else {
        parts.tabs
    };
    chrome::connection(view, telling, &mut pen);
    paint(view, canvas(view.screen, &parts), parts.body, buf);
    if view.screen.mode() == Mode::Confirm(Ask::Quit) {
        chrome::dialog(parts.body, &mut Pen::new(buf, theme));
    }
    // Last: completions lie over the body's last row.
    let mut pen = Pen::new(buf, theme);
    if presenting {
        present::footer(view, parts.footer, &mut pen);
    } else {
        chrome::footer(view, parts.footer, &mut pen);
    }
}

/// The wall.
fn wall(view: &View<'_>, kiosk: &Kiosk, area: Rect, buf: &mut Buffer) {
    let mut pen = Pen::new(buf, view.theme);
    pen.clear(area);
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        chrome::too_small(view, area, SMALLEST, &mut pen);
    } else if kiosk::frame(view, kiosk, area, &mut pen) {
        let (canvas, body) = kiosk::canvas(kiosk, area);
        paint(view, canvas, body, buf);
    }
}

/// What was drawn on a canvas that may be lower than the body, in the body.
fn paint(view: &View<'_>, canvas: Rect, area: Rect, buf: &mut Buffer) {
    if canvas == area {
        body(view, canvas, &mut Pen::new(buf, view.theme));
        return;
    }
    let mut small = Buffer::empty(canvas);
    let mut pen = Pen::new(&mut small, view.theme);
    pen.clear(canvas);
    body(view, canvas, &mut pen);
    present::spread(&small, area, buf);
}

/// The pane, or what lies on it.
fn body(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let mut area = area;
    let page = page(view, area.width);
    let asked = view
        .screen
        .question()
        .filter(|_| view.screen.mode() == Mode::Confirm(Ask::Errand));
    // A question that is one sentence lies above the pane, since what it is about is there.
    let brief = asked.is_some_and(|q| q.body.is_empty());
    let page = match page {
        Some(page) if brief => {
            let lines = u16::try_from(page.lines.len() + 1).unwrap_or(u16::MAX);
            let height = lines.min(area.height);
            chrome::page(view, &page, Rect { height, ..area }, pen);
            area.y += height;
            area.height -= height;
            None
        }
        page => page,
    };
    match page {
        Some(page) => chrome::page(view, &page, area, pen),
        None => match pane(view.screen.pane) {
            Some(p) if area.width >= p.min.0 && area.height >= p.min.1 => {
                (p.draw)(view, area, pen);
            }
            Some(p) => chrome::too_small(view, area, p.min, pen),
            None => {}
        },
    }
}

/// What keys act on now, for [`Screen::counts`](crate::model::screen::Screen::counts): the shell asks after each scene and before each key.
#[must_use]
pub fn counts(scene: &Scene, model: &Model) -> Counts {
    // What there is to act on does not depend on looks.
    let theme = Theme::probe(false);
    let view = &View::new(scene, model, &theme);
    let (w, h) = view.screen.size;
    let area = Rect::new(0, 0, w, h);
    let body = match &view.screen.kiosk {
        Some(kiosk) => kiosk::canvas(kiosk, area).0,
        None => canvas(view.screen, &split(view.screen, area)),
    };
    let Some(pane) = pane(view.screen.pane) else {
        return Counts::default();
    };
    let mut counts = (pane.counts)(view, body);
    counts.findings = view.scene.findings.len();
    let own = |f: &&Finding| f.consequence_of.is_none();
    counts.causes = view.scene.findings.iter().take_while(own).count();
    counts.bad = kiosk::news(view.scene);
    (counts.open, counts.merged) = matrix::ranks(view);
    counts.matrices = matrix::labels(view.scene);
    if let Some(page) = page(view, body.width) {
        let row = view.screen.cursor().row(0, page.lines.len());
        let line = row.and_then(|r| page.lines.get(r));
        counts.first = 0;
        counts.rows = page.lines.len();
        counts.page = usize::from(body.height.saturating_sub(1));
        counts.problems = page
            .lines
            .iter()
            .enumerate()
            .filter(|(_, l)| l.problem)
            .map(|(i, _)| i)
            .collect();
        counts.copy = line
            .map(|l| l.copy.clone().unwrap_or_else(|| l.text().trim().to_owned()))
            .filter(|t| !t.is_empty());
    }
    counts
}

/// The pane with this id.
#[must_use]
pub fn pane(id: PaneId) -> Option<&'static Pane> {
    let all = PANES.iter().copied().chain([&workloads::PANE]);
    all.into_iter().find(|p| p.id == id)
}

/// What lies on the pane, if anything that covers it does.
fn page(view: &View<'_>, width: u16) -> Option<Page> {
    let pane = pane(view.screen.pane)?;
    let top = view
        .screen
        .modes()
        .filter(|m| {
            matches!(
                m,
                Mode::Help | Mode::Explain | Mode::Drill | Mode::Confirm(Ask::Errand)
            )
        })
        .last()?;
    match top {
        Mode::Confirm(Ask::Errand) => view.screen.question().map(|q| chrome::question(q, width)),
        Mode::Help => Some(help::page(view, width)),
        Mode::Explain => {
            Some((pane.explain)(view, width).unwrap_or_else(|| chrome::nothing("explain")))
        }
        _ => Some((pane.drill)(view, width).unwrap_or_else(|| chrome::nothing("open"))),
    }
}
