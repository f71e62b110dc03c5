//! Mutants of the statements: each breaks one rule of the SQL, in the model and, as an edit of the text, on a
//! real Postgres.
//!
//! Changes that no caller can see are not here, because no check of answers can find them: `<=` for `<` in a
//! sweep's conditions (a row at its very expiry is a miss already, and no good ticket can be as old as eleven
//! minutes less a microsecond), and a delete that leaves the row's old `after_purge` in its tombstone (which
//! has no document).

use cimd_cache_guest::statements;

/// A change of a statement's text.
#[derive(Clone, Copy, Debug)]
pub struct Edit {
    /// The statement's name.
    pub statement: &'static str,
    /// What to replace, everywhere in the statement.
    pub from: &'static str,
    /// What to put there.
    pub to: &'static str,
}

impl Edit {
    /// The statement's text with the change made.
    pub fn apply(&self, sql: &str) -> String {
        sql.replace(self.from, self.to)
    }
}

/// How a mutant is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// By calls one after the other.
    InSequence,
    /// Only by calls that overlap.
    ByOverlap,
    /// Only by calls that overlap or a clock that steps back, in a way that a hundred thousand histories may
    /// not show: the model has a test of its own.
    Rarely,
    /// Only if the guest's second check of the expiry is gone too.
    BehindTheGuest,
}

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $mutant:ident: $statement:ident, $seen:ident, $from:literal => $to:literal;)+) => {
        /// A statement with one rule broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $mutant,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$mutant),+];

            /// Its name, as `simulate --mutant` takes it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$mutant => stringify!($mutant),)+
                }
            }

            /// How it is found.
            pub fn seen(self) -> Seen {
                match self {
                    $(Self::$mutant => Seen::$seen,)+
                }
            }

            /// The same change in the text of the SQL.
            pub fn edit(self) -> Edit {
                match self {
                    $(Self::$mutant => Edit { statement: statements::$statement.name, from: $from, to: $to },)+
                }
            }
        }
    };
}

