//! Why a cache could not be set up, and what to do about each.

use crate::postgres::{CertificateError, DatabaseUrlError};

/// Why a cache could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The database URL was not understood.
    #[error(transparent)]
    DatabaseUrl(#[from] DatabaseUrlError),
    /// The certificates for TLS could not be read.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// A setting is out of its range.
    #[error("{0}")]
    OutOfRange(&'static str),
    /// The component is not one of the world `cimd-cache`, needs more than an instance may have, or cannot be
    /// run on this machine.
    #[error("the component cannot be run")]
    Component(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no memory to compile the component, or no address space.
    #[error(
        "there is no memory to compile the component: raise this process's limit on memory or address space"
    )]
    OutOfMemory,
    /// The operating system lets no memory of this process become executable.
    #[error(
        "this process must be allowed to make memory executable, to run the component (systemd's \
         MemoryDenyWriteExecute=no); or run it in the interpreter, which needs none: Builder::interpret, or serve --interpret"
    )]
    NotExecutable,
}
