//! Screens that must not contradict themselves: what a person reads first, next to what the finding says.

use ncclscope::model::event::{Command, Event, Feed, SourceEvent, SourceId, SourceInfo, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::rules::scene::{CheckVerdict, Scene, Stage};
use ncclscope::sources::sim;
use ncclscope::theme::Theme;

use crate::stage;

const SECOND: i64 = 1_000_000_000;

/// A scenario's model and scene after so many seconds.
fn played(name: &str, seconds: i64, (w, h): (u16, u16)) -> (Model, Scene) {
    let mut scenario = sim::load(name).unwrap_or_else(|e| panic!("{e}"));
    // As the demo does, it goes on.
    scenario.lasts = scenario.lasts.max(seconds as f64);
    let mut model = stage::model(w, h);
    let until = scenario.start_ns() + seconds * SECOND;
    for (at, event) in sim::events(&scenario) {
        if at <= until {
            update(&mut model, Stamped { seq: 0, at, event });
        }
    }
    let (seq, at) = (0, until);
    let event = Event::Tick;
    update(&mut model, Stamped { seq, at, event });
    let scene = Scene::of(&model);
    (model, scene)
}

/// What a pane shows of a scenario.
fn shot(name: &str, seconds: i64, size: (u16, u16), pane: &str) -> String {
    let (mut model, scene) = played(name, seconds, size);
    stage::act(&scene, &mut model, &[Command::Pane(pane.into())]);
    text(&model, &scene)
}

/// What is on the screen, without its roles.
fn text(model: &Model, scene: &Scene) -> String {
    stage::text(&stage::draw(scene, model, &Theme::probe(false))).join("\n")
}

/// The first line that has all of these words.
fn line<'a>(shot: &'a str, words: &[&str]) -> &'a str {
    let has = |l: &&str| words.iter().all(|w| l.contains(w));
    shot.lines()
        .find(has)
        .unwrap_or_else(|| panic!("no line with {words:?}:\n{shot}"))
}

/// One rank's GPU holds less than its group's: the ladder, the ranks and the memory name it as the finding does, and
/// those that only wait for it are not called stalled.
#[test]
fn the_rank_that_holds_the_others_up_stands_first() {
    for size in [(80, 24), (200, 50)] {
        let overview = shot("one-rank-stalled", 330, size, "overview");
        let mut ladder = overview.lines().skip_while(|l| !l.contains("START-UP"));
        let first = ladder.nth(1).unwrap();
        assert!(first.contains(" rank 5 "), "{overview}");
        assert!(first.contains("weights"), "{first}");
        line(&overview, &["VRAM", "The GPU of rank 5: weights stalled"]);
        let stalled = overview.lines().filter(|l| l.contains("GB  stalled"));
        assert_eq!(stalled.count(), 1, "{overview}");
        assert!(!overview.contains("no sign"), "{overview}");
    }
    let ranks = shot("one-rank-stalled", 330, (120, 40), "ranks");
    line(&ranks, &["rank 5: GPU holds 6.9 of 13.7 GB"]);
    let vram = shot("one-rank-stalled", 235, (200, 50), "vram");
    assert_eq!(vram.matches(" waits").count(), 7, "{vram}");
    let (_, scene) = played("one-rank-stalled", 330, (80, 24));
    let proof: Vec<String> = scene.findings[0]
        .evidence()
        .iter()
        .map(|e| format!("{e:?}"))
        .collect();
    assert!(
        proof[0].contains("rank 5: 6.9 GB used where its group has 13.7 GB"),
        "{proof:#?}"
    );
    assert!(!proof.iter().any(|e| e.contains("100 %")), "{proof:#?}");
    // Before the finding is there nobody is called stalled whose weights are complete.
    let early = shot("one-rank-stalled", 80, (200, 50), "vram");
    let rows = early.lines().filter(|l| l.contains("/ 85.5"));
    let stalled: Vec<&str> = rows.filter(|l| l.contains("stalled")).collect();
    assert!(
        matches!(stalled.as_slice(), [one] if one.contains("5  43:00")),
        "{early}"
    );
}

