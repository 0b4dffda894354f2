//! What can be asked of a test: on the command line, and after `:allreduce` on the screen.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;

use super::plan::{Runner, Wish};
use crate::rules::busbw::Table;

/// Options of a test.
#[derive(Debug, Clone, clap::Args)]
pub struct TestArgs {
    /// Largest size, for instance 4G; the smaller of 1 GiB and 30 % of the free memory unless given
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "0", hide_default_value = true)]
    pub max_bytes: u64,
    /// Pods, one per node; as many as the workload has unless given
    #[arg(long, value_name = "N")]
    pub pods: Option<u32>,
    /// GPUs of each pod; as many as the workload's pods have unless given; 0 tests gloo on CPU alone
    #[arg(long, value_name = "N")]
    pub gpus: Option<u32>,
    /// Any node that suits, rather than the workload's own
    #[arg(long)]
    pub other_nodes: bool,
    /// Another image than the workload's
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Priority class; none unless given, and a high one can push other pods off their nodes
    #[arg(long, value_name = "NAME")]
    pub priority_class: Option<String>,
    /// Seconds after which the API server ends the test: waiting for room and the image count
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u32).range(30..))]
    pub deadline: u32,
    /// nccl-tests in place of our script, over the GPUs of one pod: `all_reduce_perf` must be in the image
    #[arg(long, conflicts_with_all = ["pairs", "worker", "worker_image"])]
    pub nccl_tests: bool,
    /// Our own worker in place of the script, for images without torch, over the GPUs of one pod: copied into the waiting
    /// pod over exec
    #[arg(long, conflicts_with = "pairs")]
    pub worker: bool,
    /// Our own worker from an image that holds `ncclscope`
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["pairs", "image"])]
    pub worker_image: Option<String>,
    /// Inside the workload's own pods with small buffers, where they hold all GPUs: once the workload's name was typed
    #[arg(long, conflicts_with_all = ["pairs", "worker", "worker_image", "nccl_tests", "other_nodes", "image", "pods", "gpus"])]
    pub inside: bool,
    /// Every two pods alone, too; a second turn convicts the slow node or link
    #[arg(long)]
    pub pairs: bool,
    /// Expected bandwidths, in place of the built-in table
    #[arg(long, value_name = "FILE", alias = "table")]
    pub busbw_table: Option<PathBuf>,
}

#[derive(Parser)]
#[command(name = "allreduce", no_binary_name = true, disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    args: TestArgs,
}

impl TestArgs {
    /// Reads what was typed after `:allreduce`; the error is a sentence.
    pub fn typed(line: &str) -> Result<Self, String> {
        let words = line.split_whitespace();
        Line::try_parse_from(words).map(|l| l.args).map_err(|e| {
            let text = e.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.trim_start_matches("error: ").to_owned()
        })
    }

    /// What is wished for, under the name of this run.
    #[must_use]
    pub fn wish(&self, run: String, workload: &str) -> Wish {
        let runner = match (&self.worker_image, self.worker, self.nccl_tests) {
            (Some(_), ..) => Runner::Worker,
            (None, true, _) => Runner::WorkerOverExec,
            (None, false, true) => Runner::NcclTests,
            (None, false, false) => Runner::Script,
        };
        Wish {
            runner,
            run,
            workload: workload.into(),
            pods: self.pods,
            gpus: self.gpus,
            other_nodes: self.other_nodes,
            max_bytes: self.max_bytes,
            priority_class: self.priority_class.clone(),
            image: self.worker_image.clone().or_else(|| self.image.clone()),
            deadline: self.deadline,
            pairs: self.pairs,
            ..Wish::default()
        }
    }

    /// The user's table as its file says it; one that can't be read is refused before anything begins.
    pub fn table(&self) -> Result<Option<Arc<str>>, String> {
        let Some(path) = &self.busbw_table else {
            return Ok(None);
        };
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
        Table::read(&text).map_err(|e| format!("{name}: {e}"))?;
        Ok(Some(text.into()))
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err("a size like 64M or 4G".into()),
    };
    let number: u64 = number.parse().map_err(|_| "a size like 64M or 4G")?;
    number
        .checked_mul(1 << shift)
        .filter(|n| *n < 1 << 40)
        .ok_or_else(|| "too large".into())
}
