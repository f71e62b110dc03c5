//! The tokens that requests over TCP present: lines of files, which are read again when they change.
//!
//! A file may have several lines, so that a new token is accepted before clients use it, and the old one
//! until all of them have changed.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use crate::problem::Problem;
use crate::role::Roles;
use crate::watched::{Watched, is_open_to_others};

/// Shorter ones can be guessed.
const SHORTEST: usize = 16;

/// The tokens of some files.
#[derive(Debug)]
pub(crate) struct Tokens(Watched<Arc<[Token]>>);

/// A secret, and what its holder may call. `Debug` does not show it.
struct Token {
    secret: Vec<u8>,
    roles: Roles,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("roles", &self.roles).finish_non_exhaustive()
    }
}

/// Why a file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It cannot be read.
    #[error("the token file {} cannot be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Others can read it.
    #[error("the token file {} is open to others: chmod 600 shuts it", .0.display())]
    Open(PathBuf),
    /// A line is too short for a secret.
    #[error("the token file {} has a line of fewer than 16 characters: put one token of at least 16 on each line", .0.display())]
    Short(PathBuf),
    /// There is none in it.
    #[error("the token file {} has no token: put one of at least 16 characters on each line", .0.display())]
    Empty(PathBuf),
}

impl Tokens {
    /// Reads the files, each with the roles that its tokens have.
    ///
    /// # Errors
    ///
    /// When one of them cannot be used.
    pub(crate) fn read(files: Vec<(PathBuf, Roles)>) -> Result<Self, TokenError> {
        let paths = files.iter().map(|(path, _)| path.clone()).collect();
        Ok(Self(Watched::new(paths, move || read_all(&files))?))
    }

    #[cfg(test)]
    pub(crate) fn of<const N: usize>(tokens: [(&str, &str); N]) -> Self {
        let token =
            |(secret, roles): (&str, &str)| Token { secret: secret.into(), roles: roles.parse().unwrap() };
        let tokens: Vec<_> = tokens.map(token).into();
        let tokens = Arc::<[Token]>::from(tokens);
        Self(Watched::new(Vec::new(), move || Ok::<_, TokenError>(tokens.clone())).unwrap())
    }

    /// The roles of a token.
    pub(crate) fn roles_of(&self, given: &str) -> Result<Roles, Problem> {
        // All of them are compared, whichever it is: how long that takes says nothing.
        let mut found = None;
        for token in &*self.0.now() {
            if bool::from(token.secret.ct_eq(given.as_bytes())) {
                found = Some(token.roles);
            }
        }
        found.ok_or(Problem::WrongToken)
    }
}

fn read_all(files: &[(PathBuf, Roles)]) -> Result<Arc<[Token]>, TokenError> {
    let mut tokens = Vec::new();
    for (path, roles) in files {
        let unreadable = |cause| TokenError::Unreadable { path: path.clone(), cause };
        if is_open_to_others(path).map_err(unreadable)? {
            return Err(TokenError::Open(path.clone()));
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        let before = tokens.len();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line.len() < SHORTEST {
                return Err(TokenError::Short(path.clone()));
            }
            tokens.push(Token { secret: line.into(), roles: *roles });
        }
        if tokens.len() == before {
            return Err(TokenError::Empty(path.clone()));
        }
    }
    Ok(tokens.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::watched::LOOK_AGAIN_AFTER;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    fn read(file: &tempfile::NamedTempFile) -> Result<Tokens, TokenError> {
        Tokens::read(vec![(file.path().to_owned(), Roles::ALL)])
    }

    #[test]
    fn a_file_that_is_no_secret_is_refused() {
        assert!(read(&file("a-token-of-24-characters\n\n another-token-0123456 \n", 0o600)).is_ok());
        assert!(matches!(read(&file("a-token-of-24-characters", 0o604)), Err(TokenError::Open(_))));
        assert!(matches!(read(&file("too-short", 0o600)), Err(TokenError::Short(_))));
        assert!(matches!(read(&file(" \n", 0o600)), Err(TokenError::Empty(_))));
        let gone = Tokens::read(vec![("/nonexistent".into(), Roles::ALL)]);
        assert!(matches!(gone, Err(TokenError::Unreadable { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_rotated_without_a_restart_and_half_a_rotation_changes_nothing() {
        let file = file("the-old-token-0123456789\n", 0o600);
        let tokens = read(&file).unwrap();
        let (old, new) = ("the-old-token-0123456789", "the-new-token-9876543210");
        fs::write(file.path(), format!("{old}\n{new}\n")).unwrap();
        assert_eq!(tokens.roles_of(new), Err(Problem::WrongToken), "files are not read for each call");
        tokio::time::advance(LOOK_AGAIN_AFTER).await;
        assert_eq!((tokens.roles_of(old), tokens.roles_of(new)), (Ok(Roles::ALL), Ok(Roles::ALL)));
        fs::write(file.path(), "").unwrap();
        tokio::time::advance(LOOK_AGAIN_AFTER).await;
        assert_eq!(tokens.roles_of(new), Ok(Roles::ALL));
        fs::write(file.path(), format!("{new}\n")).unwrap();
        tokio::time::advance(LOOK_AGAIN_AFTER).await;
        assert_eq!((tokens.roles_of(old), tokens.roles_of(new)), (Err(Problem::WrongToken), Ok(Roles::ALL)));
    }
}
