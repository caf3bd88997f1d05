-- What pull requests and commits were told on GitHub, and the one-off answers that people are owed there.

-- One conversation: the comment of a pull request (subject '#12'), the check run or status of a commit (its sha).
create table reports (
    repository      text not null,
    kind            text not null check (kind in ('comment', 'check_run', 'status')),
    subject         text not null,
    -- GitHub's number of it; null while it is not known, so that it is looked for before anything is created.
    remote_id       integer,
    -- What it says now: a hash of what people must learn at once, and one of the whole text.
    told_state      text,
    told_text       text,
    told_at         integer,
    -- Since when a creation is under way whose answer has not come.
    creating_since  integer,
    attempts        integer not null default 0,
    next_at         integer not null default 0,
    last_error      text,
    primary key (repository, kind, subject),
    check ((told_text is null) = (told_at is null)),
    check ((told_text is null) = (told_state is null))
) strict, without rowid;

create table answers (
    id              integer primary key,
    key             text not null unique check (length(key) between 1 and 255),
    repository      text not null,
    number          integer not null check (number > 0),
    what            text not null check (json_valid(what)),
    state           text not null check (state in ('owed', 'delivered', 'kept', 'refused')),
    attempts        integer not null default 0,
    next_at         integer not null,
    created_at      integer not null,
    settled_at      integer,
    last_error      text,
    check ((state = 'owed') = (settled_at is null))
) strict;

create index answers_owed on answers (repository, number, id) where state = 'owed';

-- The runs of a pull request, and what was run again.
create index runs_by_pull on runs (repository, json_extract(trigger, '$.number'))
    where json_extract(trigger, '$.number') is not null;
create index runs_again on runs (json_extract(trigger, '$.of')) where json_extract(trigger, '$.of') is not null;
