//! Frames to bytes, and a terminal that is slow to take them.

use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ncclscope::app::encode::Encoder;
use ncclscope::app::output::Output;
use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

fn text(w: u16, h: u16, lines: &[&str]) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, w, h));
    for (y, line) in lines.iter().enumerate() {
        buffer.set_stringn(0, y as u16, line, usize::from(w), Style::default());
    }
    buffer
}

fn terminal(w: u16, h: u16) -> vt100::Parser {
    vt100::Parser::new(NonZero::new(h).unwrap(), NonZero::new(w).unwrap(), 0)
}

fn colour(drawn: Color) -> vt100::Color {
    match drawn {
        Color::Indexed(n) => vt100::Color::Idx(n),
        Color::Rgb(r, g, b) => vt100::Color::Rgb(r, g, b),
        Color::Red => vt100::Color::Idx(1),
        _ => vt100::Color::Default,
    }
}

/// What a terminal shows, cell by cell, must be what was drawn.
fn same(terminal: &vt100::Screen, buffer: &Buffer) {
    for y in 0..buffer.area.height {
        for x in 0..buffer.area.width {
            let (have, want) = (terminal.cell(y, x).expect("inside"), &buffer[(x, y)]);
            let shown = if have.contents().is_empty() {
                " "
            } else {
                have.contents()
            };
            if have.is_wide_continuation() {
                continue;
            }
            assert_eq!(shown, want.symbol(), "at {x},{y}");
            let blank = want.symbol() == " " && !want.modifier.contains(Modifier::REVERSED);
            assert!(
                blank || have.fgcolor() == colour(want.fg),
                "text at {x},{y}: {:?} for {:?}",
                have.fgcolor(),
                want.fg
            );
            assert_eq!(have.bgcolor(), colour(want.bg), "ground at {x},{y}");
            assert_eq!(
                have.inverse(),
                want.modifier.contains(Modifier::REVERSED),
                "at {x},{y}"
            );
            assert!(
                blank || have.bold() == want.modifier.contains(Modifier::BOLD),
                "at {x},{y}"
            );
        }
    }
}

#[test]
fn nothing_new_is_nothing_sent() {
    let mut encoder = Encoder::default();
    let mut out = Vec::new();
    encoder.frame(text(20, 3, &["one", "two"]), &mut out);
    assert!(!out.is_empty());
    out.clear();
    encoder.frame(text(20, 3, &["one", "two"]), &mut out);
    assert_eq!(out, b"");
}

#[test]
fn a_changed_figure_costs_a_few_bytes() {
    let mut encoder = Encoder::default();
    let mut out = Vec::new();
    encoder.frame(text(200, 50, &["facts 0.4 s"]), &mut out);
    out.clear();
    encoder.frame(text(200, 50, &["facts 0.6 s"]), &mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "\x1b[?2026h\x1b[1;9H6\x1b[?2026l"
    );
}

#[test]
fn control_characters_never_get_out() {
    let mut buffer = text(40, 2, &[""]);
    buffer[(0, 0)].set_symbol("\x1b]0;owned\x07");
    buffer[(0, 1)].set_symbol("\u{9b}");
    let mut out = Vec::new();
    Encoder::default().frame(buffer, &mut out);
    let sent = String::from_utf8(out).unwrap();
    assert!(
        sent.matches('?').count() == 2 + 2 && !sent.contains("owned"),
        "{sent:?}"
    );
}

fn cells() -> impl Strategy<Value = Vec<(u16, u16, usize, usize)>> {
    prop::collection::vec((0..30u16, 0..6u16, 0..7usize, 0..6usize), 0..60)
}

fn draw(cells: &[(u16, u16, usize, usize)]) -> Buffer {
    let words = ["a", "bc", "──", "日本", " ", "      ", "e\u{301}x"];
    let styles = [
        Style::new(),
        Style::new().fg(Color::Red),
        Style::new()
            .fg(Color::Indexed(99))
            .add_modifier(Modifier::BOLD),
        Style::new().fg(Color::Rgb(1, 2, 3)).bg(Color::Indexed(7)),
        Style::new().add_modifier(Modifier::REVERSED),
        Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
    ];
    let mut buffer = Buffer::empty(Rect::new(0, 0, 30, 6));
    for (x, y, word, style) in cells {
        buffer.set_stringn(*x, *y, words[*word], usize::from(30 - x), styles[*style]);
    }
    buffer
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_terminal_shows_what_was_drawn(frames in prop::collection::vec(cells(), 1..6)) {
        let mut encoder = Encoder::default();
        let mut shown = terminal(30, 6);
        for cells in frames {
            let buffer = draw(&cells);
            let mut out = Vec::new();
            encoder.frame(buffer.clone(), &mut out);
            shown.process(&out);
            same(shown.screen(), &buffer);
        }
    }
}