mutants! {
    /// A get returns what has expired.
    GetIgnoresExpiry: GET, BehindTheGuest, "\n and m.expires_at operator(pg_catalog.>) (n.now operator(pg_catalog.+) p.clock_tolerance)" => "";
    /// The database does not know that its clocks differ.
    ToleranceIgnored: GET, InSequence, "p.clock_tolerance" => "interval '0 seconds'";
    /// A ticket has the time of the clock of reads, which may be ahead of the clock of writes.
    TicketOfAnotherClock: GET, InSequence, "n.now operator(pg_catalog.-) p.clock_tolerance" => "n.now";
    /// A document is fresh until the clock of reads shows its expiry. That clock may be behind the clock of
    /// writes.
    FreshOnAnotherClock: GET, InSequence,
        "m.expires_at operator(pg_catalog.-) p.clock_tolerance operator(pg_catalog.-) p.clock_tolerance"
            => "m.expires_at";
    /// A get returns what has expired by the clock of writes.
    ExpiredOnAnotherClock: GET, BehindTheGuest,
        "(n.now operator(pg_catalog.+) p.clock_tolerance)" => "n.now";
    /// A get returns what was purged.
    GetIgnoresPurge: GET, InSequence, "\n and m.after_purge operator(pg_catalog.=) p.purged_at" => "";
    /// A get-many returns what has expired.
    ManyIgnoreExpiry: GET_MANY, BehindTheGuest,
        "m.expires_at operator(pg_catalog.>) (n.now operator(pg_catalog.+) p.clock_tolerance)\n             and " => "";
    /// A get-many ignores that the clocks differ.
    ManyIgnoreTolerance: GET_MANY, InSequence, "p.clock_tolerance" => "interval '0 seconds'";
    /// The ticket of a get-many has the time of the clock of reads.
    ManyTicketOfAnotherClock: GET_MANY, InSequence, "n.now operator(pg_catalog.-) p.clock_tolerance" => "n.now";
    /// A get-many takes a document as fresh until the clock of reads shows its expiry.
    ManyFreshOnAnotherClock: GET_MANY, InSequence,
        "m.expires_at operator(pg_catalog.-) p.clock_tolerance operator(pg_catalog.-) p.clock_tolerance"
            => "m.expires_at";
    /// A get-many returns what has expired by the clock of writes.
    ManyExpiredOnAnotherClock: GET_MANY, BehindTheGuest,
        "(n.now operator(pg_catalog.+) p.clock_tolerance)" => "n.now";
    /// A get-many returns what was purged.
    ManyIgnorePurge: GET_MANY, InSequence, "\n             and m.after_purge operator(pg_catalog.=) p.purged_at" => "";
    /// A get-many that finds nothing has no row.
    ManyNeedDocument: GET_MANY, InSequence,
        "left join cimd_cache.client_id_metadata" => "join cimd_cache.client_id_metadata";
    /// Every put replaces the row that is there.
    PutUnguarded: PUT, InSequence,
        "\nwhere excluded.fetched_at operator(pg_catalog.>=) m.fetched_at\n   or (case when m.metadata is null then m.expires_at else m.fetched_at end operator(pg_catalog.-) excluded.inserted_at)\n      operator(pg_catalog.>) interval '60 seconds'"
            => "";
    /// A put repeated with its ticket loses to itself.
    PutLosesTies: PUT, InSequence, "excluded.fetched_at operator(pg_catalog.>=) m.fetched_at" => "excluded.fetched_at operator(pg_catalog.>) m.fetched_at";
    /// The longer lifetime wins.
    PutComparesExpiries: PUT, InSequence,
        "excluded.fetched_at operator(pg_catalog.>=) m.fetched_at" => "excluded.expires_at operator(pg_catalog.>=) m.expires_at";
    /// A put that waited takes a newer row for one from the future.
    FutureRowAtOnce: PUT, ByOverlap, "operator(pg_catalog.>) interval '60 seconds'" => "operator(pg_catalog.>) interval '0 seconds'";
    /// A row that a step back of the clock left in the future is never replaced.
    FutureRowForEver: PUT, InSequence,
        "\n   or (case when m.metadata is null then m.expires_at else m.fetched_at end operator(pg_catalog.-) excluded.inserted_at)\n      operator(pg_catalog.>) interval '60 seconds'"
            => "";
    /// A put that waited takes the tombstone of a document from just less than a minute ahead for one from
    /// the future.
    FutureRowIfFetchedAhead: PUT, Rarely,
        "case when m.metadata is null then m.expires_at else m.fetched_at end" => "m.fetched_at";
    /// A ticket is good for ever.
    TicketNeverOld: PUT, InSequence, "\n  and f.fetched_at operator(pg_catalog.>) (pg_catalog.now() operator(pg_catalog.-) interval '600 seconds')" => "";
    /// A ticket may be ahead of the clock.
    TicketFromTheFuture: PUT, InSequence, "where f.fetched_at operator(pg_catalog.<=) pg_catalog.now()\n  and " => "where ";
    /// A put may have been fetched before a purge.
    PutIgnoresPurge: PUT, InSequence,
        "coalesce(timestamp with time zone 'epoch'\n                operator(pg_catalog.+) ($6"
            => "coalesce(p.purged_at, timestamp with time zone 'epoch'\n                operator(pg_catalog.+) ($6";
    /// A lifetime may be longer than ten years.
    LifetimeUnbounded: PUT, InSequence, "pg_catalog.now() operator(pg_catalog.+) interval '315576000 seconds'" => "timestamp with time zone 'infinity'";
    /// A lifetime counts from the put and not from its ticket.
    ExpiryFromNow: PUT, InSequence, "t.fetched_at\n                          operator" => "pg_catalog.now() operator";
    /// A put leaves the document that was there.
    PutKeepsDocument: PUT, InSequence, "set metadata = excluded.metadata,\n    " => "set ";
    /// A put leaves the expiry that was there.
    PutKeepsExpiry: PUT, InSequence, "    expires_at = excluded.expires_at,\n" => "";
    /// A put leaves the fetch time that was there.
    PutKeepsFetchTime: PUT, InSequence, "    fetched_at = excluded.fetched_at,\n" => "";
    /// A put leaves the purge that was there.
    PutKeepsPurge: PUT, InSequence, ",\n    after_purge = excluded.after_purge" => "";
    /// A delete's tombstone holds off no put.
    TombstoneWithoutTime: DELETE, InSequence, "pg_catalog.now(), p.purged_at" => "timestamp with time zone 'epoch', p.purged_at";
    /// A delete that waited for a put lets in puts older than that one.
    TombstoneForgetsLaterFetch: DELETE, ByOverlap,
        "greatest(m.fetched_at, excluded.fetched_at)" => "excluded.fetched_at";
    /// A tombstone takes over the time of a row from the future, so it is one too, and holds off no put.
    TombstoneKeepsFutureTime: DELETE, InSequence, "interval '60 seconds'" => "interval '1000 years'";
    /// A delete that waited takes the tombstone of another for a row from the future.
    TombstoneIfFetchedAhead: DELETE, Rarely,
        "case when m.metadata is null then m.expires_at else m.fetched_at end\n" => "m.fetched_at\n";
    /// A delete says that there was a document when it had expired.
    DeleteCountsExpired: DELETE, InSequence,
        "\n                   and m.expires_at operator(pg_catalog.>) excluded.expires_at" => "";
    /// A delete says that there was a document when it was purged.
    DeleteCountsPurged: DELETE, InSequence,
        "\n                   and m.after_purge operator(pg_catalog.>=) excluded.after_purge" => "";
    /// A delete only makes the document expire.
    DeleteKeepsDocument: DELETE, InSequence, "    metadata = null,\n" => "";
    /// Two purges may have the same time.
    PurgesShareTimes: PURGE, InSequence,
        "(purged_at at time zone 'UTC' operator(pg_catalog.+) interval '1 microsecond') at time zone 'UTC'"
            => "pg_catalog.now()";
    /// A sweep removes tombstones and documents at once.
    SweepTooSoon: SWEEP_EXPIRED, InSequence,
        "fetched_at operator(pg_catalog.<) (pg_catalog.now() operator(pg_catalog.-) interval '660 seconds')" => "true";
    /// A sweep removes a row although it was refreshed.
    SweepRemovesRefreshed: SWEEP_EXPIRED, ByOverlap,
        "\n  and expires_at operator(pg_catalog.<) pg_catalog.now()\n  and fetched_at operator(pg_catalog.<) (pg_catalog.now() operator(pg_catalog.-) interval '660 seconds')\nreturning"
            => "\nreturning";
    /// A sweep removes documents that have not expired.
    SweepRemovesFresh: SWEEP_EXPIRED, InSequence, "expires_at operator(pg_catalog.<) pg_catalog.now()" => "true";
    /// A sweep removes one row more than it may.
    SweepOneMore: SWEEP_EXPIRED, InSequence, "limit $1::bigint" => "limit $1::bigint + 1";
    /// A sweep removes what was purged at once, and with it what held off older tickets.
    SweepPurgedTooSoon: SWEEP_PURGED, InSequence,
        "fetched_at operator(pg_catalog.<) (pg_catalog.now() operator(pg_catalog.-) interval '660 seconds')" => "true";
    /// A sweep removes a purged row although it was refreshed.
    SweepPurgedRemovesRefreshed: SWEEP_PURGED, ByOverlap,
        "\n  and after_purge operator(pg_catalog.<) (select purged_at from cimd_cache.purge where id operator(pg_catalog.=) 1)\n  and fetched_at operator(pg_catalog.<) (pg_catalog.now() operator(pg_catalog.-) interval '660 seconds')\nreturning"
            => "\nreturning";
    /// A sweep removes documents that were not purged.
    SweepPurgedRemovesFresh: SWEEP_PURGED, InSequence, "after_purge operator(pg_catalog.<) (" => "after_purge operator(pg_catalog.<=) (";
}

impl std::str::FromStr for Mutant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|mutant| mutant.name() == name);
        found.copied().ok_or_else(|| format!("no mutant is called {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_edit_changes_its_statement() {
        for mutant in Mutant::ALL {
            let edit = mutant.edit();
            let statement =
                statements::ALL.iter().find(|statement| statement.name == edit.statement).unwrap();
            assert!(statement.sql.contains(edit.from), "{mutant:?}");
            assert_ne!(edit.apply(statement.sql), statement.sql, "{mutant:?}");
        }
    }
}
