//! Nothing on the secret list comes out, however it is written; what is no secret does.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ncclscope::app::veil;
use ncclscope::model::event::{Event, ProbeEvent, ProbeOutcome};
use ncclscope::report::redact::{MARK, Redacted, Redactor};
use proptest::prelude::*;

fn base64(bytes: &[u8], url: bool) -> String {
    let digits: &[u8; 64] = if url {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    } else {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    };
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            if i > chunk.len() {
                out.push_str(if url { "" } else { "=" });
            } else {
                out.push(char::from(digits[(word >> (18 - 6 * i) & 63) as usize]));
            }
        }
    }
    out
}

fn clean(text: &str) -> String {
    Redactor::new().text(text).into_owned()
}

#[test]
fn names_of_secrets_show_only_that_they_are_set() {
    let cases = [
        // Variables, as `env` and NCCL print them.
        ("HF_TOKEN=abc def", "HF_TOKEN=[redacted]"),
        (
            "export AWS_SECRET_ACCESS_KEY=\"wJalr/K7\"",
            "export AWS_SECRET_ACCESS_KEY=\"[redacted]\"",
        ),
        (
            "llm-0:1:1 [0] NCCL INFO MY_API_KEY set by environment to x; MY_API_KEY=q1w2 ok",
            "llm-0:1:1 [0] NCCL INFO MY_API_KEY set by environment to x; MY_API_KEY=[redacted] ok",
        ),
        ("PASSWORD=12345", "PASSWORD=[redacted]"),
        // Flags.
        (
            "vllm serve m --api-key s3cret --port 8000",
            "vllm serve m --api-key [redacted] --port 8000",
        ),
        (
            "vllm serve m --api-key=s3cret",
            "vllm serve m --api-key=[redacted]",
        ),
        (
            "['vllm', '--hf-token', 'q1', '--port']",
            "['vllm', '--hf-token', '[redacted]', '--port']",
        ),
        (
            "args:\n- --api-key\n- s3cret\n- --port\n",
            "args:\n- --api-key\n- [redacted]\n- --port\n",
        ),
        // JSON, Python, YAML, HTTP.
        (
            "{\"apiKey\": \"a\\\"b\", \"n\": 1}",
            "{\"apiKey\": \"[redacted]\", \"n\": 1}",
        ),
        (
            "{'client_secret': 'a', 'n': 1}",
            "{'client_secret': '[redacted]', 'n': 1}",
        ),
        (
            "Namespace(api_key='x', hf_token=None, port=8000)",
            "Namespace(api_key='[redacted]', hf_token=None, port=8000)",
        ),
        (
            "api_key=['one', 'two'], n=1",
            "api_key=['[redacted]', '[redacted]'], n=1",
        ),
        ("password: correct horse battery", "password: [redacted]"),
        (
            "  password: |\n    one\n    two\n  user: u\n",
            "  password: |\n    [redacted]\n    [redacted]\n  user: u\n",
        ),
        (
            "- name: HF_TOKEN\n  value: q1w2e3\n",
            "- name: HF_TOKEN\n  value: [redacted]\n",
        ),
        (
            "{\"name\":\"HF_TOKEN\",\"value\":\"q1\"}",
            "{\"name\":\"HF_TOKEN\",\"value\":\"[redacted]\"}",
        ),
        (
            "[\"HF_TOKEN\",\"q1\"],[\"A\",\"b\"]",
            "[\"HF_TOKEN\",\"[redacted]\"],[\"A\",\"b\"]",
        ),
        (
            "Authorization: Digest username=u, response=r",
            "Authorization: [redacted]",
        ),
        (
            "curl -H 'X-Api-Key: abc' http://x",
            "curl -H 'X-Api-Key: [redacted]' http://x",
        ),
        (
            "GET /v1?token=abc&model=m",
            "GET /v1?token=[redacted]&model=m",
        ),
        ("Set-Cookie: id=1; x=2", "Set-Cookie: [redacted]"),
    ];
    for (text, expected) in cases {
        assert_eq!(clean(text), expected);
        assert_eq!(
            clean(expected),
            expected,
            "what was taken out stays as it is"
        );
    }
}

