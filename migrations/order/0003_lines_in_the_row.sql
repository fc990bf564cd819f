-- The lines of an order are in its row: they never change and are always wanted all together, as in the other services. So an order has one
-- row and one index entry less to write, and one look less when it is shown. `unnest(skus, quantities, unit_prices)` makes rows of them.
alter table orders
    add column skus text[],
    add column quantities int[],
    add column unit_prices bigint[];

update orders o
set skus = l.skus, quantities = l.quantities, unit_prices = l.unit_prices
from (
    select
        order_id,
        array_agg(sku order by line) as skus,
        array_agg(quantity order by line) as quantities,
        array_agg(unit_price order by line) as unit_prices
    from order_items
    group by order_id
) l
where l.order_id = o.id;

alter table orders
    alter column skus set not null,
    alter column quantities set not null,
    alter column unit_prices set not null,
    add constraint orders_lines check (
        cardinality(skus) > 0 and cardinality(quantities) = cardinality(skus) and cardinality(unit_prices) = cardinality(skus)
    ),
    add constraint orders_quantities check (1 <= all (quantities) and 10000 >= all (quantities)),
    add constraint orders_unit_prices check (0 <= all (unit_prices));

drop table order_items;
