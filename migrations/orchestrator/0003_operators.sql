-- An order has as many sagas as it has refunds beside the one that settles it, and people act on sagas: who did what, and why, must be
-- possible to tell later.

-- One index serves both: all sagas of an order, and one of them. What a saga begins with is the OrderCreated, or the OrderRefundRequested.
alter table sagas
    drop constraint sagas_pkey,
    add primary key (order_id, saga_id);

-- A place in a list is a saga: two of one order may have begun at the same moment.
drop index sagas_over;
create index sagas_over on sagas (started_at, saga_id) where not open;
drop index sagas_open;
create index sagas_open on sagas (started_at, saga_id) where open;

-- What operators did. Rows are only added.
create table saga_operations (
    order_id uuid not null,
    saga_id uuid not null,
    -- Of the saga, after it.
    version bigint not null check (version >= 1),
    -- Of the call: one whose commit was in doubt is repeated, and done once.
    id uuid not null unique,
    kind text not null check (kind in ('RETRY', 'SKIP', 'PAUSE', 'RESUME')),
    who text not null check (char_length(who) between 1 and 256),
    reason text not null check (char_length(reason) between 1 and 256),
    at timestamptz not null,
    primary key (order_id, saga_id, version)
);

create function saga_operations_only_grow() returns trigger language plpgsql as $$
begin
    raise exception 'saga_operations is append-only';
end
$$;

create trigger saga_operations_only_grow
before update or delete or truncate on saga_operations
for each statement execute function saga_operations_only_grow();
