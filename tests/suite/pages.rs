//! The report as a page, as Markdown and as JUnit: whole, and harmless whatever the log says.

use std::sync::Arc;

use ncclscope::model::event::{
    Command, Event, LogBlock, SourceEvent, SourceId, SourceInfo, Stamped,
};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::report::redact::Redactor;
use ncclscope::report::{FailOn, html, junit, markdown, text};
use ncclscope::rules::scene::Scene;
use ncclscope::sources::sim;
use ncclscope::theme::Theme;

use crate::stage::{self, Job};

fn scenario(name: &str) -> Scene {
    Scene::of(&lived(name))
}

fn lived(name: &str) -> Model {
    let scenario = sim::load(name).unwrap();
    let mut model = Model::default();
    for (seq, (at, event)) in (1..).zip(sim::events(&scenario)) {
        update(&mut model, Stamped { seq, at, event });
    }
    model
}

/// A job whose names, values and lines are meant to hurt whoever prints them.
fn hostile() -> Scene {
    let name = "<script>alert(1)</script>&\"'`|\u{202e}*_[x](y)#\u{1b}[31m.log";
    let log = [
        "llm-0:1:1 [0] NCCL INFO Bootstrap : Using <b>eth0</b>:10.0.0.1<0>",
        "llm-0:1:1 [0] NCCL INFO ncclCommInitRank comm 0x55 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 1000 commId 0xabc - Init START",
        "llm-0:1:1 [0] misc/socket.cc:1 NCCL WARN socketPollConnect: connect to </pre><img src=x onerror=alert(1)>10.0.0.2<1234> returned Connection refused, exceeded error retry count after 3 attempts \u{0}\u{7}\u{b}\u{fffe} ]]> ``` --> HF_TOKEN=hf_AbCdEfGhIjKlMnOp12345",
        "ERROR 11-21 03:12:07 [core.py:1] EngineCore failed: PermissionError: [Errno 13] Permission denied: '/m/<svg/onload=x>&amp;'",
    ]
    .join("\n");
    let mut model = Model::default();
    let info = SourceInfo {
        name: name.into(),
        container: None,
        previous: false,
        started: None,
    };
    let block = Block::new(1, format!("{log}\n").into_bytes()).into();
    for event in [
        Event::Source(SourceEvent::Opened(SourceId(0), info)),
        Event::Log(LogBlock {
            source: SourceId(0),
            block,
        }),
    ] {
        update(
            &mut model,
            Stamped {
                seq: 1,
                at: 0,
                event,
            },
        );
    }
    let scene = Scene::of(&model);
    assert!(
        !scene.findings.is_empty(),
        "nothing hostile reaches the page"
    );
    scene
}

pub fn page(scene: &Scene) -> String {
    let mut out = Vec::new();
    html::write(&mut out, scene, &Model::default(), &mut Redactor::new()).unwrap();
    String::from_utf8(out).unwrap()
}

pub fn xml(scene: &Scene) -> String {
    let mut out = Vec::new();
    junit::write(&mut out, scene, FailOn::Warning, &mut Redactor::new()).unwrap();
    String::from_utf8(out).unwrap()
}

pub fn ticket(scene: &Scene) -> String {
    let mut out = Vec::new();
    markdown::write(&mut out, scene, &mut Redactor::new()).unwrap();
    String::from_utf8(out).unwrap()
}

/// Tags in order, each checked to be closed by its own; panics at what is no tag.
pub fn tags(text: &str, void: &[&str]) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    let mut seen = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        // An attribute may hold no bare `>`: the writers escape it.
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if tag.starts_with(['!', '?']) {
            continue;
        }
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric())
            .collect();
        assert!(!name.is_empty(), "<{tag}>");
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(name.as_str()), "</{name}>");
        } else if !tag.ends_with('/') && !void.contains(&name.as_str()) {
            open.push(name.clone());
        }
        seen.push(name);
    }
    assert!(open.is_empty(), "{open:?} never end");
    seen
}

pub const VOID: &[&str] = &["meta", "br", "img", "line", "circle", "polyline", "rect"];

#[test]
fn the_page_has_everything_and_asks_for_nothing() {
    for name in ["healthy", "missing-rank", "sockets-inside-host"] {
        let scene = scenario(name);
        let page = page(&scene);
        let tags = tags(&page, VOID);
        for outside in ["http://", "https://", "src=", "<script", "@import", "url("] {
            assert!(!page.contains(outside), "{name} asks for {outside}");
        }
        for finding in &scene.findings {
            assert!(page.contains(finding.id), "{name} lost {}", finding.id);
        }
        for part in ["details", "table", "style", "main"] {
            assert!(
                tags.iter().any(|t| t == part) || scene.findings.is_empty(),
                "{name}: no {part}"
            );
        }
        assert!(page.contains("@media print") && page.contains("Content-Security-Policy"));
        for host in scene.matrices.first().iter().flat_map(|m| &m.slots) {
            assert!(page.contains(&host.host));
        }
    }
}

