//! Logs that were rotated: one source, whatever it was cut into, and evidence that cites the very file.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use ncclscope::model::event::{
    Command, Event, LogFile, SourceEvent, SourceId, SourceInfo, Stamped,
};
use ncclscope::model::{Model, update};
use ncclscope::report::redact::Redactor;
use ncclscope::report::{FailOn, Report, html, junit, markdown, tar, text};
use ncclscope::rules::scene::Scene;
use ncclscope::sources::files::{Inputs, Progress, follow, read_all};
use ncclscope::sources::sim;
use ncclscope::theme::Theme;
use proptest::prelude::*;
use serde_json::Value;

use crate::stage;

/// The logs of a scenario of the embedded cluster, by pod.
fn logs(scenario: &str) -> BTreeMap<String, String> {
    let mut names: BTreeMap<SourceId, String> = BTreeMap::new();
    let mut logs: BTreeMap<String, String> = BTreeMap::new();
    for (_, event) in sim::events(&sim::load(scenario).unwrap()) {
        match event {
            Event::Source(SourceEvent::Opened(id, info)) => {
                let name = info.name.replace("prod/", "").replace("/vllm", "");
                names.insert(id, name);
            }
            Event::Log(log) => logs
                .entry(names[&log.source].clone())
                .or_default()
                .push_str(std::str::from_utf8(&log.block.text).unwrap()),
            _ => {}
        }
    }
    logs
}

fn sockets() -> &'static BTreeMap<String, String> {
    static LOGS: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    LOGS.get_or_init(|| logs("sockets-inside-host"))
}

fn put(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut bytes = text.as_bytes().to_vec();
    if name.ends_with(".gz") {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(&bytes).unwrap();
        bytes = packer.finish().unwrap();
    } else if name.ends_with(".zst") {
        bytes = zstd::encode_all(&bytes[..], 1).unwrap();
    }
    fs::write(path, bytes).unwrap();
}

fn model(folder: &Path) -> Model {
    fold(folder, Model::default())
}

fn fold(folder: &Path, mut model: Model) -> Model {
    let inputs = Inputs::find(&[folder.to_owned()]).unwrap();
    let mut seq = 0;
    let mut fold = |event| {
        seq += 1;
        update(&mut model, Stamped { seq, at: 0, event });
        ControlFlow::Continue(())
    };
    read_all(&inputs, 2, &Arc::new(Progress::default()), &mut fold).unwrap();
    model
}

fn scene(folder: &Path) -> Scene {
    Scene::of(&model(folder))
}

fn report(scene: &Scene) -> Value {
    serde_json::to_value(Report::of(scene, None)).unwrap()
}

/// Names of the sources in a folder, with the files of each.
fn found(names: &[&str]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        put(dir.path(), name, "a line\n");
    }
    let model = model(dir.path());
    let base = format!("{}/", dir.path().display());
    let mut told: Vec<String> = model
        .sources
        .iter()
        .map(|(_, s)| {
            let files = s.files.iter().map(|f| f.name.replace(&base, ""));
            let files: Vec<String> = files.collect();
            match files.is_empty() {
                true => s.info.name.replace(&base, ""),
                false => {
                    assert_eq!(s.info.name.replace(&base, ""), *files.last().unwrap());
                    files.join(" < ")
                }
            }
        })
        .collect();
    told.sort();
    told
}

#[test]
fn names_tell_which_files_are_one_log() {
    let one: &[(&[&str], &str)] = &[
        (&["x.log", "x.log.1"], "x.log.1 < x.log"),
        (
            &["x.log", "x.log.2.gz", "x.log.1", "x.log.3.zst"],
            "x.log.3.zst < x.log.2.gz < x.log.1 < x.log",
        ),
        (
            &["x.log", "x.log-20250131.gz", "x.log-20250201"],
            "x.log-20250131.gz < x.log-20250201 < x.log",
        ),
        (
            &["x.log", "x-20250131.log", "x-20250130.log.gz"],
            "x-20250130.log.gz < x-20250131.log < x.log",
        ),
        (
            &["x.log", "x.log.2025-01-31_10-15-00", "x.log.2025-01-31_09"],
            "x.log.2025-01-31_09 < x.log.2025-01-31_10-15-00 < x.log",
        ),
        (
            &["x.log", "x-2025-01-31T10-15-00.000.log.gz"],
            "x-2025-01-31T10-15-00.000.log.gz < x.log",
        ),
        // The kubelet's form is nobody else's: it needs no log beside it.
        (
            &["0.log", "0.log.20250131-101500.gz", "0.log.20250131-111500"],
            "0.log.20250131-101500.gz < 0.log.20250131-111500 < 0.log",
        ),
        (
            &["0.log.20250131-101500.gz", "0.log.20250131-111500"],
            "0.log.20250131-101500.gz < 0.log.20250131-111500",
        ),
        (
            &["4f5e-json.log", "4f5e-json.log.1"],
            "4f5e-json.log.1 < 4f5e-json.log",
        ),
        (&["syslog", "syslog.1"], "syslog.1 < syslog"),
    ];
    for (names, want) in one {
        assert_eq!(found(names), [*want]);
    }
}

