-- Locks streams for a writer and looks up their last rows, in one round trip. The look must see what the writer before committed, so it
-- needs a snapshot taken after the lock: every statement of a volatile function has its own. The caller sorts: one lock order. A look a
-- topic: its ranges are then the only ones that are opened.
create function lock_streams(locks bigint[], topics text[], partitions int[])
returns table (topic text, partition int, seq bigint, id uuid)
language plpgsql volatile as $$
#variable_conflict use_column
declare
    of_topic text;
begin
    perform pg_advisory_xact_lock(l) from unnest(locks) as l;
    foreach of_topic in array (select array_agg(distinct t) from unnest(topics) as t) loop
        return query
            select s.topic, s.partition, o.seq, o.id
            from unnest(topics, partitions) as s(topic, partition)
            cross join lateral (
                select seq, id from outbox where topic = of_topic and partition = s.partition order by seq desc limit 1
            ) o
            where s.topic = of_topic;
    end loop;
end
$$;
