//! All the SQL there is. The file is long because it is the complete list: a reviewer of what the component
//! can send need read no other.
//!
//! The component sends these statements and no others. The host compiles this list natively and lets nothing
//! else through. Each is a single statement in a transaction of its own, and uses only what
//! Postgres-compatible distributed engines support: `DO UPDATE` has only `excluded`, columns and constants
//! (Citus refuses `now()` there), and there is no ctid, `SKIP LOCKED`, lock or session state.
//!
//! **Every name says its schema**, operators and types included. Postgres looks up a name without one along
//! the search path, and an operator or function that fits its arguments exactly wins in any schema there,
//! even in one where a stranger may create objects (CVE-2018-1058): the stranger's SQL would run inside the
//! cache's, with its privileges. Names that are part of the grammar (`bigint`, `extract`, `coalesce`,
//! `greatest`, `at time zone`) always mean Postgres' own. But `in`, `between`, `like`, `is distinct from` and
//! `nullif` look up an operator by name, so none of them is here. Operators written in full all have the same
//! precedence, from left to right: parentheses say what belongs together.
//!
//! Times cross as `bigint` microseconds (fetches) or seconds (expiries) since 1970, so that a host need not
//! know `timestamptz`. They become intervals through a double, which is exact for microseconds up to the year
//! 2255.
//!
//! A row's `after_purge` is the `purged_at` that its fetch saw: a get returns the document only while the two
//! are equal.
//!
//! **Several clocks.** `purge.clock_tolerance` is the most by which two clocks of the database may differ: 0
//! if there is one, as in Postgres itself. A distributed engine takes the `now()` of a read and that of a
//! write from different machines. With a tolerance D, a get hands out a ticket D earlier than its now, so
//! that no delete that came after it has an earlier time; and a document is fresh only while even a clock
//! that is D ahead shows less than its expiry.
//!
//! **Hidden is not absent.** If row level security applies to the role, [`GET`] and [`SWEEPABLE`] find no
//! purge, which is an error: a row that a policy hides must not look like a miss. Postgres itself refuses the
//! writes then.

/// One statement that the component may send.
#[derive(Debug, PartialEq, Eq)]
pub struct Statement {
    /// A name for logs and metrics.
    pub name: &'static str,
    /// What it is for. This decides which connection it takes and whether it may be repeated.
    pub purpose: Purpose,
    /// The text, exactly as it is sent.
    pub sql: &'static str,
    /// The type of each parameter; any of them may also be null.
    pub parameters: &'static [Type],
    /// The type of each column of a row; any of them may also be null.
    pub columns: &'static [Type],
}

/// What a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Changes nothing, so a host may repeat it at will.
    Read,
    /// Changes one row.
    Write,
    /// Changes many rows and is in no hurry.
    Maintenance,
}

/// A Postgres type that crosses the interface, as a case of `value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `boolean`
    Boolean,
    /// `bigint`
    Int64,
    /// `text`
    Text,
}

use Type::{Boolean, Int64, Text};

/// The whole list.
pub const ALL: [&Statement; 9] =
    [&GET, &GET_MANY, &CLOCK, &PUT, &DELETE, &PURGE, &SWEEP_EXPIRED, &SWEEP_PURGED, &SWEEPABLE];

/// Always one row: the time for the ticket, the last purge, and the document if there is a fresh one.
///
/// With a clock tolerance D the first column is now less D, and the last is the expiry less 2D: in the
/// ticket's time, the moment at which some clock of the database may first show the expiry.
pub const GET: Statement = Statement {
    name: "get",
    purpose: Purpose::Read,
    sql: "\
select (extract(epoch from n.now operator(pg_catalog.-) p.clock_tolerance) operator(pg_catalog.*) 1000000)::bigint,
       (extract(epoch from p.purged_at) operator(pg_catalog.*) 1000000)::bigint,
       m.metadata::pg_catalog.text,
       (extract(epoch from m.expires_at operator(pg_catalog.-) p.clock_tolerance operator(pg_catalog.-) p.clock_tolerance)
         operator(pg_catalog.*) 1000000)::bigint
from (select pg_catalog.now() as now) n
left join cimd_cache.purge p
  on p.id operator(pg_catalog.=) 1
 and not pg_catalog.row_security_active('cimd_cache.client_id_metadata'::pg_catalog.regclass)
left join cimd_cache.client_id_metadata m
  on m.url operator(pg_catalog.=) $1::pg_catalog.text
 and m.expires_at operator(pg_catalog.>) (n.now operator(pg_catalog.+) p.clock_tolerance)
 and m.after_purge operator(pg_catalog.=) p.purged_at",
    parameters: &[Text],
    columns: &[Int64, Int64, Text, Int64],
};

