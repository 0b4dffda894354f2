//! The checklist: what is declared exists, and says what the logs show.

use std::sync::Arc;

use ncclscope::model::event::{Event, LogBlock, SourceEvent, SourceId, SourceInfo, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::rules::scene::{CheckVerdict, CheckView, Scene};
use ncclscope::rules::variables::{self, Over};
use ncclscope::rules::{checks, probes};
use ncclscope::sources::sim;

#[test]
fn every_declared_check_has_a_judge_its_probes_and_full_sentences() {
    let all = checks::declared();
    let first: Vec<&str> = all.iter().take(8).map(|c| c.id.as_str()).collect();
    assert_eq!(
        first,
        [
            "check.pods",
            "check.reach",
            "check.nccl-lines",
            "check.gpus",
            "check.model-files",
            "check.model-access",
            "check.env",
            "check.gpu-memory",
        ]
    );
    let mut ids: Vec<&str> = all.iter().map(|c| c.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all.len(), "ids are unique");
    for c in all {
        assert!(
            c.id.starts_with("check.") && !c.title.is_empty(),
            "{}",
            c.id
        );
        assert!(checks::has_judge(&c.judge), "{} names no judge", c.id);
        assert!(c.means.ends_with('.'), "{}", c.id);
        assert!(!c.fix.is_empty(), "{}", c.id);
        for p in &c.probes {
            assert!(probes::get(p).is_some(), "{} names no probe: {p}", c.id);
        }
        let asks = c.level == checks::Needs::Probe;
        assert!(!asks || !c.probes.is_empty(), "{} asks nothing", c.id);
    }
    // Every probe feeds a check.
    for p in probes::PROBES {
        assert!(
            all.iter().any(|c| c.probes.iter().any(|n| n == p.name)),
            "nothing is made of {}",
            p.name
        );
    }
}

#[test]
fn a_check_is_found_by_its_name_and_by_its_probe() {
    assert_eq!(checks::probes_of("check.memlock"), ["limits", "rdma"]);
    assert_eq!(checks::probes_of("memlock"), ["limits", "rdma"]);
    assert_eq!(checks::probes_of("topo"), ["topo"]);
    assert_eq!(checks::probes_of("nonsense"), Vec::<&str>::new());
}

#[test]
fn variables_are_data_that_reads_well() {
    let all = variables::declared();
    assert!(all.len() > 100);
    for v in all {
        assert!(
            v.means.ends_with('.') && !v.default.is_empty(),
            "{}",
            v.name
        );
    }
    assert_eq!(variables::over("VLLM_HOST_IP"), Over::Differ);
    assert_eq!(variables::over("NCCL_SOMETHING_NEW"), Over::Equal);
    assert_eq!(variables::over("PATH"), Over::Ignored);
    assert!(variables::mistake("NCCL_IB_DISABLE", "1").is_some());
    assert!(variables::mistake("NCCL_IB_DISABLE", "0").is_none());
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

/// The checklist at the end of a scenario.
fn at_the_end(name: &str) -> Vec<CheckView> {
    let mut model = Model::default();
    for (seq, (at, event)) in (1..).zip(sim::events(&sim::load(name).unwrap())) {
        update(&mut model, Stamped { seq, at, event });
    }
    Scene::of(&model).checks
}

/// What is well passes everywhere; what can't be seen from a container says so, and nothing warns.
#[test]
fn a_healthy_job_passes_the_whole_list() {
    for name in ["healthy", "eight-nodes"] {
        let checks = at_the_end(name);
        assert_eq!(checks.len(), checks::declared().len());
        for c in checks {
            let fine = match c.id {
                "check.acs" => c.verdict == CheckVerdict::Unknown,
                "check.gid" | "check.offline" | "check.rdma" | "check.rdma-ports" => {
                    matches!(c.verdict, CheckVerdict::Pass | CheckVerdict::NotApplicable)
                }
                _ => c.verdict == CheckVerdict::Pass,
            };
            assert!(fine, "{name}: {} is {:?}: {}", c.id, c.verdict, c.output);
            assert!(
                !c.ran.is_empty() && !c.output.is_empty(),
                "{name}: {}",
                c.id
            );
        }
    }
}
