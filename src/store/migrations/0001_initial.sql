-- Instants are milliseconds since 1970-01-01T00:00:00Z. JSON columns hold what benchd writes and reads as one value.

-- The last id given to a run or job; ids never repeat, even after rows were removed.
create table id_clock (
    one     integer primary key check (one = 1),
    last    integer not null
) strict;

create table commits (
    repository      text not null,
    sha             text not null check (length(sha) = 40),
    first_parent    text,
    committed_at    integer,
    primary key (repository, sha)
) strict, without rowid;

-- Where a commit stands on a branch: its number of ancestors along first parents, so a larger one is newer.
create table branch_commits (
    repository  text not null,
    branch      text not null,
    sha         text not null,
    position    integer not null,
    primary key (repository, branch, sha),
    foreign key (repository, sha) references commits (repository, sha)
) strict, without rowid;

create index branch_commits_in_order on branch_commits (repository, branch, position);

create table runs (
    id              integer primary key,
    repository      text not null,
    sha             text not null,
    branch          text not null,
    trigger         text not null check (json_valid(trigger)),
    state           text not null check (state in ('requested', 'queued', 'running', 'measured', 'published',
                                                   'failed', 'cancelled', 'superseded')),
    failure         text check (failure is null or json_valid(failure)),
    owed            text not null check (json_valid(owed)),
    requested_at    integer not null,
    started_at      integer,
    finished_at     integer,
    check ((state = 'failed') = (failure is not null)),
    foreign key (repository, sha) references commits (repository, sha)
) strict;

create index runs_by_repository on runs (repository, id);
create index runs_open on runs (state) where state in ('requested', 'queued', 'running', 'measured');

create table jobs (
    id              integer primary key,
    run_id          integer not null references runs (id),
    platform        text not null,
    device_type     text not null,
    device_count    integer not null check (device_count > 0),
    model           text not null,
    spec            text not null check (json_valid(spec)),
    required        integer not null check (required in (0, 1)),
    max_attempts    integer not null check (max_attempts > 0),
    state           text not null check (state in ('waiting_for_image', 'queued', 'claimed', 'running', 'finished')),
    until_at        integer,
    not_before      integer,
    claimed_by      text,
    attempt         integer not null default 0,
    lease_until     integer,
    started_at      integer,
    conclusion      text check (conclusion is null or json_valid(conclusion)),
    created_at      integer not null,
    finished_at     integer,
    check ((state = 'waiting_for_image') = (until_at is not null)),
    check ((state = 'queued') = (not_before is not null)),
    check ((state in ('claimed', 'running')) = (claimed_by is not null)),
    check ((state in ('claimed', 'running')) = (lease_until is not null)),
    check ((state = 'running') = (started_at is not null)),
    check ((state = 'finished') = (conclusion is not null))
) strict;

create index jobs_of_run on jobs (run_id);
create index jobs_open on jobs (state, id) where state <> 'finished';

create table attempts (
    job_id                  integer not null references jobs (id),
    attempt                 integer not null check (attempt > 0),
    runner                  text not null,
    claimed_at              integer not null,
    finished_at             integer,
    conclusion              text check (conclusion is null or json_valid(conclusion)),
    message                 text,
    artifact_bytes          integer,
    artifacts_removed_at    integer,
    primary key (job_id, attempt),
    check ((finished_at is null) = (conclusion is null))
) strict, without rowid;

create table passes (
    job_id          integer not null,
    attempt         integer not null,
    pass            integer not null check (pass > 0),
    role            text not null check (role in ('candidate', 'baseline', 'aa')),
    sha             text not null,
    image           text not null,
    digest          text,
    container       text not null check (json_valid(container)),
    repro_command   text not null,
    started_at      integer not null,
    finished_at     integer,
    exit_code       integer,
    primary key (job_id, attempt, pass),
    foreign key (job_id, attempt) references attempts (job_id, attempt)
) strict, without rowid;

create table points (
    job_id      integer not null,
    attempt     integer not null,
    pass        integer not null,
    benchmark   text not null,
    point       text not null,
    suite       text not null,
    variant     text not null,
    state       text not null,
    reason      text,
    primary key (job_id, attempt, pass, benchmark, point),
    foreign key (job_id, attempt, pass) references passes (job_id, attempt, pass)
) strict, without rowid;

create table series (
    id              integer primary key,
    repository      text not null,
    platform        text not null,
    device_type     text not null,
    device_count    integer not null,
    model           text not null,
    benchmark       text not null,
    variant         text not null,
    point           text not null,
    metric          text not null,
    configuration   text not null,
    unit            text not null,
    better          text check (better in ('lower', 'higher')),
    class           text not null,
    unique (repository, platform, device_type, device_count, model, benchmark, variant, point, metric, configuration)
) strict;

create table measurements (
    series_id   integer not null references series (id),
    run_id      integer not null references runs (id),
    job_id      integer not null,
    attempt     integer not null,
    pass        integer not null,
    role        text not null,
    sha         text not null,
    mean        real not null,
    raw_values  text not null check (json_valid(raw_values)),
    primary key (series_id, run_id, job_id, attempt, pass),
    foreign key (job_id, attempt, pass) references passes (job_id, attempt, pass)
) strict, without rowid;

create index measurements_of_job on measurements (job_id, attempt);
create index measurements_of_run on measurements (run_id, series_id);
create index measurements_of_commit on measurements (series_id, sha, run_id);

create table outbox (
    id              integer primary key,
    run_id          integer not null references runs (id),
    job_id          integer references jobs (id),
    kind            text not null check (kind in ('upload', 'comment', 'check_run', 'notification')),
    subject         text not null,
    payload         text not null check (json_valid(payload)),
    state           text not null check (state in ('owed', 'delivered', 'kept', 'refused')),
    attempts        integer not null default 0,
    next_at         integer not null,
    created_at      integer not null,
    settled_at      integer,
    last_error      text,
    check ((state = 'owed') = (settled_at is null))
) strict;

create unique index outbox_once on outbox (run_id, kind, subject, coalesce(job_id, 0));
create index outbox_owed on outbox (next_at) where state = 'owed';

create table images (
    image_id        text not null,
    reference       text not null,
    digest          text,
    size_bytes      integer not null,
    pulled_at       integer not null,
    last_used_at    integer not null,
    primary key (image_id, reference)
) strict, without rowid;
