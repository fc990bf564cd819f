-- What was heard last of each product, with its place in product.events. A wall clock alone kept an older message from replacing a newer one,
-- and a clock that is set back keeps a newer one from replacing an older; the place alone would do the same after inventory was restored to
-- an older copy. A message counts when it is later by either. A row a product, so that a price that was given up stays away as well.
create table priced (
    sku text primary key,
    seq bigint not null,
    said_at timestamptz not null
);

insert into priced (sku, seq, said_at) select sku, 0, max(said_at) from prices group by sku;

alter table prices drop column said_at;
