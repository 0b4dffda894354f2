//! Samples folded, joined to ranks, judged and drawn.

use ncclscope::model::event::{Command, ContainerKey, Event, PodKey, SampleEvent, Stamped};
use ncclscope::model::gpus::Curve;
use ncclscope::model::screen::PaneId;
use ncclscope::model::{Model, update};
use ncclscope::parse::gpu::bus_id;
use ncclscope::report::Report;
use ncclscope::rules::gpus::reasons;
use ncclscope::rules::scene::{GpuView, Scene};
use ncclscope::sources::sim;

use crate::stage;

const SECOND: i64 = 1_000_000_000;

/// A scenario's model and scene after so many seconds.
fn played(name: &str, seconds: i64, (w, h): (u16, u16)) -> (Model, Scene) {
    let scenario = sim::load(name).unwrap_or_else(|e| panic!("{e}"));
    let mut model = stage::model(w, h);
    let until = scenario.start_ns() + seconds * SECOND;
    for (at, event) in sim::events(&scenario) {
        if at <= until {
            update(&mut model, Stamped { seq: 0, at, event });
        }
    }
    let at = until;
    update(
        &mut model,
        Stamped {
            seq: 0,
            at,
            event: Event::Tick,
        },
    );
    let scene = Scene::of(&model);
    (model, scene)
}

fn of_rank(scene: &Scene, rank: u32) -> &GpuView {
    scene
        .gpus
        .iter()
        .find(|g| g.global_rank == Some(rank))
        .unwrap_or_else(|| panic!("no GPU of rank {rank}"))
}

fn sample(pod: &str, tool: &str, text: &str) -> Event {
    Event::Sample(SampleEvent {
        container: Some(ContainerKey {
            pod: PodKey {
                namespace: "prod".into(),
                name: pod.into(),
            },
            container: "vllm".into(),
        }),
        node: Some("gpu-01".into()),
        tool: tool.into(),
        text: text.into(),
    })
}

/// Every GPU is joined to its rank; weights fill shard by shard towards what the index promises.
#[test]
fn a_healthy_load_fills_towards_the_index() {
    let (_, scene) = played("healthy", 34, (120, 40));
    assert_eq!(scene.gpus.len(), 8);
    for (rank, g) in scene.gpus.iter().enumerate() {
        assert_eq!(g.global_rank, Some(u32::try_from(rank).unwrap()));
        assert!(
            g.uuid.is_some() && g.node.is_some() && g.pod.is_some(),
            "{g:?}"
        );
        assert!(g.loading, "{g:?}");
        // 86.99 GiB by TP 4 and PP 2.
        let expected = g.expected_weights.unwrap();
        assert!(expected.abs_diff(11_675_000_000) < 10_000_000, "{expected}");
        let filled = g.filled.unwrap();
        assert!(filled > expected / 10 && filled < expected, "{filled}");
        assert!(g.rate.unwrap() > 2e8 && g.left.unwrap() > 0, "{g:?}");
        assert_eq!((g.odd.as_deref(), g.other), (None, Some(0)));
        // Half the weights are enough to tell a wrong rate: what is left takes as long as it takes.
        let eta = g.left.unwrap() as f64 / 1e9;
        let truth = (expected - filled) as f64 / g.rate.unwrap();
        assert!((eta - truth).abs() < 0.01);
        assert_eq!(g.utilization, Some((0.9, false)));
    }
    let (_, done) = played("healthy", 109, (120, 40));
    for g in &done.gpus {
        assert!(
            !g.loading && g.filled == g.expected_weights && g.left.is_none(),
            "{g:?}"
        );
        assert!(
            g.used > g.limit,
            "serving takes the limit and the graphs: {g:?}"
        );
        assert!(g.odd.is_none());
    }
    // The container reads what it loads.
    let (_, loading) = played("healthy", 34, (120, 40));
    assert!(
        loading
            .usage
            .iter()
            .all(|u| u.read.is_some_and(|r| r > 1e9)),
        "{:?}",
        loading.usage
    );
    assert!(
        done.usage.iter().all(|u| u.read.is_some_and(|r| r < 1e6)),
        "{:?}",
        done.usage
    );
}

