//! Names, values and log lines that are meant to hurt: harmless in every format, on screen and in a shell.

use std::process::Command as Process;

use ncclscope::model::event::{
    Command, Event, KubeEvent, LogBlock, SourceEvent, SourceId, SourceInfo,
};
use ncclscope::model::screen::PaneId;
use ncclscope::parse::Block;
use ncclscope::report::redact::Redactor;
use ncclscope::report::{Report, json, text};
use ncclscope::rules::scene::Scene;
use ncclscope::theme::Theme;

use crate::pages::{VOID, page, tags, ticket, xml};
use crate::probed::{ARGS, Cluster, SMI, pod};
use crate::stage;

/// Ends quotes of shells, YAML and attributes; opens tags, fences and tables; moves the cursor.
const EVIL: &str = "x';touch PWNED;'$(touch PWNED)`touch PWNED`\"}]]>--></pre></details><script>alert(1)</script>|\n# h\n```\n\u{1b}]0;t\u{7}\u{1b}[2J\u{9b}31m\u{202e}";

/// A cluster in which whatever somebody may choose is chosen badly.
fn hostile(kind: &'static str) -> Scene {
    let mut bad = pod(1, &[("NCCL_IB_HCA", EVIL), ("VLLM_HOST_IP", EVIL)], ARGS);
    bad.node = Some(EVIL.into());
    bad.containers[0].image = EVIL.into();
    bad.containers[0]
        .args
        .push(format!("--served-model-name={EVIL}"));
    let mut c = Cluster::of(kind, &[pod(0, &[("NCCL_NET", EVIL)], ARGS), bad]);
    c.answer(
        "gpus",
        Some("llm-1"),
        &format!("{SMI}ecc | 1, {}, 2\n", EVIL.replace('\n', " ")),
    );
    c.answer(
        "model-files",
        Some("llm-0"),
        &format!("at | /m\nfile | 1 | {}.json\n", EVIL.replace('\n', " ")),
    );
    c.send(Event::KubeEvent(KubeEvent {
        uid: "u".into(),
        namespace: "prod".into(),
        kind: "Pod".into(),
        object: "llm-1".into(),
        reason: "FailedMount".into(),
        message: EVIL.into(),
        count: 1,
        ..KubeEvent::default()
    }));
    let line = EVIL.replace('\n', " ");
    let log = format!(
        "OSError: Can't load tokenizer for '/models/{line}'. If you were trying\n\
         llm-1:1:1 [0] misc/socket.cc:561 NCCL WARN socketPollConnect: connect to {line}<1> returned {line}, exceeded error retry count after 35 attempts\n\
         PermissionError: [Errno 13] Permission denied: '/{line}'\n"
    );
    let info = SourceInfo {
        name: format!("prod/llm-1/{EVIL}"),
        container: None,
        previous: false,
        started: None,
    };
    let block = Block::new(1, log.into_bytes()).into();
    let source = SourceId(0);
    c.send(Event::Source(SourceEvent::Opened(source, info)));
    c.send(Event::Log(LogBlock { source, block }));
    let scene = c.scene();
    assert!(scene.findings.len() > 5, "{:?}", scene.findings.len());
    scene
}

/// Moves a terminal, or turns the order of what is read.
fn moves(c: char) -> bool {
    c.is_control() && c != '\n'
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// The lines outside of fences; a fence ends with the very ticks that opened it.
fn outside(markdown: &str) -> String {
    let mut open: Option<&str> = None;
    let mut out = String::new();
    for line in markdown.lines() {
        let ticks = line.len() - line.trim_start_matches('`').len();
        match open {
            Some(fence) if line == fence => open = None,
            None if ticks > 2 => open = line.get(..ticks),
            None => out.push_str(&format!("{line}\n")),
            Some(_) => {}
        }
    }
    assert_eq!(open, None, "a log closed a fence");
    out
}

#[test]
fn every_format_shows_it_and_none_obeys() {
    for kind in ["lws", "sts", "raycluster"] {
        let scene = hostile(kind);
        let mut plain = Vec::new();
        text::write(&mut plain, &scene, text::Style::default()).unwrap();
        let plain = String::from_utf8(plain).unwrap();
        let (html, junit, markdown) = (page(&scene), xml(&scene), ticket(&scene));
        let mut out = Vec::new();
        let redactor = std::cell::RefCell::new(Redactor::new());
        json::write(&mut out, &Report::of(&scene, None), &redactor).unwrap();
        let json = String::from_utf8(out).unwrap();
        for (format, text) in [
            ("text", &plain),
            ("html", &html),
            ("junit", &junit),
            ("markdown", &markdown),
            ("json", &json),
        ] {
            assert!(text.contains("PWNED"), "{format}: it is shown");
            let at = text.find(moves);
            assert_eq!(
                at,
                None,
                "{format}: {:?}",
                at.and_then(|i| text.get(i..))
                    .map(|t| t.chars().take(20).collect::<String>())
            );
        }
        for (format, text, void) in [("html", &html, VOID), ("junit", &junit, &[])] {
            let tags = tags(text, void);
            assert!(!tags.iter().any(|t| t == "script"), "{format}");
        }
        let prose = outside(&markdown);
        assert!(!prose.contains("<script>"), "{prose}");
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
        for id in PaneId::ALL {
            for ascii in [false, true] {
                let mut model = stage::model(200, 50);
                stage::act(&scene, &mut model, &[Command::Pane(id.id().into())]);
                let buf = stage::draw(&scene, &model, &Theme::probe(ascii));
                for cell in &buf.content {
                    assert!(
                        !cell.symbol().chars().any(moves),
                        "{}: {:?}",
                        id.id(),
                        cell.symbol()
                    );
                }
            }
        }
    }
}

/// A real shell runs what a person would paste: nothing of what came from outside is run.
#[test]
fn a_pasted_fix_runs_nothing_but_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut pasted = 0;
    for kind in ["lws", "sts", "deploy", "job", "raycluster"] {
        let scene = hostile(kind);
        let findings = scene.findings.iter().flat_map(|f| &f.fix);
        for fix in findings.chain(scene.checks.iter().flat_map(|c| &c.fix)) {
            assert!(!fix.chars().any(|c| c.is_control()), "{fix:?}");
            if !fix.starts_with("kubectl ") && !fix.starts_with("export ") {
                continue;
            }
            let script = format!("kubectl() {{ :; }}\n{fix}\n");
            let mut sh = Process::new("sh");
            let out = sh
                .args(["-c", &script])
                .current_dir(&folder)
                .output()
                .unwrap();
            assert!(
                out.status.success(),
                "{fix}: {}",
                String::from_utf8_lossy(&out.stderr)
            );
            assert!(!folder.path().join("PWNED").exists(), "{fix}");
            pasted += 1;
        }
    }
    assert!(pasted > 30, "{pasted}");
}
