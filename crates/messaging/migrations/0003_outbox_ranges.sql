-- The outbox in ranges, so that what every reader has passed goes away as whole tables: deleting rows one by one would cost as much as
-- writing them, and leave the indexes full of holes. One level of ranges over (topic, seq): a range has the rows of all partitions of its
-- topic. And who reads, for retention to obey.

drop view outbox_published;
alter table outbox rename to outbox_whole;
alter index outbox_pkey rename to outbox_whole_pkey;

create table outbox (like outbox_whole including all) partition by range (topic, seq);

-- What ranges there are. A row lives from before its table is attached until after it is dropped, so that whoever comes after a crash
-- knows what is ours to drop: a range is marked `dropping` before it is detached, and one that a person detached is left alone.
create table outbox_ranges (
    relation text primary key check (relation ~ '^outbox_[a-z0-9_]+$'),
    topic text not null,
    first_seq bigint not null check (first_seq >= 0),
    end_seq bigint not null check (end_seq > first_seq),
    -- A range is kept at least as long as a row: groups that read before there was the table `readers` have that time to report.
    made_at timestamptz not null default clock_timestamp(),
    dropping boolean not null default false,
    unique (topic, first_seq)
);

-- How far each group has come with what this service says. Written by the groups, at most once a second a row; retention and admission
-- read it. A group that is here holds the outbox until it is forgotten.
create table readers (
    grp text not null,
    topic text not null,
    partition int not null check (partition >= 0),
    seq bigint not null check (seq >= 0),
    at timestamptz not null,
    primary key (grp, topic, partition)
) with (fillfactor = 20, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- Makes the range [from_seq, to_seq) of a topic, unless there is one. Attaching a table that is made already takes a lock that lets readers
-- and writers pass; `create table … partition of` would wait for every open transaction, and all others for it.
create function make_outbox_range(of_topic text, from_seq bigint, to_seq bigint) returns boolean language plpgsql as $$
declare
    -- Letters and dots come out the same for no other topic; any other name is told apart by its hash.
    base constant text := 'outbox_' || case
        when of_topic ~ '^[a-z]+(\.[a-z]+)*$' and length(of_topic) <= 26 then replace(of_topic, '.', '_')
        else left(regexp_replace(lower(of_topic), '[^a-z0-9]+', '_', 'g'), 26) || '_' || left(md5(of_topic), 8)
    end;
    name constant text := base || '_' || lpad(from_seq::text, greatest(10, length(from_seq::text)), '0');
begin
    -- One at a time: the same lock that whoever drops ranges, and whoever joins as a reader, takes.
    perform pg_advisory_xact_lock(hashtext('outbox_ranges'), 0);
    if exists (select from outbox_ranges where topic = of_topic and first_seq < to_seq and end_seq > from_seq) then
        return false;
    end if;
    insert into outbox_ranges (relation, topic, first_seq, end_seq) values (name, of_topic, from_seq, to_seq);
    execute format(
        'create table %I (like outbox including all)
         with (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05)', name
    );
    execute format(
        'alter table outbox attach partition %I for values from (%L, %s) to (%L, %s)', name, of_topic, from_seq, of_topic, to_seq
    );
    return true;
end
$$;

-- Ranges for what there is, few and large where there is much, and two ahead.
do $$
declare
    whole record;
    rows bigint;
begin
    for whole in select topic, min(seq) as first_seq, max(seq) as last_seq from outbox_whole group by topic loop
        rows := greatest((whole.last_seq - whole.first_seq) / 4 / 65536, 1) * 65536;
        for nth in whole.first_seq / rows .. whole.last_seq / rows + 2 loop
            perform make_outbox_range(whole.topic, nth * rows, (nth + 1) * rows);
        end loop;
    end loop;
end
$$;

insert into outbox select * from outbox_whole;
drop table outbox_whole;

create view outbox_published as
select
    o.*,
    case when b.bus is distinct from 'kafka' or o.seq <= r.seq then o.at end as published_at
from outbox o
left join stream_bus b on b.one
left join relay r on r.topic = o.topic and r.partition = o.partition;

-- Whether it is settled where a group begins in a stream it has never read: at the oldest record that is kept.
alter table progress add column opened boolean not null default false;
update progress set opened = seq > 0 or kafka_offset is not null;

-- What is old, for those who delete it a little at a time.
create index processed_events_age on processed_events (processed_at);
create index dead_letter_events_done on dead_letter_events (failed_at) where state = 'DONE';
