-- What becomes headers is bounded as well, and the copy of a dead letter as a whole: a broker refuses a record for its headers too, after
-- the fact, and the relay of the service would stand before it for ever. A correlation comes from outside: a caller's key, or what a foreign
-- record brought. The key of a copy counts twice, for it is also sent as ce_subject. The code has the same bounds and is asked first:
-- outbox/publishable.rs, parking/dlq.rs.
--
-- Rows that are there are not looked at (`not valid`): the table may be large, and whoever writes to it would wait for the look. New rows
-- are checked all the same, and so are ranges that are made later. A process of the version before is refused what it should not say, which
-- blames that input.
alter table outbox
    drop constraint outbox_publishable,
    add constraint outbox_publishable check (
        coalesce(octet_length(extra::text), 0) <= 8192
        and case when topic like '%.dlq' then
            octet_length(payload) + 2 * octet_length(key) + octet_length(type) + octet_length(correlation)
                + coalesce(octet_length(traceparent), 0) + coalesce(octet_length(tracestate), 0) <= 900000
        else
            type <> '' and octet_length(type) <= 1024 and octet_length(key) <= 1024 and octet_length(payload) <= 262144
            and octet_length(correlation) <= 1024
            and coalesce(octet_length(traceparent), 0) <= 256 and coalesce(octet_length(tracestate), 0) <= 512
        end
    ) not valid;
