-- What the provider said cannot always be saved: then the call waits for a person, instead of asking the provider again for ever.

-- Why a person must look; empty if nobody must. Such a call is never due. When what stood in the way is mended, an operator's retry is
--     update provider_calls set attention = '', due_at = clock_timestamp() where order_id = '…'
-- and the provider is asked what became of the key before anything is sent again.
alter table provider_calls
    add column attention text not null default '',
    add constraint provider_calls_attention_waits check ((attention <> '') = (due_at = 'infinity'));
