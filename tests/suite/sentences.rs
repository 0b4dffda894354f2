//! What is said of the embedded cluster's accidents is true and does not contradict itself.

use std::collections::BTreeSet;

use ncclscope::model::event::{Event, SourceEvent, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::panes;
use ncclscope::rules::scene::{
    CheckVerdict, CommState, Finding, Glyph, Matrix, Scene, Stage, Verdict,
};
use ncclscope::sources::sim;
use ncclscope::theme::{Depth, Role, Terminal, Theme};

use crate::{findings, stage};

/// The scene at the end of a scenario.
pub fn scene(name: &str) -> Scene {
    let mut model = Model::default();
    for (seq, (at, event)) in (1..).zip(sim::events(&sim::load(name).unwrap())) {
        update(&mut model, Stamped { seq, at, event });
    }
    Scene::of(&model)
}

fn find<'a>(s: &'a Scene, id: &str) -> &'a Finding {
    s.findings.iter().find(|f| f.id == id).unwrap()
}

fn roots(s: &Scene) -> Vec<&str> {
    let own = s.findings.iter().filter(|f| f.consequence_of.is_none());
    own.map(|f| f.id).collect()
}

/// Between ranks whose communicator failed no line proves that no connection was needed.
#[test]
fn what_could_not_connect_is_not_known() {
    let s = scene("network-policy");
    let all = &s.matrices[0];
    assert!(all.is_undecided(0, 4) && all.is_undecided(4, 0) && all.is_undecided(3, 7));
    assert!(
        !all.is_undecided(0, 0) && !all.is_undecided(0, 5),
        "no communicator in common"
    );
    assert!(
        !all.is_undecided(0, 2),
        "theirs is complete and needed no edge"
    );
    assert_eq!(
        all.headline,
        "14 connections seen; 8 not known: their communicators have not come up"
    );
    let failed = s
        .communicators
        .iter()
        .filter(|c| c.state == CommState::Failed);
    for c in failed {
        let own = s.matrices.iter().find(|m| m.name == c.key).unwrap();
        assert!(own.is_undecided(0, 1));
        let group = s
            .groups
            .iter()
            .find(|g| g.communicator.as_ref() == Some(&c.key));
        let group = group.unwrap();
        assert!(
            group.routes.is_empty(),
            "{}: nothing goes any way",
            group.name
        );
        assert_eq!(
            group.routes_open.as_deref(),
            Some("its communicator did not come up")
        );
    }
    for p in s.processes.iter().filter(|p| p.global_rank >= Some(4)) {
        assert!(p.nccl_failed, "rank {:?}", p.global_rank);
    }
    let healthy = scene("healthy");
    assert!(healthy.matrices.iter().all(|m| m.undecided.is_empty()));
    assert!(healthy.processes.iter().all(|p| !p.nccl_failed));
    let cells = healthy.matrices.iter().flat_map(|m| &m.cells);
    assert!(cells.into_iter().all(|c| c.glyph != Glyph::Doubt));
}

/// One direction of a pair says nothing of the other: what is `?` is counted cell by cell, and once where two
/// communicators hold the same two ranks.
#[test]
fn a_direction_that_no_line_tells_of_is_not_known() {
    let mut text = String::new();
    for (rank, told) in [(0, "0[0] -> 1[1]"), (1, "1[1] -> 2[2]"), (2, "")] {
        let head = format!("llm-0:{rank}:{rank} [{rank}] NCCL INFO ");
        for (id, nranks) in [("0xabc", 3), ("0xdef", 2)]
            .into_iter()
            .filter(|(_, n)| rank < *n)
        {
            text += &format!(
                "{head}ncclCommInitRankConfig comm 0x1{rank}{nranks} rank {rank} nranks {nranks} cudaDev {rank} nvmlDev {rank} busId 1{rank}000 commId {id} - Init START\n"
            );
            if nranks == 3 && !told.is_empty() {
                text += &format!("{head}Channel 00/0 : {told} via P2P/CUMEM\n");
            }
        }
    }
    let s = findings::scene(&[("llm", &text)]);
    let merged = &s.matrices[0];
    let open = |m: &Matrix| {
        let n = u32::try_from(m.slots.len()).unwrap();
        let all = (0..n).flat_map(|a| (0..n).map(move |b| (a, b)));
        all.filter(|(a, b)| m.is_undecided(*a, *b)).count()
    };
    assert_eq!((merged.cells.len(), open(merged)), (2, 4), "{merged:#?}");
    assert_eq!(
        merged.headline,
        "2 connections seen; 4 not known: their communicators have not come up"
    );
    let own = s.matrices.iter().find(|m| m.name == "abc/3").unwrap();
    assert_eq!((own.cells.len(), open(own)), (2, 4), "{own:#?}");
    assert_eq!(own.headline, merged.headline);
}

