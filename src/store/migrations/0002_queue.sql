-- Priorities, waiting for images, slots on a host, pauses.

-- What a person said instead of what the trigger says.
alter table runs add column priority integer check (priority between 0 and 100);
alter table runs add column superseded_by integer references runs (id);

-- What of the model is measured: jobs of the same target, model and selection take about as long.
alter table jobs add column selection text not null default '';
-- Attempts begun before the last retry by a person; the limit of attempts counts from there.
alter table jobs add column attempts_before integer not null default 0;
alter table jobs add column waiting_since integer;
alter table jobs add column next_look_at integer;
alter table jobs add column last_look text check (last_look is null or json_valid(last_look));
-- Why it ended, for people, where no attempt says so.
alter table jobs add column message text;

update jobs set waiting_since = created_at, next_look_at = created_at where state = 'waiting_for_image';

create index jobs_alike on jobs (platform, device_type, device_count, model, selection);

alter table attempts add column devices text not null default '[]' check (json_valid(devices));
alter table attempts add column cpus text;
-- The jobs that had other devices of the same host at some time meanwhile.
alter table attempts add column co_tenants text not null default '[]' check (json_valid(co_tenants));

-- The machines that asked for jobs, with what they offered last.
create table runners (
    name        text primary key,
    platform    text not null,
    device_type text not null,
    offer       text not null check (json_valid(offer)),
    seen_at     integer not null
) strict, without rowid;

-- What people paused.
create table controls (
    what        text primary key,
    by          text not null,
    why         text,
    since       integer not null
) strict, without rowid;
