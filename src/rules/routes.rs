//! Which way an all-reduce of each size takes, per vLLM group, and the condition that decided
//! (`reference/vllm.md` section 5).
//!
//! Only the groups of tensor parallelism can take anything but NCCL. Where a condition is not known, nothing is
//! said but which one that is.

mod known;

use self::known::Roster;
use super::comms::Unit;
use super::scene::{CommState, GroupView, NcclStep, RouteView, Scene};
use crate::model::Model;
use crate::parse::vllm::ProcKind;

/// 2^20 bytes.
const MIB: u64 = 1 << 20;
/// Below this, custom all-reduce may be taken, in every version.
const CUSTOM_LIMIT: u64 = 8 * MIB;

/// A version as [`crate::parse::vllm::release`] reads it.
pub type Release = (u16, u16, u16);

/// What decides, as far as it is known. A reason is a clause that follows "because".
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conditions {
    /// Ranks of the group.
    pub size: usize,
    /// vLLM.
    pub version: Option<Release>,
    /// What runs the collectives of the device group: `nccl`, `gloo`.
    pub backend: Option<String>,
    /// The members are on several hosts; `None`: not known.
    pub spans_hosts: Option<bool>,
    /// Nodes of one engine.
    pub nnodes: Option<u64>,
    /// The list that vLLM prints itself, in dispatch order (2026 and later).
    pub active: Option<Vec<String>>,
    /// `--disable-custom-all-reduce`.
    pub custom_disabled: Option<bool>,
    /// Why custom all-reduce is off, as vLLM says it.
    pub custom_off: Option<String>,
    /// Why torch symmetric memory is off, as vLLM says it.
    pub symm_off: Option<String>,
    /// A member has built the group, its log is whole, and vLLM would have said what is off by then.
    pub would_have_said: bool,
    /// `VLLM_ALLREDUCE_USE_SYMM_MEM` as it holds there: `None` not known, else its value or empty for the default.
    pub symm_env: Option<String>,
    /// Compute capability of the GPUs.
    pub capability: Option<(u32, u32)>,
    /// `torch.bfloat16`, …
    pub dtype: Option<String>,
}

/// The routes, or which condition is not known.
pub type Decided = Result<Vec<RouteView>, String>;

/// Limit and algorithm of torch symmetric memory by capability and group size (`all_reduce_utils.py`).
fn symm_table(capability: (u32, u32), size: usize) -> Option<(u64, &'static str)> {
    const TWO_SHOT: &str = "symm-two-shot";
    const MULTIMEM: &str = "symm-multimem";
    let (mib, path) = match (capability, size) {
        ((9, 0), 2) => (64, TWO_SHOT),
        ((9, 0), 4) => (32, MULTIMEM),
        ((9, 0), 6 | 8) => (64, MULTIMEM),
        ((10, 0), 2) => (8, TWO_SHOT),
        ((10, 0), 4) => (32, TWO_SHOT),
        ((10, 0), 6 | 8) => (128, MULTIMEM),
        ((10, 3 | 7), 2) => (4, TWO_SHOT),
        ((10, 3 | 7), 4) => (32, TWO_SHOT),
        ((10, 3 | 7), 6) => (32, MULTIMEM),
        ((10, 3 | 7), 8) => (64, MULTIMEM),
        _ => return None,
    };
    Some((mib * MIB, path))
}

/// Limit of custom all-reduce while symmetric memory is active.
fn custom_table(capability: (u32, u32), size: usize) -> Option<u64> {
    let kib = match (capability, size) {
        ((9, 0), 2 | 4) => 8192,
        ((9, 0), 6) => 512,
        ((9, 0), 8) => 256,
        ((10, 0), 2 | 4) => 2048,
        ((10, 0), 6 | 8) => 1024,
        ((10, 3 | 7), 2 | 4 | 8) => 4096,
        ((10, 3 | 7), 6) => 8192,
        _ => return None,
    };
    Some(kib << 10)
}

fn all(path: &'static str, because: impl Into<String>) -> Decided {
    Ok(vec![RouteView {
        max_bytes: None,
        path,
        because: because.into(),
    }])
}