/// Slow is told apart from stalled: one has a rate and a time, the other stands still.
#[test]
fn slow_and_stalled_differ() {
    let (_, slow) = played("loading-slow", 150, (120, 40));
    for g in &slow.gpus {
        assert!(g.loading && g.rate.is_some() && g.left.is_some(), "{g:?}");
        let still = slow.now.unwrap().ns - g.still_since.unwrap();
        assert!(still < 10 * SECOND, "{g:?}");
    }
    let (_, stalled) = played("loading-stalled", 200, (120, 40));
    let g = of_rank(&stalled, 0);
    assert!(g.loading && g.rate.is_none() && g.left.is_none(), "{g:?}");
    assert!(stalled.now.unwrap().ns - g.still_since.unwrap() > 120 * SECOND);
    assert!(g.filled < g.expected_weights);
}

/// Samplers that fall silent prove no stall: the last thing seen was a load that went on.
#[test]
fn what_nobody_looks_at_any_more_has_not_stalled() {
    let (mut model, _) = played("loading-slow", 150, (120, 40));
    let at = model.now + 120 * SECOND;
    let event = Event::Tick;
    update(&mut model, Stamped { seq: 0, at, event });
    let scene = Scene::of(&model);
    stage::act(&scene, &mut model, &[Command::Pane("vram".into())]);
    let shot = stage::photograph(&scene, &model);
    assert!(!shot.contains("stalled"), "{shot}");
    assert!(shot.contains("no sample 2m 00s"), "{shot}");
}

/// Only the first rank of all says when it begins to load: the memory of the others is told from what came since.
#[test]
fn who_is_silent_by_the_version_fills_like_the_others() {
    let (_, scene) = played("one-rank-stalled", 230, (120, 40));
    let filled = |rank: u32| of_rank(&scene, rank).filled.unwrap();
    let first = filled(0);
    assert!(first > 5_000_000_000, "{first}");
    for rank in [1, 2, 3, 4, 6, 7] {
        assert!(
            filled(rank).abs_diff(first) < first / 5,
            "rank {rank}: {} of {first}",
            filled(rank)
        );
    }
    assert!(
        filled(5) < first * 3 / 5,
        "it stopped half way: {}",
        filled(5)
    );
    // What has ended waits for no weights and keeps nothing for a cache.
    let (mut model, scene) = played("crash-in-graphs", 120, (120, 40));
    assert!(scene.gpus.iter().any(|g| g.ended));
    stage::act(&scene, &mut model, &[Command::Pane("vram".into())]);
    let shot = stage::photograph(&scene, &model);
    let row = shot.lines().find(|l| l.contains("ended;")).unwrap();
    assert!(!row.contains('░') && !row.contains('┊'), "{row}");
}

/// What was there before the rank came is somebody else's, and only there.
#[test]
fn a_leftover_process_is_seen_before_the_rank_comes() {
    let (_, scene) = played("leftover-memory", 25, (120, 40));
    let others: Vec<(Option<u32>, bool)> = scene
        .gpus
        .iter()
        .map(|g| (g.global_rank, g.other.is_some_and(|o| o > 60_000_000_000)))
        .collect();
    for (rank, held) in others {
        assert_eq!(held, rank == Some(5), "rank {rank:?}");
    }
}

/// One of a group that holds less at rest is marked; nobody else is.
#[test]
fn the_odd_one_out() {
    let (mut model, scene) = played("healthy", 109, (120, 40));
    let g = of_rank(&scene, 2).clone();
    let bus = g.bus_id.as_deref().and_then(bus_id).unwrap();
    let address = format!("00000000:{:02X}:00.0", bus >> 12);
    let line = |used: u64| {
        format!(
            "2, {}, {address}, 81551, {used}, 0, 0, 40, 100.00, 700.00, 1980, 1980, NVIDIA H100 80GB HBM3\n",
            g.uuid.as_deref().unwrap()
        )
    };
    // All stand still for 12 s, one of them 20 GiB lower.
    let now = scene.now.unwrap().ns;
    for second in 1..=13 {
        let at = now + second * SECOND;
        update(
            &mut model,
            Stamped {
                seq: 0,
                at,
                event: sample("mixtral-0", "nvidia-smi", &line(53_000)),
            },
        );
    }
    let scene = Scene::of(&model);
    let odd: Vec<Option<u32>> = scene
        .gpus
        .iter()
        .filter(|g| g.odd.is_some())
        .map(|g| g.global_rank)
        .collect();
    assert_eq!(odd, [Some(2)]);
    assert!(
        of_rank(&scene, 2)
            .odd
            .as_deref()
            .unwrap()
            .contains("less than its group")
    );
}

