-- The sandbox provider's own books, apart from ours: what it charged and gave back is the truth our ledger is audited against.

-- One row a key, and a key has one outcome for ever: that is what makes a repeated call harmless. A refund names its charge in "of"; the
-- charge counts what it gave back, so that it can never be more than was taken.
create table statement (
    key text primary key,
    kind text not null constraint statement_kind check (kind in ('CHARGE', 'REFUND')),
    "of" text,
    token text not null,
    amount bigint not null constraint statement_amount check (amount > 0),
    currency text not null constraint statement_currency check (length(currency) = 3),
    outcome text not null constraint statement_outcome check (outcome in ('SUCCEEDED', 'DECLINED')),
    reason text not null,
    auth_code text not null,
    refunded bigint not null default 0,
    at timestamptz not null default clock_timestamp(),
    constraint statement_refund_of_charge check ((kind = 'REFUND') = ("of" is not null)),
    constraint statement_declined_with_reason check ((outcome = 'DECLINED') = (reason <> '')),
    constraint statement_code_if_succeeded check ((outcome = 'SUCCEEDED') = (auth_code <> '')),
    constraint statement_refunded_within_charge
        check (refunded between 0 and amount and (refunded = 0 or (kind = 'CHARGE' and outcome = 'SUCCEEDED')))
) with (fillfactor = 90, autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- Keys whose first call failed before it reached the statement (tok_error_before); the next one goes through.
create table failed_calls (
    key text primary key,
    at timestamptz not null default clock_timestamp()
);
