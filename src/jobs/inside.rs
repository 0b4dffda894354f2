//! The test inside the workload's own pods, where they hold all GPUs: nothing is created, the script runs beside what
//! is there with small buffers. Only where nobody is served, where every GPU has room, and after the workload's name
//! was typed.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::options::TestArgs;
use super::{SCRIPT, api, prepare};
use crate::model::event::{
    ContainerKey, PodKey, PodView, ProbeOutcome, SourceEvent, SourceId, SourceInfo,
};
use crate::model::testrun::{Ending, Phase, Planned, TestEvent};
use crate::parse::Block;
use crate::sources::cluster::{Access, Connection, ExecSpec, Shown};
use crate::sources::gate::Action;

/// Memory that every GPU must have free, MiB: CUDA context, NCCL's buffers, ours.
const ROOM_MIB: u64 = 2048;
/// Largest size unless a smaller one is asked for, bytes.
const LARGEST: u64 = 16 << 20;
/// Longest answer of a pod about its GPUs.
const SAMPLE: Duration = Duration::from_secs(20);
/// Longest run.
const LIMIT: Duration = Duration::from_secs(600);

/// Takes the script from standard input, runs it, and ends it when standard input ends: then we are gone.
pub const RUN: &str = r#"file=$(mktemp /tmp/ncclscope.XXXXXX) || exit 2
head -c "$1" >"$file" || exit 2
shift
for p in python3 /opt/venv/bin/python3 python; do command -v "$p" >/dev/null 2>&1 && break; done
exec 3<&0
env "$@" "$p" -u "$file" </dev/null 3<&- &
work=$!
( while read -r beat <&3; do :; done; kill "$work" ) 2>/dev/null &
watch=$!
exec 3<&-
wait "$work"; code=$?
kill "$watch" 2>/dev/null
rm -f "$file"
printf '\036end %d\036\n' "$code"
"#;
/// Marks the exit code in the output.
const END: &str = "\u{1e}end ";
/// How often we say that we are there.
const BEAT: Duration = Duration::from_secs(5);

/// A pod that takes part.
#[derive(Debug, Clone)]
struct Part {
    at: ContainerKey,
    node: String,
    ip: String,
}

/// A test that may run.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    parts: Vec<Part>,
    gpus: u32,
    run: String,
    max_bytes: u64,
    workload: String,
}

/// Who takes part; the error is a sentence that says why nobody may.
fn parts(pods: &[Arc<PodView>]) -> Result<(Vec<Part>, u32), String> {
    let mut out = Vec::new();
    let mut gpus = u32::MAX;
    for pod in pods {
        let most = pod.containers.iter().max_by_key(|c| c.gpus);
        let Some(container) = most.filter(|c| c.gpus > 0) else {
            continue;
        };
        let serves =
            container.probes.iter().any(|(kind, _)| kind == "readiness") && container.ready;
        if serves {
            return Err(format!(
                "{} is ready: nothing runs inside a workload that serves",
                pod.name
            ));
        }
        let (Some(node), Some(ip)) = (pod.node.clone(), pod.pod_ip.clone()) else {
            return Err(format!("{} does not run yet", pod.name));
        };
        gpus = gpus.min(container.gpus);
        out.push(Part {
            at: ContainerKey {
                pod: PodKey {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                },
                container: container.name.clone(),
            },
            node,
            ip,
        });
    }
    let probed = pods
        .iter()
        .flat_map(|p| &p.containers)
        .any(|c| c.probes.iter().any(|(kind, _)| kind == "readiness"));
    if out.is_empty() {
        return Err("no pod of the workload holds a GPU".into());
    }
    if !probed {
        return Err("no container has a readiness probe: whether it serves can't be told".into());
    }
    Ok((out, gpus))
}

/// Checks everything that forbids it: who serves, who has no room. Samples are taken anew.
pub(super) async fn check(
    access: &Access,
    workload: &str,
    args: &TestArgs,
) -> Result<Inside, String> {
    let pods: Vec<Arc<PodView>> = access.seen().borrow().pods.values().cloned().collect();
    let (parts, gpus) = parts(&pods)?;
    let samples = parts.iter().map(|part| {
        let argv = [
            "nvidia-smi",
            "--query-gpu=memory.free",
            "--format=csv,noheader,nounits",
        ];
        let spec = ExecSpec {
            at: part.at.clone(),
            argv: argv.map(str::to_owned).to_vec(),
            ran: argv.join(" "),
            cap: 4096,
            limit: Some(SAMPLE),
            quiet: None,
        };
        access.probe("allreduce-room", spec)
    });
    for (part, outcome) in parts.iter().zip(join_all(samples).await) {
        let name = &part.at.pod.name;
        let out = match outcome {
            ProbeOutcome::Answered { code: 0, out, .. } => out,
            ProbeOutcome::Refused { why, .. } | ProbeOutcome::Failed { why } => {
                return Err(format!("free memory in {name} is not known: {why}"));
            }
            other => return Err(format!("free memory in {name} is not known: {other:?}")),
        };
        room(&out).map_err(|why| format!("{name}: {why}"))?;
    }
    let asked = if args.max_bytes == 0 {
        LARGEST
    } else {
        args.max_bytes
    };
    Ok(Inside {
        parts,
        gpus,
        run: prepare::run_name(),
        max_bytes: asked.min(LARGEST),
        workload: workload.into(),
    })
}