/// A process ends with its container, whatever its version prints: a pod that was killed and started again does not
/// look alive, and nothing of it still loads.
#[test]
fn who_was_killed_with_its_container_has_ended() {
    for (name, ranks, until) in [("oom-killed", "4-7", 320), ("probe-kill", "0", 320)] {
        for at in [60, 150, until] {
            let (_, scene) = played(name, at, (120, 40));
            for p in scene.processes.iter().filter(|p| p.replaced) {
                assert_eq!((p.alive, p.killed), (Some(false), true), "{name} {at}");
            }
        }
        let (_, scene) = played(name, until, (120, 40));
        assert!(scene.processes.iter().any(|p| p.replaced), "{name}");
        let overview = shot(name, until, (80, 24), "overview");
        let mut ladder = overview.lines().skip_while(|l| !l.contains("START-UP"));
        let first = ladder.nth(1).unwrap();
        assert!(
            first.contains(ranks) && first.contains("ended with"),
            "{overview}"
        );
        for not in ["silent by", "left", "GPUs load weights", "no sign"] {
            assert!(!overview.contains(not), "{name}: {not}:\n{overview}");
        }
    }
}

/// A node's memory is that of all of its GPUs, also of the one that has a line of its own above.
#[test]
fn a_node_loses_no_gpu_in_its_total() {
    for name in ["leftover-memory", "memory-imbalance", "hang-after-init"] {
        let overview = shot(name, 320, (120, 40), "overview");
        for node in ["gpu-01", "gpu-02"] {
            line(&overview, &[node, "/ 342.0 GB"]);
        }
    }
}

/// Ranks that never came look absent, and nothing says that they reached what the others wait in; their GPUs hold as
/// much as those of the others and look alike.
#[test]
fn who_never_came_looks_absent() {
    let overview = shot("missing-rank", 330, (120, 40), "overview");
    let absent = line(&overview, &["ranks 4-7", "absent"]);
    assert!(
        absent.contains("have not come to the rendezvous"),
        "{absent}"
    );
    assert!(!absent.contains('█') && !absent.contains("5m"), "{absent}");
    line(&overview, &["ranks 0-3", "nccl-init", "█"]);
    line(&overview, &["ranks 0-3 reached nccl-init"]);
    let bar = |node: &str| {
        let strip = overview.lines().skip_while(|l| !l.contains("VRAM"));
        let strip: Vec<&str> = strip.collect();
        let row = line(&strip.join("\n"), &[node]).to_owned();
        row.replace(node, "")
    };
    assert_eq!(bar("gpu-01"), bar("gpu-02"), "{overview}");
    let ranks = shot("missing-rank", 330, (120, 40), "ranks");
    line(&ranks, &["4-7", "absent", "have not come"]);
}

/// Everything serves and a check failed: the overview says which in words, not only by a number in the tabs.
#[test]
fn a_failed_check_is_said_in_words() {
    for name in [
        "shards-missing",
        "unreadable-model",
        "tokenizer-absent",
        "small-shm",
    ] {
        let (_, scene) = played(name, 300, (80, 24));
        let failed = |v| scene.checks.iter().find(|c| c.verdict == v);
        let worst = failed(CheckVerdict::Fail).or_else(|| failed(CheckVerdict::Warn));
        let worst = worst.unwrap();
        for size in [(80, 24), (200, 50)] {
            let overview = shot(name, 300, size, "overview");
            let said = line(&overview, &[" CHECK ", "5 shows"]);
            assert!(said.contains(&worst.title), "{name}: {said}");
            let output: String = worst.output.chars().take(12).collect();
            assert!(said.contains(&output) || size.0 < 100, "{name}: {said}");
        }
    }
}

/// The fix is the last thing to go: where the overview has rows, title, cause and fix are whole.
#[test]
fn a_fix_is_whole_where_there_is_room() {
    let (_, scene) = played("network-policy", 320, (200, 50));
    let whole = scene.findings[0].fix[0].lines().next().unwrap().to_owned();
    let squeezed = |text: &str| -> String { text.split_whitespace().collect() };
    let shown = shot("network-policy", 320, (200, 50), "overview");
    let shown: String = shown
        .lines()
        .skip_while(|l| !l.contains("fix   "))
        .take_while(|l| !l.contains("START-UP"))
        .map(|l| l.trim().trim_matches('"').trim().to_owned())
        .collect();
    assert!(squeezed(&shown).contains(&squeezed(&whole)), "{shown}");
    for size in [(80, 24), (40, 12), (80, 11), (120, 10)] {
        let overview = shot("one-rank-stalled", 330, size, "overview");
        line(&overview, &["fix   "]);
    }
    // At the usual size nothing of the usual finding is cut.
    let overview = shot("one-rank-stalled", 330, (80, 24), "overview");
    let told = overview
        .lines()
        .take_while(|l| !l.contains("START-UP"))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(!told.contains('…'), "{told}");
    // Details show the whole command, and copy it whole from any of its lines.
    let (mut model, scene) = played("network-policy", 320, (80, 60));
    let open = [Command::Pane("findings".into()), Command::Enter];
    stage::act(&scene, &mut model, &open);
    let page = squeezed(&text(&model, &scene));
    assert!(page.contains(&squeezed(&whole)), "{page}");
}

