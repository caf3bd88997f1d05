-- A pull request as it was at the last look. `head_updated_at` is GitHub's own time when the head was seen first: an
-- approval counts when it is later. `said` is the title of the quiet check that its head has, `said_count` how many
-- there were.
create table pulls (
    repository      text not null,
    number          integer not null check (number > 0),
    head_sha        text not null check (length(head_sha) = 40),
    head_seen_at    integer not null,
    head_updated_at integer not null,
    labels          text not null check (json_valid(labels)),
    standing        text not null check (standing in ('draft', 'ready', 'closed', 'merged')),
    origin          text not null check (origin in ('own', 'fork')),
    author          text,
    base_branch     text not null,
    said            text,
    said_count      integer not null default 0,
    updated_at      integer not null,
    primary key (repository, number)
) strict, without rowid;

create index pulls_by_head on pulls (repository, head_sha);

-- Who approved which head of a fork; whether that person still may is asked again.
create table approvals (
    repository  text not null,
    number      integer not null,
    sha         text not null check (length(sha) = 40),
    by          text not null,
    how         text not null check (how in ('label', 'command')),
    at          integer not null,
    primary key (repository, number, sha, by)
) strict, without rowid;

-- The runs of pull requests that labels or commands started. One that was withdrawn may come again.
create table pull_runs (
    run_id          integer primary key references runs (id),
    repository      text not null,
    number          integer not null,
    sha             text not null check (length(sha) = 40),
    asked           text not null check (asked in ('labels', 'whole', 'part')),
    by              text,
    withdrawn_at    integer
) strict;

create index pull_runs_of_pull on pull_runs (repository, number, run_id);
-- Labels start one run of a head, whatever else happens.
create unique index pull_runs_once on pull_runs (repository, number, sha)
    where asked = 'labels' and withdrawn_at is null;

-- What people asked for and was answered: each once.
create table commands (
    key         text primary key check (length(key) between 1 and 255),
    repository  text not null,
    number      integer not null,
    by          text not null,
    answered_at integer not null
) strict, without rowid;