#[test]
fn what_is_numbered_and_not_rotated_stays_apart() {
    let apart: &[&[&str]] = &[
        &["rank", "rank.1"],
        &["rank.0", "rank.1"],
        &["out", "out.0", "out.1"],
        &["pod-0.log", "pod-1.log"],
        &["worker.1.log", "worker.2.log", "worker.log"],
        // A rotation begins at 1, a launcher at 0.
        &["job.out", "job.out.0", "job.out.1"],
        &["job.log", "job.log.0", "job.log.1", "job.log.2"],
        // Nobody knows what they are parts of.
        &["x.log.1", "x.log.2"],
        &["x.log-20250130", "x.log-20250131"],
        // Process ids of NCCL_DEBUG_FILE, and a number that is none of a rotation.
        &["nccl.log", "nccl.log.211", "nccl.log.212"],
        &["nccl.log", "nccl.log.40221"],
        &["x.log", "x.log.10"],
        // No such day.
        &["x.log", "x.log-20251331"],
        &["train-20250130.log", "train-20250131.log"],
        // Two ways of marking: which is the older can't be told.
        &["x.log", "x.log-20250131", "x.log.1"],
        &["a/x.log", "b/x.log.1"],
    ];
    for names in apart {
        let mut want: Vec<&str> = names.to_vec();
        want.sort_unstable();
        assert_eq!(found(names), want);
    }
    // Packed while it was looked at: the lines are there once.
    assert_eq!(
        found(&["x.log", "x.log.1", "x.log.1.gz"]),
        ["x.log.1 < x.log", "x.log.1.gz"]
    );
}

/// Everything but where lines stand.
fn same(whole: &Scene, parts: &Scene) {
    let bare = |scene: &Scene| {
        let mut scene = scene.clone();
        for s in &mut scene.sources {
            s.files.clear();
        }
        scene
    };
    assert_eq!(bare(whole), bare(parts));
}

/// The line that a report cites, out of the file that it names.
fn cited(report: &Value) -> Vec<(String, usize, String)> {
    let findings = report["findings"].as_array().unwrap();
    let evidence = findings
        .iter()
        .flat_map(|f| f["evidence"].as_array().unwrap());
    evidence
        .filter_map(|e| {
            let line = usize::try_from(e["line"].as_u64()?).unwrap();
            let file = e["source"].as_str().unwrap().to_owned();
            Some((file, line, e["text"].as_str().unwrap().to_owned()))
        })
        .collect()
}