/// However long the finding, every section that has something to say is on a screen of the usual size.
#[test]
fn no_section_of_the_overview_is_pushed_out() {
    let tested = played("allreduce-wrong-result", 600, (80, 24)).1.test;
    assert!(tested.is_some());
    let names = [
        "sockets-inside-host",
        "network-policy",
        "one-rank-stalled",
        "two-faults",
    ];
    for (name, test) in names.iter().flat_map(|n| [(n, &None), (n, &tested)]) {
        let (mut model, mut scene) = played(name, 320, (80, 24));
        scene.test.clone_from(test);
        let finding = &mut scene.findings[0];
        finding.title = format!("{} {}", finding.title, "and so on for long".repeat(20));
        finding.cause = "because of this and of that ".repeat(30);
        finding.fix = vec!["do this and that ".repeat(30)];
        stage::act(&scene, &mut model, &[Command::Pane("overview".into())]);
        let shown = text(&model, &scene);
        let mut heads = vec!["START-UP", "fix   "];
        let mut have = |there: bool, head: &'static str| heads.extend(there.then_some(head));
        have(scene.gpus.iter().any(|g| g.used.is_some()), "VRAM  ");
        have(!scene.serving.is_empty(), "SERVING");
        have(scene.test.is_some(), "ALL-REDUCE TEST");
        have(true, "EVENTS");
        for head in &heads {
            line(&shown, &[head]);
        }
        // Each with something under it.
        let after = |head: &str| {
            let mut rest = shown.lines().skip_while(|l| !l.contains(head));
            rest.nth(1).unwrap_or_default().trim().to_owned()
        };
        for head in ["START-UP", "EVENTS"] {
            assert!(!after(head).is_empty(), "{head}\n{shown}");
        }
    }
}

/// From the top of a folded rank's details its list is copied, and from a line that line; the hint is not.
#[test]
fn what_a_folded_rank_copies_is_what_is_shown() {
    let (mut model, scene) = played("healthy", 320, (120, 40));
    let open = [Command::Pane("ranks".into()), Command::Enter];
    stage::act(&scene, &mut model, &open);
    let copied = model.screen.counts.copy.clone().unwrap();
    assert!(!copied.contains("shows every rank"), "{copied}");
    assert_eq!(copied.lines().count(), 8, "{copied}");
    for (rank, line) in copied.lines().enumerate() {
        assert!(
            line.split_whitespace().nth(1) == Some(&rank.to_string()),
            "{line}"
        );
    }
    stage::act(&scene, &mut model, &[Command::End]);
    let copied = model.screen.counts.copy.clone().unwrap();
    assert!(
        copied.starts_with("rank") && copied.lines().count() == 1,
        "{copied}"
    );
}

/// What is alike is one line, also where there are a hundred of it.
#[test]
fn a_large_job_is_folded_in_the_overview() {
    let (mut model, scene) = played("big", 125, (200, 50));
    stage::act(&scene, &mut model, &[Command::Pane("overview".into())]);
    let shown = text(&model, &scene);
    line(&shown, &["128 nodes", "GB"]);
    line(&shown, &["104 pods Started"]);
    line(&shown, &["24 pods Started"]);
    assert!(!shown.contains("more lines in vram"), "{shown}");
}

/// Details of a finding are copied from their top as its line in the list is: what to do.
#[test]
fn what_a_finding_copies_is_what_to_do() {
    let (mut model, scene) = played("sockets-inside-host", 320, (120, 40));
    stage::act(&scene, &mut model, &[Command::Pane("findings".into())]);
    let fix = model.screen.counts.copy.clone();
    assert_eq!(fix.as_ref(), scene.findings[0].fix.first());
    stage::act(&scene, &mut model, &[Command::Enter]);
    assert_eq!(model.screen.counts.copy, fix);
}

/// Ranks are listed in one form wherever they are, and in order.
#[test]
fn ranks_are_named_alike_everywhere() {
    use ncclscope::rules::findings::ranges;
    for (numbers, said) in [
        (&[6, 7][..], "6-7"),
        (&[4, 6, 7], "4, 6-7"),
        (&[0, 1, 2, 9], "0-2, 9"),
        (&[3], "3"),
    ] {
        assert_eq!(ranges(numbers), said);
        assert_eq!(ncclscope::panes::parts::ranges(numbers), said);
    }
    let (_, mut scene) = played("healthy", 320, (80, 24));
    scene.processes.reverse();
    let page = crate::pages::ticket(&scene);
    let ranks = page.lines().skip_while(|l| *l != "## Start-up").skip(4);
    let ranks: Vec<u32> = ranks
        .map_while(|l| l.split('|').nth(1)?.trim().parse().ok())
        .collect();
    assert_eq!(ranks, (0..8).collect::<Vec<u32>>(), "{page}");
}

