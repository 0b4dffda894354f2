//! What was seen can be kept and seen again: the same screens, the same report, and no secret on the way.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ncclscope::app::record::{Recorder, create};
use ncclscope::model::event::{
    Errand, Event, LogBlock, SourceEvent, SourceId, SourceInfo, Stamped,
};
use ncclscope::model::limits::Limits;
use ncclscope::model::{Model, update};
use ncclscope::parse::{Block, Nanos};
use ncclscope::report::redact::Redactor;
use ncclscope::report::{Report, json};
use ncclscope::rules::scene::Scene;
use ncclscope::sources::recording::{Header, Reader, Writer, is_recording, play};
use ncclscope::sources::sim;
use tokio::sync::mpsc;

fn json(scene: &Scene) -> String {
    let mut out = Vec::new();
    json::write(&mut out, &Report::of(scene, None), &RefCell::default()).unwrap();
    String::from_utf8(out).unwrap()
}

/// Applies a scenario's events and records them.
fn record(name: &str, path: &Path) -> Model {
    let scenario = sim::load(name).unwrap();
    let header = Header::new(name, scenario.start_ns(), true);
    let mut recorder = Recorder::start(create(path).unwrap(), &header, Redactor::new()).unwrap();
    let mut model = Model::for_screen();
    for (seq, (at, event)) in (1..).zip(sim::events(&scenario)) {
        let stamped = Stamped { seq, at, event };
        recorder.keep_all(&stamped);
        update(&mut model, stamped);
    }
    let summary = recorder.close().unwrap();
    assert_eq!(summary.lost, 0);
    assert_eq!(summary.bytes, path.metadata().unwrap().len());
    model
}

fn replay(path: &Path) -> Model {
    let mut model = Model::for_screen();
    for (seq, entry) in (1..).zip(Reader::open(path).unwrap()) {
        let event = Event::At(entry.at, Box::new(entry.event));
        update(&mut model, Stamped { seq, at: 0, event });
    }
    model
}

/// A recording in a folder that has just begun.
fn begun(dir: &Path) -> (PathBuf, Recorder) {
    let path = dir.join("r");
    let header = Header::new("t", 1, true);
    let recorder = Recorder::start(create(&path).unwrap(), &header, Redactor::new()).unwrap();
    (path, recorder)
}

#[test]
fn every_scenario_replays_to_the_same_scene_and_report() {
    let dir = tempfile::tempdir().unwrap();
    // The biggest one says nothing that the others don't, and takes as long as all of them.
    for (name, _) in sim::list().into_iter().filter(|(name, _)| name != "big") {
        let path = dir.path().join(&name);
        let live = record(&name, &path);
        let again = replay(&path);
        let (live, again) = (Scene::of(&live), Scene::of(&again));
        assert_eq!(live.verdict, again.verdict, "{name}");
        assert!(live == again, "{name}: another scene");
        assert_eq!(json(&live), json(&again), "{name}");
    }
}

/// The clock of whoever records a demo or a recording is years away from what is recorded.
#[test]
fn the_time_axis_is_that_of_what_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let now = 1_900_000_000_000_000_000;
    let header = Header::new("t", now, true);
    let mut recorder = Recorder::start(create(&path).unwrap(), &header, Redactor::new()).unwrap();
    let (first, last) = (1_700_000_000_000_000_000, 1_700_000_060_000_000_000);
    for at in [first, last] {
        let event = Event::Tick;
        recorder.keep_all(&Stamped { seq: 1, at, event });
    }
    // What brings no time happened when the event before it did.
    let event = Event::At(last, Box::new(Event::Tick));
    recorder.keep_all(&Stamped {
        seq: 1,
        at: 0,
        event,
    });
    recorder.close().unwrap();
    let (ends, loss) = Reader::open(&path).unwrap().end();
    assert_eq!((ends, loss.sentence()), (Some((first, last)), None));
}