fn lines_of(path: &str) -> String {
    let inputs = Inputs::find(&[path.into()]).unwrap();
    let mut text = Vec::new();
    let mut sink = |event| {
        if let Event::Log(log) = event {
            text.extend_from_slice(&log.block.text);
        }
        ControlFlow::Continue(())
    };
    read_all(&inputs, 1, &Arc::new(Progress::default()), &mut sink).unwrap();
    String::from_utf8(text).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A job cut anywhere into parts, packed or not, is the job in one file.
    #[test]
    fn a_log_cut_into_parts_says_what_it_says_in_one(
        cuts in prop::collection::vec((0.0..1.0f64, 0.0..1.0f64, any::<bool>()), 2),
        style in prop::sample::select(vec![
            ("log.2", "log.1"),
            ("log-20250130", "log-20250131"),
            ("log.20250131-101500", "log.20250131-111500"),
        ]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        for (pod, log) in sockets() {
            put(dir.path(), &format!("{pod}.log"), log);
        }
        let whole = scene(dir.path());
        for ((pod, log), (a, b, packed)) in sockets().iter().zip(&cuts) {
            let lines: Vec<&str> = log.split_inclusive('\n').collect();
            let at = |share: f64| (share * (lines.len() + 1) as f64) as usize;
            let (a, b) = (at(a.min(*b)), at(a.max(*b)));
            let end = if *packed { ".gz" } else { "" };
            put(dir.path(), &format!("{pod}.{}.gz", style.0), &lines[..a].concat());
            put(dir.path(), &format!("{pod}.{}{end}", style.1), &lines[a..b].concat());
            put(dir.path(), &format!("{pod}.log"), &lines[b..].concat());
        }
        let parts = scene(dir.path());
        prop_assert_eq!(parts.workloads.len(), 1);
        prop_assert!(!parts.findings.is_empty());
        same(&whole, &parts);
        // As `sed -n 12p x.log.1` shows it; a row a file, with what stands in it.
        let report = report(&parts);
        let rows = report["sources"].as_array().unwrap();
        prop_assert_eq!(rows.len(), 6);
        for row in rows {
            let lines = lines_of(row["name"].as_str().unwrap()).lines().count();
            prop_assert_eq!(row["lines"].as_u64().unwrap(), lines as u64);
        }
        for (file, line, said) in cited(&report) {
            prop_assert!(rows.iter().any(|r| r["name"] == file.as_str()));
            let text = lines_of(&file);
            prop_assert_eq!(text.lines().nth(line - 1), Some(said.as_str()));
        }
    }
}

/// The writer was cut off in the middle of a line: each part ends its own, and the numbers stay those of the files.
#[test]
fn a_line_cut_in_two_is_two_lines_and_no_number_is_off() {
    let dir = tempfile::tempdir().unwrap();
    let (pod, log) = sockets().last_key_value().unwrap();
    let (front, back) = log.split_at(log.find("NET/Socket").unwrap() - 20);
    put(dir.path(), &format!("{pod}.log.1"), front);
    put(dir.path(), &format!("{pod}.log"), back);
    let scene = scene(dir.path());
    let [source] = scene.sources.as_slice() else {
        panic!("{:#?}", scene.sources)
    };
    assert_eq!(source.bytes, log.len() as u64);
    assert_eq!(source.lines as usize, log.lines().count() + 1);
    let report = report(&scene);
    assert_eq!(report["sources"][0]["lines"], front.lines().count());
    assert!(!cited(&report).is_empty());
    for (file, line, said) in cited(&report) {
        assert_eq!(
            lines_of(&file).lines().nth(line - 1),
            Some(said.as_str()),
            "{file}"
        );
    }
}

/// A part that can't be read to its end is a loss that is said; what follows keeps its own numbers.
#[test]
fn a_torn_part_is_a_loss_of_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let (pod, log) = sockets().iter().next().unwrap();
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    let (front, back) = lines.split_at(300);
    put(dir.path(), "whole.gz", &front.concat());
    let packed = fs::read(dir.path().join("whole.gz")).unwrap();
    fs::remove_file(dir.path().join("whole.gz")).unwrap();
    fs::write(
        dir.path().join(format!("{pod}.log.1.gz")),
        &packed[..packed.len() - 100],
    )
    .unwrap();
    put(dir.path(), &format!("{pod}.log"), &back.concat());
    let scene = scene(dir.path());
    let [source] = scene.sources.as_slice() else {
        panic!("{:#?}", scene.sources)
    };
    let trouble = source.trouble.as_deref().unwrap();
    assert!(
        trouble.contains(".log.1.gz: it ends in the middle of its compressed data"),
        "{trouble}"
    );
    let (name, number) = scene.stands(0, source.files[1].first_line);
    assert!(name.ends_with(&format!("{pod}.log")));
    assert_eq!(number, 1);
}