/// As [`GET`], for many URLs at once. Parameters: the URLs as the text of an array, and how many there are.
/// Always at least one row, all with the same now and the same purge; a URL without a row is absent. Rows
/// come in any order, one for each URL however often it was asked for.
///
/// The join has only the key as its condition, and the columns decide what is fresh: given more conditions, a
/// planner without statistics takes their indexes, and reads the whole table. The number of URLs
/// distinguishes this statement from the others that are prepared: no two have the same number of parameters.
pub const GET_MANY: Statement = Statement {
    name: "get-many",
    purpose: Purpose::Read,
    sql: "\
select (extract(epoch from n.now operator(pg_catalog.-) p.clock_tolerance) operator(pg_catalog.*) 1000000)::bigint,
       (extract(epoch from p.purged_at) operator(pg_catalog.*) 1000000)::bigint,
       m.url,
       case when m.expires_at operator(pg_catalog.>) (n.now operator(pg_catalog.+) p.clock_tolerance)
             and m.after_purge operator(pg_catalog.=) p.purged_at
            then m.metadata::pg_catalog.text end,
       (extract(epoch from m.expires_at operator(pg_catalog.-) p.clock_tolerance operator(pg_catalog.-) p.clock_tolerance)
         operator(pg_catalog.*) 1000000)::bigint
from (select pg_catalog.now() as now) n
left join cimd_cache.purge p
  on p.id operator(pg_catalog.=) 1
 and not pg_catalog.row_security_active('cimd_cache.client_id_metadata'::pg_catalog.regclass)
left join cimd_cache.client_id_metadata m
  on m.url operator(pg_catalog.=) any ($1::pg_catalog.text::pg_catalog.text[])
where $2::bigint operator(pg_catalog.=) pg_catalog.cardinality($1::pg_catalog.text::pg_catalog.text[])",
    parameters: &[Text, Int64],
    columns: &[Int64, Int64, Text, Text, Int64],
};

/// The database's time and the last purge. Sent only after a put that stored nothing, to find out why.
pub const CLOCK: Statement = Statement {
    name: "clock",
    purpose: Purpose::Read,
    sql: "\
select (extract(epoch from n.now) operator(pg_catalog.*) 1000000)::bigint,
       (extract(epoch from p.purged_at) operator(pg_catalog.*) 1000000)::bigint
from (select pg_catalog.now() as now) n
left join cimd_cache.purge p
  on p.id operator(pg_catalog.=) 1",
    parameters: &[],
    columns: &[Int64, Int64],
};

/// One row if it was stored, none if not. Parameters: URL, document, expiry in seconds since 1970 or null,
/// lifetime in seconds or null, the ticket's read and purge times or null.
///
/// Under READ COMMITTED Postgres locks the conflicting row and decides the last condition on its newest
/// version, so two puts cannot both be the later one.
///
/// A row is from the future if the last time that a clock gave it is: a document's fetch, but a tombstone's
/// delete, which is its `expires_at`. A tombstone's `fetched_at` may be that of the document it replaced, up
/// to a minute ahead of the delete. If that decided, a put that began just before the delete and waited would
/// take the tombstone for a row from the future, and bring back what was deleted.
pub const PUT: Statement = Statement {
    name: "put",
    purpose: Purpose::Write,
    sql: "\
insert into cimd_cache.client_id_metadata as m
  (url, metadata, expires_at, inserted_at, fetched_at, after_purge)
select $1::pg_catalog.text, $2::pg_catalog.text::pg_catalog.jsonb, f.expires_at, pg_catalog.now(), f.fetched_at, p.purged_at
from (
  select t.fetched_at,
         least(coalesce(timestamp with time zone 'epoch'
                          operator(pg_catalog.+) ($3::bigint::double precision operator(pg_catalog.*) interval '1 second'),
                        t.fetched_at
                          operator(pg_catalog.+) ($4::bigint::double precision operator(pg_catalog.*) interval '1 second')),
               pg_catalog.now() operator(pg_catalog.+) interval '315576000 seconds') as expires_at
  from (select coalesce(timestamp with time zone 'epoch'
                          operator(pg_catalog.+) ($5::bigint::double precision operator(pg_catalog.*) interval '1 microsecond'),
                        pg_catalog.now()) as fetched_at) t
) f
join cimd_cache.purge p
  on p.id operator(pg_catalog.=) 1
 and p.purged_at operator(pg_catalog.=)
     coalesce(timestamp with time zone 'epoch'
                operator(pg_catalog.+) ($6::bigint::double precision operator(pg_catalog.*) interval '1 microsecond'),
              p.purged_at)
where f.fetched_at operator(pg_catalog.<=) pg_catalog.now()
  and f.fetched_at operator(pg_catalog.>) (pg_catalog.now() operator(pg_catalog.-) interval '600 seconds')
on conflict (url) do update
set metadata = excluded.metadata,
    expires_at = excluded.expires_at,
    fetched_at = excluded.fetched_at,
    after_purge = excluded.after_purge
where excluded.fetched_at operator(pg_catalog.>=) m.fetched_at
   or (case when m.metadata is null then m.expires_at else m.fetched_at end operator(pg_catalog.-) excluded.inserted_at)
      operator(pg_catalog.>) interval '60 seconds'
returning true",
    parameters: &[Text, Text, Int64, Int64, Int64, Int64],
    columns: &[Boolean],
};

