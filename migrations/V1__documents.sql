-- The cache's two tables, and what the app role may do with them. The schema itself is created before this runs,
-- because the history of migrations lives in it.

do $$
begin
  -- In other encodings jsonb refuses every escape outside of ASCII.
  if getdatabaseencoding() <> 'UTF8' then
    raise exception 'cimd-cache needs a database with the encoding UTF8';
  end if;
end
$$;

-- The last purge. One row, always: without it no document counts.
create table cimd_cache.purge (
  id integer primary key check (id = 1),
  purged_at timestamptz not null check (isfinite(purged_at))
);

insert into cimd_cache.purge (id, purged_at) values (1, now());

comment on table cimd_cache.purge is
  'One row: a document counts only while its after_purge equals purged_at.';

create table cimd_cache.client_id_metadata (
  -- Compared byte by byte, never by the rules of a language.
  url text collate "C" primary key check (octet_length(url) between 1 and 2048),
  metadata jsonb check (jsonb_typeof(metadata) = 'object'),
  expires_at timestamptz not null check (isfinite(expires_at)),
  inserted_at timestamptz not null check (isfinite(inserted_at)),
  fetched_at timestamptz not null check (isfinite(fetched_at)),
  after_purge timestamptz not null check (isfinite(after_purge)),
  had_document boolean
);

-- What a sweep finds its rows by, so that it costs what it removes and not what the table holds.
create index client_id_metadata_expires_at on cimd_cache.client_id_metadata (expires_at);
create index client_id_metadata_after_purge on cimd_cache.client_id_metadata (after_purge);

comment on table cimd_cache.client_id_metadata is
  'Validated OAuth Client ID Metadata Documents, one row for each client_id URL.';
comment on column cimd_cache.client_id_metadata.url is
  'The client_id, its exact bytes.';
comment on column cimd_cache.client_id_metadata.metadata is
  'The document; null in the mark that a delete leaves.';
comment on column cimd_cache.client_id_metadata.expires_at is
  'The document is fresh while this is later than now().';
comment on column cimd_cache.client_id_metadata.inserted_at is
  'When the row was first written.';
comment on column cimd_cache.client_id_metadata.fetched_at is
  'When the fetch of the document began, or when it was deleted. A put with an earlier one changes nothing.';
comment on column cimd_cache.client_id_metadata.after_purge is
  'The purge that was the last one when the fetch began.';
comment on column cimd_cache.client_id_metadata.had_document is
  'What the last delete of the row found: there for that delete to return, read by nothing.';

grant usage on schema cimd_cache to cimd_cache_app;
grant select on cimd_cache.schema_history to cimd_cache_app;
grant select, update (purged_at) on cimd_cache.purge to cimd_cache_app;
grant select, insert, update, delete on cimd_cache.client_id_metadata to cimd_cache_app;
