//! A folder with the stand-ins as a driver and an image would have brought them.

use std::path::{Path, PathBuf};
use std::process::Command;

const CUDA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/worker/cuda.c");
const NCCL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/worker/nccl.c");

/// Whether a C compiler is here.
pub fn compiler() -> bool {
    let asked = Command::new("cc").arg("--version").output();
    asked.is_ok_and(|out| out.status.success())
}

fn library(out: &Path, name: &str, args: &[&str]) {
    let soname = format!("-Wl,-soname,{name}");
    let built = Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", &soname, "-o"])
        .arg(out)
        .args(args)
        .output()
        .expect("a C compiler");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
}

/// The folder.
pub struct Node(tempfile::TempDir);

impl Node {
    /// Both libraries, `-D` and such for NCCL's.
    pub fn new(nccl: &[&str]) -> Self {
        let node = Self::without_nccl();
        let cuda = node.path().join("libcuda.so.1");
        let mut args = vec![NCCL, cuda.to_str().expect("a path")];
        args.extend(nccl);
        library(&node.path().join("libnccl.so"), "libnccl.so.2", &args);
        node
    }

    /// The driver's alone.
    pub fn without_nccl() -> Self {
        let node = Self(tempfile::tempdir().expect("a folder"));
        library(&node.path().join("libcuda.so.1"), "libcuda.so.1", &[CUDA]);
        node
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// NCCL, where no loader looks for it.
    pub fn hide(&self, folder: &str) -> PathBuf {
        let folder = self.path().join(folder);
        std::fs::create_dir_all(&folder).expect("made");
        let hidden = folder.join("libnccl.so.2");
        std::fs::rename(self.path().join("libnccl.so"), &hidden).expect("moved");
        hidden
    }
}
