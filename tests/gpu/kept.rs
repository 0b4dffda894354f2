//! Logs of real NCCL: kept where it ran, and read again wherever the tests run.
//!
//! A run is `NAME-0.log`, `NAME-1.log` … of its processes in `tests/corpus/`; its name says what is true of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ncclscope::model::event::{Event, LogBlock, SourceEvent, SourceId, SourceInfo, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::rules::scene::{CommState, Scene};

use super::{Ended, Ignored, file, measured, swept};

/// What holds for the lines of a log.
type Truth = fn(&[String]);

const CORPUS: &str = "tests/corpus";
/// What is true of a run, by its name.
const TRUE_OF: [(&str, Truth); 3] = [
    ("script-one-rank", one_that_sums),
    ("script-two-ranks-one-gpu", two_over_sockets),
    ("worker-one-rank", one_that_sums),
];

/// Keeps what the processes of a run wrote, where `NCCLSCOPE_KEEP` says; their errors beside it, which are no log.
pub fn keep(name: &str, ran: &[Ended]) {
    let Some(folder) = std::env::var_os("NCCLSCOPE_KEEP").map(PathBuf::from) else {
        return;
    };
    std::fs::create_dir_all(&folder).unwrap();
    for (i, one) in ran.iter().enumerate() {
        std::fs::write(folder.join(format!("{name}-{i}.log")), &one.out).unwrap();
        if !one.err.is_empty() {
            std::fs::write(folder.join(format!("{name}-{i}.err")), &one.err).unwrap();
        }
    }
}

/// The scene of processes that wrote this.
fn scene(said: &[String]) -> Scene {
    let mut model = Model::default();
    for (i, text) in (0u32..).zip(said) {
        let source = SourceId(i);
        let info = SourceInfo {
            name: format!("pod-{i}"),
            container: None,
            previous: false,
            started: None,
        };
        let block = Arc::new(Block::new(1, text.clone().into_bytes()));
        for event in [
            Event::Source(SourceEvent::Opened(source, info)),
            Event::Log(LogBlock { source, block }),
        ] {
            let seq = u64::from(i);
            update(&mut model, Stamped { seq, at: 0, event });
        }
    }
    Scene::of(&model)
}

/// Two ranks, a communicator that came up, sockets between them, right sums.
pub fn two_over_sockets(said: &[String]) {
    assert!(!swept(&said[0]).is_empty(), "NCCL measured something");
    let scene = scene(said);
    let two = scene.communicators.iter().find(|c| c.nranks == 2);
    let two = two.expect("a communicator");
    assert_eq!(two.state, CommState::Complete);
    let socket = |n: &Option<String>| n.as_deref() == Some("Socket");
    assert!(
        two.edges.iter().any(|e| socket(&e.network)),
        "{:?}",
        two.edges
    );
}

/// One rank, right sums in both types, a communicator of its own that came up.
pub fn one_that_sums(said: &[String]) {
    let all = measured(&said[0]);
    for kind in ["float32", "bfloat16"] {
        let rows: Vec<_> = all.iter().filter(|r| r.kind == kind).collect();
        assert!(!rows.is_empty(), "nothing of {kind}");
        assert!(
            rows.iter()
                .all(|r| r.world == Some(1) && r.wrong() == Some(0))
        );
    }
    let scene = scene(said);
    let one = scene.communicators.iter().find(|c| c.nranks == 1);
    assert_eq!(
        one.expect("a communicator in NCCL's own log").state,
        CommState::Complete
    );
}

/// What real NCCL wrote once is true of today's reader, too.
pub fn kept_logs_are_read_as_they_were_written() -> Result<(), Ignored> {
    let mut runs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut files: Vec<PathBuf> = match std::fs::read_dir(file(CORPUS)) {
        Ok(all) => all.map(|f| f.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    files.retain(|f| f.extension().is_some_and(|e| e == "log"));
    files.sort();
    for path in &files {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let (name, _) = stem.rsplit_once('-').expect("NAME-NUMBER.log");
        let text = std::fs::read_to_string(path).unwrap();
        runs.entry(name.to_owned()).or_default().push(text);
    }
    if runs.is_empty() {
        return Err("tests/corpus holds no log yet: no GPU was here to write one".into());
    }
    for (name, said) in &runs {
        let (_, is_true) = TRUE_OF
            .iter()
            .find(|(n, _)| n == name)
            .unwrap_or_else(|| panic!("nobody says what is true of {name}"));
        is_true(said);
    }
    Ok(())
}
