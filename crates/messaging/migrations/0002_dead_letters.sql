-- Dead letters to the end: a person has a record tried again or gives it up, and it must be possible to tell later who did, and why.

-- DISCARD: a person gave the record up; the owner of its partition settles it in its turn, with the answer that refuses it. behind: nothing
-- is known to be wrong with the record itself, it came behind one of its key that is held back. redrives: how often a person had it tried
-- again, so that a loop of them ends.
alter table dead_letter_events
    drop constraint dead_letter_events_state_check,
    add constraint dead_letter_events_state_check
        check (state in ('EARLY', 'WAITING', 'PARKED', 'READY', 'DISCARD', 'DONE')),
    add column behind boolean not null default false,
    add column redrives int not null default 0 check (redrives >= 0);

update dead_letter_events set behind = true where state <> 'DONE' and reason = 'behind an earlier record of its key';

-- For people, who look at a group's records in pages.
create index dead_letter_events_of_group on dead_letter_events (consumer, id) where state <> 'DONE';

-- What people did with dead letters. Rows are only added.
create table dead_letter_audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    consumer text not null,
    -- The row in dead_letter_events, which may be cut once it is settled.
    dead_letter bigint not null,
    event_id uuid not null,
    key text not null,
    action text not null check (action in ('REDRIVE', 'DISCARD')),
    who text not null check (who <> ''),
    why text not null check (why <> '')
);

create index dead_letter_audit_of on dead_letter_audit (consumer, dead_letter);

create function dead_letter_audit_only_grows() returns trigger language plpgsql as $$
begin
    raise exception 'dead_letter_audit is append-only';
end
$$;

create trigger dead_letter_audit_only_grows
before update or delete or truncate on dead_letter_audit
for each statement execute function dead_letter_audit_only_grows();

-- What only few records have beside the columns, as headers of their own: the copy of a dead letter on <topic>.dlq says why it is one.
alter table outbox add column extra jsonb;
