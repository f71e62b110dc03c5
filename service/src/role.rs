//! Who may call what: three roles, which a listener has, and a token.

use std::fmt;
use std::str::FromStr;

/// What may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Look documents up.
    Read,
    /// Store documents.
    Write,
    /// Delete documents, purge, sweep.
    Admin,
}

impl Role {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Read, "read"), (Self::Write, "write"), (Self::Admin, "admin")];
}

/// Some of the roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u8);

/// A word that is not a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role must be read, write or admin")]
pub struct RoleError;

impl Roles {
    /// All three.
    pub const ALL: Self = Self(0b111);

    /// Whether one of them is `role`.
    pub fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// Those that both have.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// A list with commas, such as `read,write`.
impl FromStr for Roles {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        text.split(',').try_fold(Self(0), |roles, word| {
            let found = Role::ALL.iter().find(|(_, name)| *name == word).ok_or(RoleError)?;
            Ok(Self(roles.0 | (1 << found.0 as u8)))
        })
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            Role::ALL.iter().filter(|(role, _)| self.has(*role)).map(|(_, name)| *name).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_as_they_are_written() {
        for text in ["read", "write", "admin", "read,write", "read,write,admin"] {
            assert_eq!(text.parse::<Roles>().unwrap().to_string(), text);
        }
        assert_eq!("read,write,admin".parse(), Ok(Roles::ALL));
        for text in ["", "READ", "read,", "read write", "all"] {
            assert_eq!(text.parse::<Roles>(), Err(RoleError), "{text}");
        }
        let both = "read,write".parse::<Roles>().unwrap().and("write,admin".parse().unwrap());
        assert!(both.has(Role::Write) && !both.has(Role::Read) && !both.has(Role::Admin));
    }
}
