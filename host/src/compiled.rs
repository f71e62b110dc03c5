//! The folder in which the compiled component is kept between two starts.
//!
//! wasmtime keeps it, under a hash of the component, the compiler's version and its settings. What it finds there it
//! runs: whoever can write to the folder can have this process do anything. So the folder is used only if this user
//! alone can change it, and every folder on the way to it only this user and root. Otherwise the component is
//! compiled, as it is without a folder.

use std::fs::{DirBuilder, Metadata};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use wasmtime::{Cache, CacheConfig};

/// Opens the folder for wasmtime, and creates it if need be. None if it cannot be used safely.
pub(crate) fn open(folder: &Path) -> Option<Cache> {
    let opened = prepare(folder).and_then(|folder| {
        let mut config = CacheConfig::new();
        config.with_directory(folder);
        Ok(Cache::new(config)?)
    });
    opened
        .inspect_err(|error| {
            let error = format!("{error:#}");
            tracing::warn!(
                error,
                "the folder for the compiled component is not used: it is compiled at each start"
            );
        })
        .ok()
}

/// The folder without links in its path, which somebody else could turn elsewhere.
fn prepare(folder: &Path) -> Result<PathBuf> {
    ensure!(folder.is_absolute(), "its path is not absolute");
    // Nothing is created where it would not be used: root with the home of somebody else leaves no folder there.
    let there = folder.ancestors().skip(1).find(|step| step.exists()).context("there is no root folder")?;
    check(&there.canonicalize()?, false)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder).context("it cannot be created")?;
    let folder = folder.canonicalize().context("it cannot be found")?;
    check(&folder, true)?;
    Ok(folder)
}

fn check(folder: &Path, last: bool) -> Result<()> {
    let user = rustix::process::geteuid().as_raw();
    for step in folder.ancestors() {
        let metadata = step.metadata().with_context(|| format!("{} cannot be looked at", step.display()))?;
        ensure!(is_safe(&metadata, user, last && step == folder), "others can change {}", step.display());
    }
    Ok(())
}

/// Whether only `user` can change what is in a folder; or also root, if it is one on the way. In a folder with the sticky
/// bit, such as /tmp, others can write but not rename what is not theirs.
fn is_safe(metadata: &Metadata, user: u32, last: bool) -> bool {
    let (others_write, sticky) = (metadata.mode() & 0o022 != 0, metadata.mode() & 0o1000 != 0);
    let owned = metadata.uid() == user || (!last && metadata.uid() == 0);
    owned && (!others_write || (!last && sticky))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_is_used_only_if_others_cannot_write_to_it_or_on_the_way() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("on the way/compiled");
        assert!(prepare(&folder).is_ok());
        assert!(prepare(Path::new("relative")).is_err());
        for step in [&*folder, folder.parent().unwrap()] {
            std::fs::set_permissions(step, Permissions::from_mode(0o777)).unwrap();
            assert!(prepare(&folder).is_err(), "{}", step.display());
            std::fs::set_permissions(step, Permissions::from_mode(0o700)).unwrap();
        }
        assert!(prepare(&folder).is_ok());
        std::fs::set_permissions(&folder, Permissions::from_mode(0o1777)).unwrap();
        assert!(prepare(&folder).is_err(), "a sticky folder lets others add files");
    }
}
