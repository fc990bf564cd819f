-- After a restore to an older copy, "never sent" is true of this history only: the charge may have been made in the one that is lost. So an
-- undo no longer ends a call that was not sent: it withdraws it, and the dispatcher only asks the provider about its key.

-- Such a call has attempts, at which it was asked about, but is never marked as sent.
alter table provider_calls
    add column withdrawn boolean not null default false,
    drop constraint provider_calls_sent_once_tried,
    add constraint provider_calls_sent_once_tried
        check (attempts >= 0 and (withdrawn or (attempts = 0) = (first_sent_at is null))),
    add constraint provider_calls_withdrawn_unsent check (not withdrawn or first_sent_at is null);
