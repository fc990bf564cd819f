-- Money of a confirmed order given back in parts. What is being given back is set aside on the order's own row, so that the constraint
-- below keeps all refunds together, finished or under way, at or below what was paid, whoever asks for how many at once.
alter table orders
    add column refund_pending bigint not null default 0,
    add constraint orders_refunds_within_total check (refund_pending between 0 and total - refunded_amount);

-- One row a refund. A refund asked for with an idempotency key has an id derived from order and key: the primary key is what makes a second
-- one impossible. The row keeps what its commands were answered. It is written in the transaction that holds its order's row, and few
-- orders have one: there is no foreign key and no other index.
create table order_refunds (
    order_id uuid not null,
    refund_id uuid not null,
    amount bigint not null check (amount > 0),
    state text not null check (state in ('PENDING', 'REFUNDED', 'REFUSED')),
    -- As it was asked for.
    reason text not null,
    request_hash bytea not null,
    -- Why it is REFUSED.
    refusal text check ((refusal is not null) = (state = 'REFUSED')),
    -- What was given back of the order in all when it was REFUNDED.
    refunded_in_all bigint check ((refunded_in_all is not null) = (state = 'REFUNDED')),
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (order_id, refund_id)
);
