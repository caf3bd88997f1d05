-- The objects of the public format that were read into this store, so that none is read twice.
create table imported_objects (
    -- The bucket or folder, and the object's key in it.
    place       text not null,
    key         text not null,
    -- What tells that it is still the same: the store's tag, size and time, and what was in it.
    etag        text,
    bytes       integer not null,
    modified_at integer not null,
    sha256      text not null check (length(sha256) = 64),
    imported_at integer not null,
    -- Its records, and what was wrong with others.
    records     integer not null,
    faults      integer not null,
    told        text not null check (json_valid(told)),
    primary key (place, key)
) strict, without rowid;

create index imported_objects_by_content on imported_objects (key, sha256);

-- The jobs that an object's results were put into.
create table imported_jobs (
    place   text not null,
    key     text not null,
    job_id  integer not null references jobs (id),
    primary key (place, key, job_id),
    foreign key (place, key) references imported_objects (place, key)
) strict, without rowid;
