//! Files that are read again when they change: tokens and certificates are renewed while the service runs.

use std::error::Error;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How often to look whether a file has changed.
pub(crate) const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What some files say, as they are now.
///
/// If they cannot be used after a change, what they said before stays in force, and the log says so: half a
/// renewal must not lock everybody out.
pub(crate) struct Watched<T> {
    files: Vec<PathBuf>,
    read: Box<Read<T>>,
    state: Mutex<State<T>>,
}

type Read<T> = dyn Fn() -> Result<T, Box<dyn Error>> + Send + Sync;

struct State<T> {
    content: T,
    versions: Vec<Option<Version>>,
    looked: Instant,
}

/// What changes when a file is written, replaced, or given to somebody else.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl<T: Clone> Watched<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub(crate) fn new<E: Error + 'static>(
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let versions = versions(&files);
        let state = Mutex::new(State { content: read()?, versions, looked: Instant::now() });
        Ok(Self { files, read: Box::new(move || Ok(read()?)), state })
    }

    /// What they say, not more than a second ago.
    pub(crate) fn now(&self) -> T {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= LOOK_AGAIN_AFTER {
            state.looked = Instant::now();
            let versions = versions(&self.files);
            if versions != state.versions {
                state.versions = versions;
                let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
                let files = files.join(", ");
                match (self.read)() {
                    Ok(content) => {
                        tracing::info!(files, "files were read again, because they changed");
                        state.content = content;
                    }
                    Err(error) => {
                        tracing::warn!(files, %error, "files changed and cannot be used; what they said before stays");
                    }
                }
            }
        }
        state.content.clone()
    }
}

impl<T> std::fmt::Debug for Watched<T> {
    /// Without the content, which may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Whether users who are neither the owner nor of the group can do anything with a file.
pub(crate) fn is_open_to_others(file: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(file)?.mode() & 0o007 != 0)
}

fn versions(files: &[PathBuf]) -> Vec<Option<Version>> {
    let version = |file: &Path| {
        let metadata = std::fs::metadata(file).ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Some(Version { inode: metadata.ino(), bytes: metadata.len(), changed })
    };
    files.iter().map(|file| version(file)).collect()
}
