//! Whatever is written to a file: nothing on the secret list is in it, however the log spelt it.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use ncclscope::model::event::Command as Typed;
use ncclscope::model::screen::PaneId;
use ncclscope::report::tar;
use ncclscope::theme::Theme;

use crate::probed::{ARGS, Cluster, pod};
use crate::stage;

const SECRET: &str = "q7Wm2Lx9Tz4RbK3v";

fn hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02x}")).collect()
}

fn percent(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

fn escaped(text: &str) -> String {
    text.bytes().map(|b| format!("\\u{b:04x}")).collect()
}

fn entities(text: &str) -> String {
    text.bytes().map(|b| format!("&#{b};")).collect()
}

/// `printf %s q7Wm2Lx9Tz4RbK3v | base64`, and behind one and two other bytes.
const BASE64: [&str; 3] = [
    "cTdXbTJMeDlUejRSYkszd",
    "E3V20yTHg5VHo0UmJLM3",
    "xN1dtMkx4OVR6NFJiSzN2",
];

/// A log in which every line that a report quotes has the secret in it, each spelt in another way.
fn log() -> String {
    let refused = |rank: u32, tail: &str| {
        format!(
            "llm-0:1:1 [{rank}] misc/socket.cc:1 NCCL WARN socketPollConnect: connect to 10.0.0.2<1234> returned \
             Connection refused, exceeded error retry count after 3 attempts {tail}"
        )
    };
    let denied = |tail: &str| {
        format!(
            "ERROR 11-21 03:12:07 [core.py:1] EngineCore failed: PermissionError: [Errno 13] Permission denied: '/m/x' {tail}"
        )
    };
    [
        format!("llm-0:1:1 [0] NCCL INFO NCCL_TOKEN set by environment to {SECRET}"),
        "llm-0:1:1 [0] NCCL INFO Bootstrap : Using eth0:10.0.0.1<0>".to_owned(),
        "llm-0:1:1 [0] NCCL INFO ncclCommInitRank comm 0x55 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 1000 commId 0xabc - Init START".to_owned(),
        refused(0, &format!("HF_TOKEN={SECRET}")),
        refused(0, &format!("then {SECRET} alone")),
        refused(0, &format!("Authorization: Bearer {SECRET}")),
        refused(0, &format!("http://user:{SECRET}@proxy:3128/")),
        refused(0, &percent(SECRET)),
        refused(0, &hex(SECRET)),
        refused(0, &escaped(SECRET)),
        refused(0, &entities(SECRET)),
        refused(0, &format!("{}g==", BASE64[0])),
        denied(&format!("api_key='{SECRET}'")),
        denied(&format!("--api-key {SECRET}")),
        denied(&percent(&percent(SECRET))),
    ]
    .join("\n")
        + "\n"
}

fn run(folder: &Path, args: &[&str]) -> Vec<u8> {
    fed(folder, args, Stdio::null())
}

fn fed(folder: &Path, args: &[&str], input: impl Into<Stdio>) -> Vec<u8> {
    let out = Command::new(env!("CARGO_BIN_EXE_ncclscope"))
        .args(args)
        .current_dir(folder)
        .env("NCCLSCOPE_CONFIG", "/nonexistent")
        .stdin(input)
        .output()
        .expect("runs");
    assert!(out.status.code() < Some(2), "{args:?}: {out:?}");
    out.stdout
}

fn clean(what: &str, bytes: &[u8]) {
    let spelt = [
        SECRET.to_owned(),
        percent(SECRET),
        percent(&percent(SECRET)),
        hex(SECRET),
        escaped(SECRET),
        entities(SECRET),
    ];
    let all = spelt.iter().map(String::as_str).chain(BASE64);
    for gone in all {
        // As it stands, and as JSON, XML and HTML would have to write it.
        for form in [
            gone.to_owned(),
            gone.replace('\\', "\\\\"),
            gone.replace('&', "&amp;"),
        ] {
            if let Some(at) = memchr::memmem::find(bytes, form.as_bytes()) {
                let around = &bytes[at.saturating_sub(80)..(at + 80).min(bytes.len())];
                panic!("{form} in {what}: {}", String::from_utf8_lossy(around));
            }
        }
    }
}

#[test]
fn no_file_that_is_written_has_a_secret_in_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("llm-0.log"), log()).unwrap();
    for format in ["text", "markdown", "json", "junit", "html"] {
        let page = run(dir.path(), &["report", "llm-0.log", "--format", format]);
        assert!(
            memchr::memmem::find(&page, b"Connection refused").is_some(),
            "{format} quotes none of the lines, so that it proves nothing"
        );
        clean(format, &page);
    }
    run(dir.path(), &["report", "llm-0.log", "--record", "run.rec"]);
    let text = zstd::decode_all(std::fs::File::open(dir.path().join("run.rec")).unwrap()).unwrap();
    clean("the recording", &text);
    run(dir.path(), &["bundle", "b.tar.zst", "llm-0.log"]);
    let file = std::fs::File::open(dir.path().join("b.tar.zst")).unwrap();
    let archive = zstd::decode_all(file).unwrap();
    clean("the bundle", &archive);
    let mut inner = Vec::new();
    tar::find(&archive[..], "ncclscope-bundle/recording.jsonl.zst")
        .unwrap()
        .read_to_end(&mut inner)
        .unwrap();
    clean(
        "the bundle's recording",
        &zstd::decode_all(&inner[..]).unwrap(),
    );
    // What is read back is as clean, whatever it is written as next.
    for format in ["text", "html"] {
        let page = run(dir.path(), &["report", "b.tar.zst", "--format", format]);
        clean(&format!("{format} of the bundle"), &page);
    }
}

