//! The configuration file: what is in force, what is wrong in it; and what doctor and rbac print.

use std::path::Path;
use std::process::{Command, Output};

use clap::{CommandFactory, FromArgMatches};
use ncclscope::app::cli::Cli;
use ncclscope::app::config::Config;
use ncclscope::model::event::Level;
use ncclscope::model::kiosk::Plan;
use ncclscope::model::screen::PaneId;
use ncclscope::sources::cluster::needs::{self, NEEDS, Subject};
use ncclscope::sources::gate::Policy;
use serde_json::Value;

fn ncclscope(home: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ncclscope"));
    for name in [
        "NCCLSCOPE_THEME",
        "NCCLSCOPE_CONFIG",
        "NCCLSCOPE_NAMESPACE",
        "NCCLSCOPE_CONTEXT",
        "KUBECONFIG",
    ] {
        command.env_remove(name);
    }
    command
        .args(args)
        .env("XDG_CONFIG_HOME", home)
        .env("HOME", home)
        .envs(env.iter().copied())
        .output()
        .expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn write(home: &Path, yaml: &str) {
    std::fs::create_dir_all(home.join("ncclscope")).unwrap();
    std::fs::write(home.join("ncclscope/config.yaml"), yaml).unwrap();
}

#[test]
fn the_example_is_the_defaults() {
    let example = include_str!("../../assets/config.example.yaml");
    let config = Config::read(example).unwrap();
    let bare = Cli::command().get_matches_from(["ncclscope"]);
    let filled = config
        .over(Cli::command(), None)
        .get_matches_from(["ncclscope"]);
    let bare = Cli::from_arg_matches(&bare).unwrap();
    let filled = Cli::from_arg_matches(&filled).unwrap();
    assert_eq!(format!("{bare:?}"), format!("{filled:?}"));
    // What it shows as a comment is right, too.
    let whole: String = example
        .lines()
        .map(|l| {
            format!(
                "{}\n",
                l.strip_prefix('#')
                    .filter(|l| !l.starts_with(' ') || l.starts_with("  "))
                    .unwrap_or(l)
            )
        })
        .collect();
    let config = Config::read(&whole).unwrap();
    assert_eq!(
        config.in_context(Some("production")).get("probes"),
        Some(&"never")
    );
}

#[test]
fn the_file_is_the_default_of_every_verb() {
    let config =
        Config::read("theme: light\nprobes: never\nnamespace: llm\nreadOnly: true\n").unwrap();
    let cli = |args: &[&str]| {
        let matches = config.over(Cli::command(), None).get_matches_from(args);
        Cli::from_arg_matches(&matches).unwrap()
    };
    let live = cli(&["ncclscope"]).live;
    assert_eq!(
        (
            live.screen.theme.as_str(),
            live.access.probes,
            live.access.read_only
        ),
        ("light", Policy::Never, true)
    );
    assert_eq!(live.cluster.namespace.as_deref(), Some("llm"));
    let live = cli(&[
        "ncclscope",
        "-n",
        "x",
        "--probes",
        "always",
        "--theme",
        "mono",
    ])
    .live;
    assert_eq!(
        (live.screen.theme.as_str(), live.access.probes),
        ("mono", Policy::Always)
    );
    assert_eq!(live.cluster.namespace.as_deref(), Some("x"));
}

/// Which panes, how long, how long bad news: the file says, the flags override, and nothing else is a wall's default.
#[test]
fn the_wall_is_set_up_in_the_file() {
    let yaml = "kiosk:\n  panes: [vram, ranks]\n  each: 30\n  hold: 600\n  namespaces: [llm, embed]\n  workloads: [lws/mixtral]\n\
                contexts:\n  lab:\n    kiosk:\n      hold: 60\n";
    let config = Config::read(yaml).unwrap();
    let live = |config: &Config, context: Option<&str>, args: &[&str]| {
        let matches = config
            .over(Cli::command(), context)
            .get_matches_from(["ncclscope", "--kiosk"].iter().chain(args));
        Cli::from_arg_matches(&matches).unwrap().live
    };
    let bare = live(&Config::default(), None, &[]);
    let panes: Vec<PaneId> = bare
        .screen
        .kiosk_panes
        .iter()
        .filter_map(|name| PaneId::named(name))
        .collect();
    let seconds = |s: u32| i64::from(s) * 1_000_000_000;
    let usual = Plan::default();
    assert_eq!(panes, usual.panes);
    assert_eq!(seconds(bare.screen.kiosk_each), usual.each);
    assert_eq!(seconds(bare.screen.kiosk_hold), usual.hold);
    assert_eq!(seconds(bare.screen.kiosk_blind), usual.blind);
    assert!(bare.kiosk_namespaces.is_empty() && bare.kiosk_workloads.is_empty());
    let set = live(&config, None, &[]);
    assert_eq!(set.screen.kiosk_panes, ["vram", "ranks"]);
    assert_eq!((set.screen.kiosk_each, set.screen.kiosk_hold), (30, 600));
    assert_eq!(set.kiosk_namespaces, ["llm", "embed"]);
    assert_eq!(set.kiosk_workloads, ["lws/mixtral"]);
    let flags = [
        "--kiosk-panes",
        "matrix",
        "--kiosk-each",
        "5",
        "--kiosk-namespaces",
        "a,b,c",
    ];
    let flagged = live(&config, Some("lab"), &flags);
    assert_eq!(flagged.screen.kiosk_panes, ["matrix"]);
    assert_eq!(
        (flagged.screen.kiosk_each, flagged.screen.kiosk_hold),
        (5, 60)
    );
    assert_eq!(flagged.kiosk_namespaces, ["a", "b", "c"]);
    // Without a wall they are no error: the file is there for every screen.
    let matches = config
        .over(Cli::command(), None)
        .try_get_matches_from(["ncclscope"]);
    assert!(matches.is_ok(), "{matches:?}");
}

#[test]
fn a_flag_goes_before_a_variable_before_the_file() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), "theme: pink\n");
    let said =
        |args: &[&str], env: &[(&str, &str)]| text(&ncclscope(home.path(), args, env).stderr);
    assert!(said(&["demo"], &[]).contains("no theme pink"), "the file");
    assert!(
        said(&["demo"], &[("NCCLSCOPE_THEME", "plum")]).contains("no theme plum"),
        "the variable"
    );
    assert!(
        said(&["demo", "--theme", "rose"], &[("NCCLSCOPE_THEME", "plum")])
            .contains("no theme rose"),
        "the flag"
    );
    let print = text(&ncclscope(home.path(), &["config", "print"], &[]).stdout);
    assert!(
        print
            .lines()
            .any(|l| l.starts_with("theme: pink") && l.contains("# file")),
        "{print}"
    );
    assert!(
        Config::read(&print.replace(": ~", ": null")).is_ok(),
        "what is printed can be read"
    );
}