/// The way of an all-reduce over a group of tensor parallelism.
///
/// # Errors
///
/// Which condition is not known.
pub fn tensor_parallel(c: &Conditions) -> Decided {
    if c.backend.as_deref() == Some("gloo") {
        return all(
            "gloo",
            "the device group's back end is gloo: it runs on CPUs",
        );
    }
    if c.spans_hosts == Some(true) && c.active.is_none() {
        return all(
            "nccl",
            "the group spans hosts: custom all-reduce and symmetric memory stay inside one",
        );
    }
    let custom = custom(c)?;
    let symm = symmetric(c)?;
    let mut routes = Vec::new();
    let (limit, mut why_nccl) = match &custom {
        Ok(why) => {
            let limit = match (&symm, c.capability) {
                (Ok(_), Some(cap)) => {
                    custom_table(cap, c.size).map_or(CUSTOM_LIMIT, |table| table.min(CUSTOM_LIMIT))
                }
                _ => CUSTOM_LIMIT,
            };
            routes.push(RouteView {
                max_bytes: Some(limit),
                path: "custom",
                because: format!("below {}: {why}", bytes(limit)),
            });
            (
                limit,
                format!("custom all-reduce ends below {}", bytes(limit)),
            )
        }
        Err(why) => (0, why.clone()),
    };
    match &symm {
        Ok((most, path, why)) if *most > limit => {
            routes.push(RouteView {
                max_bytes: Some(*most),
                path,
                because: format!("up to {}: {why}", bytes(*most)),
            });
            why_nccl = format!("symmetric memory ends at {}", bytes(*most));
        }
        Ok(_) => {}
        Err(why) => why_nccl = format!("{why_nccl}; {why}"),
    }
    routes.push(RouteView {
        max_bytes: None,
        path: "nccl",
        because: why_nccl,
    });
    Ok(routes)
}

/// Whether custom all-reduce is taken, and why or why not.
fn custom(c: &Conditions) -> Result<Result<String, String>, String> {
    if let Some(active) = &c.active {
        if let Some(other) = active.iter().find(|b| {
            !matches!(
                b.as_str(),
                "CUSTOM" | "SYMM_MEM" | "PYNCCL" | "NCCL_SYMM_MEM"
            )
        }) {
            return Err(format!(
                "the group also has {other}, whose limits are not followed here"
            ));
        }
        return Ok(if active.iter().any(|b| b == "CUSTOM") {
            Ok("vLLM lists CUSTOM among the group's back ends".into())
        } else {
            Err("vLLM does not list CUSTOM among the group's back ends".into())
        });
    }
    if let Some(why) = &c.custom_off {
        return Ok(Err(format!("custom all-reduce is off {why}")));
    }
    match c.custom_disabled {
        Some(true) => return Ok(Err("--disable-custom-all-reduce is set".into())),
        None => return Err("whether --disable-custom-all-reduce is set is not known".into()),
        Some(false) => {}
    }
    if !matches!(c.size, 2 | 4 | 6 | 8) {
        return Ok(Err(format!(
            "custom all-reduce has no way for {} ranks, only for 2, 4, 6 or 8",
            c.size
        )));
    }
    let version = c.version.ok_or("the version of vLLM is not known")?;
    if let Some(n) = c.nnodes.filter(|n| *n > 1) {
        if ((0, 11, 1)..(0, 22, 0)).contains(&version) {
            return Ok(Err(format!(
                "the engine has {n} nodes, which switches custom all-reduce off in this version"
            )));
        }
        return Err(
            "an engine of several nodes, and this version does not say its back ends".into(),
        );
    }
    if c.spans_hosts.is_none() {
        return Err("whether the group stays inside one host is not known".into());
    }
    if !c.would_have_said {
        return Err("whether custom all-reduce could be set up is not in these lines".into());
    }
    Ok(Ok(
        "the group is inside one host, and vLLM has no objection to custom all-reduce".into(),
    ))
}

