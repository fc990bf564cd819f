-- The money of an order: one payment, its refund, the ledger, and the calls to the provider that are still open. Amounts are minor units
-- of their currency. Every rule about money stands here as a constraint too, so that no mistake of the code can charge twice or give back
-- more than was taken.

-- One row an order, whatever number of commands ask: an undo that comes before its charge leaves a VOIDED row here, which refuses the
-- charge. No index names a column that changes, and half of each page is left for the outcomes, which come a batch at a time as their
-- charges did: so an update stays on its page (HOT; at 70 % it was every second one).
create table payments (
    id uuid primary key,
    order_id uuid not null constraint payments_one_an_order unique,
    command_id uuid not null,
    undo_command_id uuid,
    state text not null,
    provider text not null,
    currency text not null,
    amount bigint not null,
    captured bigint not null,
    refunded bigint not null,
    refund_pending bigint not null,
    auth_code text not null,
    decline_reason text not null,
    refund_reason text not null,
    created_at timestamptz not null,
    constraint payments_state
        check (state in ('IN_FLIGHT', 'CAPTURED', 'DECLINED', 'VOIDED', 'REFUNDING', 'REFUNDED', 'REFUND_REFUSED')),
    -- Only the mark left by an undo of nothing has no sum.
    constraint payments_amount check ((amount > 0 and length(currency) = 3) or (state = 'VOIDED' and amount = 0)),
    constraint payments_captured_whole_or_not check (captured in (0, amount)),
    constraint payments_captured_if_it_counts
        check ((captured > 0) = (state in ('CAPTURED', 'REFUNDING', 'REFUNDED', 'REFUND_REFUSED'))),
    constraint payments_refunded_within_captured
        check (refunded >= 0 and refund_pending >= 0 and refunded + refund_pending <= captured),
    constraint payments_refund_reserved check ((refund_pending > 0) = (state = 'REFUNDING')),
    constraint payments_refunded_all check (state <> 'REFUNDED' or refunded = captured),
    constraint payments_declined_with_reason check (state not in ('DECLINED', 'VOIDED') or decline_reason <> ''),
    constraint payments_refused_with_reason check ((state = 'REFUND_REFUSED') = (refund_reason <> ''))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05,
        autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

create index payments_by_age on payments (created_at, id);

-- Refunds of a payment, by the id that is also the provider's key: asked for again, it is the same refund.
create table refunds (
    id uuid primary key,
    payment_id uuid not null references payments (id),
    amount bigint not null constraint refunds_amount check (amount > 0),
    currency text not null,
    state text not null constraint refunds_state check (state in ('IN_FLIGHT', 'SUCCEEDED', 'REFUSED')),
    reason text not null,
    created_at timestamptz not null,
    changed_at timestamptz not null,
    constraint refunds_refused_with_reason check ((state = 'REFUSED') = (reason <> ''))
) with (fillfactor = 80);

-- Double entry: a row moves an amount from the credited to the debited account, so the ledger is balanced by construction. Ids are
-- derived from the capture or the refund, so nothing is booked twice. Rows are never updated. There is no foreign key: a row is written
-- in the transaction that changes its payment, and payments are never deleted.
create table ledger_transfers (
    id uuid primary key,
    payment_id uuid not null,
    debit text not null,
    credit text not null,
    amount bigint not null constraint ledger_transfers_amount check (amount > 0),
    currency text not null constraint ledger_transfers_currency check (length(currency) = 3),
    at timestamptz not null,
    constraint ledger_transfers_two_accounts check (debit <> '' and credit <> '' and debit <> credit)
) with (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- Open calls to the provider: written with the intent, deleted with the outcome, the dispatcher's queue in between. A table of its own
-- because all that changes here at each step (attempts, lease, next try) would otherwise be indexed columns of payments and cost every
-- update there its place on the page. It stays as small as the work in flight. It also holds the payment token no longer than needed.
-- due_at is lease and next try in one: before it nobody else touches the call. A call in time changes no indexed column: its intent sets
-- due_at, the mark that it is sent leaves it alone.
create table provider_calls (
    payment_id uuid primary key,
    id uuid not null,
    order_id uuid not null,
    kind text not null constraint provider_calls_kind check (kind in ('CHARGE', 'REFUND')),
    -- Payment or refund id: what makes a call that is repeated the same call.
    key uuid not null,
    token text not null,
    amount bigint not null constraint provider_calls_amount check (amount > 0),
    currency text not null constraint provider_calls_currency check (length(currency) = 3),
    attempts int not null default 0,
    first_sent_at timestamptz,
    due_at timestamptz not null,
    correlation text not null,
    traceparent text,
    tracestate text,
    -- What has no first_sent_at was never sent and may be voided.
    constraint provider_calls_sent_once_tried check (attempts >= 0 and (attempts = 0) = (first_sent_at is null)),
    constraint provider_calls_charge_by_payment_id check (kind <> 'CHARGE' or key = payment_id)
) with (fillfactor = 45, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

create index provider_calls_due on provider_calls (due_at);
