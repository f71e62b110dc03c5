//! The kinds of call, and what can come of them: a word that the metrics, the traces and the routes share.

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lookup,
    Put,
    Delete,
    Purge,
    Sweep,
    Check,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Lookup, Self::Put, Self::Delete, Self::Purge, Self::Sweep, Self::Check];

    /// For people, and for a label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Purge => "purge",
            Self::Sweep => "sweep",
            Self::Check => "check",
        }
    }

    /// The counter of its outcomes.
    pub(crate) fn counter(self) -> &'static str {
        match self {
            Self::Lookup => "lookups",
            Self::Put => "puts",
            Self::Delete => "deletes",
            Self::Purge => "purges",
            Self::Sweep => "sweeps",
            Self::Check => "checks",
        }
    }

    pub(crate) fn help(self) -> &'static str {
        match self {
            Self::Lookup => "Documents looked up, by outcome",
            Self::Put => "Puts, by outcome",
            Self::Delete => "Deletes, by outcome",
            Self::Purge => "Purges, by outcome",
            Self::Sweep => "Sweeps that were asked for, by outcome",
            Self::Check => "Checks that were asked for, by outcome",
        }
    }

    /// What can come of it, errors aside.
    pub(crate) fn outcomes(self) -> &'static [&'static str] {
        match self {
            Self::Lookup => &["hit", "near_hit", "miss"],
            Self::Put => &["stored", "superseded"],
            Self::Delete => &["deleted", "absent"],
            Self::Purge => &["purged"],
            Self::Sweep => &["swept"],
            Self::Check => &["ready"],
        }
    }
}
