//! Where a benchmark puts a ledger: a directory on a disk, since a flush to memory costs nothing.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// File systems without a disk below them.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// Whether `cargo bench` asks for figures. `cargo test` only wants to see that all works.
pub(crate) fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// A temporary directory beside what cargo builds, where `cargo clean` finds what a crash left; temporary directories elsewhere are
/// often in memory. Figures are refused if this one is, too.
pub(crate) fn directory() -> TempDir {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let on = filesystem(directory.path());
    assert!(!(measures() && IN_MEMORY.contains(&on.as_str())), "{} is on {on}: set CARGO_TARGET_DIR", directory.path().display());
    directory
}

/// The type of the file system that `path` is on, by Linux' table of mounts.
pub(crate) fn filesystem(path: &Path) -> String {
    let path = path.canonicalize().expect("it exists");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    // Of two mounts on one place the later one is seen, and so `max_by_key` has it: it returns the last.
    let nearest = fields.filter(|mount| mount.len() > 2 && path.starts_with(mount[1])).max_by_key(|mount| mount[1].len());
    nearest.map_or_else(|| "unknown".to_owned(), |mount| mount[2].to_owned())
}