/// Whether every GPU of a sample has room.
fn room(sample: &str) -> Result<(), String> {
    let free: Vec<u64> = sample
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .map(|l| l.parse().map_err(|_| format!("nvidia-smi said {l:?}")))
        .collect::<Result<_, _>>()?;
    match free.iter().min() {
        None => Err("nvidia-smi shows no GPU".into()),
        Some(least) if *least < ROOM_MIB => Err(format!(
            "{least} MiB are free on a GPU, and {ROOM_MIB} are needed"
        )),
        Some(_) => Ok(()),
    }
}

impl Inside {
    /// What the gate is asked, and what is shown.
    pub(super) fn question(&self) -> (Action, Shown) {
        let names: Vec<&str> = self.parts.iter().map(|p| p.at.pod.name.as_str()).collect();
        let action = Action::Work {
            pod: self
                .parts
                .first()
                .map(|p| p.at.pod.clone())
                .unwrap_or(PodKey {
                    namespace: String::new(),
                    name: String::new(),
                }),
            command: "allreduce.py".into(),
        };
        let body = format!(
            "The test runs inside the workload's own pods, beside what runs there: {}.\n\
             Ranks: {}. Sizes up to {} MiB; each GPU has at least {ROOM_MIB} MiB free by a sample of this moment.\n\
             It takes GPU time and memory from the workload while it runs, at most {} minutes; nothing is created in \
             the cluster, and the script ends when this program does.\n",
            names.join(", "),
            self.parts.len() * usize::try_from(self.gpus).unwrap_or(1),
            self.max_bytes >> 20,
            LIMIT.as_secs() / 60,
        );
        let word = Some(self.workload.clone());
        (action, Shown { body, word })
    }

    fn planned(&self) -> Planned {
        let first = self.parts.first();
        Planned {
            run: self.run.clone(),
            namespace: first
                .map(|p| p.at.pod.namespace.clone())
                .unwrap_or_default(),
            workload: self.workload.clone(),
            image: "the workload's own containers".into(),
            max_bytes: self.max_bytes,
            job: format!("inside {}", self.workload),
            pods: u32::try_from(self.parts.len()).unwrap_or(u32::MAX),
            gpus: self.gpus,
            nodes: self.parts.iter().map(|p| p.node.clone()).collect(),
            ..Planned::default()
        }
    }

    /// Settings of one part, as `env` takes them.
    fn settings(&self, index: usize) -> Vec<String> {
        let master = self.parts.first().map_or("", |p| p.ip.as_str());
        let port = 20_000 + 2 * (self.run.bytes().map(u32::from).sum::<u32>() % 4_000);
        let node = self.parts.get(index).map_or("", |p| p.node.as_str());
        [
            ("NCCLSCOPE_RUN", self.run.clone()),
            ("NCCLSCOPE_NODES", self.parts.len().to_string()),
            ("NCCLSCOPE_NPROC", self.gpus.to_string()),
            ("NCCLSCOPE_NEED_GPUS", "1".into()),
            ("NCCLSCOPE_MAX_BYTES", self.max_bytes.to_string()),
            ("NCCLSCOPE_NODE", node.into()),
            ("JOB_COMPLETION_INDEX", index.to_string()),
            ("MASTER_ADDR", master.into()),
            ("MASTER_PORT", port.to_string()),
            ("NCCL_DEBUG", "INFO".into()),
        ]
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
    }

    /// Runs it in every pod at once; each thing is told as it happens.
    pub(super) async fn drive(
        &self,
        link: &Connection,
        tx: &mpsc::Sender<TestEvent>,
        cancel: &CancellationToken,
    ) -> Ending {
        let tell = async |event| drop(tx.send(event).await);
        tell(TestEvent::Planned(Arc::new(self.planned()))).await;
        tell(TestEvent::Phase(Phase::Starting, None)).await;
        let all = join_all((0..self.parts.len()).map(|i| self.one(link, i, tx)));
        let ending = tokio::select! {
            () = cancel.cancelled() => Ending::Cancelled,
            () = tokio::time::sleep(LIMIT) => Ending::Failed("it took longer than it may".into()),
            codes = all => match codes.into_iter().find_map(Result::err) {
                Some(why) => Ending::Failed(why),
                None => Ending::Complete,
            },
        };
        tell(TestEvent::Ended(ending.clone())).await;
        if ending == Ending::Complete {
            tell(TestEvent::Phase(Phase::Done, None)).await;
        }
        tell(TestEvent::Cleaned(Vec::new())).await;
        ending
    }