/// One row: whether there was a document that a get would have returned. Leaves a tombstone, a row without a
/// document, whose `fetched_at` holds off puts with an older ticket.
///
/// The later of the two fetch times stays, so that a delete which waited for a put does not let in puts older
/// than that one; but not the fetch time of a row from the future, which would let in any. [`PUT`] says which
/// rows are from the future. By another rule, the first of two deletes at once could take the tombstone of
/// the other for one.
pub const DELETE: Statement = Statement {
    name: "delete",
    purpose: Purpose::Write,
    sql: "\
insert into cimd_cache.client_id_metadata as m
  (url, metadata, expires_at, inserted_at, fetched_at, after_purge, had_document)
select $1::pg_catalog.text, null, pg_catalog.now(), pg_catalog.now(), pg_catalog.now(), p.purged_at, false
from cimd_cache.purge p
where p.id operator(pg_catalog.=) 1
on conflict (url) do update
set had_document = m.metadata is not null
                   and m.expires_at operator(pg_catalog.>) excluded.expires_at
                   and m.after_purge operator(pg_catalog.>=) excluded.after_purge,
    metadata = null,
    expires_at = excluded.expires_at,
    fetched_at = case when (case when m.metadata is null then m.expires_at else m.fetched_at end
                            operator(pg_catalog.-) excluded.fetched_at) operator(pg_catalog.>) interval '60 seconds'
                      then excluded.fetched_at
                      else greatest(m.fetched_at, excluded.fetched_at) end,
    after_purge = excluded.after_purge
returning m.had_document",
    parameters: &[Text],
    columns: &[Boolean],
};

/// One row. Each purge has a time of its own, later than all before it, even if the clock was set back or two
/// run at once: the `after_purge` of a purged row can never equal `purged_at` again. Going through UTC keeps
/// the expression immutable, which Citus requires of an expression on a column.
pub const PURGE: Statement = Statement {
    name: "purge",
    purpose: Purpose::Write,
    sql: "\
update cimd_cache.purge
set purged_at = greatest(pg_catalog.now(),
                         (purged_at at time zone 'UTC' operator(pg_catalog.+) interval '1 microsecond') at time zone 'UTC')
where id operator(pg_catalog.=) 1
returning true",
    parameters: &[],
    columns: &[Boolean],
};

/// One row for each that was removed, at most as many as the parameter says. The outer conditions repeat
/// those of the inner select: Postgres decides them again on a row that was refreshed while the delete waited
/// for it.
///
/// The order is that of the index, which makes the planner use it. Without it, the planner reads the table
/// from its beginning, hoping to meet a thousand soon, and reads all of it to find the last few.
pub const SWEEP_EXPIRED: Statement = Statement {
    name: "sweep-expired",
    purpose: Purpose::Maintenance,
    sql: "\
delete from cimd_cache.client_id_metadata
where url operator(pg_catalog.=) any (
    select url from cimd_cache.client_id_metadata
    where expires_at operator(pg_catalog.<) pg_catalog.now()
      and fetched_at operator(pg_catalog.<) (pg_catalog.now() operator(pg_catalog.-) interval '660 seconds')
    order by expires_at
    limit $1::bigint
  )
  and expires_at operator(pg_catalog.<) pg_catalog.now()
  and fetched_at operator(pg_catalog.<) (pg_catalog.now() operator(pg_catalog.-) interval '660 seconds')
returning true",
    parameters: &[Int64],
    columns: &[Boolean],
};

