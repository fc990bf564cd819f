-- Money may be set aside first and taken later, go back in parts, and stay unknown for longer than the provider knows our keys. So a payment
-- has more states, several calls of one payment may be open at once, and what nobody knows waits for a person. The normal path keeps its
-- rows and statements: one payment, one call, one transfer.

alter table payments
    -- Set aside first (AuthorizePayment), taken later (CapturePayment).
    add column two_step boolean not null default false,
    add column capture_command_id uuid,
    -- The undo of the capture alone; undo_command_id is the undo of the whole.
    add column uncapture_command_id uuid,
    -- Why the capture was refused.
    add column capture_reason text not null default '',
    -- PaymentUnknown was said of the call that is open.
    add column unknown_said boolean not null default false,
    drop constraint payments_state,
    drop constraint payments_refund_reserved,
    drop constraint payments_declined_with_reason,
    drop constraint payments_refused_with_reason,
    add constraint payments_state check (state in (
        'IN_FLIGHT', 'AUTHORIZED', 'CAPTURING', 'CAPTURED', 'DECLINED', 'VOIDING', 'VOIDED', 'REFUNDING', 'REFUNDED', 'REFUND_REFUSED'
    )),
    add constraint payments_two_steps check (two_step or state not in ('AUTHORIZED', 'CAPTURING', 'VOIDING')),
    -- An undo waits for the refunds in flight, then has one of its own.
    add constraint payments_refund_reserved check (
        (state <> 'REFUNDING' or refund_pending > 0)
        and (refund_pending = 0 or state in ('CAPTURED', 'REFUNDING', 'REFUND_REFUSED'))
    ),
    -- What was set aside and given free was not declined before.
    add constraint payments_declined_with_reason check (
        decline_reason <> '' or (state <> 'DECLINED' and (state <> 'VOIDED' or two_step))
    ),
    -- What is set aside may be refused to be given free, too.
    add constraint payments_refused_with_reason check (
        (state <> 'REFUND_REFUSED' or refund_reason <> '') and (refund_reason = '' or state in ('REFUND_REFUSED', 'AUTHORIZED'))
    ),
    add constraint payments_capture_refused_of_a_command check (capture_reason = '' or capture_command_id is not null),
    add constraint payments_unknown_of_an_open_call check (not unknown_said or state in ('IN_FLIGHT', 'CAPTURING', 'VOIDING'));

-- A refund of a part is the answer to its own command, and keeps it.
alter table refunds
    -- The RefundCapture that asked; an undo's refund has none.
    add column command_id uuid,
    add column unknown_said boolean not null default false,
    add constraint refunds_unknown_in_flight check (not unknown_said or state = 'IN_FLIGHT');

create index refunds_of_payment on refunds (payment_id);

-- A call is the provider's key: a payment has one that its state waits for, and one for each refund in flight. key is given with the intent
-- and never changes, as payment_id was, so the updates of a call in time stay on their page as before.
alter table provider_calls
    drop constraint provider_calls_pkey,
    drop constraint provider_calls_kind,
    drop constraint provider_calls_charge_by_payment_id,
    add primary key (key),
    add constraint provider_calls_kind check (kind in ('CHARGE', 'AUTHORIZE', 'CAPTURE', 'VOID', 'REFUND')),
    add constraint provider_calls_opening_by_payment_id check (kind not in ('CHARGE', 'AUTHORIZE') or key = payment_id);

-- For who looks whether an order has a call that waits for a person. Empty but for those.
create index provider_calls_attention on provider_calls (order_id) where attention <> '';

-- Who had a call taken up again, and why: it must be possible to tell later. Rows are only added.
create table call_operations (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    key uuid not null,
    order_id uuid not null,
    -- What it waited for.
    attention text not null constraint call_operations_attention check (attention <> ''),
    who text not null constraint call_operations_who check (who <> ''),
    reason text not null constraint call_operations_reason check (reason <> '')
);

create function call_operations_only_grow() returns trigger language plpgsql as $$
begin
    raise exception 'call_operations is append-only';
end
$$;

create trigger call_operations_only_grow
before update or delete or truncate on call_operations
for each statement execute function call_operations_only_grow();
