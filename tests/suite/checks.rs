//! The checklist: what is declared exists, and says what the logs show.

use std::sync::Arc;

use ncclscope::model::event::{Event, LogBlock, SourceEvent, SourceId, SourceInfo, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::rules::checks;
use ncclscope::rules::scene::{CheckVerdict, Scene};

#[derive(serde::Deserialize)]
struct Entry {
    id: String,
    title: String,
    probe: String,
    fix: String,
}

#[test]
fn every_declared_check_has_a_probe_and_a_full_sentence() {
    let written: Vec<Entry> =
        serde_yaml::from_str(include_str!("../../assets/checks.yaml")).unwrap();
    assert_eq!(
        written.len(),
        checks::declared().len(),
        "the file as shipped loads whole"
    );
    for c in written {
        assert!(
            c.id.starts_with("check.") && !c.title.is_empty(),
            "{}",
            c.id
        );
        assert!(
            checks::has_probe(&c.probe),
            "{} names a probe that does not exist",
            c.id
        );
        assert!(c.fix.ends_with('.'), "{}", c.id);
    }
}

fn verdicts(logs: &[&str]) -> Vec<(String, CheckVerdict, String)> {
    let mut model = Model::default();
    for (i, text) in logs.iter().enumerate() {
        let id = SourceId(u32::try_from(i).unwrap());
        let info = SourceInfo {
            name: format!("{i}.log"),
            container: None,
            previous: false,
            started: None,
        };
        let block = Arc::new(Block::new(1, text.as_bytes().to_vec()));
        for event in [
            Event::Source(SourceEvent::Opened(id, info)),
            Event::Log(LogBlock { source: id, block }),
        ] {
            update(
                &mut model,
                Stamped {
                    seq: 0,
                    at: 0,
                    event,
                },
            );
        }
    }
    Scene::of(&model)
        .checks
        .into_iter()
        .map(|c| (c.id.to_owned(), c.verdict, c.output))
        .collect()
}

fn of(list: &[(String, CheckVerdict, String)], id: &str) -> (CheckVerdict, String) {
    list.iter()
        .find(|c| c.0 == id)
        .map(|c| (c.1, c.2.clone()))
        .unwrap()
}

#[test]
fn the_checklist_says_what_the_logs_show() {
    let a = "a:1:1 [0] NCCL INFO NCCL_IB_HCA set by environment to mlx5_0\n";
    let same = verdicts(&[a, &a.replace("a:1", "b:1")]);
    assert_eq!(of(&same, "check.env").0, CheckVerdict::Pass);
    assert_eq!(of(&same, "check.nccl-lines").0, CheckVerdict::Pass);
    assert_eq!(of(&same, "check.pods").0, CheckVerdict::NotApplicable);

    let other = verdicts(&[a, "b:1:1 [0] NCCL INFO NCCL version 2.27.7+cuda12.8\n"]);
    let (verdict, output) = of(&other, "check.env");
    assert_eq!(verdict, CheckVerdict::Warn);
    assert!(
        output.contains("NCCL_IB_HCA") && output.contains("not set in b"),
        "{output}"
    );

    let silent = verdicts(&[
        a,
        "INFO 11-20 08:11:11 [kv_cache_utils.py:1229] GPU KV cache size: 310,112 tokens\n",
    ]);
    let (verdict, output) = of(&silent, "check.nccl-lines");
    assert_eq!(verdict, CheckVerdict::Warn);
    assert!(output.contains("none in 1.log"), "{output}");
}
