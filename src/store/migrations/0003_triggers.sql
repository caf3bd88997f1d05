-- What a run was accepted under: how much of its trigger's selection it covers, what was left out, what it is held
-- against.
alter table runs add column terms text not null default '{}' check (json_valid(terms));

create index runs_by_commit on runs (repository, sha);

-- Since when benchd follows a schedule: nothing before that instant was missed.
create table schedules (
    repository  text not null,
    schedule    text not null,
    since       integer not null,
    primary key (repository, schedule)
) strict, without rowid;

-- Each instant of a schedule, once, with what came of it.
create table ticks (
    repository  text not null,
    schedule    text not null,
    due_at      integer not null,
    state       text not null check (state in ('due', 'answered', 'overtaken')),
    attempts    integer not null default 0,
    next_at     integer,
    settled_at  integer,
    answer      text check (answer is null or json_valid(answer)),
    primary key (repository, schedule, due_at),
    check ((state = 'due') = (next_at is not null)),
    check ((state = 'due') = (settled_at is null))
) strict, without rowid;

create index ticks_due on ticks (next_at) where state = 'due';
create index ticks_in_order on ticks (due_at);

-- Requests that carry a key of their sender: the same key starts nothing twice.
create table keyed_requests (
    key         text primary key check (length(key) between 1 and 255),
    fingerprint text not null,
    run_id      integer not null references runs (id),
    created_at  integer not null
) strict, without rowid;
