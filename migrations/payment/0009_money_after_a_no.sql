-- A charge may land after its payment was voided or declined, and then nobody asks about it any more. The provider tells us by webhook: so a
-- call is opened that only asks. The mark that an undo leaves where there is no charge knows no sum, and the provider does not say it with
-- the outcome; such a call has none either, and what it finds waits for a person.

alter table provider_calls
    drop constraint provider_calls_amount,
    drop constraint provider_calls_currency,
    add constraint provider_calls_amount check (amount > 0 or (amount = 0 and withdrawn)),
    add constraint provider_calls_currency check (length(currency) = 3 or (amount = 0 and currency = ''));