/// As [`SWEEP_EXPIRED`], for documents that a purge removed before they expired. It is a separate statement
/// so that each of the two finds its rows through one index.
pub const SWEEP_PURGED: Statement = Statement {
    name: "sweep-purged",
    purpose: Purpose::Maintenance,
    sql: "\
delete from cimd_cache.client_id_metadata
where url operator(pg_catalog.=) any (
    select url from cimd_cache.client_id_metadata
    where after_purge operator(pg_catalog.<) (select purged_at from cimd_cache.purge where id operator(pg_catalog.=) 1)
      and fetched_at operator(pg_catalog.<) (pg_catalog.now() operator(pg_catalog.-) interval '660 seconds')
    order by after_purge
    limit $1::bigint
  )
  and after_purge operator(pg_catalog.<) (select purged_at from cimd_cache.purge where id operator(pg_catalog.=) 1)
  and fetched_at operator(pg_catalog.<) (pg_catalog.now() operator(pg_catalog.-) interval '660 seconds')
returning true",
    parameters: &[Int64],
    columns: &[Boolean],
};

/// Always one row: the last purge, and whether the two sweeps could remove any row now. Sent when they
/// removed fewer than they might: of two sweeps that choose the same rows, one removes them and the other
/// none, and that must not look like the end.
pub const SWEEPABLE: Statement = Statement {
    name: "sweepable",
    purpose: Purpose::Maintenance,
    sql: "\
select (extract(epoch from p.purged_at) operator(pg_catalog.*) 1000000)::bigint,
       exists (
         select true from cimd_cache.client_id_metadata
         where expires_at operator(pg_catalog.<) pg_catalog.now()
           and fetched_at operator(pg_catalog.<) (pg_catalog.now() operator(pg_catalog.-) interval '660 seconds')
         order by expires_at
         limit 1
       ) or exists (
         select true from cimd_cache.client_id_metadata
         where after_purge operator(pg_catalog.<) (select purged_at from cimd_cache.purge where id operator(pg_catalog.=) 1)
           and fetched_at operator(pg_catalog.<) (pg_catalog.now() operator(pg_catalog.-) interval '660 seconds')
         order by after_purge
         limit 1
       )
from (select 1) one
left join cimd_cache.purge p
  on p.id operator(pg_catalog.=) 1
 and not pg_catalog.row_security_active('cimd_cache.client_id_metadata'::pg_catalog.regclass)",
    parameters: &[],
    columns: &[Int64, Boolean],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn the_sql_has_the_numbers_of_the_contract() {
        let seconds = |number| format!("interval '{number} seconds'");
        for (statement, numbers) in [
            (&PUT, &[limits::LIFETIME_SECONDS, limits::TICKET_SECONDS, limits::FUTURE_TOLERANCE_SECONDS][..]),
            (&DELETE, &[limits::FUTURE_TOLERANCE_SECONDS]),
            (&SWEEP_EXPIRED, &[limits::SWEEP_AGE_SECONDS, limits::SWEEP_AGE_SECONDS]),
            (&SWEEP_PURGED, &[limits::SWEEP_AGE_SECONDS, limits::SWEEP_AGE_SECONDS]),
            (&SWEEPABLE, &[limits::SWEEP_AGE_SECONDS, limits::SWEEP_AGE_SECONDS]),
        ] {
            let mut rest = statement.sql;
            for number in numbers {
                let found = rest.split_once(&seconds(number));
                rest = found.unwrap_or_else(|| panic!("{}: {number}", statement.name)).1;
            }
            assert!(!rest.contains(" seconds'"), "{}", statement.name);
        }
    }

    #[test]
    fn each_statement_has_as_many_parameters_as_it_says() {
        for statement in ALL {
            let used = (1..10).take_while(|n| statement.sql.contains(&format!("${n}::"))).count();
            assert_eq!(used, statement.parameters.len(), "{}", statement.name);
        }
    }
}
