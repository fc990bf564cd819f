-- Why there are as many pieces as there are. What people do to the shelf is written down here; what orders do is in their reservations
-- already, which are never deleted: `stock_journal` reads both as one, so that reserving costs no row more. The sum of a product's entries is
-- its row in `stock`, to the piece.
create table stock_changes (
    -- The call's, so that it is written down once.
    id uuid primary key,
    sku text collate "C" not null references products,
    at timestamptz not null,
    -- OPENING: what was there when the journal began.
    cause text not null check (cause in ('OPENING', 'SET', 'ADJUST')),
    -- Pieces on hand that came, or went.
    delta bigint not null,
    reason text not null default ''
);

create index stock_changes_of_sku on stock_changes (sku, at);

insert into stock_changes (id, sku, at, cause, delta)
select md5('opening of ' || s.sku)::uuid, s.sku, now(), 'OPENING', s.on_hand + coalesce(left_by_now.pieces, 0)
from stock s
left join (
    select l.sku, sum(l.quantity)::bigint as pieces
    from reservations r, unnest(r.skus, r.quantities) as l(sku, quantity)
    where r.state = 'COMMITTED'
    group by l.sku
) left_by_now on left_by_now.sku = s.sku
where not s.unstocked;

-- When it was released or committed; null of older rows.
alter table reservations add column settled_at timestamptz;

-- The request of a call with an idempotency key: the same key with another one is refused.
alter table calls add column request text;

create view stock_journal (sku, at, on_hand, reserved, cause, order_id, reason) as
select sku, at, delta, 0::bigint, cause, null::uuid, reason from stock_changes
union all
select moved.sku, moved.at, moved.on_hand, moved.reserved, moved.cause, moved.order_id, ''
from (
    select l.sku, step.at, step.on_hand * l.quantity as on_hand, step.reserved * l.quantity as reserved, step.cause, r.order_id
    from reservations r
    cross join unnest(r.skus, r.quantities) as l(sku, quantity)
    cross join lateral (
        values (r.created_at, 0::bigint, 1::bigint, 'RESERVE', true),
            (coalesce(r.settled_at, r.created_at), 0, -1, 'RELEASE', r.state = 'RELEASED'),
            (coalesce(r.settled_at, r.created_at), -1, -1, 'COMMIT', r.state = 'COMMITTED')
    ) as step(at, on_hand, reserved, cause, taken)
    where step.taken and r.state in ('HELD', 'RELEASED', 'COMMITTED')
) moved
join stock s on s.sku = moved.sku
where not s.unstocked;