/// Nothing outlives its container: no process, no server, no sample.
#[test]
fn what_a_container_held_ends_with_it() {
    let s = scene("dead-rank-cascade");
    assert!(s.pods.len() == 2 && !s.processes.is_empty());
    for p in &s.processes {
        assert_eq!(p.alive, Some(false), "{} {:?}", p.place(), p.global_rank);
    }
    for server in &s.serving {
        assert_eq!((server.ready, server.running), (Some(false), None));
        assert_eq!(server.why.as_deref(), Some("its container has ended"));
    }
    assert!(!s.serving.is_empty() && s.gpus.iter().any(|g| g.used.is_some()));
    for g in s.gpus.iter().filter(|g| g.used.is_some()) {
        assert!(g.ended && g.odd.is_none(), "{:?}", g.global_rank);
    }
    let memory = s.checks.iter().find(|c| c.id == "check.gpu-memory");
    assert_ne!(memory.unwrap().verdict, CheckVerdict::Warn);
}

/// The log before is there only where a container has been started anew.
#[test]
fn the_previous_log_is_asked_for_only_where_there_is_one() {
    let s = scene("dead-rank-cascade");
    let fix = find(&s, "vllm.worker-died").fix.join("\n");
    assert!(fix.contains("kubectl -n prod logs mixtral-0"), "{fix}");
    assert!(!fix.contains("--previous"), "{fix}");
    let s = scene("crashloop");
    let fix = find(&s, "pod.crashloop").fix.join("\n");
    assert!(fix.contains("logs --previous"), "{fix}");
}

/// A value that somebody meant is set everywhere, or nowhere; a switch that is a mistake goes.
#[test]
fn a_variable_is_made_equal_either_way() {
    let s = scene("env-skew");
    let fix = &find(&s, "pod.env-skew").fix;
    assert!(fix[0].contains("NCCL_IB_TC, value: \"106\"") && fix[0].contains("every pod"));
    assert!(fix[1].starts_with("remove NCCL_IB_TC") && fix[1].contains("in no pod"));
    let s = scene("sockets-inside-host");
    let fix = &find(&s, "pod.env-skew").fix;
    assert!(fix[0].starts_with("remove NCCL_P2P_DISABLE"), "{fix:?}");
    assert!(!fix.iter().any(|f| f.contains("every pod")));
}

/// One mistake in the environment is one cause, and each fix names a variable that is set.
#[test]
fn switches_that_send_a_host_to_the_network_are_one_cause() {
    let s = scene("sockets-inside-host");
    assert!(
        roots(&s).iter().all(|id| *id != "pod.env-skew"),
        "{:?}",
        roots(&s)
    );
    let f = find(&s, "nccl.same-host-net");
    let [p2p, shm] = f.fix.as_slice() else {
        panic!("{:?}", f.fix)
    };
    for (fix, name) in [(p2p, "NCCL_P2P_DISABLE"), (shm, "NCCL_SHM_DISABLE")] {
        assert!(fix.starts_with(&format!("remove {name} from containers[*].env in ")));
    }
}

/// The headline is what a person must mend, never the raw line of what follows from it.
#[test]
fn the_headline_is_the_root_cause() {
    for name in [
        "xid",
        "leftover-memory",
        "no-interface",
        "rank-config",
        "ib-completion-error",
        "watchdog-timeout",
    ] {
        let s = scene(name);
        let f = &s.findings[0];
        assert_eq!(f.consequence_of, None);
        assert!(s.summary.ends_with(&f.title), "{name}: {}", s.summary);
        assert_ne!(f.id, "vllm.worker-died", "{name}");
    }
}

/// No pod may run on a node that is rebooted.
#[test]
fn a_node_is_emptied_before_it_is_rebooted() {
    let s = scene("xid");
    let fix = &find(&s, "gpu.xid").fix;
    let at = |word: &str| fix.iter().position(|f| f.contains(word)).unwrap();
    assert!(
        at("cordon") < at("drain") && at("drain") < at("reboot"),
        "{fix:?}"
    );
}

/// Who the watchdog ended died of it, after it, and the rank that hung has not died before.
#[test]
fn the_watchdog_explains_whom_it_ends() {
    let s = scene("watchdog-timeout");
    assert_eq!(roots(&s), ["nccl.watchdog-timeout"]);
    let dog = find(&s, "nccl.watchdog-timeout");
    assert_eq!(dog.ranks, [5]);
    for f in s.findings.iter().filter(|f| f.id == "vllm.worker-died") {
        assert!(f.since.unwrap().ns >= dog.since.unwrap().ns, "{}", f.title);
        assert!(!f.title.starts_with("rank 5 "), "{}", f.title);
    }
}

/// What one pod's logs of a scenario prove, up to `upto` nanoseconds after its start.
fn alone(name: &str, pod: &str, upto: Option<i64>) -> Scene {
    let s = sim::load(name).unwrap();
    let mut ours = BTreeSet::new();
    let mut model = Model::default();
    for (seq, (at, event)) in (1..).zip(sim::events(&s)) {
        if upto.is_some_and(|n| at > s.start_ns() + n) {
            break;
        }
        let mine = match &event {
            Event::Log(l) => ours.contains(&l.source),
            Event::Source(SourceEvent::Opened(id, info)) => {
                let here = info.container.as_ref().is_some_and(|c| c.pod.name == pod);
                if here {
                    ours.insert(*id);
                }
                here
            }
            _ => false,
        };
        if mine {
            update(&mut model, Stamped { seq, at, event });
        }
    }
    Scene::of(&model)
}

