-- Where a saga stands is kept by the places of its steps. A binary that has these steps otherwise under the same version would read it with
-- another meaning: what has been charged as what has been reserved. So the database remembers what a version looked like when sagas began
-- on it, and whoever has it otherwise leaves them alone.
create table saga_definitions (
    definition text not null check (definition <> ''),
    version int not null check (version >= 1),
    -- As saga::Definition::shape says it. Rows are added by every orchestrator that starts, and never changed.
    shape text not null check (shape <> ''),
    primary key (definition, version)
);

-- What the binaries before this one have begun sagas on. They may still run, and write nothing down.
insert into saga_definitions (definition, version, shape) values
    ('checkout', 1, 'charge: ChargePayment undo RefundPayment; reserve: ReserveStock undo ReleaseStock; '
        'schedule: ScheduleShipment undo CancelShipment; confirm: ConfirmOrder pivot; close: CloseOrder'),
    ('checkout-reserve-first', 1, 'reserve: ReserveStock undo ReleaseStock; authorize: AuthorizePayment undo RefundPayment; '
        'schedule: ScheduleShipment undo CancelShipment; capture: CapturePayment undo RefundPayment; '
        'confirm: ConfirmOrder pivot; close: CloseOrder'),
    ('refund', 1, 'give-back: RefundCapture pivot; settle: SettleRefund retriable; close: RefuseRefund');
