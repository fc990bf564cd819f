-- The row of a product is changed by every batch, and its old versions cannot be cleaned up while any transaction of the database is
-- older: with the SKU alone as the key, each look at a product walks them all, so somebody who forgets to end a transaction slows every
-- order more and more. With a number that grows as the last column of the key, a look from the end of the index meets the newest version
-- first, and a new one collides with few others. It grows with every 32nd change: those between are HOT and cost the index nothing.
alter table stock add column changes bigint not null default 0 check (changes >= 0);
alter table stock add column generation bigint not null default 0 check (generation = changes / 32);
alter table stock drop constraint stock_pkey;
alter table stock add primary key (sku, generation);

-- The key does not say any more that a product has one row: this does. The product's own row makes those wait for one another who make it
-- at the same time.
create function stock_has_one_row_a_product() returns trigger language plpgsql set search_path from current as $$
begin
    perform from products where sku = new.sku for no key update;
    if exists (select from stock where sku = new.sku) then
        raise unique_violation using
            message = format('product %s has its row in stock already', new.sku),
            table = 'stock',
            constraint = 'stock_one_row_a_product';
    end if;
    return new;
end
$$;

create trigger stock_one_row_a_product
before insert on stock
for each row execute function stock_has_one_row_a_product();

create function stock_keeps_its_product() returns trigger language plpgsql as $$
begin
    raise check_violation using message = format('stock of product %s cannot become that of %s', old.sku, new.sku), table = 'stock';
end
$$;

create trigger stock_keeps_its_product
before update of sku on stock
for each row when (old.sku is distinct from new.sku) execute function stock_keeps_its_product();
