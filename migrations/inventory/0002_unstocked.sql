-- Products that are not counted: an order that names nothing but an amount has one piece of AMOUNT. Whoever reserves has locked and read the
-- row of `stock` anyway, so the flag stands there: an order of such a product costs no look more, and changes no row of stock.
alter table stock
    add column unstocked boolean not null default false,
    add constraint stock_unstocked_counts_nothing check (not unstocked or (on_hand = 0 and reserved = 0));

insert into products (sku, name) values ('AMOUNT', 'An amount without lines') on conflict (sku) do nothing;
insert into stock (sku, on_hand, reserved, unstocked) values ('AMOUNT', 0, 0, true) on conflict (sku) do nothing;