#[test]
fn shapes_of_secrets_need_no_name() {
    let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl";
    let cases = [
        "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345",
        "sk-proj-Ab12Cd34Ef56Gh78Ij90",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "AKIAIOSFODNN7EXAMPLE",
        "nvapi-Ab12Cd34Ef56Gh78Ij90",
        jwt,
    ];
    for secret in cases {
        for (before, after) in [
            ("", ""),
            ("got ", " there"),
            ("(", ")"),
            ("x=", ","),
            ("\"", "\""),
        ] {
            let text = format!("{before}{secret}{after}");
            assert_eq!(clean(&text), format!("{before}{MARK}{after}"));
        }
    }
    assert_eq!(clean("Bearer abc.DEF-123"), "Bearer [redacted]");
    assert_eq!(clean("basic dXNlcjpwYXNzd29yZA=="), "basic [redacted]");
    assert_eq!(
        clean("http://me:p%40ss@hub.corp:8080/x https://tok@git/x redis://:p@ss/w@h/0"),
        "http://[redacted]@hub.corp:8080/x https://[redacted]@git/x redis://[redacted]@h/0"
    );
    let key =
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabcd\n-----END RSA PRIVATE KEY-----\nnext\n";
    let out = clean(key);
    assert!(
        !out.contains("MIIE") && !out.contains("abcd") && out.ends_with("\nnext\n"),
        "{out}"
    );
    assert_eq!(
        out.lines().count(),
        key.lines().count(),
        "lines keep their numbers"
    );
}

#[test]
fn what_is_no_secret_stays() {
    for text in [
        "INFO 11-21 03:12:07 [loggers.py:123] Engine 000: Avg prompt throughput: 12.3 tokens/s, GPU KV cache usage: 0.0%, Prefix cache hit rate: 0.0%",
        "max_num_batched_tokens=8192, bos_token_id=1, eos_token: '<|im_end|>', hf_token=None",
        "llm-0:211:1 [0] NCCL INFO NCCL_IB_PKEY set by environment to 0.",
        "KeyError: 'model.layers.12.mlp.gate_proj.weight'",
        "- key: nvidia.com/gpu\n  operator: Exists",
        "topologyKey: kubernetes.io/hostname",
        "valueFrom:\n  secretKeyRef:\n    name: hub\n    key: token",
        "llm-0:211:211 [0] NCCL INFO comm 0x55 rank 0 nranks 8 commId 0xc0ffee123456789a - Init START",
        "Loading hf_transfer_enabled; sk-learn-something-else; basic settings; bearer tokens are read",
        "image: ghcr.io/x/y@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "http://10.0.0.1:8000/v1/models https://esm.sh/pkg@1.0",
        "/opt/venv/lib/python3.12/site-packages/vllm/model_executor/models/registry.py",
        "HF_TOKEN=$(HUB) API_KEY=${KEY}",
        "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:10<00:10,  5.10s/it]",
        "commands such as `pass` and keys such as ctrl-c",
    ] {
        assert_eq!(clean(text), text);
    }
}

#[test]
fn a_value_that_was_named_once_is_found_everywhere() {
    let mut r = Redactor::new();
    let value = "Tr0ub4dor&3/x y";
    r.learn("DB_PASSWORD", value);
    for text in [
        format!("login failed for {value} at host"),
        format!("as percent {}", percent(value.as_bytes(), false)),
        format!("as percent {}", percent(value.as_bytes(), true)),
        format!(
            "twice {}",
            percent(percent(value.as_bytes(), false).as_bytes(), false)
        ),
        format!("base64 {}", base64(value.as_bytes(), false)),
        format!("base64 {}", base64(format!("u:{value}").as_bytes(), true)),
        format!("path/{}", base64(format!("ab{value}").as_bytes(), false)),
        format!("hex {}", hex(value.as_bytes())),
        format!(
            "escaped {}",
            value
                .bytes()
                .map(|b| format!("\\x{b:02x}"))
                .collect::<String>()
        ),
        format!(
            "unicode {}",
            value
                .bytes()
                .map(|b| format!("\\u{b:04x}"))
                .collect::<String>()
        ),
        format!(
            "html {}",
            value.bytes().map(|b| format!("&#{b};")).collect::<String>()
        ),
        "cut Tr0ub4d… by a screen".to_owned(),
    ] {
        let out = r.text(&text).into_owned();
        assert!(out.contains(MARK), "{text} -> {out}");
        assert!(!out.contains("Tr0ub"), "{out}");
    }
    let listed = r.taken();
    assert!(
        listed
            .iter()
            .any(|t| t.rule == "known-value" && t.times > 5),
        "{listed:?}"
    );
}

#[test]
fn a_key_that_comes_in_pieces_is_gone_whole() {
    let mut r = Redactor::new();
    let mut out = Vec::new();
    for piece in [
        "a\n-----BEGIN PRIVATE KEY-----\nMIIEvQ\n",
        "IBADAN\n",
        "Bgkqhk\n-----END PRIVATE KEY-----\nafter\n",
    ] {
        out.extend_from_slice(&r.lines(7, piece.as_bytes()));
        // Another stream is not concerned.
        assert_eq!(&*r.lines(8, b"plain\n"), b"plain\n");
    }
    let out = String::from_utf8(out).unwrap();
    for gone in ["MIIE", "IBAD", "Bgkq"] {
        assert!(!out.contains(gone), "{out}");
    }
    assert_eq!(out.lines().count(), 7);
    assert!(out.starts_with("a\n") && out.ends_with("after\n"), "{out}");
}