/// Memory over time and bandwidth over size are pictures with numbers on their axes.
/// What the screen draws of a job with communicators that have not come up, host by host, and what the reports print.
#[test]
fn a_doubt_on_screen_is_a_doubt_on_paper() {
    let mut scene = Job {
        pods: 5,
        gpus: 16,
        tp: 16,
        broken: Some(1),
    }
    .scene();
    let all = Arc::make_mut(&mut scene.matrices[0]);
    // Nothing is seen inside the last pod, and not everything inside the one before; two pods have not met.
    let (first, last) = (0..16, 64..80);
    let ends = |n: u32| first.contains(&n) || last.contains(&n);
    let to_last = |a: u32, b: u32| last.contains(&a) && ends(b);
    all.cells
        .retain(|c| !to_last(c.from, c.to) && !to_last(c.to, c.from));
    all.undecided = vec![(48..64).collect(), (64..80).collect(), vec![0, 64]];
    if let Some(cell) = all.cells.iter_mut().find(|c| (c.from, c.to) == (16, 32)) {
        cell.disagree = true;
    }
    let mut model = stage::model(200, 50);
    let nodes = [Command::Pane("matrix".into())];
    stage::act(&scene, &mut model, &nodes);
    let screen = stage::text(&stage::draw(&scene, &model, &Theme::probe(false)));
    // A row: some words, then a sign for each of five hosts, each with its mark.
    let signs = |line: &str, words: usize| -> Vec<String> {
        let row = line.split_whitespace().skip(words).flat_map(str::chars);
        let mut out: Vec<String> = Vec::new();
        for c in row.filter(|c| *c != '│') {
            match out.last_mut() {
                Some(sign) if matches!(c, '!' | '≠') => sign.push(c),
                _ => out.push(c.to_string()),
            }
        }
        out
    };
    let rows = |lines: &[&str], begins: &dyn Fn(usize) -> String, words: usize| {
        let row = |host: usize| {
            let begins = begins(host);
            let line = lines.iter().find(|l| l.trim_start().starts_with(&begins));
            signs(
                line.unwrap_or_else(|| panic!("no row {host}: {lines:#?}")),
                words,
            )
        };
        (0..5).map(row).collect::<Vec<_>>()
    };
    let screen: Vec<&str> = screen.iter().map(String::as_str).collect();
    let drawn = rows(&screen, &|host| format!("mixtral-0-{host} "), 3);
    let mut out = Vec::new();
    text::write(&mut out, &scene, text::Style::default()).unwrap();
    let out = String::from_utf8(out).unwrap();
    let at = out.find("MATRIX").expect("a matrix");
    let below: Vec<&str> = out[at..].lines().skip(2).collect();
    let printed = rows(&below, &|host| format!("{host} "), 1);
    assert_eq!(drawn, printed, "{screen:#?}\n{out}");
    for (from, to, sign) in [
        (4, 4, "?"),
        (3, 3, "P"),
        (0, 4, "?"),
        (4, 0, "?"),
        (1, 1, "T!"),
        (1, 2, "R≠"),
        (0, 2, "·"),
    ] {
        assert_eq!(printed[from][to], sign, "{from} to {to}: {out}");
    }
    let page = page(&scene);
    let doubts = page.matches(">?</td>").count();
    assert_eq!(doubts, 3, "the page has as many");
    for said in ["? not known", "≠ behind it", "· no connection"] {
        assert!(out.contains(said), "{said}: {out}");
    }
}

#[test]
fn the_page_has_its_curves() {
    let draw = |name: &str| {
        let model = lived(name);
        let mut out = Vec::new();
        html::write(&mut out, &Scene::of(&model), &model, &mut Redactor::new()).unwrap();
        let page = String::from_utf8(out).unwrap();
        tags(&page, VOID);
        page
    };
    let part = |page: &str, id: &str| -> Option<String> {
        let from = page.find(&format!("<section id=\"{id}\">"))?;
        let rest = &page[from..];
        Some(rest[..rest.find("</section>")?].to_owned())
    };
    let healthy = draw("healthy");
    let memory = part(&healthy, "memory").expect("memory was sampled");
    assert_eq!(
        memory.matches("<polyline").count(),
        8,
        "a line for each GPU"
    );
    for word in ["GPU by GPU", "rank 0", "rank 7", " GB</text>"] {
        assert!(memory.contains(word), "no {word} in {memory}");
    }
    // A load goes up: the last point of a line stands higher than the first.
    let points = memory.split("points=\"").nth(1).unwrap();
    let heights: Vec<f64> = points[..points.find('"').unwrap()]
        .split(' ')
        .map(|p| p.split_once(',').unwrap().1.parse().unwrap())
        .collect();
    assert!(
        heights.len() > 10 && heights.last() < heights.first(),
        "{heights:?}"
    );
    let many = part(&draw("eight-nodes"), "memory").expect("memory was sampled");
    assert!(many.contains("node by node"), "64 lines are no picture");
    assert!(many.matches("<polyline").count() <= 8);
    let test = part(&draw("allreduce-good"), "test").expect("a test ran");
    assert!(
        test.contains("<polyline") && test.contains(" GB/s</text>"),
        "{test}"
    );
    // Files alone say nothing of memory, and nothing is drawn.
    assert!(part(&page(&hostile()), "memory").is_none());
}

