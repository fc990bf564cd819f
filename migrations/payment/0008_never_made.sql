-- A call that is older than the provider's key window, and that the provider does not know, waits for a person. If it was never made, as when
-- the provider was away for longer than its window, nobody but that person can know: so he may say so, and it must be possible to tell later.

alter table call_operations
    -- He who asked has looked at the provider: this key never moved money there. The default is for a process of before that still runs.
    add column never_made boolean not null default false;