#[test]
fn what_is_serialized_goes_through_it_too() {
    #[derive(serde::Serialize)]
    struct Thing {
        key: &'static str,
        env: BTreeMap<String, Option<String>>,
        list: Vec<(String, String)>,
        text: String,
    }
    let thing = Thing {
        key: "nccl.memlock@llm-0",
        env: [
            ("HF_TOKEN".to_owned(), Some("q1".to_owned())),
            ("NCCL_DEBUG".to_owned(), Some("INFO".to_owned())),
        ]
        .into(),
        list: vec![("a".into(), "http://u:p@h/".into())],
        text: "got \"sk-Ab12Cd34Ef56Gh78\"".into(),
    };
    let redactor = RefCell::new(Redactor::new());
    let out = serde_json::to_string(&Redacted::new(&thing, &redactor)).unwrap();
    assert_eq!(
        out,
        "{\"key\":\"nccl.memlock@llm-0\",\"env\":{\"HF_TOKEN\":\"[redacted]\",\"NCCL_DEBUG\":\"INFO\"},\
         \"list\":[[\"a\",\"http://[redacted]@h/\"]],\"text\":\"got \\\"[redacted]\\\"\"}"
    );
    assert_eq!(redactor.borrow().total(), 3);
    let mut tree = serde_json::json!({
        "env": [["HF_TOKEN", "q1"], ["A", "b"]],
        "args": ["--api-key", "s3", "--port", "80"],
        "vars": [{"value": "v1", "name": "MY_SECRET"}, {"name": "A", "value": "b"}],
    });
    Redactor::new().tree(&mut tree);
    assert_eq!(
        tree,
        serde_json::json!({
            "env": [["HF_TOKEN", MARK], ["A", "b"]],
            "args": ["--api-key", MARK, "--port", "80"],
            "vars": [{"value": MARK, "name": "MY_SECRET"}, {"name": "A", "value": "b"}],
        })
    );
}

#[test]
fn switched_off_it_lets_everything_pass() {
    let mut r = Redactor::off();
    assert_eq!(r.text("HF_TOKEN=abc"), "HF_TOKEN=abc");
    assert!(!r.is_on());
}

/// A value that only the answer of a probe names is taken out of a line that names nothing, too.
#[test]
fn what_a_probe_names_is_known_everywhere() {
    let answered = |out: &str, err: &str| ProbeOutcome::Answered {
        code: 0,
        out: out.into(),
        err: err.into(),
        cut: false,
        ms: 1,
    };
    let failed = ProbeOutcome::Failed {
        why: "curl: API_KEY=plain-9f31c7aa44 refused".into(),
    };
    for outcome in [
        answered("API_KEY=plain-9f31c7aa44\n", ""),
        answered("", "password: plain-9f31c7aa44\n"),
        failed,
    ] {
        let mut redactor = Redactor::new();
        let line = "GET /v1/models plain-9f31c7aa44 200";
        assert_eq!(redactor.text(line), line, "nothing is known yet");
        let event = Event::Probe(ProbeEvent {
            probe: "env".into(),
            container: None,
            ran: String::new(),
            outcome,
        });
        veil::hear(&event, &mut redactor);
        assert!(!redactor.text(line).contains("9f31c7"), "{event:?}");
    }
}

/// A name at the end of the line before is not the name of this one: whoever goes back to it never ends.
#[test]
fn names_on_two_lines_are_each_heard_once() {
    let (done, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for text in [
            "api_token\nsecret_key: abcdefgh1234567\n",
            "x=1 api_secret\nsecret_key: abcdefgh1234567\n",
            "the_secret\n secret_key: abcdefgh1234567\n",
        ] {
            let mut redactor = Redactor::new();
            redactor.hear(1, text.as_bytes());
            let said = redactor.text("then abcdefgh1234567 alone").into_owned();
            done.send((text, said)).unwrap();
        }
    });
    for _ in 0..3 {
        let (text, said) = heard
            .recv_timeout(std::time::Duration::from_secs(30))
            .expect("it ends");
        assert!(!said.contains("abcdefgh1234567"), "{text}: {said}");
    }
}

