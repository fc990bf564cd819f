-- Money can be set aside first and taken later, or given free: AUTHORIZE, then CAPTURE or VOID. The rules between them stand on the
-- authorization's row, which whoever captures, voids or refunds locks: it is captured once and never above its sum, never both captured
-- and voided, and gives back no more than was captured.

-- A void may come before its authorization, and must refuse it then: it leaves the authorization's row, declined and without a sum, and
-- the authorization finds its key taken.
alter table statement
    add column captured bigint not null default 0,
    add column voided boolean not null default false,
    drop constraint statement_kind,
    add constraint statement_kind check (kind in ('CHARGE', 'AUTHORIZE', 'CAPTURE', 'VOID', 'REFUND')),
    drop constraint statement_amount,
    add constraint statement_amount
        check (amount > 0 or (amount = 0 and (kind = 'VOID' or (kind = 'AUTHORIZE' and voided and outcome = 'DECLINED')))),
    drop constraint statement_currency,
    add constraint statement_currency check (length(currency) = 3 or (amount = 0 and currency = '')),
    drop constraint statement_refund_of_charge,
    add constraint statement_of_another check ((kind in ('CAPTURE', 'VOID', 'REFUND')) = ("of" is not null)),
    add constraint statement_captured_within_authorization
        check (captured between 0 and amount and (captured = 0 or (kind = 'AUTHORIZE' and outcome = 'SUCCEEDED'))),
    add constraint statement_captured_or_voided check (not voided or (kind = 'AUTHORIZE' and captured = 0)),
    drop constraint statement_refunded_within_charge,
    add constraint statement_refunded_within_what_was_taken
        check (refunded between 0 and case when kind = 'CHARGE' and outcome = 'SUCCEEDED' then amount else captured end);

create unique index statement_captured_once on statement ("of") where kind = 'CAPTURE' and outcome = 'SUCCEEDED';

-- The statement is read in pages, the oldest first. A time in the future is that of a charge which nobody knows of yet: it lands then.
create index statement_by_age on statement (at);

-- How many calls of a key came to nothing: a chaos profile may spoil more than the first.
alter table failed_calls add column times int not null default 1;