/// Whoever names a line to a person names the file that it stands in, and its number there.
#[test]
fn every_way_out_cites_the_very_file() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    for (pod, log) in sockets() {
        let lines: Vec<&str> = log.split_inclusive('\n').collect();
        put(d, &format!("{pod}.log.2.zst"), &lines[..50].concat());
        put(d, &format!("{pod}.log.1"), &lines[50..450].concat());
        put(d, &format!("{pod}.log"), &lines[450..].concat());
    }
    let mut model = fold(d, stage::model(200, 50));
    let scene = Scene::of(&model);
    let (file, line, _) = cited(&report(&scene)).swap_remove(0);
    assert!(file.ends_with("mixtral-0-1.log.1"), "{file}");
    let place = format!("{file}:{line}");
    let printed = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut page = Vec::new();
        write(&mut page);
        String::from_utf8(page).unwrap()
    };
    let pages = [
        printed(&|page| text::write(page, &scene, text::Style::default()).unwrap()),
        printed(&|page| markdown::write(page, &scene, &mut Redactor::off()).unwrap()),
        printed(&|page| {
            junit::write(page, &scene, FailOn::Warning, &mut Redactor::off()).unwrap();
        }),
        printed(&|page| html::write(page, &scene, &model, &mut Redactor::off()).unwrap()),
    ];
    for page in pages {
        assert!(page.contains(&place), "{place} is not in {page}");
        assert!(page.contains("mixtral-0-1.log.2.zst") || !page.contains("SOURCES"));
    }
    let shown = |model: &mut Model, commands: &[Command]| {
        stage::act(&scene, model, commands);
        stage::text(&stage::draw(&scene, model, &Theme::probe(false))).join("\n")
    };
    let pane = |name: &str| Command::Pane(name.into());
    let place = format!("line {line} of {file}");
    let findings = shown(&mut model, &[pane("findings"), Command::Enter]);
    assert!(findings.contains(&place), "{findings}");
    let cell = [
        pane("matrix"),
        Command::Line("cell 4 5".into()),
        Command::Enter,
    ];
    let matrix = shown(&mut model, &cell);
    assert!(matrix.contains("mixtral-0-1.log.1"), "{matrix}");
    // The first line that is kept.
    let logs = shown(
        &mut model,
        &[Command::Back, pane("logs"), Command::Home, Command::Enter],
    );
    assert!(logs.contains("line 1 of"), "{logs}");
    assert!(logs.contains(".log.2.zst"), "{logs}");
}

/// A bundle holds each file by itself, so that what its report cites is found in it.
#[test]
fn a_bundle_of_rotated_logs_holds_what_its_report_cites() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let (pod, log) = sockets().last_key_value().unwrap();
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    put(d, &format!("logs/{pod}.log.1.gz"), &lines[..150].concat());
    put(d, &format!("logs/{pod}.log"), &lines[150..].concat());
    let program = |args: &[&str]| {
        let run = std::process::Command::new(env!("CARGO_BIN_EXE_ncclscope"))
            .args(args)
            .current_dir(d)
            .output()
            .unwrap();
        assert!(run.stderr.is_empty(), "{run:?}");
        run.stdout
    };
    program(&["bundle", "b.tar.zst", "logs", "--no-redact"]);
    let direct: Value =
        serde_json::from_slice(&program(&["report", "logs", "--format", "json"])).unwrap();
    let again: Value =
        serde_json::from_slice(&program(&["report", "b.tar.zst", "--format", "json"])).unwrap();
    assert_eq!(direct, again);
    let archive = zstd::decode_all(fs::File::open(d.join("b.tar.zst")).unwrap()).unwrap();
    let cited = cited(&direct);
    assert!(cited.iter().any(|(file, ..)| file.ends_with(".log.1.gz")));
    for (file, line, said) in cited {
        let name = format!("ncclscope-bundle/logs/{file}.log");
        let mut held = String::new();
        let mut member = tar::find(&archive[..], &name).unwrap();
        member.read_to_string(&mut held).unwrap();
        assert_eq!(held.lines().nth(line - 1), Some(said.as_str()), "{file}");
    }
}

const UID: &str = "0f8a2c1e-6f6f-4a55-9a43-0123456789ab";