/// The join is by bus id: an index that means another GPU in the container changes nothing.
#[test]
fn indices_mean_nothing() {
    let scenario = sim::load("healthy").unwrap();
    let mut model = stage::model(120, 40);
    for (at, event) in sim::events(&scenario) {
        let event = match event {
            Event::Sample(mut s) if s.tool == "nvidia-smi" => {
                // The container numbers its GPUs backwards.
                let lines: Vec<String> = s
                    .text
                    .lines()
                    .map(|l| {
                        let (index, rest) = l.split_once(',').unwrap();
                        format!("{},{rest}\n", 3 - index.parse::<u32>().unwrap())
                    })
                    .collect();
                s.text = lines.into_iter().rev().collect();
                Event::Sample(s)
            }
            e => e,
        };
        update(&mut model, Stamped { seq: 0, at, event });
    }
    let scene = Scene::of(&model);
    let (_, straight) = played("healthy", 110, (120, 40));
    let joined = |s: &Scene| -> Vec<_> {
        s.gpus
            .iter()
            .map(|g| (g.global_rank, g.uuid.clone(), g.bus_id.clone()))
            .collect()
    };
    assert_eq!(joined(&scene), joined(&straight));
}

/// A tool that can't, and a MIG parent that may not: unknown, said, never 0.
#[test]
fn what_is_not_measured_is_unknown() {
    let mut model = stage::model(120, 40);
    let texts = [
        "0, GPU-a, 00000000:3B:00.0, 81559, [Insufficient Permissions], [Insufficient Permissions], [N/A], 31, 70.11, 700.00, 345, 1980, NVIDIA H100 80GB HBM3\n",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
    ];
    for (at, text) in (1i64..).zip(texts) {
        update(
            &mut model,
            Stamped {
                seq: 0,
                at: at * SECOND,
                event: sample("llm-0", "nvidia-smi", text),
            },
        );
    }
    let scene = Scene::of(&model);
    let g = scene.gpus.first().unwrap();
    assert_eq!(
        (g.used, g.busy, g.filled, g.global_rank),
        (None, None, None, None)
    );
    assert_eq!(g.state.as_deref(), Some("Insufficient Permissions"));
    let complaint = model.gpus.troubles().next().unwrap();
    assert!(complaint.3.starts_with("NVIDIA-SMI has failed"));
    let shot = {
        stage::act(&scene, &mut model, &[Command::Pane("vram".into())]);
        stage::photograph(&scene, &model)
    };
    assert!(
        shot.contains("Insufficient Perm") && shot.contains("NVIDIA-SMI has failed"),
        "{shot}"
    );
    // It works again: the complaint goes.
    update(
        &mut model,
        Stamped {
            seq: 0,
            at: 9 * SECOND,
            event: sample("llm-0", "nvidia-smi", texts[0]),
        },
    );
    assert_eq!(model.gpus.troubles().count(), 0);
}

/// DCGM fills in what nobody else measures, and never overrides a fresh reading.
#[test]
fn dcgm_does_not_replace_what_is_newer() {
    let mut model = stage::model(120, 40);
    let smi = "0, GPU-a, 00000000:3B:00.0, 81559, 5000, 7, 0, 31, 70.11, 700.00, 345, 1980, X\n";
    let dcgm = "DCGM_FI_DEV_FB_USED{UUID=\"GPU-a\",pci_bus_id=\"00000000:3B:00.0\"} 9\nDCGM_FI_DEV_FB_FREE{UUID=\"GPU-a\"} 1\nDCGM_FI_DEV_XID_ERRORS{UUID=\"GPU-a\"} 79\n\
                DCGM_FI_DEV_FB_USED{UUID=\"GPU-b\",pci_bus_id=\"00000000:5E:00.0\",pod=\"llm-1\",namespace=\"prod\"} 9\n";
    update(
        &mut model,
        Stamped {
            seq: 0,
            at: SECOND,
            event: sample("llm-0", "nvidia-smi", smi),
        },
    );
    let page = Event::Sample(SampleEvent {
        container: None,
        node: Some("gpu-01".into()),
        tool: "dcgm".into(),
        text: dcgm.into(),
    });
    update(
        &mut model,
        Stamped {
            seq: 0,
            at: 2 * SECOND,
            event: page,
        },
    );
    let scene = Scene::of(&model);
    let by = |uuid: &str| {
        scene
            .gpus
            .iter()
            .find(|g| g.uuid.as_deref() == Some(uuid))
            .unwrap()
    };
    assert_eq!(by("GPU-a").used, Some(5000 << 20));
    assert_eq!(by("GPU-a").xids.last().map(|x| x.1), Some(79));
    assert_eq!(
        (by("GPU-b").used, by("GPU-b").pod.as_deref()),
        (Some(9 << 20), Some("llm-1"))
    );
}

