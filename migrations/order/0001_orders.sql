-- Orders with their lines and their timeline, and a copy of the catalogue's prices.

-- The row of an order is the only arbiter between confirm and cancel. An order made with an idempotency key has an id derived from the key:
-- the primary key is what makes a second one impossible. No index names a column that changes, so that updates stay HOT.
create table orders (
    id uuid primary key,
    customer_id text not null check (char_length(customer_id) between 1 and 128),
    status text not null check (status in
        ('PENDING', 'PROCESSING', 'PAID', 'CONFIRMED', 'COMPENSATING', 'CANCELLING', 'FAILED', 'CANCELLED')),
    currency text not null check (char_length(currency) = 3),
    total bigint not null check (total >= 0),
    reason text not null default '',
    refunded_amount bigint not null default 0 check (refunded_amount between 0 and total),
    needs_attention boolean not null default false,
    idempotency_key text,
    request_hash bytea not null,
    -- The number of timeline entries.
    version int not null check (version >= 1),
    created_at timestamptz not null,
    updated_at timestamptz not null
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

create index orders_newest on orders (created_at desc, id desc);
create index orders_of_customer on orders (customer_id, created_at desc, id desc);

create table order_items (
    order_id uuid not null references orders (id),
    line int not null check (line >= 0),
    sku text not null,
    quantity int not null check (quantity between 1 and 10000),
    unit_price bigint not null check (unit_price >= 0),
    primary key (order_id, line)
);

-- What happened to an order, numbered without holes by version. A cause is written down once.
create table timeline (
    order_id uuid not null references orders (id),
    cause uuid not null,
    version int not null check (version >= 1),
    at timestamptz not null,
    event text not null,
    detail text not null default '',
    primary key (order_id, cause)
);

-- A copy of what the inventory service says on product.events.
create table prices (
    sku text not null,
    currency text not null check (char_length(currency) = 3),
    unit_price bigint not null check (unit_price >= 0),
    said_at timestamptz not null,
    primary key (sku, currency)
);
