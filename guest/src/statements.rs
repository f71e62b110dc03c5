//! All the SQL there is.
//!
//! The component sends these statements and no others, and the host lets no others through: it compiles this list
//! natively. Each is a single statement in a transaction of its own that Postgres-compatible distributed engines
//! take as well: `DO UPDATE` uses only `excluded`, columns and constants (Citus refuses `now()` there), and there is
//! no ctid, `SKIP LOCKED`, lock or session state.
//!
//! Times cross as `bigint` microseconds (fetches) or seconds (expiries) since 1970, so that a host needs no notion of
//! `timestamptz`. `bigint * interval` multiplies in double precision, which is exact for microseconds up to the year
//! 2255.
//!
//! A row's `after_purge` is the `purged_at` that its fetch saw: the document counts only while the two are equal.

/// One statement that the component may send.
#[derive(Debug, PartialEq, Eq)]
pub struct Statement {
    /// A name for logs and metrics.
    pub name: &'static str,
    /// What it is for, which decides over which connection it goes and whether it may be repeated.
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

/// A Postgres type that crosses the interface, by its case of `value`.
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
pub const ALL: [&Statement; 7] = [&GET, &CLOCK, &PUT, &DELETE, &DELETE_ALL, &SWEEP_EXPIRED, &SWEEP_PURGED];

/// Always one row: the database's time, the last purge, and the document if there is a fresh one.
pub const GET: Statement = Statement {
    name: "get",
    purpose: Purpose::Read,
    sql: "\
select (extract(epoch from n.now) * 1000000)::bigint,
       (extract(epoch from p.purged_at) * 1000000)::bigint,
       m.metadata::text,
       (extract(epoch from m.expires_at) * 1000000)::bigint
from (select now() as now) n
left join cimd_cache.purge p on p.id = 1
left join cimd_cache.client_id_metadata m
  on m.url = $1::text and m.expires_at > n.now and m.after_purge = p.purged_at",
    parameters: &[Text],
    columns: &[Int64, Int64, Text, Int64],
};

/// The database's time and the last purge: asked only after a put that stored nothing, to tell why.
pub const CLOCK: Statement = Statement {
    name: "clock",
    purpose: Purpose::Read,
    sql: "\
select (extract(epoch from n.now) * 1000000)::bigint,
       (extract(epoch from p.purged_at) * 1000000)::bigint
from (select now() as now) n
left join cimd_cache.purge p on p.id = 1",
    parameters: &[],
    columns: &[Int64, Int64],
};

/// One row if it was stored, none if not. Parameters: URL, document, expiry in seconds since 1970 or null, lifetime
/// in seconds or null, the ticket's read and purge times or null.
///
/// Under READ COMMITTED the conflicting row is locked and the last condition is decided on its newest version, so
/// no two puts can both believe to be the later.
///
/// Whether a row is a leftover goes by when it was last touched by a clock: a document's fetch, but the delete of a
/// mark, which is the mark's `expires_at`. A mark's `fetched_at` may be that of the document it took the place of, up to
/// a minute ahead of the delete. By that, a put that began just before the delete and waited would take the mark for a
/// leftover, and bring back what was deleted.
pub const PUT: Statement = Statement {
    name: "put",
    purpose: Purpose::Write,
    sql: "\
insert into cimd_cache.client_id_metadata as m
  (url, metadata, expires_at, inserted_at, fetched_at, after_purge)
select $1::text, $2::text::jsonb, f.expires_at, now(), f.fetched_at, p.purged_at
from (
  select t.fetched_at,
         coalesce(to_timestamp($3::bigint), t.fetched_at + $4::bigint * interval '1 second') as expires_at
  from (select coalesce(timestamptz 'epoch' + $5::bigint * interval '1 microsecond', now()) as fetched_at) t
) f
join cimd_cache.purge p
  on p.id = 1
 and p.purged_at = coalesce(timestamptz 'epoch' + $6::bigint * interval '1 microsecond', p.purged_at)
where f.fetched_at <= now()
  and f.fetched_at > now() - interval '600 seconds'
  and f.expires_at <= now() + interval '315576000 seconds'
on conflict (url) do update
set metadata = excluded.metadata,
    expires_at = excluded.expires_at,
    fetched_at = excluded.fetched_at,
    after_purge = excluded.after_purge
where excluded.fetched_at >= m.fetched_at
   or case when m.metadata is null then m.expires_at else m.fetched_at end - excluded.inserted_at
      > interval '60 seconds'
returning true",
    parameters: &[Text, Text, Int64, Int64, Int64, Int64],
    columns: &[Boolean],
};

/// One row: whether there was a document that a get would have returned. Leaves a mark, a row without a document,
/// whose `fetched_at` holds off puts with an older ticket.
///
/// The later of the two fetch times stays, so that a delete which waited for a put does not let in puts older than
/// that; but not the fetch time of a leftover, which would let in any. What is a leftover is decided as in [`PUT`], or
/// of two deletes at once the first to begin could take the mark of the other for one.
pub const DELETE: Statement = Statement {
    name: "delete",
    purpose: Purpose::Write,
    sql: "\
insert into cimd_cache.client_id_metadata as m
  (url, metadata, expires_at, inserted_at, fetched_at, after_purge, had_document)
select $1::text, null, now(), now(), now(), p.purged_at, false
from cimd_cache.purge p
where p.id = 1
on conflict (url) do update
set had_document = m.metadata is not null
                   and m.expires_at > excluded.expires_at
                   and m.after_purge >= excluded.after_purge,
    metadata = null,
    expires_at = excluded.expires_at,
    fetched_at = case when case when m.metadata is null then m.expires_at else m.fetched_at end
                           - excluded.fetched_at > interval '60 seconds' then excluded.fetched_at
                      else greatest(m.fetched_at, excluded.fetched_at) end,
    after_purge = excluded.after_purge
returning m.had_document",
    parameters: &[Text],
    columns: &[Boolean],
};

/// One row. Each purge has a time of its own, later than all before it, also if the clock was set back or two run at
/// once: what was purged can never become equal to the present purge again. The detour by UTC makes the addition
/// immutable, as Citus asks of what is calculated from a column.
pub const DELETE_ALL: Statement = Statement {
    name: "delete-all",
    purpose: Purpose::Write,
    sql: "\
update cimd_cache.purge
set purged_at = greatest(now(), (purged_at at time zone 'UTC' + interval '1 microsecond') at time zone 'UTC')
where id = 1
returning true",
    parameters: &[],
    columns: &[Boolean],
};

/// A row for each removed one, at most as many as the parameter says. The outer conditions are those of the inner
/// select once more: they are decided again on a row that was refreshed while the delete waited for it.
///
/// In the order of the index, which makes the planner use it: by itself it reads the table from its beginning, hoping
/// to meet a thousand soon, and with the last of them reads all of it.
pub const SWEEP_EXPIRED: Statement = Statement {
    name: "sweep-expired",
    purpose: Purpose::Maintenance,
    sql: "\
delete from cimd_cache.client_id_metadata
where url in (
    select url from cimd_cache.client_id_metadata
    where expires_at < now() and fetched_at < now() - interval '660 seconds'
    order by expires_at
    limit $1::bigint
  )
  and expires_at < now() and fetched_at < now() - interval '660 seconds'
returning true",
    parameters: &[Int64],
    columns: &[Boolean],
};

/// As [`SWEEP_EXPIRED`], for documents that a purge removed before they expired. A statement of its own, so that
/// each of the two finds its rows through one index.
pub const SWEEP_PURGED: Statement = Statement {
    name: "sweep-purged",
    purpose: Purpose::Maintenance,
    sql: "\
delete from cimd_cache.client_id_metadata
where url in (
    select url from cimd_cache.client_id_metadata
    where after_purge < (select purged_at from cimd_cache.purge where id = 1)
      and fetched_at < now() - interval '660 seconds'
    order by after_purge
    limit $1::bigint
  )
  and after_purge < (select purged_at from cimd_cache.purge where id = 1)
  and fetched_at < now() - interval '660 seconds'
returning true",
    parameters: &[Int64],
    columns: &[Boolean],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn the_sql_has_the_numbers_of_the_contract() {
        let seconds = |number| format!("interval '{number} seconds'");
        for (statement, numbers) in [
            (&PUT, &[limits::TICKET_SECONDS, limits::LIFETIME_SECONDS, limits::LEFTOVER_SECONDS][..]),
            (&DELETE, &[limits::LEFTOVER_SECONDS]),
            (&SWEEP_EXPIRED, &[limits::SWEEP_AGE_SECONDS, limits::SWEEP_AGE_SECONDS]),
            (&SWEEP_PURGED, &[limits::SWEEP_AGE_SECONDS, limits::SWEEP_AGE_SECONDS]),
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
