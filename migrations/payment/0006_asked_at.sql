-- After a restore to an older copy, a call that is new here may have been made long ago, in the history that is lost. The provider answers it
-- from memory only as long as it remembers our keys; after that the same key would move the money twice. How long ago it may have been made
-- is as long as its cause is old, so a call keeps when that was said.

alter table provider_calls
    -- When the command was said that led to this call; of a call that another one led to, what that one has. The default is for a process
    -- of before that still runs.
    add column asked_at timestamptz not null default now(),
    -- PaymentUnknown was said of it although it is still asked about.
    add column unknown_said boolean not null default false;
