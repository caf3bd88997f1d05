-- Version of the devices' driver that a pass ran with.
alter table passes add column driver text;

-- When a pull request was seen to be closed, or opened again.
alter table pulls add column turned_at integer not null default 0;
