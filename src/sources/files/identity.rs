//! Which file it is, whatever it is called.

use std::fs::{File, Metadata};
use std::io;

/// What tells a file from all others, whatever it is called.
pub(super) type Identity = (u64, u64);

pub(super) fn identity_of(file: &File) -> io::Result<Identity> {
    Ok(identity(&file.metadata()?))
}

/// Device and inode: two names with the same one are the same file.
#[cfg(unix)]
pub(super) fn identity(meta: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (meta.dev(), meta.ino())
}

/// Elsewhere rotation shows as truncation, and what appears in a folder goes unnoticed.
#[cfg(not(unix))]
pub(super) fn identity(_: &Metadata) -> Identity {
    (0, 0)
}
