-- What people did to streams, by whom and why: it must be possible to tell later why a group read something twice. A reader that stands
-- still also learns here that its group was sent elsewhere. Rows are only added.
create table stream_operations (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    operation text not null check (operation in ('rejoin', 'forget', 'republish')),
    -- The group that rejoined or was forgotten; of a republish the group that it was done for, if any.
    grp text check (grp is not null or operation = 'republish'),
    topic text not null,
    partition int not null check (partition >= 0),
    from_seq bigint not null check (from_seq >= 0),
    to_seq bigint not null check (to_seq >= 0),
    who text not null check (who <> ''),
    why text not null check (why <> '')
);

create function stream_operations_only_grow() returns trigger language plpgsql as $$
begin
    raise exception 'stream_operations is append-only';
end
$$;

create trigger stream_operations_only_grow
before update or delete or truncate on stream_operations
for each statement execute function stream_operations_only_grow();

-- A person has looked, and the relay publishes from its cursor on whatever the topic holds: also where its last record is of another
-- history than the outbox. Over with the first run that is saved.
alter table relay add column anew boolean not null default false;