#[test]
fn hostile_text_is_text_on_the_page() {
    let page = page(&hostile());
    let tags = tags(&page, VOID);
    for tag in ["script", "img", "b", "pre0"] {
        let own = usize::from(tag == "b") * tags.len();
        assert!(
            tags.iter().filter(|t| *t == tag).count() <= own,
            "<{tag}> got through"
        );
    }
    assert!(page.contains("&lt;script&gt;"), "it is shown, escaped");
    assert!(!page.contains("hf_AbCd"), "a secret got through");
    let control = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!page.chars().any(control));
}

#[test]
fn junit_is_xml_and_fails_where_the_report_would() {
    for name in ["healthy", "missing-rank", "sockets-inside-host"] {
        let scene = scenario(name);
        let text = xml(&scene);
        let tags = tags(&text, &[]);
        let failures = tags.iter().filter(|t| *t == "failure").count() / 2;
        let fails = ncclscope::report::exit_code(&scene, FailOn::Warning) == 1;
        assert_eq!(failures > 0, fails, "{name}");
        assert!(text.contains(&format!("failures=\"{failures}\"")), "{name}");
        for check in &scene.checks {
            assert!(
                text.contains(&format!("classname=\"{}\"", check.id)),
                "{name}"
            );
        }
    }
    let text = xml(&hostile());
    tags(&text, &[]);
    let illegal = |c: char| matches!(c, '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    assert!(!text.chars().any(illegal), "XML 1.0 has no way to say that");
    assert!(!text.contains("<b>") && !text.contains("hf_AbCd"));
}

#[test]
fn markdown_keeps_its_shape() {
    let text = ticket(&scenario("sockets-inside-host"));
    assert!(text.starts_with("# "), "{text}");
    assert!(text.contains("nccl.same-host-net"));
    let text = ticket(&hostile());
    assert!(!text.contains("hf_AbCd"), "{text}");
    // Inside a fence everything is text.
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    assert!(!prose.concat().contains("<script>"), "{text}");
    // A fence in a log closes nothing: every fence that opens is closed by its like.
    let mut fence: Option<String> = None;
    for line in text.lines().filter(|l| l.starts_with("```")) {
        let ticks: String = line.chars().take_while(|c| *c == '`').collect();
        fence = match fence {
            None => Some(ticks),
            Some(open) if open == ticks && line == open => None,
            Some(open) => {
                assert!(ticks.len() < open.len(), "a log closed the fence");
                Some(open)
            }
        };
    }
    assert_eq!(fence, None);
}

/// Five communicators tell of one wrong setting: it is explained once, and the others are named.
#[test]
fn what_follows_from_a_finding_is_told_with_it() {
    let scene = scenario("sockets-inside-host");
    let causes = scene.findings.iter().filter(|f| f.consequence_of.is_none());
    let causes = causes.count();
    let echoes: Vec<String> = (1..)
        .zip(&scene.findings)
        .filter(|(_, f)| f.consequence_of.is_some())
        .map(|(n, f)| format!("{n}  {}: ", format!("{:?}", f.severity).to_lowercase()))
        .collect();
    assert!(!echoes.is_empty() && causes > 0);
    let mut text = Vec::new();
    text::write(&mut text, &scene, text::Style { colour: false }).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.matches("\n    why ").count(), causes, "{text}");
    for echo in &echoes {
        assert!(text.contains(echo), "{echo} is not in {text}");
    }
    let ticket = ticket(&scene);
    let explained = (1..=scene.findings.len()).filter(|n| ticket.contains(&format!("\n## {n}. ")));
    assert_eq!(explained.count(), causes, "{ticket}");
    assert_eq!(ticket.matches("\n- **").count(), echoes.len(), "{ticket}");
    // On the page each stands beneath its cause, under the number that the screen gives it.
    let page = page(&scene);
    let mut last = None;
    let mut shown = 0;
    for part in page.split("<details class=\"finding ").skip(1) {
        let number = part
            .split("class=\"n\">")
            .nth(1)
            .and_then(|n| n.split('<').next());
        let number: usize = number.unwrap().parse().unwrap();
        let f = &scene.findings[number - 1];
        shown += 1;
        match &f.consequence_of {
            None => last = Some(f.key.clone()),
            cause => assert_eq!(cause, &last, "finding {number}"),
        }
    }
    assert_eq!(shown, scene.findings.len());
}