#[test]
fn a_recording_that_broke_off_is_read_to_where_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("whole");
    record("healthy", &path);
    let whole = Reader::open(&path).unwrap().count();
    let mut reader = Reader::open(&path).unwrap();
    assert_eq!((&mut reader).count(), whole);
    assert_eq!(reader.loss().sentence(), None);
    // Cut anywhere, the file gives a beginning of what it held, and says so.
    let bytes = std::fs::read(&path).unwrap();
    let mut last = 0;
    for part in [bytes.len() / 2, bytes.len() - 3] {
        let cut = dir.path().join(format!("cut-{part}"));
        std::fs::write(&cut, &bytes[..part]).unwrap();
        let mut reader = Reader::open(&cut).unwrap();
        let n = (&mut reader).count();
        assert!(n >= last && n <= whole, "{n} of {whole}");
        assert!(reader.loss().torn);
        last = n;
    }
    // Unpacked by hand, with a line of a newer version, a damaged one, and half of one.
    let text = zstd::decode_all(&bytes[..]).unwrap();
    let mut lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
    lines.insert(2, b"{\"t\":1,\"kind\":\"telepathy\",\"body\":{\"x\":1}}\n");
    lines.insert(
        3,
        b"{\"t\":1,\"kind\":\"source\",\"body\":{\"transcended\":7}}\n",
    );
    lines.insert(
        4,
        b"{\"t\":1,\"kind\":\"log\",\"body\":{\"source\":\"x\"}}\n",
    );
    lines.insert(5, b"no json at all\n");
    lines.push(b"{\"t\":9,\"kind\":\"lo");
    let plain = dir.path().join("plain.jsonl");
    std::fs::write(&plain, lines.concat()).unwrap();
    let mut reader = Reader::open(&plain).unwrap();
    assert_eq!((&mut reader).count(), whole);
    let loss = reader.loss();
    assert_eq!(
        (loss.unknown, loss.damaged, loss.torn),
        (2, 2, true),
        "{loss:?}"
    );
    let said = loss.sentence().unwrap();
    assert!(
        said.contains("2 entries of a newer version") && said.contains("breaks off"),
        "{said}"
    );
}

#[test]
fn what_is_no_recording_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, "llm-0:1:1 [0] NCCL INFO hello\n").unwrap();
    assert!(!is_recording(&path));
    assert!(Reader::open(&path).is_err_and(|e| e.to_string().contains("not a recording")));
    std::fs::write(&path, "{\"schema\":\"ncclscope.recording/v9\"}\n").unwrap();
    assert!(is_recording(&path), "recognised, to be refused by name");
    assert!(Reader::open(&path).is_err_and(|e| e.to_string().contains("v9")));
    assert!(!is_recording(dir.path()));
}

#[test]
fn the_file_is_its_owners_alone_and_never_another_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.rec");
    record("healthy", &path);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(is_recording(&path));
    assert!(create(&path).is_err_and(|e| e.to_string().contains("exists")));
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
    assert!(create(&link).is_err(), "a link is not followed");
    assert!(!dir.path().join("elsewhere").exists());
}

fn lines(source: u32, first_line: u64, text: &str) -> Event {
    Event::Log(LogBlock {
        source: SourceId(source),
        block: Block::new(first_line, text.as_bytes().to_vec()).into(),
    })
}

#[test]
fn a_disk_that_does_not_answer_holds_nobody_up() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(writer));
    let mut recorder = Recorder::start(file, &Header::new("t", 1, false), Redactor::off()).unwrap();
    // Noise, which no compression makes small.
    let mut seed = 7_u64;
    let mut noise = || {
        let mut text = String::new();
        for _ in 0..400 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(&format!("{} ", seed >> 40));
        }
        text.push('\n');
        text
    };
    let begun = Instant::now();
    for n in 0..20_000 {
        let event = lines(0, n + 1, &noise());
        recorder.keep(&Stamped {
            seq: n,
            at: 5,
            event,
        });
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    let lost = recorder.status().lost;
    assert!(lost > 0, "nothing was lost, so nothing was held");
    let drain = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let summary = recorder.close().unwrap();
    assert_eq!(summary.lost, lost);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    std::fs::write(&path, drain.join().unwrap()).unwrap();
    let mut reader = Reader::open(&path).unwrap();
    let read = (&mut reader).count() as u64;
    assert_eq!(read + lost, 20_000);
    assert_eq!(
        reader.loss().lost.events,
        lost,
        "the file says what it lacks"
    );
}