/// Whether torch symmetric memory is taken: its limit and algorithm, or why not.
type Symmetric = Result<(u64, &'static str, String), String>;

fn symmetric(c: &Conditions) -> Result<Symmetric, String> {
    let by_table = |why: String| -> Result<Symmetric, String> {
        let cap = c
            .capability
            .ok_or("symmetric memory is on, and the GPUs' compute capability is not known")?;
        Ok(match symm_table(cap, c.size) {
            Some((limit, path)) => Ok((limit, path, why)),
            None => Err(format!(
                "symmetric memory has no table for {} ranks of capability {}.{}",
                c.size, cap.0, cap.1
            )),
        })
    };
    if let Some(active) = &c.active {
        return if active.iter().any(|b| b == "SYMM_MEM") {
            by_table("vLLM lists SYMM_MEM among the group's back ends".into())
        } else {
            Ok(Err("vLLM does not list SYMM_MEM".into()))
        };
    }
    if let Some(why) = &c.symm_off {
        return Ok(Err(format!("symmetric memory is off: {why}")));
    }
    let version = c.version.ok_or("the version of vLLM is not known")?;
    if version < (0, 10, 2) {
        return Ok(Err("this version has no symmetric memory yet".into()));
    }
    // On a GPU that no table lists, the variable does not matter.
    if let Some(cap) = c.capability
        && symm_table(cap, c.size).is_none()
    {
        return by_table(String::new());
    }
    let by_default = version >= (0, 11, 0);
    let on = match c.symm_env.as_deref() {
        Some("1") => true,
        Some("0") => false,
        Some("") => by_default,
        _ => return Err("VLLM_ALLREDUCE_USE_SYMM_MEM is not known".into()),
    };
    if !on {
        return Ok(Err(if c.symm_env.as_deref() == Some("0") {
            "VLLM_ALLREDUCE_USE_SYMM_MEM=0".into()
        } else {
            "symmetric memory is off by default in this version".into()
        }));
    }
    match c.dtype.as_deref() {
        Some("torch.bfloat16" | "bfloat16") => {}
        Some(other) => {
            return Ok(Err(format!(
                "symmetric memory carries bfloat16 only, and the model runs in {other}"
            )));
        }
        None => return Err("the dtype is not known".into()),
    }
    if !c.would_have_said {
        return Err("whether symmetric memory could be set up is not in these lines".into());
    }
    by_table("symmetric memory is on, in bfloat16, and vLLM has no objection to it".into())
}

/// `8 MiB`, `256 KiB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    match n {
        n if n >= MIB && n.is_multiple_of(MIB) => format!("{} MiB", n / MIB),
        n if n >= 1024 => format!("{} KiB", n / 1024),
        n => format!("{n} B"),
    }
}

/// The communicator of a group ended before every rank was through its init: nothing goes any way.
fn failed(all: &Roster<'_>, group: &GroupView) -> bool {
    all.communicator(group).is_some_and(|c| {
        c.state >= CommState::Revoked && c.ranks.iter().any(|m| m.step < NcclStep::Completion)
    })
}

/// Fills the routes of every group.
pub fn fill(scene: &mut Scene, model: &Model, units: &[Unit]) {
    let speaks = model
        .speakers
        .list
        .iter()
        .any(|s| s.is_rank() || s.kind() == Some(ProcKind::EngineCore));
    if !speaks {
        return;
    }
    let roster = Roster::of(scene, model, units);
    let decided: Vec<Decided> = scene
        .groups
        .iter()
        .map(|g| match g.kind {
            _ if failed(&roster, g) => Err("its communicator did not come up".into()),
            // Its all-reduces are barriers on the host.
            "world" => Ok(Vec::new()),
            "tp" => tensor_parallel(&known::conditions(&roster, g)),
            _ => match known::backend(&roster, g).as_deref() {
                Some("gloo") => all(
                    "gloo",
                    "the device group's back end is gloo: it runs on CPUs",
                ),
                Some("nccl") => all(
                    "nccl",
                    "only tensor-parallel groups have other ways than NCCL",
                ),
                _ => Err("the back end of torch.distributed is not known".into()),
            },
        })
        .collect();
    for (g, d) in scene.groups.iter_mut().zip(decided) {
        match d {
            Ok(routes) => g.routes = routes,
            Err(open) => g.routes_open = Some(open),
        }
    }
}
