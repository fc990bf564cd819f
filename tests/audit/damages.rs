//! What is broken in the databases of a sound platform, one thing at a time, and what must be said of it.

pub(super) struct Damage {
    pub(super) service: &'static str,
    /// Which order `$1` is.
    pub(super) of: &'static str,
    pub(super) sql: &'static str,
    /// Wrong only where nothing is under way.
    pub(super) at_rest: bool,
    /// The invariant, and words of what is said.
    pub(super) seen: (&'static str, &'static str),
}

const fn damage(service: &'static str, of: &'static str, sql: &'static str, invariant: &'static str, says: &'static str) -> Damage {
    Damage { service, of, sql, at_rest: false, seen: (invariant, says) }
}

const fn at_rest(
    service: &'static str,
    of: &'static str,
    sql: &'static str,
    invariant: &'static str,
    says: &'static str,
) -> Damage {
    Damage { service, of, sql, at_rest: true, seen: (invariant, says) }
}

pub(super) const DAMAGES: &[Damage] = &[
    damage(
        "provider",
        "confirmed",
        "insert into statement (key, kind, token, amount, currency, outcome, reason, auth_code)
         select 'charged again', kind, token, amount, currency, outcome, reason, auth_code from statement
         where kind = 'CHARGE' and outcome = 'SUCCEEDED' and $1::uuid is not null limit 1",
        "I1",
        "charge charged again: the provider took",
    ),
    damage(
        "provider",
        "confirmed",
        "insert into statement (key, kind, \"of\", token, amount, currency, outcome, reason, auth_code)
         select 'captured too', 'CAPTURE', key, token, amount, currency, outcome, reason, auth_code from statement
         where kind = 'CHARGE' and outcome = 'SUCCEEDED' and refunded = 0 and token = '' and $1::uuid is not null limit 1",
        "I1",
        "took money 2 times",
    ),
    damage("order", "confirmed", "delete from orders where id = $1", "I1", "no such order"),
    damage(
        "provider",
        "failed",
        "insert into statement (key, kind, \"of\", token, amount, currency, outcome, reason, auth_code)
         select 'given twice', kind, \"of\", token, amount, currency, outcome, reason, auth_code from statement
         where kind = 'REFUND' and outcome = 'SUCCEEDED' and \"of\" = (
             select \"of\" from statement s where s.kind = 'REFUND' and s.outcome = 'SUCCEEDED' and s.amount <> 500 limit 1
         ) and $1::uuid is not null",
        "I2",
        "and gave",
    ),
    damage(
        "payment",
        "failed",
        "update payments set state = 'CAPTURED', refunded = 0 where order_id = $1",
        "I2",
        "it is FAILED, and",
    ),
    damage("order", "stuck", "update orders set status = 'CANCELLED' where id = $1", "I2", "it is CANCELLED, and"),
    damage(
        "payment",
        "confirmed",
        "update payments set state = 'REFUNDED', refunded = captured where order_id = $1",
        "I2",
        "and 0 was asked for",
    ),
    damage(
        "inventory",
        "confirmed",
        "update stock set on_hand = on_hand + 1 where sku = (select skus[1] from reservations where order_id = $1)",
        "I3",
        "are on hand",
    ),
    damage(
        "inventory",
        "confirmed",
        "update stock set reserved = 1 where sku = (select skus[1] from reservations where order_id = $1)",
        "I3",
        "are set aside, reservations hold 0",
    ),
    damage(
        "inventory",
        "confirmed",
        "update reservations set state = 'RELEASED', undone_by = $1 where order_id = $1",
        "I3",
        "it is CONFIRMED, and nothing is set aside",
    ),
    damage(
        "inventory",
        "failed",
        "insert into reservations (order_id, id, command_id, state, skus, quantities)
         values ($1, gen_random_uuid(), gen_random_uuid(), 'HELD', array['prod-A'], array[1])",
        "I3",
        "it is FAILED, and its goods are still set aside",
    ),
    at_rest(
        "inventory",
        "confirmed",
        "update reservations set state = 'HELD' where order_id = $1",
        "I3",
        "its goods have not left",
    ),
    damage("order", "confirmed", "delete from timeline where order_id = $1 and version = 3", "I6", "has a hole"),
    damage(
        "order",
        "confirmed",
        "update timeline set event = 'OrderFailed' where order_id = $1 and version = 2",
        "I6",
        "is illegal",
    ),
    damage("order", "declined", "update orders set status = 'CANCELLED' where id = $1", "I6", "leads to FAILED"),
    damage("order", "confirmed", "update orders set needs_attention = true where id = $1", "I6", "and needs attention"),
    damage(
        "payment",
        "confirmed",
        "delete from ledger_transfers where payment_id = (select id from payments where order_id = $1)",
        "I7",
        "the ledger has 0 and 0",
    ),
    damage(
        "payment",
        "confirmed",
        "insert into ledger_transfers (id, payment_id, debit, credit, amount, currency, at)
         values (gen_random_uuid(), $1, 'receivable:sandbox', 'sales', 7, 'USD', now())",
        "I7",
        "1 transfers in the ledger, and no such payment",
    ),
    damage(
        "payment",
        "confirmed",
        "update ledger_transfers set credit = 'pocket'
         where payment_id = (select id from payments where order_id = $1) and credit = 'sales'",
        "I7",
        "the ledger does not sum to 0",
    ),
    damage(
        "provider",
        "confirmed",
        "delete from statement where kind = 'CHARGE' and refunded = 0 and outcome = 'SUCCEEDED' and token = '' and $1::uuid is not null",
        "I7",
        "the statement has 0 and 0",
    ),
    damage("order", "refunded", "update orders set refunded_amount = refunded_amount + 1 where id = $1", "I7", "it was 500"),
    at_rest("order", "refunded", "update orders set refund_pending = 1 where id = $1", "I2", "501 asked for is given back"),
    at_rest(
        "orchestrator",
        "confirmed",
        "update sagas set state = 'RUNNING', progress = 'D1,D1,D1,A1 forward' where order_id = $1",
        "I2",
        "its saga checkout RUNNING",
    ),
    at_rest(
        "payment",
        "confirmed",
        "insert into provider_calls (payment_id, id, order_id, kind, key, token, amount, currency, due_at, correlation)
         select id, gen_random_uuid(), order_id, 'REFUND', gen_random_uuid(), '', 1, currency, now(), '' from payments
         where order_id = $1",
        "I7",
        "calls to the provider are open",
    ),
];
