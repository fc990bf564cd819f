-- Streams, and where each group stands in them. These tables live in the database of every service, beside its own, so that an effect,
-- the progress that led to it and the news it makes are one transaction.

-- The number of partitions decides where a key goes. It is written once and never changes.
create table stream_settings (
    one boolean primary key default true check (one),
    partitions int not null check (partitions between 1 and 1024)
);

-- What this service says. A (topic, partition) is a stream: seq counts 1, 2, 3 … in commit order and without holes, because writers take
-- the stream's advisory lock before they look up its last row. prev is the id of the row before. Rows are never updated.
create table outbox (
    topic text not null,
    partition int not null check (partition >= 0),
    seq bigint not null check (seq >= 1),
    id uuid not null,
    prev uuid,
    key text not null,
    type text not null,
    payload bytea not null,
    at timestamptz not null,
    correlation text not null,
    causation uuid,
    traceparent text,
    tracestate text,
    primary key (topic, partition, seq),
    check ((seq = 1) = (prev is null))
) with (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- Where a group of this service stands in the streams it reads. Moved by compare-and-set as the first statement of the effect's
-- transaction: position, dedupe, fence and ownership in one row. Few rows, updated all the time: room on the page keeps updates HOT.
create table progress (
    grp text not null,
    topic text not null,
    partition int not null check (partition >= 0),
    seq bigint not null default 0 check (seq >= 0),
    last_id uuid,
    kafka_offset bigint,
    owner uuid,
    lease_until timestamptz not null default '-infinity',
    primary key (grp, topic, partition),
    check ((seq = 0) = (last_id is null))
) with (fillfactor = 20, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- Who is alive in a group, to share its partitions fairly.
create table members (
    grp text not null,
    instance uuid not null,
    lease_until timestamptz not null,
    primary key (grp, instance)
) with (fillfactor = 20);

-- Dedupe of what has no place in a stream: records of foreign producers. The hash tells a repeat from another message with the same id.
create table processed_events (
    consumer text not null,
    event_id uuid not null,
    payload_hash bytea not null,
    processed_at timestamptz not null default clock_timestamp(),
    primary key (consumer, event_id)
);

-- Records a group could not apply, in the order they came. EARLY waits for something that is not there yet, WAITING for a binary that knows
-- its version; PARKED waits for a person and
-- holds every later record of its key behind it; READY is to be tried again by the owner of the partition. Settled rows are DONE.
create table dead_letter_events (
    id bigint generated always as identity primary key,
    consumer text not null,
    topic text not null,
    partition int not null,
    seq bigint,
    prev uuid,
    kafka_offset bigint,
    event_id uuid not null,
    key text not null,
    event_type text not null,
    payload bytea not null,
    at timestamptz not null,
    correlation text not null,
    causation uuid,
    traceparent text,
    tracestate text,
    reason text not null,
    state text not null check (state in ('EARLY', 'WAITING', 'PARKED', 'READY', 'DONE')),
    failed_at timestamptz not null default clock_timestamp()
);

-- By the key's hash: a foreign key may be longer than an index entry.
create index dead_letter_events_open on dead_letter_events (consumer, md5(key), id) where state <> 'DONE';

-- Where the relay to Kafka stands, a row a stream. No row: nothing was relayed.
create table relay (
    topic text not null,
    partition int not null,
    seq bigint not null default 0 check (seq >= 0),
    primary key (topic, partition)
) with (fillfactor = 20);

-- Which bus carries the outbox now: on postgres the outbox itself is the log, so a row is published once it is committed.
create table stream_bus (
    one boolean primary key default true check (one),
    bus text not null check (bus in ('postgres', 'kafka'))
);

create view outbox_published as
select
    o.*,
    case when b.bus is distinct from 'kafka' or o.seq <= r.seq then o.at end as published_at
from outbox o
left join stream_bus b on b.one
left join relay r on r.topic = o.topic and r.partition = o.partition;
