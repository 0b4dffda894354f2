//! Arguments: what they mean, what is refused, what help says.

use std::process::{Command, Output, Stdio};

use clap::{CommandFactory, Parser};
use ncclscope::app::cli::{self, Cli, Verb};
use ncclscope::theme::BUNDLED;

use crate::fakeapi;

fn ncclscope(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ncclscope"));
    command
        .args(args)
        .env_remove("NCCLSCOPE_NAMESPACE")
        .env_remove("NCCLSCOPE_THEME");
    command.envs(env.iter().copied()).output().expect("runs")
}

#[test]
fn the_arguments_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn a_verb_is_a_verb_and_the_rest_is_the_cluster() {
    let cli =
        Cli::try_parse_from(["ncclscope", "-n", "prod", "-l", "app=vllm", "--as", "jane"]).unwrap();
    assert!(cli.verb.is_none());
    assert_eq!(cli.live.cluster.namespace.as_deref(), Some("prod"));
    assert_eq!(cli.live.cluster.selector.as_deref(), Some("app=vllm"));
    assert_eq!(cli.live.cluster.impersonate.as_deref(), Some("jane"));
    let cli = Cli::try_parse_from(["ncclscope", "-n", "prod", "lws/mixtral"]).unwrap();
    assert_eq!(cli.live.workload.as_deref(), Some("lws/mixtral"));
    let cli = Cli::try_parse_from(["ncclscope", "open", "--follow", "a.log", "-"]).unwrap();
    assert!(matches!(cli.verb, Some(Verb::Open(open)) if open.follow && open.paths.len() == 2));
    let cli = Cli::try_parse_from(["ncclscope", "demo", "--speed", "10x"]).unwrap();
    assert!(
        matches!(cli.verb, Some(Verb::Demo(demo)) if demo.speed == 10.0 && demo.scenario == ["healthy"])
    );
}

#[test]
fn what_would_be_ignored_is_refused() {
    let wrong: [&[&str]; 6] = [
        &["-n", "prod", "demo"],
        &["open"],
        &["demo", "--speed", "fast"],
        &["demo", "--speed", "-1"],
        &["open", "a.log", "b.log", "--pink"],
        &["--as-group", "x"],
    ];
    for args in wrong {
        let out = ncclscope(args, &[]);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(!out.stderr.is_empty() && out.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_verb_behind_flags_is_no_workload() {
    for args in [&["--theme", "mono", "demo"][..], &["-n", "prod", "report"]] {
        let out = ncclscope(args, &[]);
        let said = String::from_utf8(out.stderr).unwrap();
        let verb = args.last().unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(
            said.contains(&format!("verbs stand first: `ncclscope {verb} …`")),
            "{said}"
        );
    }
}

#[test]
fn a_flag_wins_over_its_variable_and_a_variable_over_the_default() {
    // In processes of their own: the environment of this one is shared by all tests.
    let theme = |args: &[&str], value: &str| {
        let out = ncclscope(&[&["demo"], args].concat(), &[("NCCLSCOPE_THEME", value)]);
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    assert!(theme(&[], "pink").contains("no theme pink"));
    assert!(
        theme(&["--theme", "light"], "pink").contains("not a terminal"),
        "the flag won"
    );
    assert!(theme(&[], "light").contains("not a terminal"));
    let list = |env: &[(&str, &str)]| ncclscope(&["demo", "--list"], env).status.code();
    assert_eq!(
        list(&[("NCCLSCOPE_NAMESPACE", "prod"), ("NCCLSCOPE_ASCII", "1")]),
        Some(0),
        "no argument of demo"
    );
}

#[test]
fn mistakes_before_the_screen_are_one_sentence() {
    for (args, says) in [
        (&["--kubeconfig", "/nowhere"][..], "/nowhere"),
        (&["demo", "no-such-scenario"], "no-such-scenario"),
        (
            &["open", "/nowhere.log"],
            "/nowhere.log: no such file or folder",
        ),
        (
            &["demo", "--log", "ncclscope=shout"],
            "--log ncclscope=shout",
        ),
    ] {
        let out = ncclscope(args, &[]);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {text}");
        assert!(
            text.starts_with("ncclscope: ") && text.contains(says),
            "{args:?}: {text}"
        );
        assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    }
}

#[test]
fn help_completions_and_manual_know_every_verb() {
    let man = String::from_utf8(cli::man().unwrap()).unwrap();
    let bash = String::from_utf8(cli::completions(clap_complete::Shell::Bash)).unwrap();
    let help = Cli::command().render_long_help().to_string();
    for verb in Cli::command().get_subcommands() {
        let name = verb.get_name();
        assert!(verb.get_about().is_some(), "{name} has no description");
        assert!(
            man.contains(name) && bash.contains(name) && help.contains(name),
            "{name}"
        );
    }
    for (theme, _) in BUNDLED {
        assert!(help.contains(theme), "{theme}");
    }
}

/// Without NVML `local` says in one sentence what is missing, and takes no terminal.
#[test]
fn local_without_a_gpu_is_one_sentence() {
    if ncclscope::sources::nvml::load().is_ok() {
        println!("ignored: this machine has GPUs");
        return;
    }
    let out = ncclscope(&["local"], &[]);
    assert_eq!(out.status.code(), Some(2));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("NVML") && said.lines().count() == 1, "{said}");
    assert!(out.stdout.is_empty());
}

/// Where nobody sits at a terminal a login plug-in that must ask is not run, and one that may is told not to.
#[test]
fn a_login_that_must_ask_needs_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    for mode in ["Always", "IfAvailable"] {
        let ran = dir.path().join(mode);
        let script = format!(
            "printf %s \"$KUBERNETES_EXEC_INFO\" > {}; exit 1",
            ran.display()
        );
        let user = format!(
            "{{exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: {mode}, command: sh, args: [\"-c\", {}]}}}}",
            serde_json::json!(script)
        );
        let path = dir.path().join("config");
        std::fs::write(&path, fakeapi::kubeconfig("http://127.0.0.1:1", &user)).unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_ncclscope"))
            .args(["report", "--workload", "llm", "--kubeconfig"])
            .arg(&path)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success());
        let sentence = "the login plug-in sh must ask you, and standard input is no terminal: start in a terminal";
        assert_eq!(said.contains(sentence), mode == "Always", "{said}");
        let told = std::fs::read_to_string(&ran).ok();
        let told = told.map(|t| t.contains("\"interactive\":false"));
        assert_eq!(
            told,
            (mode == "IfAvailable").then_some(true),
            "{mode}: {said}"
        );
    }
}
