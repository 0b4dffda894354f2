//! What a full frame costs, for the bench and for whoever asks with `--nocapture`.

use std::time::{Duration, Instant};

use ncclscope::model::event::Command;
use ncclscope::model::screen::PaneId;
use ncclscope::panes;
use ncclscope::rules::scene::Scene;
use ncclscope::theme::{Terminal, Theme};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::stage::{self, Job};

/// Median time of a 200×50 frame of a pane, with the counts that the shell asks for before it.
pub fn cost(scene: &Scene, id: PaneId, frames: u32) -> (Duration, Duration) {
    let theme = Theme::standard(Terminal::default());
    let mut model = stage::model(200, 50);
    stage::act(scene, &mut model, &[Command::Pane(id.id().into())]);
    let area = Rect::new(0, 0, 200, 50);
    let mut buf = Buffer::empty(area);
    let mut draw = Vec::new();
    let mut count = Vec::new();
    for _ in 0..frames {
        let start = Instant::now();
        model.screen.counts = panes::counts(scene, &model);
        count.push(start.elapsed());
        let start = Instant::now();
        buf.reset();
        panes::view(scene, &model, &theme, area, &mut buf);
        draw.push(start.elapsed());
    }
    draw.sort_unstable();
    count.sort_unstable();
    (draw[draw.len() / 2], count[count.len() / 2])
}

/// Prints a line for each pane and size.
pub fn print(frames: u32) {
    for (ranks, pods, gpus) in [(8, 2, 4), (64, 8, 8), (1024, 128, 8)] {
        let scene = Job {
            pods,
            gpus,
            tp: 8,
            broken: Some(1),
        }
        .scene();
        for id in PaneId::ALL {
            let (draw, count) = cost(&scene, *id, frames);
            println!(
                "{ranks:>5} ranks  {:<10} {:>6} µs to draw, {:>5} µs to count",
                id.id(),
                draw.as_micros(),
                count.as_micros()
            );
        }
    }
}

#[test]
fn frames_do_not_grow_with_the_square_of_the_ranks() {
    print(5);
    let job = |pods| {
        Job {
            pods,
            gpus: 8,
            tp: 8,
            broken: Some(1),
        }
        .scene()
    };
    for id in PaneId::ALL {
        let (few, many) = (cost(&job(16), *id, 9).0, cost(&job(128), *id, 9).0);
        // Eight times the ranks: a square would be 64 times; noise on a busy machine is far from that.
        assert!(
            many < few * 40 + Duration::from_millis(5),
            "{}: {few:?} for 128 ranks, {many:?} for 1,024",
            id.id()
        );
    }
}
