-- An order is refunded in parts, leaves and arrives: the customer is told of each. Of a kind that an order can have several of, the subject
-- tells them apart (the refund's id; nil where there is one a kind); the key stays the promise that nobody is told twice of the same.
alter table notifications
    add column subject uuid not null default '00000000-0000-0000-0000-000000000000',
    drop constraint notifications_kind_check,
    add constraint notifications_kind_check check (kind in
        ('ORDER_CONFIRMED', 'ORDER_FAILED', 'ORDER_CANCELLED', 'ORDER_REFUNDED', 'ORDER_DISPATCHED', 'ORDER_DELIVERED')),
    add constraint notifications_subject_of_a_refund check ((kind = 'ORDER_REFUNDED') = (subject <> '00000000-0000-0000-0000-000000000000')),
    drop constraint notifications_pkey,
    add primary key (order_id, kind, subject);

-- People ask for one to be sent again by its id.
create unique index notifications_by_id on notifications (id);

-- Every time a notification was sent again; the first time is its own row, so that telling a customer costs no row more. id is the call's,
-- so that it is written down once.
create table notification_attempts (
    notification_id uuid not null,
    id uuid not null,
    channel text not null,
    at timestamptz not null,
    primary key (notification_id, id)
);