/// What a node keeps under /var/log/pods names pods and lives; a pod that came again is one job's.
#[test]
fn folders_of_the_kubelet_name_pod_container_and_life() {
    let dir = tempfile::tempdir().unwrap();
    let before = logs("healthy");
    for (pod, log) in sockets() {
        let folder = format!("pods/prod_{pod}_{UID}/vllm");
        let lines: Vec<&str> = log.split_inclusive('\n').collect();
        let (front, back) = lines.split_at(200);
        // An hour earlier.
        let log = before[pod].replace("T03:", "T02:").replace(" 03:", " 02:");
        put(dir.path(), &format!("{folder}/0.log"), &log);
        put(
            dir.path(),
            &format!("{folder}/1.log.20260302-031500.gz"),
            &front.concat(),
        );
        put(dir.path(), &format!("{folder}/1.log"), &back.concat());
    }
    let model = model(dir.path());
    let lives: Vec<(String, bool, usize)> = model
        .sources
        .iter()
        .map(|(_, s)| {
            let c = s.info.container.as_ref().unwrap();
            let name = format!("{}/{}/{}", c.pod.namespace, c.pod.name, c.container);
            (name, s.info.previous, s.files.len())
        })
        .collect();
    let life = |pod: &str, previous, files| (format!("prod/{pod}/vllm"), previous, files);
    assert_eq!(
        lives,
        [
            life("mixtral-0-1", true, 0),
            life("mixtral-0-1", false, 2),
            life("mixtral-0", true, 0),
            life("mixtral-0", false, 2),
        ]
    );
    let scene = Scene::of(&model);
    let [one] = scene.workloads.as_slice() else {
        panic!("{:#?}", scene.workloads)
    };
    assert_eq!(one.expected_ranks, Some(8));
    // The matrix has a rank once: where it lives.
    let slots = &scene.matrices[0].slots;
    let numbers: Vec<u32> = slots.iter().map(|s| s.number).collect();
    assert_eq!(numbers, (0..8).collect::<Vec<_>>());
    for p in slots.iter().filter_map(|s| s.process) {
        assert!(!scene.processes[p as usize].replaced);
    }
    for p in &scene.processes {
        let old = matches!(p.source, 0 | 2);
        assert_eq!(p.replaced, old);
        assert!(
            p.pod
                .as_deref()
                .is_some_and(|pod| pod.starts_with("mixtral-0"))
        );
    }
    // The life before served, and is no reason to call the present one failed.
    assert_eq!(report(&scene)["verdict"], "degraded", "{}", scene.summary);
    let f = &scene.findings[0];
    assert_eq!(f.id, "nccl.same-host-net");
    assert_eq!(f.hosts, ["mixtral-0-1"]);
}

/// With its older part a log is whole; without it, the finding says where that may still be.
#[test]
fn what_was_rotated_away_is_looked_for_on_its_node() {
    let dir = tempfile::tempdir().unwrap();
    let (pod, log) = sockets().last_key_value().unwrap();
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    let folder = format!("prod_{pod}_{UID}/vllm");
    put(
        dir.path(),
        &format!("{folder}/0.log"),
        &lines[550..].concat(),
    );
    let gone = |scene: &Scene| {
        let mut all = scene.findings.iter();
        all.find(|f| f.id == "log.rotated-away").cloned()
    };
    let finding = gone(&scene(dir.path())).unwrap();
    let place = format!("/var/log/pods/prod_{pod}_*/vllm ");
    assert!(finding.fix[0].contains(&place), "{:?}", finding.fix);
    let older = format!("{folder}/0.log.20260302-031500.gz");
    put(dir.path(), &older, &lines[..550].concat());
    assert_eq!(gone(&scene(dir.path())), None);
}

#[test]
fn links_of_the_kubelet_name_pod_and_container() {
    let dir = tempfile::tempdir().unwrap();
    let id = "4".repeat(64);
    put(dir.path(), &format!("mixtral-0_prod_vllm-{id}.log"), "a\n");
    put(dir.path(), "mixtral-1_prod_vllm-4711.log", "a\n");
    put(dir.path(), &format!("a_b_c_vllm-{id}.log"), "a\n");
    let model = model(dir.path());
    let told: Vec<Option<&str>> = model
        .sources
        .iter()
        .map(|(_, s)| s.info.container.as_ref().map(|c| c.pod.name.as_str()))
        .collect();
    assert_eq!(told, [None, Some("mixtral-0"), None]);
}

/// What a follower tells: the text of each source, and in which files it lies.
#[derive(Default)]
struct Told {
    opened: Vec<SourceInfo>,
    files: BTreeMap<SourceId, Vec<LogFile>>,
    text: BTreeMap<SourceId, String>,
}

impl Told {
    fn hear(&mut self, event: Event) {
        match event {
            Event::Source(SourceEvent::Opened(_, info)) => self.opened.push(info),
            Event::Source(SourceEvent::Files { id, files }) => drop(self.files.insert(id, files)),
            Event::Log(log) => {
                let text = self.text.entry(log.source).or_default();
                assert_eq!(log.block.first_line as usize, text.lines().count() + 1);
                text.push_str(std::str::from_utf8(&log.block.text).unwrap());
            }
            _ => {}
        }
    }

    /// Listens until the text of a source is this, and says in which files it lies.
    fn until(
        &mut self,
        rx: &mut tokio::sync::mpsc::Receiver<Event>,
        (id, want): (u32, &str),
        folder: &Path,
    ) -> Vec<(u64, String)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let id = SourceId(id);
        runtime.block_on(async {
            while self.text.get(&id).is_none_or(|text| text != want) {
                let event = tokio::time::timeout(Duration::from_secs(10), rx.recv()).await;
                match event {
                    Ok(Some(event)) => self.hear(event),
                    _ => panic!("got {:?}, waited for {want:?}", self.text),
                }
            }
        });
        let base = format!("{}/", folder.display());
        let files = self.files.get(&id).into_iter().flatten();
        files
            .map(|f| (f.first_line, f.name.replace(&base, "")))
            .collect()
    }
}

