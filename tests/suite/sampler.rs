//! The sampler's script, run for real on this machine with a stub in place of `nvidia-smi`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ncclscope::model::event::{ContainerState, ContainerView, PodView, ProbeOutcome};
use ncclscope::parse::gpu::{CORE, MORE, Reading, read};
use ncclscope::sources::sampler::{Keeper, Next, Target, script};

/// A round of four GPUs every tenth of a second; knows only the older word for throttle reasons.
const STUB: &str = r#"#!/bin/sh
case "$*" in *clocks_event*) echo 'Field "clocks_event_reasons.active" is not a valid field to query.'; exit 2;; esac
n=1000
while :; do
  for i in 0 1 2 3; do echo "$i, GPU-$i, 00000000:${i}B:00.0, 81559, $n, 5, 1, 40, 120.00, 700.00, 1980, 1980, 553, 0x0000000000000000, 0, 0, Disabled, 5, 16, 550.90.07, NVIDIA H100 80GB HBM3"; done
  case "$*" in *loop-ms*) ;; *) exit 0;; esac
  n=$((n+1)); sleep 0.1
done
"#;

/// Folders of one container: tools, lock, cgroup, proc, model.
struct Den {
    dir: tempfile::TempDir,
}

impl Den {
    fn new(stub: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bin", "lock", "cgroup", "proc/7", "model"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let den = Self { dir };
        if let Some(stub) = stub {
            let path = den.at("bin/nvidia-smi");
            fs::write(&path, stub).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let put = |name: &str, text: &str| fs::write(den.at(name), text).unwrap();
        put(
            "proc/7/io",
            "rchar: 900\nwchar: 1\nsyscr: 1\nsyscw: 1\nread_bytes: 500\n",
        );
        put(
            "proc/meminfo",
            "MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 40 kB\nSwapTotal: 8 kB\nSwapFree: 3 kB\n",
        );
        put(
            "model/model.safetensors.index.json",
            "{\n \"metadata\": {\n  \"total_size\": 93405585408\n },\n \"weight_map\": {",
        );
        den
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a sampler below a parent of its own, as the lease is one; its lines come through the channel.
    fn start(&self, shell: &str) -> (Child, Receiver<String>) {
        self.start_every(shell, "1")
    }

    /// The same, with so many seconds between two looks at the container.
    fn start_every(&self, shell: &str, every: &str) -> (Child, Receiver<String>) {
        let path = format!(
            "{}:{}",
            self.at("bin").display(),
            std::env::var("PATH").unwrap_or_default()
        );
        // The parent waits, so that it is there until somebody kills it.
        let mut child = Command::new(shell)
            .args([
                "-c",
                "\"$@\" & wait",
                "lease",
                shell,
                "-c",
                &script(),
                "ncclscope-sampler",
            ])
            .args([every, "100", CORE, MORE])
            .args(["model", "cgroup", "proc", "lock"].map(|n| self.at(n)))
            .arg("prod.llm-0.vllm")
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tx, rx) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if tx.send(line).is_err() {
                    return;
                }
            }
        });
        (child, rx)
    }

    /// Processes whose command line names this den.
    fn alive(&self) -> usize {
        let name = self.dir.path().display().to_string();
        let of = |pid: &Path| {
            let text = fs::read(pid.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(&name)
        };
        let all = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        all.filter(|e| of(&e.path())).count()
    }

    fn samplers(&self) -> usize {
        let stub = self.at("bin/nvidia-smi").display().to_string();
        let looping = |pid: &Path| {
            let text = fs::read(pid.join("cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace('\0', " ");
            text.contains(&stub) && text.contains("--loop-ms")
        };
        let all = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        all.filter(|e| looping(&e.path())).count()
    }

    fn ended(&self, within: Duration) -> Option<Duration> {
        let begun = Instant::now();
        while begun.elapsed() < within {
            if self.alive() == 0 {
                return Some(begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }
}

fn until(rx: &Receiver<String>, wanted: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if let Ok(line) = rx.recv_timeout(Duration::from_secs(20))
            && wanted(&line)
        {
            return line;
        }
    }
    panic!("no such line came");
}

fn shells() -> Vec<&'static str> {
    let here = |s: &str| {
        Command::new(s)
            .args(["-c", ":"])
            .status()
            .is_ok_and(|s| s.success())
    };
    ["sh", "dash", "bash"]
        .into_iter()
        .filter(|s| here(s))
        .collect()
}

#[test]
fn it_prints_what_the_parser_reads_in_every_shell() {
    for shell in shells() {
        let den = Den::new(Some(STUB));
        fs::write(den.at("cgroup/cgroup.controllers"), "memory\n").unwrap();
        for (name, text) in [
            ("memory.current", "1000\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 600\nfile 300\nkernel 1\nshmem 100\n"),
            ("cpu.stat", "usage_usec 5000000\nuser_usec 1\n"),
            ("memory.events", "low 0\noom 0\noom_kill 2\n"),
            (
                "io.stat",
                "8:0 rbytes=4096 wbytes=1 rios=1\n8:16 rbytes=1000 wbytes=0\n",
            ),
        ] {
            fs::write(den.at(&format!("cgroup/{name}")), text).unwrap();
        }
        let (mut child, rx) = den.start(shell);
        let line = until(&rx, |l| l.starts_with("cgroup "));
        let Some(Reading::Cgroup(c)) = read("cgroup", line.as_bytes()).into_iter().next() else {
            panic!("{shell}: {line}")
        };
        assert_eq!(
            (c.version, c.memory, c.memory_max),
            (Some(2), Some(1000), None),
            "{shell}"
        );
        assert_eq!(
            (c.anon, c.file, c.shmem, c.cpu_us),
            (Some(600), Some(300), Some(100), Some(5_000_000))
        );
        assert_eq!(
            (c.read_block, c.read_storage, c.read_calls),
            (Some(5096), Some(500), Some(900))
        );
        assert_eq!(
            (c.oom_kills, c.host_available, c.host_swap, c.host_swap_free),
            (Some(2), Some(40 << 10), Some(8 << 10), Some(3 << 10))
        );
        let line = until(&rx, |l| l.starts_with("3, GPU-3"));
        let Some(Reading::Gpu(gpu)) = read("nvidia-smi", line.as_bytes()).into_iter().next() else {
            panic!("{shell}: {line}")
        };
        // The query with the older word was taken: all columns are there.
        assert_eq!(
            (gpu.bus, gpu.throttle, gpu.driver.as_deref()),
            (Some(0x3b000), Some(0), Some("550.90.07"))
        );
        child.kill().unwrap();
        child.wait().unwrap();
        let took = den.ended(Duration::from_secs(10));
        assert!(took.is_some(), "{shell}: {} processes stay", den.alive());
    }
}

#[test]
fn the_model_is_weighed_and_version_one_is_read() {
    let den = Den::new(Some(STUB));
    for dir in ["memory", "cpuacct", "blkio"] {
        fs::create_dir_all(den.at(&format!("cgroup/{dir}"))).unwrap();
    }
    for (name, text) in [
        ("memory/memory.usage_in_bytes", "7000\n"),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
        (
            "memory/memory.stat",
            "cache 20\nrss 30\nrss_huge 1\nshmem 4\nswap 0\n",
        ),
        ("cpuacct/cpuacct.usage", "5000\n"),
        (
            "blkio/blkio.throttle.io_service_bytes",
            "8:0 Read 64\n8:0 Write 1\nTotal 65\n",
        ),
    ] {
        fs::write(den.at(&format!("cgroup/{name}")), text).unwrap();
    }
    let (mut child, rx) = den.start("sh");
    let (mut cgroup, mut model) = (None, None);
    while cgroup.is_none() || model.is_none() {
        let line = until(&rx, |l| l.starts_with("cgroup ") || l.starts_with("model "));
        match read("cgroup", line.as_bytes()).into_iter().next() {
            Some(Reading::Cgroup(c)) => cgroup = Some(c),
            Some(Reading::ModelBytes(n)) => model = Some(n),
            other => panic!("{other:?}"),
        }
    }
    let c = cgroup.unwrap();
    assert_eq!(
        (c.version, c.memory, c.memory_max, c.cpu_us),
        (Some(1), Some(7000), None, Some(5))
    );
    assert_eq!(
        (c.anon, c.file, c.shmem, c.read_block),
        (Some(30), Some(20), Some(4), Some(64))
    );
    assert_eq!(model, Some(93_405_585_408));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(den.ended(Duration::from_secs(10)).is_some());
}

/// Two who watch start one `nvidia-smi`; both get its lines; when the first leaves, the second goes on.
#[test]
fn one_measures_however_many_watch() {
    let den = Den::new(Some(STUB));
    let (mut first, rx1) = den.start("sh");
    until(&rx1, |l| l.starts_with("0, GPU-0"));
    let (mut second, rx2) = den.start("sh");
    until(&rx2, |l| l.starts_with("3, GPU-3"));
    until(&rx2, |l| l.starts_with("cgroup "));
    assert_eq!(den.samplers(), 1);
    first.kill().unwrap();
    first.wait().unwrap();
    let alone = Instant::now();
    while den.samplers() != 1 || alone.elapsed() < Duration::from_secs(3) {
        assert!(
            alone.elapsed() < Duration::from_secs(20),
            "nobody took over"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    until(&rx2, |l| l.starts_with("3, GPU-3"));
    second.kill().unwrap();
    second.wait().unwrap();
    assert!(den.ended(Duration::from_secs(10)).is_some());
    // Nothing is left behind.
    assert_eq!(fs::read_dir(den.at("lock")).unwrap().count(), 0);
}

#[test]
fn an_absent_or_broken_tool_is_named_and_the_rest_goes_on() {
    let den = Den::new(None);
    // Whoever runs this may have the real one.
    if Command::new("nvidia-smi").arg("-L").output().is_err() {
        let (mut child, rx) = den.start("sh");
        until(&rx, |l| l.starts_with("trouble why=no nvidia-smi"));
        until(&rx, |l| l.starts_with("cgroup "));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let den = Den::new(Some(
        "#!/bin/sh\necho 'Failed to initialize NVML: Unknown Error'\nexit 255\n",
    ));
    let (mut child, rx) = den.start("sh");
    let line = until(&rx, |l| l.starts_with("Failed to initialize"));
    assert!(matches!(
        read("nvidia-smi", line.as_bytes()).first(),
        Some(Reading::Trouble(_))
    ));
    until(&rx, |l| l == "trouble why=nvidia-smi ended with 255");
    until(&rx, |l| l.starts_with("cgroup "));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(den.ended(Duration::from_secs(40)).is_some());
}

/// The command in the pod died: it is begun anew after 1, 2, 4 … s and no more than a minute; one that ran well
/// begins from 1 s again; where it can't run, it is not tried for ever. Time comes with the ends.
#[test]
fn a_sampler_that_dies_is_begun_anew_ever_later() {
    let died = ProbeOutcome::Answered {
        code: 255,
        out: String::new(),
        err: "killed".into(),
        cut: false,
        ms: 10,
    };
    let s = Duration::from_secs;
    let mut keeper = Keeper::default();
    let waits = |keeper: &mut Keeper, n: usize, ran: Duration| -> Vec<u64> {
        let one = |_| match keeper.ended(&died, ran, false) {
            Next::Anew(wait) => wait.as_secs(),
            other => panic!("{other:?}"),
        };
        (0..n).map(one).collect()
    };
    assert!(!keeper.ailing());
    assert_eq!(
        waits(&mut keeper, 9, s(3)),
        [1, 2, 4, 8, 16, 32, 60, 60, 60]
    );
    assert!(keeper.ailing(), "it has measured nothing");
    assert_eq!(waits(&mut keeper, 1, s(59)), [60], "not yet well");
    assert_eq!(
        waits(&mut keeper, 3, s(60)),
        [1, 1, 1],
        "it was well each time"
    );
    assert_eq!(waits(&mut keeper, 2, s(0)), [2, 4]);
    assert_eq!(keeper.ended(&died, s(0), true), Next::Anew(s(8)));
    assert!(!keeper.ailing(), "a GPU was measured");
    // A connection that was cut is as good as a death.
    let cut = ProbeOutcome::Failed {
        why: "the stream was cut".into(),
    };
    assert_eq!(keeper.ended(&cut, s(0), false), Next::Anew(s(16)));
    let refused = |rule: Option<&str>| ProbeOutcome::Refused {
        why: "no".into(),
        rule: rule.map(str::to_owned),
    };
    let shell = ProbeOutcome::Failed {
        why: "no shell in this container".into(),
    };
    for (outcome, next) in [
        (
            refused(Some("create pods/exec in namespace prod")),
            Next::Exporter,
        ),
        (refused(None), Next::Over),
        (shell, Next::Exporter),
    ] {
        assert_eq!(
            Keeper::default().ended(&outcome, s(0), false),
            next,
            "{outcome:?}"
        );
    }
}

/// Beside `nvidia-smi` stand a clock and a sleep of our own: what is waited for is written down, and time passes as
/// the runs say. A run that lasts a minute begins the waits anew.
#[test]
fn the_tool_in_the_pod_is_begun_anew_ever_later() {
    for shell in shells() {
        let den = Den::new(Some(
            // The seventh run lasts ten minutes by the clock.
            "#!/bin/sh\ncase \"$*\" in *loop-ms*) ;; *) exit 0;; esac\n\
             d=${0%/bin/*}; echo . >>$d/runs; [ $(wc -l <$d/runs) -eq 7 ] && echo 2000 >$d/clock; exit 9\n",
        ));
        let put = |name: &str, text: &str| {
            let path = den.at(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        put("clock", "1000\n");
        put("bin/date", "#!/bin/sh\ncat ${0%/bin/*}/clock\n");
        // The look at the container goes on once a second, as it is told; the back-off alone is hurried.
        put(
            "bin/sleep",
            "#!/bin/sh\n[ \"$1\" = 0.7 ] && exec /bin/sleep 0.7\necho $1 >>${0%/bin/*}/waits\n\
             [ $(wc -l <${0%/bin/*}/waits) -lt 9 ] || exec /bin/sleep 600\n",
        );
        let (mut child, rx) = den.start_every(shell, "0.7");
        for _ in 0..9 {
            until(&rx, |l| l == "trouble why=nvidia-smi ended with 9");
        }
        until(&rx, |l| l.starts_with("cgroup "));
        until(&rx, |l| l.starts_with("cgroup "));
        let waits = fs::read_to_string(den.at("waits")).unwrap();
        let waits: Vec<&str> = waits.lines().collect();
        assert_eq!(
            waits,
            ["1", "2", "4", "8", "16", "32", "1", "2", "4"],
            "{shell}"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(den.ended(Duration::from_secs(40)).is_some());
    }
}

/// A tool that is not there is named once, and looked for no more; the figures of the container go on.
#[test]
fn an_absent_tool_is_named_once() {
    if Command::new("nvidia-smi").arg("-L").output().is_ok() {
        return;
    }
    let den = Den::new(None);
    let (mut child, rx) = den.start_every("sh", "0.1");
    let (mut named, mut looks) = (0, 0);
    while looks < 12 {
        let line = until(&rx, |_| true);
        named += usize::from(line.starts_with("trouble "));
        looks += usize::from(line.starts_with("cgroup "));
    }
    assert_eq!(named, 1);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn it_goes_into_the_container_that_has_gpus_and_runs() {
    let container = |name: &str, gpus, state| ContainerView {
        name: name.into(),
        gpus,
        state,
        container_id: Some("c1".into()),
        args: vec!["--model".into(), "/models/a b; rm -rf /".into()],
        ..ContainerView::default()
    };
    let running = ContainerState::Running { since: None };
    let mut pod = PodView {
        namespace: "prod".into(),
        name: "llm-0".into(),
        containers: vec![
            container("side", 0, running.clone()),
            container("vllm", 8, running),
        ],
        ..PodView::default()
    };
    let target = Target::of(&pod).unwrap();
    assert_eq!(target.at.container, "vllm");
    let argv = target.command();
    // The script is a constant; what comes from outside stands behind it as an argument of its own.
    assert_eq!(argv.get(2), Some(&script()));
    assert!(!script().contains("/models"));
    assert!(script().len() < 5_000, "it travels in a URL");
    assert!(argv.iter().all(|a| a != "rm"));
    pod.containers[1].state = ContainerState::Waiting {
        reason: "CrashLoopBackOff".into(),
        message: None,
    };
    assert_eq!(Target::of(&pod), None);
}
