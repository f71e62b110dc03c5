-- The two roles of cimd-cache. An administrator of the database runs this file once in each database, before the
-- first `cimd-cache migrate`:
--
--     psql "$ADMIN_URL" -f roles.sql
--
-- and then gives both a way to log in, in psql: \password cimd_cache_owner and \password cimd_cache_app
-- (or grants the two roles to login roles of his own, and gives those the three settings at the end of this file, which
-- Postgres does not pass on to members).
--
-- cimd_cache_owner   owns the schema; `cimd-cache migrate` connects as this one, nothing else does.
-- cimd_cache_app     what auth servers connect as. The migrations grant it the table rights that the cache's
--                    statements need, and nothing more.

do $$
begin
  if not exists (select from pg_roles where rolname = 'cimd_cache_owner') then
    create role cimd_cache_owner login;
  end if;
  if not exists (select from pg_roles where rolname = 'cimd_cache_app') then
    create role cimd_cache_app login;
  end if;
  -- The owner creates the schema cimd_cache in this database.
  execute format('grant create on database %I to cimd_cache_owner', current_database());
end
$$;

-- No statement of the cache may run for a minute: its rules rely on it. The host sets its own, shorter limits for
-- each connection; these hold where it cannot, behind a pooler in transaction mode.
alter role cimd_cache_app set statement_timeout = '5s';
alter role cimd_cache_app set lock_timeout = '5s';
alter role cimd_cache_app set idle_in_transaction_session_timeout = '10s';
