-- One saga an order: where it stands, and what its commands need later. The order's own message is kept as it came, so that a command
-- sent much later says what the customer said. The primary key is what makes an order settle once however often it is announced.
create table sagas (
    order_id uuid primary key,
    saga_id uuid not null,
    definition text not null check (definition <> ''),
    definition_version int not null check (definition_version >= 1),
    -- The bytes of OrderCreated.
    created bytea not null,
    -- For example "D1,A1,W0,W0 forward": the first step is done, the second is asked.
    progress text not null check (progress <> ''),
    state text not null check (state in ('RUNNING', 'COMPENSATING', 'NEEDS_ATTENTION', 'DONE', 'UNDONE')),
    open boolean not null generated always as (state not in ('DONE', 'UNDONE')) stored,
    payment_id text not null default '',
    reservation_id text not null default '',
    shipment_id text not null default '',
    refunded_amount bigint not null default 0 check (refunded_amount >= 0),
    -- Why it unwinds.
    reason text not null default '',
    -- When it asks again; null when it waits for a person or for nothing.
    deadline_at timestamptz,
    -- The trace of the latest cause, so that asking again belongs to it.
    traceparent text,
    tracestate text,
    started_at timestamptz not null,
    updated_at timestamptz not null,
    version bigint not null check (version >= 1),
    -- What is over asks no more.
    check (deadline_at is null or state not in ('DONE', 'UNDONE'))
) with (fillfactor = 40);

-- Newest first, for people.
create index sagas_newest on sagas (started_at, order_id);

-- The few that are not over, for the deadlines. It names nothing that changes at every step: an index on deadline_at would cost every
-- update its place on the page (no HOT). A saga younger than the first deadline is never due, so started_at bounds the scan.
create index sagas_open on sagas (started_at, order_id) where open;
