-- A shipment that was released leaves and arrives: people say so. Both states come after RELEASED and none comes after them.
alter table shipments
    drop constraint shipments_state_check,
    add constraint shipments_state_check
        check (state in ('HELD', 'RELEASED', 'DISPATCHED', 'DELIVERED', 'CANCELLED', 'REFUSED', 'VOIDED')),
    -- The carrier's; may be empty.
    add column tracking_number text not null default '' check (char_length(tracking_number) <= 64),
    add constraint shipments_tracked_when_gone check (tracking_number = '' or state in ('DISPATCHED', 'DELIVERED'));
