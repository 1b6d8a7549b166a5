//! Whether files have changed since they were read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What files were at some moment; of a link, what it leads to. It changes whenever one is written, replaced or made readable, and when a link on the
/// way to it is turned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

/// Inode, change time, length. None for a file that is not there.
type Stamp = (u64, i64, i64, u64);

impl Stamps {
    /// What these files are now.
    pub fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Self {
        Self(paths.into_iter().map(|path| (path.to_owned(), stamp(path))).collect())
    }

    /// These, and those of other files.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        for (path, stamp) in others.0 {
            self.0.entry(path).or_insert(stamp);
        }
        self
    }

    /// What the same files are now.
    #[must_use]
    pub fn now(&self) -> Self {
        Self::of(self.0.keys().map(PathBuf::as_path))
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec(), metadata.len()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_changes_when_it_is_written_replaced_removed_or_another_one_is_linked() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("one"), "1").expect("writable");
        symlink("one", path("data")).expect("a link");
        let mut stamps = Stamps::of([path("data").as_path(), path("absent").as_path()]);
        assert_eq!(stamps.now(), stamps);
        let changes: [(&str, &dyn Fn()); 5] = [
            ("written", &|| fs::write(path("one"), "22").expect("writable")),
            ("replaced", &|| {
                fs::write(path("new"), "22").expect("writable");
                fs::rename(path("new"), path("one")).expect("renamed");
            }),
            ("linked", &|| {
                fs::write(path("two"), "22").expect("writable");
                symlink("two", path("turned")).expect("a link");
                fs::rename(path("turned"), path("data")).expect("renamed");
            }),
            ("removed", &|| fs::remove_file(path("two")).expect("removed")),
            ("made", &|| fs::write(path("absent"), "").expect("writable")),
        ];
        for (how, change) in changes {
            change();
            assert_ne!(stamps.now(), stamps, "{how}");
            stamps = stamps.now();
        }
    }
}
