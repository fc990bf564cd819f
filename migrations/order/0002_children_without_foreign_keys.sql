-- Lines and timeline entries are written in the transaction that holds their order's row, and orders are never deleted: the foreign keys
-- could only repeat that, at the price of a look and a row lock an entry (a third of the cost of writing the timeline).
alter table order_items drop constraint order_items_order_id_fkey;
alter table timeline drop constraint timeline_order_id_fkey;
