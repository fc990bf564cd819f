-- What the provider refused to give back was asked for again under the same key when a person retried it, and the provider answered from
-- memory: the retry was none. So an undo behind one that was refused has a key of its own. Only a refusal makes way for a new key: an
-- outcome that nobody knows keeps the one it has, or the money could move twice.

alter table payments
    -- The key of the undo that was asked for last: of the void, and once money is taken of the refund. Null is the first, by the payment's id.
    add column undo_key uuid,
    -- Undos that came before the latest. Each has had its try, and heard again it has no other: a replay must not open new keys. Null is none.
    add column earlier_undos uuid[],
    -- Refunds in flight of which PaymentUnknown was said: whoever waits behind them is told so.
    add column refunds_unknown int not null default 0,
    add constraint payments_undo_key_of_an_undo
        check (undo_key is null or undo_command_id is not null or uncapture_command_id is not null),
    -- A saga asks each of two undos 255 times at most.
    add constraint payments_earlier_undos check (cardinality(earlier_undos) between 1 and 510),
    add constraint payments_refunds_unknown check (refunds_unknown >= 0 and (refunds_unknown = 0 or captured > 0));

alter table refunds
    -- An id that another payment has is refused: the upsert knows a row by both.
    add constraint refunds_of_one_payment unique (id, payment_id);

-- Two refunds of one undo may never both be under way: each would give back all that remains.
create unique index refunds_one_undo_in_flight on refunds (payment_id) where command_id is null and state = 'IN_FLIGHT';

update payments p set refunds_unknown = r.unknown
from (select payment_id, count(*) as unknown from refunds where unknown_said group by payment_id) r
where p.id = r.payment_id;
