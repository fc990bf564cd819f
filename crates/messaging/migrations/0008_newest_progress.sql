-- A row of progress moves with every batch, and its old versions stay for as long as any transaction of the database is older. With the
-- stream alone as the key, each move walks them all, so somebody who forgets to end a transaction slows every group more and more. With a
-- number that grows as the last column of the key, a look from the end of the index meets the newest version first, and a new one collides
-- with few others. It grows with every 32nd move: those between are HOT and cost the index nothing.
alter table progress add column moves bigint not null default 0 check (moves >= 0);
alter table progress add column generation bigint not null default 0 check (generation = moves / 32);
alter table progress drop constraint progress_pkey;
alter table progress add primary key (grp, topic, partition, generation);

-- The key does not say any more that a stream has one row: this does. Who opens a stream that is open already changes nothing.
create function progress_has_one_row_a_stream() returns trigger language plpgsql set search_path from current as $$
begin
    perform pg_advisory_xact_lock(hashtext('progress'), hashtext(new.grp));
    if exists (select from progress where grp = new.grp and topic = new.topic and partition = new.partition) then
        return null;
    end if;
    return new;
end
$$;

create trigger progress_one_row_a_stream
before insert on progress
for each row execute function progress_has_one_row_a_stream();

create function progress_keeps_its_stream() returns trigger language plpgsql as $$
begin
    raise check_violation using message = 'progress of one stream cannot become that of another', table = 'progress';
end
$$;

create trigger progress_keeps_its_stream
before update of grp, topic, partition on progress
for each row
when ((old.grp, old.topic, old.partition) is distinct from (new.grp, new.topic, new.partition))
execute function progress_keeps_its_stream();