#[test]
fn no_secret_is_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut recorder) = begun(dir.path());
    let secret = "Zx9qLm4TrQ81vB";
    let pod = ncclscope::model::event::PodView {
        namespace: "prod".into(),
        name: "llm-0".into(),
        containers: vec![ncclscope::model::event::ContainerView {
            name: "vllm".into(),
            args: vec!["--api-key".into(), format!("{secret}-2")],
            env: vec![
                ("HF_TOKEN".into(), Some(secret.into())),
                ("A".into(), Some("b".into())),
            ],
            ..Default::default()
        }],
        yaml: Some(format!("spec:\n  env:\n  - name: HF_TOKEN\n    value: {secret}\n").into()),
        ..Default::default()
    };
    let info = SourceInfo {
        name: "prod/llm-0/vllm".into(),
        container: None,
        previous: false,
        started: None,
    };
    let all = [
        Event::Pod(ncclscope::model::event::PodEvent::Upsert(Box::new(pod))),
        Event::Source(SourceEvent::Opened(SourceId(0), info)),
        lines(
            0,
            1,
            &format!("got {secret} from env\nauth: Bearer {secret}x\n"),
        ),
        lines(0, 3, "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n"),
        lines(0, 5, "kqhkiG9w0BAQ\n-----END PRIVATE KEY-----\nafter\n"),
        Event::Sample(ncclscope::model::event::SampleEvent {
            container: None,
            node: None,
            tool: "t".into(),
            text: format!("password={secret}-3"),
        }),
    ];
    for (seq, event) in (1..).zip(all) {
        recorder.keep_all(&Stamped { seq, at: 9, event });
    }
    let summary = recorder.close().unwrap();
    assert!(
        summary
            .taken
            .iter()
            .any(|t| t.name.as_deref() == Some("HF_TOKEN")),
        "{summary:?}"
    );
    let text = String::from_utf8(zstd::decode_all(File::open(&path).unwrap()).unwrap()).unwrap();
    for gone in [secret, "MIIE", "kqhk"] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
    let mut model = Model::for_screen();
    for (seq, entry) in (1..).zip(Reader::open(&path).unwrap()) {
        update(
            &mut model,
            Stamped {
                seq,
                at: entry.at,
                event: entry.event,
            },
        );
    }
    let (_, pod) = model.pods.iter().next().unwrap();
    assert_eq!(pod.containers[0].env[1].1.as_deref(), Some("b"));
    assert_eq!(
        model.sources.get(SourceId(0)).unwrap().lines,
        7,
        "lines keep their numbers"
    );
}

#[test]
fn bytes_that_are_no_text_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut recorder) = begun(dir.path());
    let bytes = b"a \xff\xfe\x00 \x1b[31mred\r\n\xc3\xa9\n".to_vec();
    let event = Event::Log(LogBlock {
        source: SourceId(3),
        block: Block::new(17, bytes.clone()).into(),
    });
    recorder.keep_all(&Stamped {
        seq: 1,
        at: 0,
        event,
    });
    recorder.close().unwrap();
    let entry = Reader::open(&path).unwrap().next().unwrap();
    assert_eq!(entry.at, 0, "files carry no time");
    assert!(entry.t > 0, "the axis has one all the same");
    let Event::Log(log) = entry.event else {
        panic!("{entry:?}")
    };
    assert_eq!((log.block.first_line, &log.block.text), (17, &bytes));
}

/// A player and the model that it feeds.
struct Deck {
    orders: mpsc::UnboundedSender<Errand>,
    bus: mpsc::Receiver<Event>,
    model: Model,
}

impl Deck {
    fn start(path: &Path, speed: f64) -> Self {
        let (tx, bus) = mpsc::channel(32);
        let (orders, errands) = mpsc::unbounded_channel();
        play(path, speed, tx, errands).unwrap();
        Self {
            orders,
            bus,
            model: Model::for_screen(),
        }
    }

    /// Applies what comes until everything ordered is done: the answer to an order that makes no sense comes last.
    async fn settle(&mut self) {
        self.orders
            .send(Errand::Line("are you there".into()))
            .unwrap();
        while let Some(event) = self.bus.recv().await {
            if matches!(&event, Event::Note { text, .. } if text.contains("are you there")) {
                return;
            }
            update(
                &mut self.model,
                Stamped {
                    seq: 1,
                    at: 0,
                    event,
                },
            );
        }
    }

    async fn order(&mut self, line: &str) {
        self.orders.send(Errand::Line(line.into())).unwrap();
        self.settle().await;
    }

    fn scene(&self) -> Scene {
        Scene::of(&self.model)
    }
}

/// The scene after everything up to `t`.
fn scene_at(path: &Path, t: Nanos) -> Scene {
    let mut model = Model::for_screen();
    for entry in Reader::open(path).unwrap().take_while(|e| e.t <= t) {
        let event = Event::At(entry.at, Box::new(entry.event));
        update(
            &mut model,
            Stamped {
                seq: 1,
                at: 0,
                event,
            },
        );
    }
    Scene::of(&model)
}

