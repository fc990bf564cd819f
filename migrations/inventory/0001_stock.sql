-- Products, how many pieces of each there are, and what orders have set aside of them. The promises of this service are the checks below:
-- nothing is set aside that is not there, all lines of an order or none, and one row a command, which keeps its answer.
-- SKUs compare by bytes (collation C): pages and locks have one order on every machine.

create table products (
    sku text collate "C" primary key check (char_length(sku) between 1 and 64),
    name text not null check (char_length(name) <= 200),
    updated_at timestamptz not null default now()
);

create table prices (
    sku text collate "C" not null references products,
    currency text collate "C" not null check (currency ~ '^[A-Z]{3}$'),
    unit_price bigint not null check (unit_price >= 0),
    primary key (sku, currency)
);

-- One row a product, changed by every batch that touches it: room on the page and no index beside the key keep these updates HOT.
create table stock (
    sku text collate "C" primary key references products,
    on_hand bigint not null check (on_hand <= 1000000000000),
    reserved bigint not null,
    check (reserved >= 0 and on_hand >= reserved)
) with (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.05);

-- One row a ReserveStock. id is derived from command_id, so the key is also the promise that a command has one effect; with the order in
-- front of it, one index serves the handler, which knows the order of whatever it hears, and a person who looks for an order.
-- The lines are two arrays and not rows of a table: they never change, and are always wanted all together, so an order costs one row to
-- write and one to lock. `unnest(skus, quantities)` makes rows of them.
create table reservations (
    order_id uuid not null,
    id uuid not null,
    command_id uuid not null,
    state text not null check (state in ('HELD', 'COMMITTED', 'RELEASED', 'REFUSED', 'VOIDED')),
    skus text[] not null,
    quantities int[] not null,
    -- Why it is REFUSED, and the first line that could not be had.
    reason text,
    sku text,
    -- The ReleaseStock that undid it, or came before it.
    undone_by uuid,
    created_at timestamptz not null default now(),
    primary key (order_id, id),
    check (cardinality(skus) = cardinality(quantities)),
    check (0 < all (quantities)),
    check ((state = 'REFUSED') = (reason is not null) and (reason is null) = (sku is null)),
    check ((state in ('RELEASED', 'VOIDED')) = (undone_by is not null)),
    check (state <> 'VOIDED' or cardinality(skus) = 0)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- Calls that were applied, with what they left on the shelf: a batch whose commit was in doubt is repeated, and a count of pieces that is
-- set again would bring back what has left since. Small: products and counts are set by people.
create table calls (
    id uuid primary key,
    on_hand bigint,
    reserved bigint,
    applied_at timestamptz not null default clock_timestamp()
);
