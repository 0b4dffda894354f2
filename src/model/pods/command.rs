//! What a container is told to do: its command line, with the variables that are known from outside.

use super::place::{self, Place};
use crate::model::event::{ContainerView, PodView};
use crate::parse::vllm::{Command, Settings, is_known};

/// References inside values of variables that are followed.
const DEPTH: usize = 4;

/// The command line of a container, read as Kubernetes and its shell would. Without a command of its own it is what the
/// image's entry point makes of the arguments: vLLM's own images serve.
#[must_use]
pub fn command(pod: &PodView, container: &ContainerView) -> Command {
    let read = |before: &[&'static str]| {
        let own = container.command.iter().chain(&container.args);
        let words = before.iter().copied().chain(own.map(String::as_str));
        Command::read(words, &|name| variable(pod, container, name))
    };
    let told = read(&[]);
    let known = told.vllm || told.ray.is_some() || told.torchrun.is_some();
    if known || !container.command.is_empty() || !of_vllm(&container.image) {
        return told;
    }
    let flag = |word: &String| word.starts_with('-');
    match container.args.split_first() {
        Some((first, _)) if first == "serve" => read(&["vllm"]),
        Some((first, rest)) if flag(first) || rest.iter().any(flag) => read(&["vllm", "serve"]),
        _ => told,
    }
}

/// An image that is called after vLLM: `vllm/vllm-openai:v0.11.2`.
fn of_vllm(image: &str) -> bool {
    let name = image.split('@').next().unwrap_or(image);
    let path = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => path,
        _ => name,
    };
    path.contains("vllm")
}

/// Nothing says from outside what it runs: its image brings the whole command line.
#[must_use]
pub fn is_silent(container: &ContainerView) -> bool {
    container.command.is_empty() && container.args.is_empty() && !container.image.is_empty()
}

/// What the command line of a container tells vLLM.
#[must_use]
pub fn settings(pod: &PodView, container: &ContainerView) -> Settings {
    command(pod, container).settings
}

/// The value that a variable has in a container: as its specification writes it, else as its controller sets it.
#[must_use]
pub fn variable(pod: &PodView, container: &ContainerView, name: &str) -> Option<String> {
    within(pod, container, name, 0)
}

fn within(pod: &PodView, container: &ContainerView, name: &str, depth: usize) -> Option<String> {
    let written = container.env.iter().rev().find(|(n, _)| n == name);
    match written {
        Some((_, Some(value))) if is_known(value) => Some(value.clone()),
        Some((_, Some(value))) if depth < DEPTH => {
            let value = Command::expand(value, &|other| within(pod, container, other, depth + 1));
            is_known(&value).then_some(value)
        }
        Some((_, Some(_))) => None,
        // From a field, a config map or a secret: controllers take these from the pod's own labels.
        Some((_, None)) | None => given(pod, name, written.is_some()),
    }
}

/// What controllers and the kubelet set by convention; `asked`: the specification takes it from somewhere.
fn given(pod: &PodView, name: &str, asked: bool) -> Option<String> {
    let number = |n: Option<u32>| n.map(|n| n.to_string());
    match name {
        "LWS_WORKER_INDEX" if pod.labels.contains_key(place::LWS) => number(Place::of(pod).index),
        "LWS_GROUP_SIZE" if pod.labels.contains_key(place::LWS) => number(place::group_size(pod)),
        "JOB_COMPLETION_INDEX" => {
            let label = pod.labels.get(place::JOB_INDEX);
            label
                .or_else(|| pod.annotations.get(place::JOB_INDEX))
                .cloned()
        }
        "HOSTNAME" => pod.hostname.clone().or_else(|| Some(pod.name.clone())),
        "POD_NAME" if asked => Some(pod.name.clone()),
        _ => None,
    }
}
