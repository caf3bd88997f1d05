-- Up to which instant, by GitHub's time, no delivery of the App is open that could be asked for again.
create table deliveries_seen (
    one integer primary key check (one = 1),
    at  integer not null
) strict;