/// A name that stands only in a line that no report quotes, before or behind the lines in which the value is bare.
#[test]
fn a_value_named_in_a_line_that_nobody_quotes_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let named = [
        format!("export HF_TOKEN={SECRET}"),
        format!("- name: HF_TOKEN\n  value: {SECRET}"),
        format!("  \"api_key\": \"{SECRET}\","),
        format!("args:\n- --api-key\n- {SECRET}"),
        format!("  client-secret: |\n    {SECRET}"),
        format!("+ curl -H 'X-Auth-Token: {SECRET}' http://hub"),
    ];
    let bare = [
        "llm-0:1:1 [0] NCCL INFO Bootstrap : Using eth0:10.0.0.1<0>".to_owned(),
        "llm-0:1:1 [0] NCCL INFO ncclCommInitRank comm 0x55 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 1000 commId 0xabc - Init START".to_owned(),
        format!(
            "llm-0:1:1 [0] misc/socket.cc:1 NCCL WARN socketPollConnect: connect to 10.0.0.2<1234> returned \
             Connection refused, exceeded error retry count after 3 attempts with {SECRET}"
        ),
        format!("ERROR 11-21 03:12:07 [core.py:1] EngineCore failed: PermissionError: [Errno 13] Permission denied: '/m/{SECRET}'"),
    ]
    .join("\n");
    // Among lines that nobody listens to.
    let often =
        "llm-0:1:1 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read\n".repeat(3);
    for (n, named) in named.iter().enumerate() {
        for (order, text) in [
            ("before", format!("{often}{named}\n{often}{bare}\n")),
            ("behind", format!("{bare}\n{often}{named}\n{often}")),
        ] {
            std::fs::write(dir.path().join("llm-0.log"), &text).unwrap();
            for format in ["text", "markdown", "json", "junit", "html"] {
                let page = run(dir.path(), &["report", "llm-0.log", "--format", format]);
                assert!(memchr::memmem::find(&page, b"Connection refused").is_some());
                clean(&format!("{format}, named {order} by {named}"), &page);
            }
            let file = std::fs::File::open(dir.path().join("llm-0.log")).unwrap();
            let page = fed(dir.path(), &["report", "-"], file);
            clean(&format!("a pipe, named {order} by {named}"), &page);
            // Through a recording, whose redactor could not know it in time where it was named behind.
            let record = format!("{n}-{order}.rec");
            run(
                dir.path(),
                &["report", "llm-0.log", "--no-redact", "--record", &record],
            );
            clean(
                "a recording's report",
                &run(dir.path(), &["report", &record]),
            );
        }
    }
    // In another file, read before it.
    std::fs::create_dir(dir.path().join("logs")).unwrap();
    std::fs::write(dir.path().join("logs/a.log"), format!("{}\n", named[0])).unwrap();
    std::fs::write(dir.path().join("logs/b.log"), format!("{bare}\n")).unwrap();
    clean("two files", &run(dir.path(), &["report", "logs"]));
}

/// Somebody wrote a token into the specification, and NCCL echoes another: that they are set is all that is shown.
#[test]
fn of_a_variable_that_smells_of_a_secret_only_that_it_is_set_is_on_screen() {
    let env = [
        ("HF_TOKEN", SECRET),
        ("VLLM_API_KEY", SECRET),
        ("NCCL_DEBUG", "INFO"),
        ("VLLM_MAX_TOKENS_PER_EXPERT_FUSED_MOE", "4711"),
    ];
    let cluster = Cluster::new(&[pod(0, &env, ARGS), pod(1, &env, ARGS)]);
    let told = crate::findings::scene(&[("llm-0.log", &log())]);
    // What a line of a log says is the log's; what the environment is said to be is not.
    let (all, few) = (PaneId::ALL.to_vec(), vec![PaneId::Env]);
    for (scene, shown, panes) in [
        (cluster.scene(), "HF_TOKEN", all),
        (told, "NCCL_TOKEN", few),
    ] {
        for id in panes {
            let mut model = stage::model(160, 60);
            let mut seen = String::new();
            stage::act(&scene, &mut model, &[Typed::Pane(id.id().into())]);
            for _ in 0..12 {
                for open in [Typed::Enter, Typed::Back] {
                    seen.push_str(
                        &stage::text(&stage::draw(&scene, &model, &Theme::probe(false))).join("\n"),
                    );
                    stage::act(&scene, &mut model, &[open]);
                }
                stage::act(&scene, &mut model, &[Typed::Down]);
            }
            assert!(!seen.contains(SECRET), "{}: {seen}", id.id());
            if id == PaneId::Env {
                assert!(
                    seen.contains(shown) && seen.contains("set, not shown"),
                    "{seen}"
                );
                assert!(shown != "HF_TOKEN" || seen.contains("4711"), "{seen}");
            }
        }
    }
}