/// Lines of several pods in one stream have their rank beside them as those of a pod's own log do.
#[test]
fn lines_of_a_stream_of_several_pods_have_their_ranks() {
    let mut model = stage::model(120, 30);
    model.session.feed = Feed::Files;
    let mut tell = |event| {
        let (seq, at) = (0, 0);
        update(&mut model, Stamped { seq, at, event });
    };
    let info = SourceInfo {
        name: "-".into(),
        container: None,
        previous: false,
        started: None,
    };
    tell(Event::Source(SourceEvent::Opened(SourceId(0), info)));
    let meet = "distributed_init_method=tcp://10.42.0.17:29501 backend=nccl";
    let said: String = [0, 1]
        .iter()
        .map(|n| {
            let (at, pod) = (format!("INFO 03-11 02:00:2{n}"), format!("[pod/llm-{n}/vllm]"));
            format!(
                "{pod} (Worker pid=402) {at} [parallel_state.py:1400] world_size=2 rank={n} local_rank=0 {meet}\n\
                 {pod} llm-{n}:402:402 [0] NCCL INFO Bootstrap: Using eth0:10.42.{n}.17<0>\n\
                 {pod} (Worker pid=402) {at} [gpu_model_runner.py:1] Starting to load model /models/llm-{n}...\n"
            )
        })
        .collect();
    let block = std::sync::Arc::new(ncclscope::parse::Block::new(1, said.into_bytes()));
    tell(Event::Log(ncclscope::model::event::LogBlock {
        source: SourceId(0),
        block,
    }));
    let scene = Scene::of(&model);
    let ranks: Vec<_> = scene.processes.iter().map(|p| p.global_rank).collect();
    assert_eq!(ranks, [Some(0), Some(1)]);
    stage::act(&scene, &mut model, &[Command::Pane("logs".into())]);
    let shown = text(&model, &scene);
    for n in ["0", "1"] {
        for what in ["Bootstrap: Using", "load model"] {
            let of_pod = |l: &&str| l.contains(what) && (l.contains(&format!("llm-{n}")));
            let row = shown
                .lines()
                .find(of_pod)
                .unwrap_or_else(|| panic!("{what}\n{shown}"));
            let before = row.split("[pod").next().unwrap();
            assert!(before.split_whitespace().any(|w| w == n), "{row}\n{shown}");
        }
    }
}

/// A tab's name is whole or not there, and a number belongs to the name before it; ranks are counted once each, and
/// nothing else with them.
#[test]
fn tabs_are_whole_names_and_ranks_are_counted_as_ranks() {
    for name in ["healthy", "oom-killed", "leftover-memory", "two-faults"] {
        for size in [(80, 24), (100, 30), (60, 20), (40, 14)] {
            let overview = shot(name, 320, size, "overview");
            let tabs = overview.lines().nth(1).unwrap();
            let words: Vec<&str> = tabs
                .split([' ', ':'])
                .filter(|w| !w.is_empty() && w.parse::<u32>().is_err())
                .collect();
            let known = [
                "overview", "pods", "ranks", "matrix", "vram", "checks", "findings", "test",
                "logs", "env",
            ];
            assert!(words.iter().all(|w| known.contains(w)), "{tabs}");
            assert!(words.len() > 1 || size.0 < 80, "{tabs}");
        }
    }
    let tabs = shot("leftover-memory", 320, (200, 50), "overview");
    line(&tabs, &["2 ranks 8 "]);
    let small = shot("oom-killed", 320, (40, 12), "overview");
    line(&small, &["lws/mixtral"]);
}

/// Who can't be reached is a pod where one has that address.
#[test]
fn a_peer_is_called_by_its_pod() {
    let (_, scene) = played("connect-timeout", 320, (80, 24));
    let titles: Vec<&str> = scene.findings.iter().map(|f| f.title.as_str()).collect();
    let named = "mixtral-0-1 can't connect to mixtral-0 (10.42.3.17<";
    assert!(titles.iter().any(|t| t.starts_with(named)), "{titles:#?}");
}