    /// One pod from the script's arrival to its end.
    async fn one(
        &self,
        link: &Connection,
        index: usize,
        tx: &mpsc::Sender<TestEvent>,
    ) -> Result<(), String> {
        let Some(part) = self.parts.get(index) else {
            return Ok(());
        };
        let name = &part.at.pod.name;
        let said = |e: &dyn std::fmt::Display| format!("{name}: {e}");
        let id = SourceId(u32::try_from(index).unwrap_or(u32::MAX));
        let info = SourceInfo {
            name: format!("{}/{name}/allreduce", part.at.pod.namespace),
            container: Some(part.at.clone()),
            previous: false,
            started: None,
        };
        let told = async |event| drop(tx.send(event).await);
        told(TestEvent::Source(SourceEvent::Opened(id, info))).await;
        let how = AttachParams::default()
            .container(&part.at.container)
            .stdin(true)
            .stdout(true)
            .stderr(false);
        let size = SCRIPT.len().to_string();
        let mut command: Vec<String> = ["/bin/sh", "-c", RUN, "sh", &size]
            .map(str::to_owned)
            .to_vec();
        command.extend(self.settings(index));
        let pods: Api<Pod> = api(link, &part.at.pod.namespace);
        let mut attached = pods.exec(name, command, &how).await.map_err(|e| said(&e))?;
        let mut stdin = attached.stdin().ok_or_else(|| said(&"no standard input"))?;
        let mut stdout = attached
            .stdout()
            .ok_or_else(|| said(&"no standard output"))?;
        stdin
            .write_all(SCRIPT.as_bytes())
            .await
            .map_err(|e| said(&e))?;
        stdin.flush().await.map_err(|e| said(&e))?;
        let mut beat = tokio::time::interval(BEAT);
        let (mut text, mut buffer, mut line) = (Vec::new(), vec![0u8; 64 << 10], 1u64);
        let mut code = None;
        loop {
            let n = tokio::select! {
                n = stdout.read(&mut buffer) => n.map_err(|e| said(&e))?,
                _ = beat.tick() => {
                    // A failure shows where it is read.
                    let _ = stdin.write_all(b"\n").await;
                    continue;
                }
            };
            text.extend_from_slice(buffer.get(..n).unwrap_or_default());
            let whole = match memchr::memrchr(b'\n', &text) {
                Some(at) if n > 0 => at + 1,
                _ => text.len(),
            };
            let lines: Vec<u8> = text.drain(..whole).collect();
            if !lines.is_empty() {
                let shown = String::from_utf8_lossy(&lines);
                if let Some((_, rest)) = shown.rsplit_once(END) {
                    code = rest
                        .split('\u{1e}')
                        .next()
                        .and_then(|c| c.parse::<i32>().ok());
                }
                let count = u64::try_from(memchr::memchr_iter(b'\n', &lines).count());
                let block = Arc::new(Block::new(line, lines));
                line += count.unwrap_or(0);
                told(TestEvent::Log { source: id, block }).await;
            }
            if n == 0 || code.is_some() {
                break;
            }
        }
        told(TestEvent::Source(SourceEvent::Ended { id, why: None })).await;
        match code {
            Some(0) => Ok(()),
            Some(code) => Err(said(&format!("the script ended with {code}"))),
            None => Err(said(&"the connection ended before the script did")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::ContainerView;

    fn pod(name: &str, probes: &[&str], ready: bool) -> Arc<PodView> {
        let container = ContainerView {
            name: "vllm".into(),
            gpus: 8,
            ready,
            probes: probes
                .iter()
                .map(|p| ((*p).to_owned(), String::new()))
                .collect(),
            ..ContainerView::default()
        };
        Arc::new(PodView {
            name: name.into(),
            node: Some("gpu-1".into()),
            pod_ip: Some("10.0.0.1".into()),
            containers: vec![container],
            ..PodView::default()
        })
    }

    #[test]
    fn nothing_runs_inside_a_workload_that_serves() {
        let served = [pod("llm-0", &["readiness"], true), pod("llm-1", &[], true)];
        assert!(parts(&served).is_err_and(|e| e.contains("llm-0 is ready")));
        let hung = [pod("llm-0", &["readiness"], false), pod("llm-1", &[], true)];
        assert!(parts(&hung).is_ok_and(|(all, gpus)| all.len() == 2 && gpus == 8));
        let unknown = [pod("llm-0", &[], true)];
        assert!(parts(&unknown).is_err_and(|e| e.contains("can't be told")));
    }

    #[test]
    fn every_gpu_needs_room() {
        assert_eq!(room("4000\n 2048\n"), Ok(()));
        assert!(room("4000\n2047\n").is_err_and(|e| e.starts_with("2047 MiB")));
        assert!(room("").is_err());
        assert!(room("[N/A]\n").is_err());
    }
}