#[test]
fn a_wrong_file_is_said_with_its_place_and_stops_nothing_that_mends_it() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), "theme: dark\nprobs: never\n");
    let out = ncclscope(home.path(), &["demo", "--list"], &[]);
    assert_eq!(out.status.code(), Some(2));
    let said = text(&out.stderr);
    assert!(
        said.contains("line 2, column 1") && said.contains("`probes`"),
        "{said}"
    );
    let out = ncclscope(home.path(), &["config", "validate"], &[]);
    assert_eq!(out.status.code(), Some(2));
    write(home.path(), "contexts: {wall: {theme: drak}}\n");
    let out = ncclscope(home.path(), &["config", "validate"], &[]);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        said.contains("no theme drak") && said.contains("dark"),
        "{said}"
    );
    let out = ncclscope(home.path(), &["config", "path"], &[]);
    assert_eq!(out.status.code(), Some(0));
    assert!(text(&out.stdout).trim().ends_with("ncclscope/config.yaml"));
    write(home.path(), "theme: dark\n");
    assert_eq!(
        ncclscope(home.path(), &["config", "validate"], &[])
            .status
            .code(),
        Some(0)
    );
}

#[test]
fn doctor_speaks_where_nothing_is_there() {
    let home = tempfile::tempdir().unwrap();
    let out = ncclscope(home.path(), &["config", "validate"], &[]);
    assert_eq!(out.status.code(), Some(0), "no file is no mistake");
    let missing = home.path().join("nowhere");
    let args = [
        "doctor",
        "--format",
        "json",
        "--kubeconfig",
        missing.to_str().unwrap(),
    ];
    let out = ncclscope(home.path(), &args, &[]);
    assert_eq!(
        out.status.code(),
        Some(1),
        "live can't work: {}",
        text(&out.stderr)
    );
    let all: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(all["schema"], "ncclscope.doctor/v1");
    let verdict = |id: &str| {
        let checks = all["checks"].as_array().unwrap();
        let line = checks.iter().find(|l| l["id"] == id);
        line.unwrap_or_else(|| panic!("no {id}"))["verdict"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(verdict("doctor.kubeconfig"), "fail");
    for id in [
        "doctor.config",
        "doctor.terminal",
        "doctor.colour",
        "doctor.locale",
        "doctor.clipboard",
        "doctor.nvml",
    ] {
        verdict(id);
    }
}

#[test]
fn the_roles_are_yaml_and_hold_what_their_level_needs() {
    for (word, level) in [
        ("observe", Level::Observe),
        ("probe", Level::Probe),
        ("act", Level::Act),
    ] {
        let yaml = needs::yaml(
            level,
            "on",
            &[
                Subject::User("a: b\n- c".into()),
                Subject::ServiceAccount("x".into()),
            ],
        );
        let documents: Vec<Value> = yaml
            .split("---\n")
            .map(|d| serde_yaml::from_str(d).unwrap())
            .collect();
        let kinds: Vec<&str> = documents
            .iter()
            .map(|d| d["kind"].as_str().unwrap())
            .collect();
        assert_eq!(
            kinds,
            ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"],
            "{word}"
        );
        assert_eq!(
            documents[0]["metadata"]["namespace"], "on",
            "a word that YAML has other plans for"
        );
        assert_eq!(
            documents[1]["subjects"][0]["name"], "a: b\n- c",
            "a name stays a name"
        );
        let allowed = |need: &needs::Need, verb: &str| {
            let role = if need.cluster {
                &documents[2]
            } else {
                &documents[0]
            };
            role["rules"].as_array().unwrap().iter().any(|r| {
                let has =
                    |key: &str, value: &str| r[key].as_array().unwrap().iter().any(|v| v == value);
                has("apiGroups", need.group)
                    && has("resources", need.resource)
                    && has("verbs", verb)
            })
        };
        for need in NEEDS.iter().filter(|n| n.level <= level) {
            for verb in need.verbs {
                assert!(allowed(need, verb), "{word}: {}", need.rule(verb));
            }
        }
        let exec = NEEDS.iter().find(|n| n.resource == "pods/exec").unwrap();
        assert_eq!(allowed(exec, "create"), level >= Level::Probe, "{word}");
        assert!(!yaml.contains('*'), "{word}: nothing is given by a star");
    }
}

/// Limits of the file are those of every verb that suspects; what is wrong in one is said at its place.
#[test]
fn how_long_a_stage_may_be_silent_is_set_up_in_the_file() {
    use ncclscope::model::limits::WAITS;
    let file = "stall:\n  weights: 900\n  ray: 60\n";
    let config = Config::read(file).unwrap();
    for words in [
        &["ncclscope"][..],
        &["ncclscope", "open", "x"],
        &["ncclscope", "demo"],
    ] {
        let matches = config.over(Cli::command(), None).get_matches_from(words);
        let cli = Cli::from_arg_matches(&matches).unwrap();
        let stall = match &cli.verb {
            None => &cli.live.screen.stall,
            Some(ncclscope::app::cli::Verb::Open(o)) => &o.screen.stall,
            Some(ncclscope::app::cli::Verb::Demo(d)) => &d.screen.stall,
            Some(other) => panic!("{other:?}"),
        };
        let seconds = |name| stall.stall.seconds(name);
        assert_eq!(
            (seconds("weights"), seconds("ray"), seconds("graphs")),
            (900, 60, 120),
            "{words:?}"
        );
    }
    let mistakes =
        Config::read("stall:\n  wieghts: 900\n  compile: 0\n  graphs: soon\n").unwrap_err();
    let said: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "line 2, column 3: there is no setting `wieghts`; the nearest is `weights`",
            "line 3, column 12: `stall.compile` is whole seconds from 1 to 86400, not `0`",
            "line 4, column 11: `stall.graphs` is whole seconds from 1 to 86400, not `soon`",
        ]
    );
    // The file's defaults are the rules'.
    let home = tempfile::tempdir().unwrap();
    let printed = text(&ncclscope(home.path(), &["config", "print"], &[]).stdout);
    for (name, usual) in WAITS {
        assert!(
            printed.contains(&format!("  {name}: {usual} ")),
            "{name}: {printed}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_nobody_may_look_into_holds_no_configuration() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::os::unix::process::CommandExt as _;
    let home = tempfile::tempdir().unwrap();
    let closed = home.path().join("ncclscope");
    write(home.path(), "nonsense: 1\n");
    let log = home.path().join("a.log");
    std::fs::write(&log, "a line\n").unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(home.path(), 0o755);
    let report = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ncclscope"));
        command.args(["report", log.to_str().unwrap()]);
        command.env_remove("NCCLSCOPE_CONFIG");
        command.env("XDG_CONFIG_HOME", home.path());
        // The superuser looks into everything.
        if home.path().metadata().unwrap().uid() == 0 {
            command.uid(65_534);
        }
        command.output()
    };
    let Ok(wrong) = report() else {
        eprintln!("not run: the program lies where another user can't start it");
        return;
    };
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stderr));
    mode(&closed, 0o000);
    let unseen = report().unwrap();
    mode(&closed, 0o700);
    assert_eq!(unseen.status.code(), Some(3), "{}", text(&unseen.stderr));
}