/// A new filter replaces the old one, which is still there to go back to; what a filter hides is said.
#[test]
fn a_filter_begins_anew_and_hides_nothing_silently() {
    let (mut model, scene) = played("oom-killed", 320, (80, 24));
    let typed = |text: &str| [Command::StartFilter, Command::Paste(text.into())];
    stage::act(&scene, &mut model, &[Command::Pane("logs".into())]);
    stage::act(&scene, &mut model, &typed("!health"));
    stage::act(&scene, &mut model, &[Command::Submit]);
    stage::act(&scene, &mut model, &[Command::StartFilter]);
    assert_eq!(model.screen.filter(), "!health", "until something is typed");
    stage::act(&scene, &mut model, &[Command::Insert('i')]);
    assert_eq!(model.screen.filter(), "i");
    stage::act(&scene, &mut model, &[Command::Back]);
    assert_eq!(model.screen.filter(), "!health");
    let again = [Command::StartFilter, Command::Up, Command::Insert('y')];
    stage::act(&scene, &mut model, &again);
    assert_eq!(model.screen.filter(), "!healthy");
    let done = [Command::Submit, Command::Pane("overview".into())];
    stage::act(&scene, &mut model, &done);
    stage::act(&scene, &mut model, &typed("zzz"));
    stage::act(&scene, &mut model, &[Command::Submit]);
    line(
        &text(&model, &scene),
        &["1 finding hidden by the filter /zzz"],
    );
}

/// What a line was understood as is told in names and values, not as the program keeps it.
#[test]
fn a_line_is_understood_in_words() {
    let (mut model, scene) = played("healthy", 100, (120, 60));
    let open = [
        Command::Pane("logs".into()),
        Command::StartFilter,
        Command::Paste("Init COMPLETE".into()),
        Command::Submit,
        Command::Enter,
    ];
    for command in open {
        model.screen.counts = ncclscope::panes::counts(&scene, &model);
        let (seq, at, event) = (0, 0, Event::Do(command));
        update(&mut model, Stamped { seq, at, event });
    }
    let page = text(&model, &scene);
    let told: Vec<&str> = page
        .lines()
        .skip_while(|l| !l.contains("UNDERSTOOD AS"))
        .collect();
    let told = told.join("\n");
    line(&told, &["nranks", "4"]);
    for code in ["Some(", "None", " {", "},"] {
        assert!(!told.contains(code), "{told}");
    }
}

/// Input that is still to come, that has ended without a word and a file without a line are three things.
#[test]
fn no_input_is_told_apart_from_no_input_yet() {
    let said = |names: &[&str], ended: bool| {
        let mut model = stage::model(80, 24);
        model.session.feed = Feed::Files;
        let mut tell = |event| {
            let (seq, at, event) = (0, 0, Event::Source(event));
            update(&mut model, Stamped { seq, at, event });
        };
        for (id, name) in (0..).map(SourceId).zip(names) {
            let info = SourceInfo {
                name: (*name).to_owned(),
                container: None,
                previous: false,
                started: None,
            };
            tell(SourceEvent::Opened(id, info));
            tell(SourceEvent::Up(id));
            if ended {
                tell(SourceEvent::Ended { id, why: None });
            }
        }
        let scene = Scene::of(&model);
        text(&model, &scene)
    };
    line(&said(&["-"], false), &["waiting for the first line"]);
    line(&said(&["-"], true), &["the input ended: nothing was in it"]);
    line(&said(&["empty.log"], true), &["empty.log is empty"]);
    line(&said(&["a.log", "b.log"], true), &["all 2 files are empty"]);
}

/// What the demo shows agrees with what its finding says, as long as it goes on.
#[test]
fn demos_agree_with_their_findings() {
    for at in [60, 320] {
        let (_, scene) = played("gpu-missing", at, (80, 24));
        let there = scene.gpus.iter().filter(|g| g.used.is_some()).count();
        assert_eq!(there, 7, "{at}");
        assert!(
            scene
                .processes
                .iter()
                .all(|p| p.stage < Some(Stage::Serving))
        );
        let missing = scene.findings.iter().any(|f| f.id == "gpu.count-mismatch");
        assert!(missing, "{at}");
        let (_, scene) = played("neighbour-memory", at, (80, 24));
        let ids: Vec<&str> = scene.findings.iter().map(|f| f.id).collect();
        assert!(ids.contains(&"gpu.foreign-memory"), "{at}: {ids:?}");
        let held = scene.gpus.iter().filter(|g| g.other > Some(0));
        let held: Vec<_> = held.map(|g| g.global_rank).collect();
        assert_eq!(held, [Some(7)], "{at}");
        let drivers = scene.gpus.iter().filter_map(|g| g.driver.as_deref());
        let checked = scene.checks.iter().find(|c| c.id == "check.versions");
        for driver in drivers {
            let said = checked.map_or("", |c| c.output.as_str());
            assert!(!said.contains("driver") || said.contains(driver), "{said}");
        }
    }
}
