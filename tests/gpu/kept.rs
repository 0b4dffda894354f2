//! Logs of real NCCL: kept where it ran, and read again wherever the tests run.
//!
//! A run is `NAME-0.log`, `NAME-1.log` … of its processes in `tests/corpus/`; its name says what is true of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ncclscope::model::event::{Event, LogBlock, SourceEvent, SourceId, SourceInfo, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::rules::scene::{CommState, Scene};

use super::{Ignored, swept};

/// What holds for the lines of a log.
type Truth = fn(&[String]);

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
/// What is true of a run, by its name.
const TRUE_OF: [(&str, Truth); 2] = [
    ("script-two-ranks-one-gpu", two_over_sockets),
    ("worker-one-rank", one_that_sums),
];

/// Keeps what the processes of a run wrote, where `NCCLSCOPE_KEEP` says.
pub fn keep(name: &str, said: &[String]) {
    let Some(folder) = std::env::var_os("NCCLSCOPE_KEEP") else {
        return;
    };
    std::fs::create_dir_all(&folder).unwrap();
    for (i, text) in said.iter().enumerate() {
        let file = PathBuf::from(&folder).join(format!("{name}-{i}.log"));
        std::fs::write(file, text).unwrap();
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

/// One rank, right sums.
fn one_that_sums(said: &[String]) {
    let rows = swept(&said[0]);
    assert!(!rows.is_empty() && rows.iter().all(|r| r.world == Some(1)));
}

/// What real NCCL wrote once is true of today's reader, too.
pub fn kept_logs_are_read_as_they_were_written() -> Result<(), Ignored> {
    let mut runs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut files: Vec<PathBuf> = match std::fs::read_dir(CORPUS) {
        Ok(all) => all.map(|f| f.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    files.retain(|f| f.extension().is_some_and(|e| e == "log"));
    files.sort();
    for file in &files {
        let stem = Path::new(file).file_stem().unwrap().to_str().unwrap();
        let (name, _) = stem.rsplit_once('-').expect("NAME-NUMBER.log");
        let text = std::fs::read_to_string(file).unwrap();
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