/// A list that grows, shrinks and scrolls between a head and a foot.
fn list(rows: &[usize]) -> Buffer {
    let mut buffer = text(40, 14, &["HEAD"]);
    let styles = [
        Style::new(),
        Style::new().fg(Color::Red),
        Style::new().bg(Color::Indexed(7)),
    ];
    for (y, row) in (1..).zip(rows.iter().take(12)) {
        let line = format!("{row} 日本 line {} of the list", row * 7);
        buffer.set_stringn(0, y, line, 40, styles[row % 3]);
    }
    buffer.set_string(0, 13, "foot", Style::default());
    buffer
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn what_moves_on_a_list_is_moved_by_the_terminal(
        start in prop::collection::vec(0..20usize, 0..14),
        edits in prop::collection::vec((0..14usize, 0..4usize, prop::collection::vec(0..20usize, 0..5)), 1..6),
    ) {
        let mut encoder = Encoder::default();
        let mut shown = terminal(40, 14);
        let mut rows = start;
        let mut show = |rows: &[usize]| {
            let buffer = list(rows);
            let mut out = Vec::new();
            encoder.frame(buffer.clone(), &mut out);
            shown.process(&out);
            same(shown.screen(), &buffer);
        };
        show(&rows);
        for (at, gone, new) in edits {
            let from = at.min(rows.len());
            let to = (from + gone).min(rows.len());
            rows.splice(from..to, new);
            show(&rows);
        }
    }
}

#[test]
fn a_log_that_scrolls_costs_its_new_line() {
    let page = |first: usize| {
        let lines: Vec<String> = (first..first + 40)
            .map(|n| {
                format!(
                    "{n:05} llm-0:100:100 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM"
                )
            })
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        text(200, 50, &lines)
    };
    let mut encoder = Encoder::default();
    let mut out = Vec::new();
    encoder.frame(page(0), &mut out);
    assert!(out.len() > 3_000);
    let mut shown = terminal(200, 50);
    shown.process(&out);
    for (from, most) in [(1, 200), (2, 200), (7, 500), (5, 300)] {
        out.clear();
        encoder.frame(page(from), &mut out);
        assert!(out.len() <= most, "{} bytes to {from}", out.len());
        shown.process(&out);
        same(shown.screen(), &page(from));
    }
}

/// Takes a chunk whenever it is told to.
struct Slow {
    go: Receiver<()>,
    taken: Sender<Vec<u8>>,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.go.recv().map_err(io::Error::other)?;
        self.taken.send(bytes.to_vec()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_slow_terminal_gets_fewer_frames_and_the_last_one() {
    let (go, gate) = channel();
    let (taken, chunks) = channel();
    let output = Output::start(Slow { go: gate, taken }).unwrap();
    let area = Rect::new(0, 0, 40, 4);
    assert!(output.is_free());
    for n in 0..1_000 {
        let mut frame = output.canvas(area);
        frame.set_string(0, 0, format!("frame {n} of a thousand"), Style::default());
        output.post(frame);
    }
    assert!(!output.is_free());
    let mut shown = terminal(40, 4);
    while !shown.screen().contents().contains("frame 999") {
        go.send(()).unwrap();
        shown.process(
            &chunks
                .recv_timeout(Duration::from_secs(10))
                .expect("the newest frame comes"),
        );
    }
    for _ in 0..20 {
        go.send(()).unwrap();
    }
    let stats = output.close(Duration::from_secs(10));
    assert!(stats.frames <= 3 && stats.dropped >= 997, "{stats:?}");
}

#[test]
fn a_dead_terminal_is_given_up() {
    let (go, gate) = channel();
    let (taken, _chunks) = channel();
    let output = Output::start(Slow { go: gate, taken }).unwrap();
    output.post(text(40, 4, &["x"]));
    let start = std::time::Instant::now();
    let stats = output.close(Duration::from_millis(50));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(stats.frames, 0);
    drop(go);
}

#[test]
fn after_a_frame_was_given_up_the_next_one_is_whole() {
    let (go, gate) = channel();
    let (taken, chunks) = channel();
    let output = Output::start(Slow { go: gate, taken }).unwrap();
    // Larger than a chunk, so that it can be given up between two.
    output.post(text(200, 20, &["a".repeat(200).as_str(); 20]));
    go.send(()).unwrap();
    chunks.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(
        !output.settle(Duration::from_millis(20)),
        "in the middle of a chunk"
    );
    go.send(()).unwrap();
    chunks.recv_timeout(Duration::from_secs(10)).unwrap();
    output.post(text(200, 20, &["whole"]));
    for _ in 0..50 {
        go.send(()).unwrap();
    }
    let mut sent = Vec::new();
    while !String::from_utf8_lossy(&sent).contains("whole") {
        sent.extend(chunks.recv_timeout(Duration::from_secs(10)).unwrap());
    }
    let sent = String::from_utf8_lossy(&sent).into_owned();
    assert!(sent.contains("\x1b[2J") && !sent.contains("aa"), "{sent:?}");
}
