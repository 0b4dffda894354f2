//! Are libcuda and libnccl there? Asked before the first call, because a call without its library ends in a panic.

use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::parse::clean;

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

/// What is called in libcuda. A test's stand-in has these alone.
const CUDA: [&str; 16] = [
    "cuInit",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRetain",
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuMemGetInfo_v2",
    "cuMemAlloc_v2",
    "cuMemsetD8Async",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuStreamCreate",
    "cuStreamQuery",
    "cuGetErrorString",
];
/// What is called in libnccl.
const NCCL: [&str; 7] = [
    "ncclGetVersion",
    "ncclGetErrorString",
    "ncclCommInitAll",
    "ncclCommGetAsyncError",
    "ncclAllReduce",
    "ncclGroupStart",
    "ncclGroupEnd",
];

/// Both are there and have what is called, or a sentence says what is missing. Where NCCL lies off the loader's path
/// the process begins anew with the path extended, and does not come back.
pub fn ready() -> Result<(), String> {
    if !cuda() {
        return Err("libcuda is not here: this container has no NVIDIA driver".into());
    }
    if let Some(name) = CUDA.iter().find(|name| !has_cuda(name)) {
        return Err(format!(
            "libcuda here is too old for this: it has no {name}"
        ));
    }
    let second = std::env::var_os(SECOND).map(PathBuf::from);
    if !nccl() {
        let absent = "libnccl is not here: the image brings no NCCL";
        if let Some(found) = second {
            return Err(refused(&found));
        }
        let Some(found) = find() else {
            return Err(absent.into());
        };
        return Err(again(&found).unwrap_or_else(|| absent.into()));
    }
    let lacks = NCCL.iter().find(|name| !has_nccl(name));
    if second.is_some() {
        // Now it is loaded for good: the link that led to it has done its work.
        let _ = std::fs::remove_dir_all(folder());
    }
    match lacks {
        Some(name) => Err(format!(
            "{} is too old for this: it has no {name}",
            loaded().unwrap_or_else(|| "libnccl".into())
        )),
        None => Ok(()),
    }
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

#[expect(unsafe_code, reason = "asks a library for a name")]
fn has_cuda(name: &str) -> bool {
    // SAFETY: the library is there; what is found is not called.
    unsafe { cudarc::driver::sys::culib().get::<usize>(name).is_ok() }
}

#[expect(unsafe_code, reason = "asks a library for a name")]
fn has_nccl(name: &str) -> bool {
    // SAFETY: as above, for NCCL.
    unsafe { cudarc::nccl::sys::culib().get::<usize>(name).is_ok() }
}

/// NCCL keeps its last warning since 2.13.
#[must_use]
pub(super) fn has_last_error() -> bool {
    has_nccl("ncclGetLastError")
}

/// The file that NCCL was loaded from.
#[must_use]
pub(super) fn loaded() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|l| l.contains("libnccl"))?;
    line.split_ascii_whitespace().last().map(str::to_owned)
}

/// Why a library that is there can't be loaded, in the words of the system's loader.
#[expect(unsafe_code, reason = "loads a library to hear why it can't be")]
fn refused(library: &Path) -> String {
    let name = library.display();
    let Ok(path) = CString::new(library.as_os_str().as_bytes()) else {
        return format!("{name} can't be loaded");
    };
    // SAFETY: as where it is loaded to be used; the text is copied before the loader is called again.
    let why = unsafe {
        let _ = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        let text = libc::dlerror();
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    let why = clean(why.unwrap_or_default().as_bytes());
    // The loader names the file itself.
    match why.strip_prefix(&format!("{name}: ")) {
        Some(why) => format!("{name} can't be loaded: {why}"),
        None if why.is_empty() => format!("{name} can't be loaded"),
        None => format!("{name} can't be loaded: {why}"),
    }
}

/// NCCL where images keep it, as a whole path.
fn find() -> Option<PathBuf> {
    let named = std::env::var_os("VLLM_NCCL_SO_PATH").map(PathBuf::from);
    if let Some(path) = named.filter(|p| p.is_file()) {
        return Some(path);
    }
    let own = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = std::env::split_paths(&own).chain(FOLDERS.iter().map(PathBuf::from));
    in_folders(folders.chain(pythons().iter().flat_map(|p| wheels(p))))
}

/// Where Python versions may lie: beside each folder of programs in the path, which is where an environment's own
/// are, then where images have them.
fn pythons() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beside = std::env::split_paths(&path).filter_map(|bin| Some(bin.parent()?.join("lib")));
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/lib"));
    let known = PYTHONS.iter().map(PathBuf::from);
    let mut all = Vec::new();
    for lib in beside.chain(home).chain(known) {
        if !all.contains(&lib) {
            all.push(lib);
        }
    }
    all
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

/// Where the library gets the name that is looked for.
fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("ncclscope-{}", std::process::id()))
}

/// Begins anew with a folder in the path where the library has the name that is looked for; comes back only where
/// that is not possible.
fn again(found: &Path) -> Option<String> {
    let folder = folder();
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
