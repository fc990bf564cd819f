-- What customers were told. The key is the promise that nobody is told twice: one notification an order and kind. id is derived from the
-- key, so it needs no index of its own. `no` is the order of arrival, for pages: newest first. Rows never change.
create table notifications (
    order_id uuid not null,
    kind text not null check (kind in ('ORDER_CONFIRMED', 'ORDER_FAILED', 'ORDER_CANCELLED')),
    id uuid not null,
    no bigint generated always as identity unique,
    customer_id text not null,
    channel text not null,
    text text not null,
    sent_at timestamptz not null,
    primary key (order_id, kind)
) with (autovacuum_analyze_scale_factor = 0.05);