#[tokio::test(flavor = "multi_thread")]
async fn any_place_is_reached_from_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let end = Scene::of(&record("cuda-oom-loading", &path));
    let (ends, _) = Reader::open(&path).unwrap().end();
    let (first, last) = ends.unwrap();
    let half = first + (last - first) / 2;
    let mut deck = Deck::start(&path, 0.0);
    deck.settle().await;
    assert!(deck.scene() == end, "at once to the end");
    deck.order("pause").await;
    deck.order("seek 50%").await;
    assert!(deck.scene() == scene_at(&path, half), "back to the middle");
    let there = deck.model.screen.replay.clone().unwrap();
    assert!(there.paused && !there.over, "{there:?}");
    assert_eq!(
        there.at_ms,
        u64::try_from((half - first) / 1_000_000).unwrap()
    );
    let lines = |deck: &Deck| deck.model.sources.iter().map(|(_, s)| s.lines).sum::<u64>();
    deck.order("step 3").await;
    let more = lines(&deck);
    deck.order("step -3").await;
    assert!(lines(&deck) <= more);
    assert!(
        deck.scene() == scene_at(&path, half),
        "three there and back"
    );
    deck.order("seek end").await;
    assert!(deck.scene() == end);
    assert!(deck.model.screen.replay.clone().unwrap().over);
    deck.order("seek start").await;
    let before = deck.scene();
    assert!(before == scene_at(&path, first));
    deck.order("next-finding").await;
    let known = |key: &String| before.findings.iter().any(|f| f.key == *key);
    let scene = deck.scene();
    assert!(
        scene.findings.iter().any(|f| !known(&f.key)),
        "{:?}",
        deck.model.screen.note
    );
    let note = deck.model.screen.note.clone().unwrap();
    assert!(note.text.starts_with("new: ") && !note.bad, "{note:?}");
    deck.order("seek nowhere").await;
    assert!(deck.model.screen.note.clone().unwrap().bad);
    deck.order("speed 100").await;
    assert_eq!(
        deck.model.screen.replay.clone().unwrap().speed_percent,
        10_000
    );
}

#[test]
fn a_writer_that_fails_is_an_answer_and_no_hang() {
    let mut full = File::options().write(true).open("/dev/full").unwrap();
    assert!(
        full.write_all(b"x").is_err(),
        "this system has no /dev/full"
    );
    let header = Header::new("t", 1, true);
    match Recorder::start(full, &header, Redactor::new()) {
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::StorageFull),
        Ok(recorder) => assert!(recorder.close().is_err()),
    }
}

#[test]
fn a_disk_that_hangs_keeps_nobody_from_leaving() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    // Open at both ends, and nobody reads.
    let disk = File::options().read(true).write(true).open(&path).unwrap();
    let header = Header::new("t", 1, false);
    let mut recorder = Recorder::start(disk, &header, Redactor::off()).unwrap();
    let mut noise = 1_u64;
    let text: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        b'!' + u8::try_from((noise >> 33) % 90).unwrap()
    })
    .take(1 << 20)
    .collect();
    let block = Arc::new(Block::new(1, text));
    let source = SourceId(0);
    let mut keep = |seq, event| recorder.keep(&Stamped { seq, at: 1, event });
    keep(0, Event::Log(LogBlock { source, block }));
    // More than may wait.
    for seq in 1..20_000 {
        keep(seq, Event::Tick);
    }
    let (done, closed) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(recorder.close().map(|s| s.bytes)));
    let closed = closed.recv_timeout(Duration::from_secs(60));
    let why = closed.expect("it ends").unwrap_err();
    assert!(why.to_string().contains("does not take"), "{why}");
}

/// What it costs to keep the start-up of 64 ranks; the README has the figures of one run.
#[test]
fn the_start_up_of_64_ranks_is_small() {
    let scenario = sim::load("eight-nodes").unwrap();
    let events = sim::events(&scenario);
    let text = |event: &Event| match event {
        Event::Log(log) => log.block.text.len(),
        Event::Sample(sample) => sample.text.len(),
        _ => 0,
    };
    let raw: usize = events.iter().map(|(_, e)| text(e)).sum();
    let header = Header::new("demo eight-nodes", scenario.start_ns(), true);
    let begun = Instant::now();
    let mut writer = Writer::new(Vec::new(), &header, Redactor::new()).unwrap();
    let (mut seq, mut last) = (0, 0);
    for (at, event) in events {
        (seq, last) = (seq + 1, at);
        writer.event(&Stamped { seq, at, event }, at).unwrap();
    }
    let (file, _) = writer.finish(last).unwrap();
    println!(
        "64 ranks from start to serving: {seq} events, {raw} bytes of text, {} in the file, {} ms to redact, encode and compress",
        file.len(),
        begun.elapsed().as_millis()
    );
    assert!(raw > 1_000_000, "{raw}");
    assert!(file.len() * 8 < raw, "{} of {raw}", file.len());
}

/// What somebody allows a stage is part of what was seen: replayed, the same ranks are suspected.
#[test]
fn limits_are_recorded() {
    let limits: Limits = "weights=900,ray=60".parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seen");
    let header = Header::new("report", 1, true);
    let mut writer = Writer::new(File::create(&path).unwrap(), &header, Redactor::new()).unwrap();
    let event = Event::Limits(limits.clone());
    writer
        .event(
            &Stamped {
                seq: 0,
                at: 0,
                event,
            },
            1,
        )
        .unwrap();
    writer.finish(1).unwrap();
    let mut model = replay(&path);
    assert_eq!(model.limits, limits);
    let event = Event::Afresh;
    update(
        &mut model,
        Stamped {
            seq: 1,
            at: 0,
            event,
        },
    );
    assert_eq!(model.limits, limits, "another workload has the same limits");
}
