//! Are libcuda and libnccl there? Asked before the first call, because a call without its library ends in a panic.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the second life, which has the library in its path.
const SECOND: &str = "NCCLSCOPE_WORKER_LIBRARY";
/// Names of the library in a folder; the loader of ours knows only the last.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
/// Folders that the system's loader does not know, where images keep NCCL.
const FOLDERS: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/local/lib",
    "/usr/local/nccl/lib",
    "/usr/local/cuda/lib64",
    "/opt/nccl/lib",
];
/// Folders of Python versions, each with NCCL's wheel below it.
const PYTHONS: [&str; 4] = [
    "/usr/local/lib",
    "/usr/lib",
    "/opt/venv/lib",
    "/opt/conda/lib",
];

/// Both are there, or a sentence says what is missing. Where NCCL lies off the loader's path the process begins anew
/// with the path extended, and does not come back.
pub fn ready() -> Result<(), String> {
    if !cuda() {
        return Err("libcuda is not here: this container has no NVIDIA driver".into());
    }
    if nccl() {
        return Ok(());
    }
    let absent = "libnccl is not here: the image brings no NCCL";
    let Some(found) = find().filter(|_| std::env::var_os(SECOND).is_none()) else {
        return Err(absent.into());
    };
    Err(again(&found).unwrap_or_else(|| absent.into()))
}

#[expect(unsafe_code, reason = "loading a library runs its initialisers")]
fn cuda() -> bool {
    // SAFETY: the driver's library is made to be loaded by anybody, and its initialisers do not touch us.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

#[expect(unsafe_code, reason = "loading a library runs its initialisers")]
fn nccl() -> bool {
    // SAFETY: as above, for NCCL.
    unsafe { cudarc::nccl::sys::is_culib_present() }
}

/// NCCL where images keep it, as a whole path.
fn find() -> Option<PathBuf> {
    let named = std::env::var_os("VLLM_NCCL_SO_PATH").map(PathBuf::from);
    if let Some(path) = named.filter(|p| p.is_file()) {
        return Some(path);
    }
    let own = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = std::env::split_paths(&own).chain(FOLDERS.iter().map(PathBuf::from));
    in_folders(folders.chain(PYTHONS.iter().flat_map(|p| wheels(Path::new(p)))))
}

/// The first library among folders.
#[must_use]
pub fn in_folders(folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    let mut all = folders.flat_map(|f| NAMES.map(|n| f.join(n)));
    all.find(|p| p.is_file())
}

/// Folders of NCCL's wheel below a folder of Python versions, sorted.
#[must_use]
pub fn wheels(lib: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for version in std::fs::read_dir(lib).into_iter().flatten().flatten() {
        if version.file_name().to_string_lossy().starts_with("python3") {
            for packages in ["site-packages", "dist-packages"] {
                out.push(version.path().join(packages).join("nvidia/nccl/lib"));
            }
        }
    }
    out.sort();
    out
}

/// Begins anew with a folder in the path where the library has the name that is looked for; comes back only where
/// that is not possible.
fn again(found: &Path) -> Option<String> {
    let folder = std::env::temp_dir().join(format!("ncclscope-{}", std::process::id()));
    let said = |e: std::io::Error| Some(format!("{}: {e}", folder.display()));
    if let Err(e) = std::fs::create_dir(&folder) {
        return said(e);
    }
    if let Err(e) = std::os::unix::fs::symlink(found, folder.join("libnccl.so")) {
        return said(e);
    }
    let mut path = OsString::from(&folder);
    if let Some(own) = std::env::var_os("LD_LIBRARY_PATH") {
        path.push(":");
        path.push(own);
    }
    let program = std::env::current_exe().ok()?;
    let error = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env("LD_LIBRARY_PATH", path)
        .env(SECOND, found)
        .exec();
    said(error)
}

/// Host name, which in a pod is the pod's.
#[must_use]
pub fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
