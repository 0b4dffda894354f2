//! The loop under paused time: bounded frames, prompt keys, nothing lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::{Stream, stream};
use tokio::sync::mpsc;

use ncclscope::app::runloop::{Input, Outcome, Signal, Stage, run};
use ncclscope::model::Model;
use ncclscope::model::event::{Effect, Event, LogBlock, SourceEvent, SourceId, SourceInfo};
use ncclscope::model::keys::{Code, Key};
use ncclscope::model::screen::PaneId;
use ncclscope::parse::{Block, Nanos};

fn from_channel<T: Send + 'static>(rx: mpsc::Receiver<T>) -> impl Stream<Item = T> + Unpin {
    Box::pin(stream::unfold(rx, |mut rx| async move {
        rx.recv().await.map(|item| (item, rx))
    }))
}

#[derive(Default)]
struct Counters {
    frames: AtomicUsize,
    hurried: AtomicUsize,
    resumed: AtomicUsize,
    stuck: AtomicBool,
    panes: std::sync::Mutex<Vec<PaneId>>,
}

struct Probe(Arc<Counters>);

impl Stage for Probe {
    fn ready(&self) -> bool {
        !self.0.stuck.load(Ordering::SeqCst)
    }

    fn refresh(&mut self, _: &mut Model) {}

    fn draw(&mut self, model: &mut Model, hurry: bool) {
        self.0.frames.fetch_add(1, Ordering::SeqCst);
        self.0
            .hurried
            .fetch_add(usize::from(hurry), Ordering::SeqCst);
        self.0.panes.lock().unwrap().push(model.screen.pane);
    }

    fn perform(&mut self, effect: Effect, _: &Model) -> Outcome {
        match effect {
            Effect::Quit => Outcome::Quit(0),
            Effect::Copy(_) => Outcome::Answer(Box::new(Event::Note {
                text: "too long".into(),
                bad: true,
            })),
            _ => Outcome::Done,
        }
    }

    fn resume(&mut self) {
        self.0.resumed.fetch_add(1, Ordering::SeqCst);
    }

    fn now(&self) -> Nanos {
        0
    }
}

struct Rig {
    keys: mpsc::Sender<Input>,
    signals: mpsc::Sender<Signal>,
    bus: mpsc::Sender<Event>,
    counters: Arc<Counters>,
    end: tokio::task::JoinHandle<(Model, u8)>,
}

fn rig() -> Rig {
    let counters = Arc::new(Counters::default());
    let (keys, input) = mpsc::channel(64);
    let (signals, signal) = mpsc::channel(4);
    let (bus, events) = mpsc::channel(64);
    let mut stage = Probe(Arc::clone(&counters));
    let end = tokio::spawn(async move {
        let mut model = Model::for_screen();
        let code = run(
            &mut model,
            &mut stage,
            from_channel(input),
            from_channel(signal),
            events,
        )
        .await;
        (model, code)
    });
    Rig {
        keys,
        signals,
        bus,
        counters,
        end,
    }
}

impl Rig {
    fn frames(&self) -> usize {
        self.counters.frames.load(Ordering::SeqCst)
    }

    async fn key(&self, c: char) {
        self.keys.send(Input::Key(Key::char(c))).await.unwrap();
    }

    async fn quit(self) -> (Model, u8) {
        self.keys.send(Input::Key(Key::ctrl('c'))).await.unwrap();
        self.end.await.unwrap()
    }
}

async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

fn opened() -> Event {
    let info = SourceInfo {
        name: "a.log".into(),
        container: None,
        previous: false,
        started: None,
    };
    Event::Source(SourceEvent::Opened(SourceId(0), info))
}