/// One pod's log of two: what it shows is healthy, and it says what is missing.
#[test]
fn half_the_logs_of_a_healthy_job_are_healthy_as_far_as_they_go() {
    let s = alone("healthy", "mixtral-0", None);
    assert_eq!(s.verdict, Verdict::Healthy, "{}", s.summary);
    assert_eq!(
        s.summary,
        "the server answers and 4 of 8 ranks serve, as far as these logs show: the logs of 4 ranks are not here"
    );
}

/// The pod that joins another one's engine never says that it serves: neither does the verdict, nor that it starts.
#[test]
fn a_log_without_the_engine_does_not_say_whether_it_serves() {
    let s = alone("healthy", "mixtral-0-1", None);
    assert_eq!(
        (s.verdict, s.summary.as_str()),
        (
            Verdict::Unknown,
            "4 of 8 ranks are through their start-up; whether they serve, these logs do not say: the logs of 4 ranks are not here"
        )
    );
    // As long as its ranks are on their way, that is proven.
    let mut seen = BTreeSet::new();
    for second in (10..60).step_by(5) {
        let s = alone("healthy", "mixtral-0-1", Some(second * 1_000_000_000));
        seen.insert(s.summary.clone());
        if s.processes
            .iter()
            .any(|p| p.stage.is_some_and(|s| s < Stage::Graphs) && !p.quiet)
        {
            assert_eq!(s.verdict, Verdict::Starting, "{second} s: {}", s.summary);
        }
    }
    assert!(seen.contains("0 of 8 ranks serve"), "{seen:?}");
}

/// A stack can only be asked of a process that runs: afterwards its log is what there is.
#[test]
fn nobody_is_asked_for_the_stack_of_a_process_that_has_ended() {
    let s = sim::load("watchdog-timeout").unwrap();
    let mut model = Model::default();
    let mut offered = Vec::new();
    let mut found = false;
    for (seq, (at, event)) in (1..).zip(sim::events(&s)) {
        let pod = matches!(event, Event::Pod(_));
        let log = matches!(event, Event::Log(_));
        update(&mut model, Stamped { seq, at, event });
        if at < s.start_ns() + 600_000_000_000 || !(pod || log) {
            continue;
        }
        let scene = Scene::of(&model);
        let Some(dog) = scene
            .findings
            .iter()
            .find(|f| f.id == "nccl.watchdog-timeout")
        else {
            continue;
        };
        found = true;
        let rank = scene
            .processes
            .iter()
            .find(|p| p.global_rank == Some(5))
            .unwrap();
        let stack = dog.fix.iter().any(|f| f.contains("py-spy"));
        let log = dog
            .fix
            .iter()
            .any(|f| f.contains(" logs ") && f.ends_with(&rank.place()));
        if dog.ranks == [5] {
            assert_eq!(stack, rank.alive != Some(false), "{:?}", dog.fix);
            assert_eq!(log, !stack, "{:?}", dog.fix);
            offered.push(stack);
        }
    }
    assert!(found);
    offered.dedup();
    assert_eq!(offered, [true, false], "while it runs, and no longer");
}

/// The tab of the ranks counts what is wrong: who only waits for another is not.
#[test]
fn the_badge_counts_who_hangs_and_not_who_waits() {
    let s = scene("hang-after-init");
    assert!(s.processes.iter().any(|p| p.still.is_some_and(|s| s.waits)));
    assert_eq!((panes::ranks::PANE.badge)(&s), Some((1, Role::Warn)));
    assert_eq!((panes::ranks::PANE.badge)(&scene("healthy")), None);
}

/// The ladder puts whom the finding proves on top, not those who merely wait for it.
#[test]
fn the_ladder_and_the_finding_name_the_same_rank() {
    let s = scene("hang-after-init");
    assert_eq!(find(&s, "vllm.hung").ranks, [5]);
    for p in s.processes.iter().filter(|p| p.global_rank.is_some()) {
        let accused = (p.global_rank == Some(5)).then_some("vllm.hung");
        assert_eq!(p.accused, accused);
        assert!(accused.is_some() || p.still.is_none_or(|s| s.waits));
    }
    let can = Terminal {
        depth: Depth::Indexed,
        ascii: false,
    };
    let text = stage::text(&stage::draw(
        &s,
        &stage::model(200, 50),
        &Theme::standard(can),
    ));
    let at = |word: &str| text.iter().position(|l| l.contains(word));
    let head = at("START-UP").unwrap();
    assert!(text[head + 1].contains("rank 5") && text[head + 1].contains("named by vllm.hung"));
}