/// Parts that were there are read first; a rotation while the log is followed renames them all.
#[test]
fn a_followed_log_goes_on_through_rotations() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let lies = |list: &[(u64, &str)]| -> Vec<(u64, String)> {
        list.iter().map(|(n, s)| (*n, (*s).to_owned())).collect()
    };
    put(d, "x.log.1", "one\ntwo\n");
    put(d, "x.log", "three\n");
    let (tx, mut rx) = tokio::sync::mpsc::channel(16);
    let follower = follow(Inputs::find(&[d.to_owned()]).unwrap(), true, tx).unwrap();
    let mut told = Told::default();
    assert_eq!(
        told.until(&mut rx, (0, "one\ntwo\nthree\n"), d),
        lies(&[(1, "x.log.1"), (3, "x.log")])
    );
    fs::rename(d.join("x.log.1"), d.join("x.log.2")).unwrap();
    fs::rename(d.join("x.log"), d.join("x.log.1")).unwrap();
    put(d, "x.log", "four\n");
    assert_eq!(
        told.until(&mut rx, (0, "one\ntwo\nthree\nfour\n"), d),
        lies(&[(1, "x.log.2"), (3, "x.log.1"), (4, "x.log")])
    );
    // Copied, then emptied: the copy is no log of its own, and what was emptied holds the old lines no more.
    fs::rename(d.join("x.log.2"), d.join("x.log.3")).unwrap();
    fs::rename(d.join("x.log.1"), d.join("x.log.2")).unwrap();
    fs::copy(d.join("x.log"), d.join("x.log.1")).unwrap();
    let mut file = fs::File::create(d.join("x.log")).unwrap();
    file.write_all(b"5\n").unwrap();
    let so_far = "one\ntwo\nthree\nfour\n5\n";
    let now = told.until(&mut rx, (0, so_far), d);
    assert_eq!(
        now[2..],
        lies(&[(4, "x.log (before it was truncated)"), (5, "x.log")])
    );
    // More than one rotation between two looks: nothing is left out.
    for text in ["six\n", "seven\n"] {
        for n in (1..=4).rev() {
            fs::rename(
                d.join(format!("x.log.{n}")),
                d.join(format!("x.log.{}", n + 1)),
            )
            .ok();
        }
        fs::rename(d.join("x.log"), d.join("x.log.1")).unwrap();
        put(d, "x.log", text);
    }
    let so_far = "one\ntwo\nthree\nfour\n5\nsix\nseven\n";
    let now = told.until(&mut rx, (0, so_far), d);
    assert_eq!(
        now[3..],
        lies(&[(5, "x.log.2"), (6, "x.log.1"), (7, "x.log")])
    );
    // A log that appears in the folder is one, too, and all of it is read.
    let name = d.join("sub/y.log");
    put(d, "new/y.log.1", "six\n");
    put(d, "new/y.log", "seven\n");
    fs::rename(d.join("new"), d.join("sub")).unwrap();
    assert_eq!(
        told.until(&mut rx, (1, "six\nseven\n"), d),
        lies(&[(1, "sub/y.log.1"), (2, "sub/y.log")])
    );
    drop(follower);
    let names: Vec<&str> = told.opened.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names[1..], [name.to_str().unwrap()]);
    assert_eq!(told.text[&SourceId(0)], so_far);
}

/// A container that starts again while its folder is followed: the log of the life before is told to be one.
#[test]
fn a_life_that_begins_makes_the_one_before_a_past_one() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let folder = format!("prod_llm-0_{UID}/vllm");
    put(d, &format!("{folder}/0.log"), "one\n");
    let (tx, mut rx) = tokio::sync::mpsc::channel(16);
    let follower = follow(Inputs::find(&[d.to_owned()]).unwrap(), true, tx).unwrap();
    let mut told = Told::default();
    told.until(&mut rx, (0, "one\n"), d);
    put(d, &format!("{folder}/1.log"), "two\n");
    told.until(&mut rx, (1, "two\n"), d);
    drop(follower);
    let lives: Vec<(bool, bool)> = told
        .opened
        .iter()
        .map(|info| (info.name.ends_with("0.log"), info.previous))
        .collect();
    assert_eq!(lives, [(true, false), (true, true), (false, false)]);
}
