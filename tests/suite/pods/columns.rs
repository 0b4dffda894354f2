//! The columns of `kubectl get pods`, for every state.

use ncclscope::model::event::{ContainerState, ContainerView, PodView};
use ncclscope::model::pods::kubectl::{Columns, age, duration};

use super::{NOW, SECOND, c, condition, ended, pod, running, waiting, with};

fn killed(signal: i32) -> ContainerState {
    let ContainerState::Terminated {
        started,
        finished,
        message,
        reason,
        ..
    } = ended(137, "")
    else {
        unreachable!()
    };
    ContainerState::Terminated {
        exit_code: 137,
        signal: Some(signal),
        reason,
        message,
        started,
        finished,
    }
}

fn sidecar(state: ContainerState, started: bool, ready: bool) -> ContainerView {
    with(c("proxy", state), |c| {
        c.sidecar = true;
        c.started = Some(started);
        c.ready = ready;
    })
}

fn init(phase: &str, init: Vec<ContainerView>, containers: Vec<ContainerView>) -> PodView {
    PodView {
        init_containers: init,
        ..pod(phase, containers)
    }
}

#[test]
fn columns_are_kubectls() {
    let none = || c("vllm", ContainerState::None);
    let idle = || c("vllm", waiting("PodInitializing"));
    let sick = |c: ContainerView, restarts, last| {
        with(c, |c| {
            c.restarts = restarts;
            c.last_state = last;
        })
    };
    let edit = |mut p: PodView, f: fn(&mut PodView)| {
        f(&mut p);
        p
    };
    let ready = |p: &mut PodView| p.conditions.push(condition("Ready", "True", ""));
    let initialized = |p: &mut PodView| p.conditions.push(condition("Initialized", "True", ""));
    // (what it is, pod, STATUS, READY, RESTARTS)
    let table: Vec<(&str, PodView, &str, &str, &str)> = vec![
        (
            "unscheduled",
            pod("Pending", vec![none()]),
            "Pending",
            "0/1",
            "0",
        ),
        (
            "creating",
            pod("Pending", vec![c("vllm", waiting("ContainerCreating"))]),
            "ContainerCreating",
            "0/1",
            "0",
        ),
        (
            "image",
            pod("Pending", vec![c("vllm", waiting("ImagePullBackOff"))]),
            "ImagePullBackOff",
            "0/1",
            "0",
        ),
        (
            "running",
            pod("Running", vec![c("vllm", running())]),
            "Running",
            "1/1",
            "0",
        ),
        (
            "running, not ready",
            pod(
                "Running",
                vec![with(c("vllm", running()), |c| c.ready = false)],
            ),
            "Running",
            "0/1",
            "0",
        ),
        (
            "two",
            pod("Running", vec![c("a", running()), c("b", running())]),
            "Running",
            "2/2",
            "0",
        ),
        (
            "crash loop",
            pod(
                "Running",
                vec![sick(
                    c("vllm", waiting("CrashLoopBackOff")),
                    4,
                    ended(1, "Error"),
                )],
            ),
            "CrashLoopBackOff",
            "0/1",
            "4 (5m ago)",
        ),
        (
            "restarted, end not known",
            pod(
                "Running",
                vec![sick(c("vllm", running()), 1, ContainerState::None)],
            ),
            "Running",
            "1/1",
            "1",
        ),
        (
            "error",
            pod("Failed", vec![c("vllm", ended(1, "Error"))]),
            "Error",
            "0/1",
            "0",
        ),
        (
            "oom",
            pod("Failed", vec![c("vllm", ended(137, "OOMKilled"))]),
            "OOMKilled",
            "0/1",
            "0",
        ),
        (
            "signal",
            pod("Failed", vec![c("vllm", killed(9))]),
            "Signal:9",
            "0/1",
            "0",
        ),
        (
            "exit code",
            pod("Failed", vec![c("vllm", ended(3, ""))]),
            "ExitCode:3",
            "0/1",
            "0",
        ),
        (
            "status unknown",
            pod(
                "Failed",
                vec![c("vllm", ended(137, "ContainerStatusUnknown"))],
            ),
            "ContainerStatusUnknown",
            "0/1",
            "0",
        ),
        (
            "completed",
            pod("Succeeded", vec![c("vllm", ended(0, "Completed"))]),
            "Completed",
            "0/1",
            "0",
        ),
        (
            "one completed, one runs and is ready",
            edit(
                pod(
                    "Running",
                    vec![c("a", ended(0, "Completed")), c("b", running())],
                ),
                ready,
            ),
            "Running",
            "1/2",
            "0",
        ),
        (
            "one completed, one runs",
            pod(
                "Running",
                vec![c("a", ended(0, "Completed")), c("b", running())],
            ),
            "NotReady",
            "1/2",
            "0",
        ),
        (
            "one completed, one failed",
            pod(
                "Failed",
                vec![c("a", ended(0, "Completed")), c("b", ended(1, "Error"))],
            ),
            "Error",
            "0/2",
            "0",
        ),
        (
            "the first container has the last word",
            pod(
                "Running",
                vec![
                    c("a", waiting("ErrImagePull")),
                    c("b", waiting("CrashLoopBackOff")),
                ],
            ),
            "ErrImagePull",
            "0/2",
            "0",
        ),
        (
            "evicted",
            edit(pod("Failed", vec![none()]), |p| {
                p.reason = Some("Evicted".into())
            }),
            "Evicted",
            "0/1",
            "0",
        ),
        (
            "admission",
            edit(pod("Failed", vec![none()]), |p| {
                p.reason = Some("OutOfnvidia.com/gpu".into())
            }),
            "OutOfnvidia.com/gpu",
            "0/1",
            "0",
        ),
        (
            "gated",
            edit(pod("Pending", vec![none()]), |p| {
                p.conditions
                    .push(condition("PodScheduled", "False", "SchedulingGated"));
            }),
            "SchedulingGated",
            "0/1",
            "0",
        ),
        (
            "terminating",
            edit(pod("Running", vec![c("vllm", running())]), |p| {
                p.deletion = Some(NOW)
            }),
            "Terminating",
            "1/1",
            "0",
        ),
        (
            "done while terminating",
            edit(
                pod("Succeeded", vec![c("vllm", ended(0, "Completed"))]),
                |p| p.deletion = Some(NOW),
            ),
            "Completed",
            "0/1",
            "0",
        ),
        (
            "node lost",
            edit(pod("Running", vec![c("vllm", running())]), |p| {
                p.deletion = Some(NOW);
                p.reason = Some("NodeLost".into());
            }),
            "Unknown",
            "1/1",
            "0",
        ),
        (
            "phase unknown",
            pod("Unknown", vec![none()]),
            "Unknown",
            "0/1",
            "0",
        ),
        (
            "init runs",
            init(
                "Pending",
                vec![c("i", running()), c("j", idle().state)],
                vec![idle()],
            ),
            "Init:0/2",
            "0/1",
            "0",
        ),
        (
            "second init runs",
            init(
                "Pending",
                vec![c("i", ended(0, "Completed")), c("j", running())],
                vec![idle()],
            ),
            "Init:1/2",
            "0/1",
            "0",
        ),
        (
            "init crash loop",
            init(
                "Pending",
                vec![sick(
                    c("i", waiting("CrashLoopBackOff")),
                    3,
                    ended(1, "Error"),
                )],
                vec![idle()],
            ),
            "Init:CrashLoopBackOff",
            "0/1",
            "3 (5m ago)",
        ),
        (
            "init error",
            init("Pending", vec![c("i", ended(1, "Error"))], vec![idle()]),
            "Init:Error",
            "0/1",
            "0",
        ),
        (
            "init signal",
            init("Pending", vec![c("i", killed(9))], vec![idle()]),
            "Init:Signal:9",
            "0/1",
            "0",
        ),
        (
            "init exit code",
            init("Pending", vec![c("i", ended(2, ""))], vec![idle()]),
            "Init:ExitCode:2",
            "0/1",
            "0",
        ),
        (
            "init image",
            init(
                "Pending",
                vec![c("i", waiting("ErrImagePull"))],
                vec![idle()],
            ),
            "Init:ErrImagePull",
            "0/1",
            "0",
        ),
        (
            "init waits",
            init(
                "Pending",
                vec![c("i", waiting("PodInitializing"))],
                vec![idle()],
            ),
            "Init:0/1",
            "0/1",
            "0",
        ),
        (
            "init without a status yet",
            init("Pending", vec![c("i", ContainerState::None)], vec![none()]),
            "Pending",
            "0/1",
            "0",
        ),
        (
            "initialised",
            init("Pending", vec![c("i", ended(0, "Completed"))], vec![idle()]),
            "PodInitializing",
            "0/1",
            "0",
        ),
        (
            "sidecar not started",
            init(
                "Pending",
                vec![sidecar(running(), false, false), c("i", idle().state)],
                vec![idle()],
            ),
            "Init:0/2",
            "0/2",
            "0",
        ),
        (
            "sidecar and main run",
            init(
                "Running",
                vec![sidecar(running(), true, true)],
                vec![c("vllm", running())],
            ),
            "Running",
            "2/2",
            "0",
        ),
        (
            "sidecar runs, init after it waits",
            init(
                "Pending",
                vec![sidecar(running(), true, true), c("i", running())],
                vec![idle()],
            ),
            "Init:1/2",
            "1/2",
            "0",
        ),
        (
            "init restarts do not count once it is over, a sidecar's do",
            init(
                "Running",
                vec![
                    sick(c("i", ended(0, "Completed")), 5, ended(1, "Error")),
                    sick(sidecar(running(), true, true), 2, ended(1, "Error")),
                ],
                vec![c("vllm", running())],
            ),
            "Running",
            "2/2",
            "2 (5m ago)",
        ),
        (
            "sidecar failed later, the condition says that the pod was initialised",
            edit(
                init(
                    "Running",
                    vec![sidecar(ended(1, "Error"), false, false)],
                    vec![c("vllm", running())],
                ),
                initialized,
            ),
            "Init:Error",
            "1/2",
            "0",
        ),
        (
            "run container",
            pod("Pending", vec![c("vllm", waiting("RunContainerError"))]),
            "RunContainerError",
            "0/1",
            "0",
        ),
        (
            "config",
            pod(
                "Pending",
                vec![c("vllm", waiting("CreateContainerConfigError"))],
            ),
            "CreateContainerConfigError",
            "0/1",
            "0",
        ),
    ];
    for (what, pod, status, ready, restarts) in &table {
        let got = Columns::of(pod);
        let got = (
            got.status.as_str(),
            got.ready_text(),
            got.restarts_text(Some(NOW)),
        );
        assert_eq!(
            got,
            (*status, ready.to_string(), restarts.to_string()),
            "{what}"
        );
    }
    assert!(table.len() >= 40, "{}", table.len());
}

#[test]
fn ages_are_kubectls() {
    let table = [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (10_860, "3h1m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (180_000, "2d2h"),
        (691_200, "8d"),
        (63_071_999, "729d"),
        (63_072_000, "2y"),
        (63_158_400, "2y1d"),
        (252_288_000, "8y"),
    ];
    for (seconds, text) in table {
        assert_eq!(duration(seconds * SECOND), text, "{seconds}");
    }
    assert_eq!(age(None, Some(NOW)), "<unknown>");
}
