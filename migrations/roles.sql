-- The two roles of cimd-cache. An administrator of the database runs this file once in each database, with
-- psql, before the first `cimd-cache migrate`:
--
--     cimd-cache migrate --roles | psql "$ADMIN_URL"
--
-- and then gives both a way to log in, in psql: \password cimd_cache_owner and \password cimd_cache_app (or
-- grants the two roles to existing login roles, and gives those the settings at the end of this file, because
-- members do not inherit them). The file is one transaction, and psql's exit status tells whether it
-- succeeded.
--
-- cimd_cache_owner   owns the schema. Only `cimd-cache migrate` connects as this role.
-- cimd_cache_app     is the role that auth servers connect as. `cimd-cache migrate` grants it the privileges
--                    that the cache's statements need, and nothing more.

begin;
-- A superuser runs this, so names must mean Postgres' own objects, whatever others have created in this
-- database.
set local search_path = pg_catalog, pg_temp;
set local lock_timeout = '10s';
set local statement_timeout = '30s';

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname operator(pg_catalog.=) 'cimd_cache_owner') then
    create role cimd_cache_owner login;
  end if;
  if not exists (select from pg_catalog.pg_roles where rolname operator(pg_catalog.=) 'cimd_cache_app') then
    create role cimd_cache_app login;
  end if;
  -- The owner creates the schema cimd_cache in this database.
  execute pg_catalog.format('grant create on database %I to cimd_cache_owner', pg_catalog.current_database());
end
$$;

-- The cache's statements must not run for a minute: its rules rely on it. The host sets its own, shorter
-- limits for each connection; these apply where it cannot, behind a pooler in transaction mode.
alter role cimd_cache_app set statement_timeout = '5s';
alter role cimd_cache_app set lock_timeout = '5s';
alter role cimd_cache_app set idle_in_transaction_session_timeout = '10s';
-- The cache's statements name the schema of everything they use; this is for anyone who logs in by hand.
alter role cimd_cache_app set search_path = pg_catalog, pg_temp;
-- Citus passes times on to its workers as text, in the session's style.
alter role cimd_cache_app set datestyle = 'ISO';

commit;
