-- The most by which two clocks of the database may differ. Postgres has one clock; a distributed engine takes the time of
-- a read and that of a write from different machines. `cimd-cache migrate --clock-tolerance` sets it.

alter table cimd_cache.purge add column clock_tolerance interval not null default '0 seconds';

alter table cimd_cache.purge add constraint purge_clock_tolerance
  check (clock_tolerance >= '0 seconds' and clock_tolerance <= '10 seconds');

comment on column cimd_cache.purge.clock_tolerance is
  'The most by which two clocks of the database may differ: gets hand out tickets that much earlier.';
