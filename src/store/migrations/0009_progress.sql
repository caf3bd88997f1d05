-- How many points the last pass of an attempt has begun, while it runs.
alter table attempts add column points_begun integer not null default 0;
