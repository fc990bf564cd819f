-- Shipments: booked and held until the order is confirmed, then released; or cancelled. One row a ScheduleShipment, which keeps its answer.
-- id is derived from command_id, so the key is also the promise that a command has one effect; with the order in front of it, one index
-- serves the handler and GetShipment. `no` is the order of arrival, for pages: newest first.
-- The lines are two arrays and not rows of a table: they never change and are always wanted all together.
create table shipments (
    order_id uuid not null,
    id uuid not null,
    no bigint generated always as identity unique,
    customer_id text not null,
    command_id uuid not null,
    state text not null check (state in ('HELD', 'RELEASED', 'CANCELLED', 'REFUSED', 'VOIDED')),
    skus text[] not null,
    quantities int[] not null,
    -- Why it is REFUSED.
    reason text,
    -- The CancelShipment that undid it, or came before it.
    undone_by uuid,
    created_at timestamptz not null default now(),
    primary key (order_id, id),
    check (cardinality(skus) = cardinality(quantities)),
    check (0 < all (quantities)),
    check ((state = 'REFUSED') = (reason is not null)),
    check ((state in ('CANCELLED', 'VOIDED')) = (undone_by is not null)),
    check (state <> 'VOIDED' or cardinality(skus) = 0)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