#[test]
fn throttle_reasons_in_words() {
    assert_eq!(reasons(0x1), (vec![], false));
    assert_eq!(reasons(0x4), (vec!["power cap"], false));
    assert_eq!(
        reasons(0x48),
        (vec!["hardware slowdown", "hardware thermal"], true)
    );
}

/// A week at one sample a second stays a screen wide, and keeps its first and its newest days.
#[test]
fn curves_stay_small() {
    let mut curve = Curve::default();
    let week = 7 * 86_400;
    for s in 0..week {
        curve.take(s * SECOND, u64::try_from(s).unwrap());
    }
    let points = curve.points();
    assert!((100..=240).contains(&points.len()), "{}", points.len());
    assert_eq!(points.first().map(|p| p.1), Some(0));
    assert!(points.last().unwrap().0 > (week - 2 * 86_400) * SECOND);
    assert!(points.windows(2).all(|w| w[0].0 < w[1].0));
}

/// The report carries the contract's fields, unknown as null.
#[test]
fn the_report_has_the_gpus() {
    let (_, scene) = played("healthy", 109, (120, 40));
    let json = serde_json::to_value(Report::of(&scene, None)).unwrap();
    let gpus = json["gpus"].as_array().unwrap();
    assert_eq!(gpus.len(), 8);
    let first = &gpus[0];
    for field in [
        "uuid",
        "bus_id",
        "node",
        "pod",
        "global_rank",
        "used_bytes",
        "total_bytes",
        "expected_weight_bytes",
        "utilization_percent",
        "at",
    ] {
        assert!(!first[field].is_null(), "{field} of {first}");
    }
    // Logs alone say whose a GPU is, and nothing of its memory.
    let scenario = sim::load("healthy").unwrap();
    let mut model = stage::model(120, 40);
    for (at, event) in sim::events(&scenario) {
        if !matches!(event, Event::Sample(_)) {
            update(&mut model, Stamped { seq: 0, at, event });
        }
    }
    let scene = Scene::of(&model);
    let json = serde_json::to_value(Report::of(&scene, None)).unwrap();
    assert_eq!(json["gpus"].as_array().unwrap().len(), 8);
    assert!(json["gpus"][0]["used_bytes"].is_null() && json["gpus"][0]["uuid"].is_null());
    assert_eq!(json["gpus"][0]["global_rank"], 0);
}

fn photo(name: &str, scenario: &str, seconds: i64, size: (u16, u16), commands: &[Command]) {
    let (mut model, scene) = played(scenario, seconds, size);
    stage::act(&scene, &mut model, &[Command::Pane("vram".into())]);
    stage::act(&scene, &mut model, commands);
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let shot = stage::photograph(&scene, &model);
    settings.bind(|| insta::assert_snapshot!(format!("vram-{name}-{}x{}", size.0, size.1), shot));
}

#[test]
fn the_pane() {
    for size in [(80, 24), (120, 40), (200, 50)] {
        photo("loading", "healthy", 34, size, &[]);
    }
    photo("stalled", "loading-stalled", 200, (120, 40), &[]);
    photo("leftover", "leftover-memory", 25, (120, 40), &[]);
    photo("serving", "healthy", 109, (80, 24), &[]);
    photo(
        "drill",
        "healthy",
        34,
        (120, 40),
        &[Command::Down, Command::Enter],
    );
    photo(
        "big",
        "healthy",
        34,
        (120, 40),
        &[Command::Toggle("big".into())],
    );
}

/// A thousand GPUs are rows of nodes; enter shows those of one node, back folds them again.
#[test]
fn a_thousand_gpus_fold_and_open() {
    let (mut model, scene) = played("big", 60, (120, 40));
    assert!(scene.gpus.len() >= 512, "{}", scene.gpus.len());
    stage::act(&scene, &mut model, &[Command::Pane("vram".into())]);
    let folded = model.screen.counts.rows;
    assert!(folded < scene.gpus.len() && folded >= 64, "{folded}");
    photo("big-folded", "big", 60, (120, 40), &[]);
    stage::act(&scene, &mut model, &[Command::Down, Command::Enter]);
    assert_eq!(model.screen.counts.rows, 8);
    assert_eq!(model.screen.pane, PaneId::Vram);
    stage::act(&scene, &mut model, &[Command::Back]);
    assert_eq!(model.screen.counts.rows, folded);
}
