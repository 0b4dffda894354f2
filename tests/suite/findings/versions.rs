//! Findings that stand on a whole start: a scenario tells it in the words of three versions.

use ncclscope::model::event::Stamped;
use ncclscope::model::{Model, update};
use ncclscope::rules::scene::{Evidence, Scene};
use ncclscope::sources::sim;

/// NCCL and vLLM of different years; before 2.23.4 NCCL does not tell who is missing.
pub const YEARS: [(&str, &str); 3] = [
    ("2.23.4", "0.11.1"),
    ("2.27.7", "0.14.0"),
    ("2.29.7", "0.19.0"),
];

/// Id, the scenario that raises it, and what its first evidence says.
pub const BY_SCENARIO: &[(&str, &str, &str)] = &[
    (
        "gpu.memory-imbalance",
        "memory-imbalance",
        "more than its group",
    ),
    ("log.rotated-away", "rotated-away", "rotated away"),
    ("nccl.debug-absent", "quiet", "no NCCL_DEBUG"),
    ("nccl.debug-flood", "rank-stuck", "AllReduce: opCount"),
    ("nccl.ib-without-gdr", "ib-without-gdr", "via NET/IB"),
    ("nccl.missing-ranks", "missing-rank", "Init START"),
    ("nccl.rank-stuck", "rank-stuck", "Init START"),
    (
        "nccl.same-host-net",
        "sockets-inside-host",
        "via NET/Socket",
    ),
    ("nccl.shm-despite-p2p", "shm-despite-p2p", "via SHM"),
    (
        "nccl.socket-despite-rdma",
        "socket-despite-rdma",
        "via NET/Socket",
    ),
    ("nccl.version-mismatch", "version-mismatch", "NCCL version"),
    ("nccl.wrong-interface", "wrong-interface", "Bootstrap"),
    ("vllm.hung", "hang-after-init", ""),
    ("vllm.loading-slow", "loading-slow", "Loading safetensors"),
    ("vllm.loading-stalled", "loading-stalled", ""),
    ("vllm.tp-over-network", "tp-over-network", "via NET/Socket"),
];

fn played(scenario: &str, (nccl, vllm): (&str, &str)) -> Scene {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/scenarios");
    let text = std::fs::read_to_string(format!("{folder}/{scenario}.yaml")).unwrap();
    let text = text.replace(
        "versions: { vllm: 0.11.2, nccl: 2.27.5 }",
        &format!("versions: {{ vllm: {vllm}, nccl: {nccl} }}"),
    );
    assert!(text.contains(&format!("nccl: {nccl} }}")), "{scenario}");
    let s = sim::parse(scenario, &text).unwrap();
    let mut model = Model::default();
    for (seq, (at, event)) in (1..).zip(sim::events(&s)) {
        update(&mut model, Stamped { seq, at, event });
    }
    Scene::of(&model)
}

#[test]
fn whatever_the_version_the_same_is_found_on_the_same_line() {
    let mut wrong = Vec::new();
    for (id, scenario, proof) in BY_SCENARIO {
        for year in YEARS {
            let s = played(scenario, year);
            let Some(f) = s.findings.iter().find(|f| f.id == *id) else {
                let found: Vec<_> = s.findings.iter().map(|f| f.id).collect();
                wrong.push(format!("{id} with {year:?}: only {found:?}: {}", s.summary));
                continue;
            };
            let first = match f.evidence().first() {
                Some(Evidence::Line(l)) => l.text.to_string(),
                Some(Evidence::Object(t) | Evidence::Sample(t) | Evidence::Check(t)) => t.clone(),
                None => String::new(),
            };
            if f.consequence_of.is_some() || first.is_empty() || !first.contains(proof) {
                wrong.push(format!(
                    "{id} with {year:?}: {:?}: {first}",
                    f.consequence_of
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
