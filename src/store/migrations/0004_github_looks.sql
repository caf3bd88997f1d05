-- Since when benchd follows a repository on GitHub, and its number there, which stays when it is renamed.
create table followed (
    repository  text primary key,
    github_id   integer unique,
    since       integer not null,
    -- Up to which instant, by GitHub's time, comments were read without a webhook.
    comments_seen_at integer
) strict, without rowid;

-- Webhook deliveries that marked something, each once; the few facts of them that GitHub's API does not tell later.
create table deliveries (
    id              text primary key check (length(id) between 1 and 255),
    event           text not null,
    action          text,
    repository      text not null,
    repository_id   integer,
    number          integer,
    sha             text check (sha is null or length(sha) = 40),
    ref             text,
    sender          text,
    facts           text not null check (json_valid(facts)),
    received_at     integer not null
) strict, without rowid;

create index deliveries_of_pull on deliveries (repository, number, received_at) where number is not null;
create index deliveries_of_ref on deliveries (repository, ref, received_at) where ref is not null;
create index deliveries_in_order on deliveries (received_at);

-- What must be looked at on GitHub, each thing once. `generation` counts the marks: a look that was marked again while
-- it was being done stays.
create table looks (
    repository  text not null,
    kind        text not null check (kind in ('pull', 'comment', 'check_run', 'merge', 'tag')),
    key         text not null check (length(key) between 1 and 1024),
    reason      text not null,
    facts       text not null check (json_valid(facts)),
    generation  integer not null,
    marked_at   integer not null,
    due_at      integer not null,
    attempts    integer not null default 0,
    last_error  text,
    primary key (repository, kind, key)
) strict, without rowid;

create index looks_due on looks (due_at);

-- The tip of each followed branch at the last look.
create table branch_tips (
    repository  text not null,
    branch      text not null,
    sha         text not null check (length(sha) = 40),
    seen_at     integer not null,
    primary key (repository, branch)
) strict, without rowid;

-- The tags that are known, with the commit each stands for.
create table tags (
    repository  text not null,
    tag         text not null,
    sha         text not null check (length(sha) = 40),
    seen_at     integer not null,
    primary key (repository, tag)
) strict, without rowid;