#[test]
fn what_is_heard_is_known_wherever_blocks_are_cut() {
    let value = "q7Wm2Lx9Tz4Rb";
    let named = [
        format!("HF_TOKEN={value}\n"),
        format!("- name: HF_TOKEN\n  value: {value}\n"),
        format!("args:\n- --api-key\n- {value}\n"),
        format!("vllm serve m --api-key {value} --port 80\n"),
        format!("Passphrase: {value}\n"),
        format!("x-authorization: {value}\n"),
        format!("set-cookie: {value}\n"),
    ];
    for text in &named {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for cut in 0..lines.len() {
            let (a, b) = lines.split_at(cut);
            let filler = "Avg prompt throughput: 12.3 tokens/s\n".repeat(3);
            let (a, b) = (
                format!("{filler}{}", a.concat()),
                format!("{}{filler}", b.concat()),
            );
            let mut heard = Redactor::new();
            heard.hear(1, a.as_bytes());
            heard.hear(2, b"another stream\n");
            heard.hear(1, b.as_bytes());
            let out = heard.text(&format!("then {value} alone")).into_owned();
            assert_eq!(out, format!("then {MARK} alone"), "{a}|{b}");
            assert!(heard.taken().iter().all(|t| t.rule == "known-value"));
            // Who writes as it reads is no wiser where a name stands at the end of a block.
            let mut written = Redactor::new();
            let mut out = written.lines(1, a.as_bytes()).into_owned();
            out.extend_from_slice(&written.lines(1, b.as_bytes()));
            let out = String::from_utf8(out).unwrap();
            assert!(!out.contains(value), "{out}");
        }
    }
    // What only looks like it is forgotten: a stream of such lines costs no memory.
    let mut heard = Redactor::new();
    for _ in 0..3 {
        heard.hear(
            0,
            "max_num_batched_tokens=8192 stop_token_ids=[] monkey business authored\n"
                .repeat(50)
                .as_bytes(),
        );
    }
    assert_eq!(
        heard.text("8192 business authored"),
        "8192 business authored"
    );
}

fn percent(bytes: &[u8], all: bool) -> String {
    bytes
        .iter()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' if !all => char::from(*b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Ways in which a named secret stands in a log.
const NAMED: &[&str] = &[
    "HF_TOKEN={}",
    "    \"api_key\": \"{}\",",
    "engine args: Namespace(model='m', api_key='{}', port=8000)",
    "vllm serve m --api-key {} --port 80",
    "vllm serve m --api-key={}",
    "  client-secret: {}",
    "X-Auth-Token: {}",
    "(Worker_TP0 pid=211) WARNING 11-21 03:12:07 [envs.py:1] DB_PASS={} was set",
    "{\"msg\":\"{\\\"password\\\":\\\"{}\\\"}\"}",
    "GET /?access_token={}&x=1 HTTP/1.1",
    "spec:\n  env:\n  - name: S3_SECRET\n    value: {}\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_survives(
        secret in "[A-Z][a-z][0-9][A-Za-z0-9+_.~-]{9,28}[a-z]",
        way in 0..NAMED.len(),
        noise in "[ -~]{0,40}",
        order in any::<bool>(),
    ) {
        let mut r = Redactor::new();
        let named = NAMED[way].replace("{}", &secret);
        let named = if NAMED[way].contains("{\\\"") { NAMED[way].replacen("\\\"{}\\\"", &format!("\\\"{secret}\\\""), 1) } else { named };
        let mut text = format!("{noise}\n{named}\n");
        for encoded in [
            secret.clone(),
            percent(secret.as_bytes(), true),
            base64(secret.as_bytes(), order),
            base64(format!("user:{secret}").as_bytes(), false),
            hex(secret.as_bytes()),
            secret.bytes().map(|b| format!("\\u{b:04x}")).collect(),
        ] {
            text.push_str(&format!("then {encoded} again\n"));
        }
        let first = r.bytes(text.as_bytes()).into_owned();
        // A second reading knows the value from the start, as a bundle's does.
        let out = String::from_utf8_lossy(&r.bytes(&first)).into_owned();
        for gone in [
            secret.clone(),
            percent(secret.as_bytes(), true),
            base64(secret.as_bytes(), order),
            hex(secret.as_bytes()),
        ] {
            prop_assert!(!out.contains(&gone), "{gone} in {out}");
        }
        prop_assert_eq!(out.lines().count(), text.lines().count());
    }

    #[test]
    fn anything_at_all_is_borne(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut r = Redactor::new();
        let once = r.bytes(&bytes).into_owned();
        prop_assert_eq!(
            memchr::memchr_iter(b'\n', &once).count(),
            memchr::memchr_iter(b'\n', &bytes).count()
        );
        let _ = r.lines(0, &once);
    }
}
