-- A saga is in one index for lists and deadlines at a time: of those that are open, then of those that are over. While sagas_newest had
-- both, each order had an entry more to write. A list of any state takes from the two as much as it shows.
create index sagas_over on sagas (started_at, order_id) where not open;
drop index sagas_newest;