fn line(n: u64) -> Event {
    let block = Block::new(n, format!("host:1:1 [0] NCCL INFO line {n}\n").into_bytes());
    Event::Log(LogBlock {
        source: SourceId(0),
        block: Arc::new(block),
    })
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_lines_costs_few_frames_delays_no_key_and_loses_nothing() {
    const LINES: u64 = 200_000;
    let rig = rig();
    let bus = rig.bus.clone();
    let flood = tokio::spawn(async move {
        bus.send(opened()).await.unwrap();
        for n in 1..=LINES {
            bus.send(line(n)).await.unwrap();
            if n % 1_000 == 0 {
                pass(15).await;
            }
        }
    });
    pass(1_000).await;
    let before = rig.frames();
    rig.key('3').await;
    // One turn of the loop: no time passes, however full the bus is.
    while rig.counters.hurried.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        rig.counters.panes.lock().unwrap().last(),
        Some(&PaneId::Matrix)
    );
    assert!(rig.frames() <= before + 2);
    flood.await.unwrap();
    pass(100).await;
    let frames = rig.frames();
    let (model, code) = rig.quit().await;
    assert_eq!(code, 0);
    assert_eq!(
        model.sources.iter().map(|(_, s)| s.lines).sum::<u64>(),
        LINES
    );
    // 3 s at 30 frames a second, the first one, the one for the key.
    assert!((60..=95).contains(&frames), "{frames} frames");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_drawn_when_nothing_changed() {
    let rig = rig();
    pass(10_000).await;
    assert_eq!(rig.frames(), 1, "the first frame comes by itself, no other");
    rig.bus.send(opened()).await.unwrap();
    pass(10_000).await;
    assert_eq!(rig.frames(), 2);
    rig.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_stuck_terminal_stops_data_frames_but_no_key() {
    let rig = rig();
    pass(50).await;
    rig.counters.stuck.store(true, Ordering::SeqCst);
    let before = rig.frames();
    rig.bus.send(opened()).await.unwrap();
    pass(1_000).await;
    assert_eq!(rig.frames(), before);
    rig.key('1').await;
    pass(1).await;
    assert_eq!(rig.frames(), before + 1);
    rig.counters.stuck.store(false, Ordering::SeqCst);
    pass(100).await;
    assert_eq!(
        rig.frames(),
        before + 2,
        "what changed meanwhile is shown once it can be"
    );
    rig.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_resize_storm_is_folded() {
    let rig = rig();
    pass(50).await;
    let before = rig.frames();
    for n in 0..1_000u16 {
        rig.keys
            .send(Input::Resize(20 + n % 200, 5 + n % 50))
            .await
            .unwrap();
    }
    pass(10).await;
    assert!(
        rig.frames() - before <= 1_000 / 32,
        "{} frames",
        rig.frames() - before
    );
    let (model, _) = rig.quit().await;
    assert_eq!(model.screen.size, (20 + 999 % 200, 5 + 999 % 50));
}

#[tokio::test(start_paused = true)]
async fn signals_end_it_with_their_code_and_come_before_everything() {
    let rig = rig();
    pass(10).await;
    rig.signals.send(Signal::Resume).await.unwrap();
    pass(1).await;
    assert_eq!(rig.counters.resumed.load(Ordering::SeqCst), 1);
    rig.key('1').await;
    rig.signals.send(Signal::Quit(143)).await.unwrap();
    let (_, code) = rig.end.await.unwrap();
    assert_eq!(code, 143);
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_when_sources_and_keys_end() {
    let rig = rig();
    drop((rig.bus, rig.keys));
    pass(5_000).await;
    assert!(!rig.end.is_finished());
    assert_eq!(rig.counters.frames.load(Ordering::SeqCst), 1);
    rig.signals.send(Signal::Quit(129)).await.unwrap();
    assert_eq!(rig.end.await.unwrap().1, 129);
}

#[tokio::test(start_paused = true)]
async fn effects_are_answered_with_events() {
    let mut model = Model::for_screen();
    model.screen.counts.copy = Some("a".repeat(1_000_000));
    let keys = vec![
        Input::Key(Key::char('c')),
        Input::Key(Key::plain(Code::Esc)),
        Input::Key(Key::ctrl('c')),
    ];
    let (_bus, events) = mpsc::channel(1);
    let mut stage = Probe(Arc::default());
    let code = run(
        &mut model,
        &mut stage,
        stream::iter(keys),
        stream::pending(),
        events,
    )
    .await;
    assert_eq!(code, 0);
    assert_eq!(
        model.screen.note.map(|n| n.text).as_deref(),
        Some("too long")
    );
}

/// An answer that comes over the bus is seen at once, also where nothing else moves: a recording at its end.
#[tokio::test(start_paused = true)]
async fn an_answer_is_drawn_where_nothing_else_changes() {
    let rig = rig();
    pass(2_500).await;
    for text in ["no moment `foo`", "no pace `abc`"] {
        let before = rig.frames();
        let (text, bad) = (text.to_owned(), true);
        rig.bus.send(Event::Note { text, bad }).await.unwrap();
        pass(200).await;
        assert!(rig.frames() > before, "an answer that nobody sees");
    }
    rig.quit().await;
}
