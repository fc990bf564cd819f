-- The crash-loop guard: which record kills the process that decides it.

-- Where a stream stood when it was last taken over. Found again at the next take-over, with the owner of before gone without giving it
-- back: nothing was applied in between.
alter table progress
    add column taken_seq bigint,
    add column taken_offset bigint;

-- Records that are being decided one by one, written only where an instance died before. A mark goes with its record's commit: one that is
-- found names what was being decided when the process died. crashes counts how often in a row.
create table crash_marks (
    grp text not null,
    event_id uuid not null,
    topic text not null,
    partition int not null,
    seq bigint,
    -- Who marked it last.
    instance uuid not null,
    crashes int not null default 0 check (crashes >= 0),
    marked_at timestamptz not null default clock_timestamp(),
    primary key (grp, event_id)
) with (fillfactor = 50);
