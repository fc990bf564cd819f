-- The provider tells us by webhook when something has happened, perhaps twice, late and out of order. Nothing is believed but that the
-- provider should be asked now, instead of when the call's backoff is over.

-- Events that were heard. Repeated ones wake nobody. Aged out in bounded deletes.
create table webhook_events (
    id text primary key constraint webhook_events_id check (length(id) between 1 and 255),
    type text not null,
    key uuid not null,
    -- How often it came again.
    repeats int not null default 0,
    at timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

create index webhook_events_by_age on webhook_events (at);

-- due_at is lease and next try in one; this tells them apart. A call rests between two tries and while it waits for a person, and only
-- then a webhook may wake it: a call under way may not be taken by a second dispatcher.
alter table provider_calls add column resting boolean not null default false;

update provider_calls set resting = true where attention <> '';
