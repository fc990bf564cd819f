-- What a batch asks about a key is whether anything of it is held back and what state that is in, not for all that waits behind it: a look a
-- state, however many records wait. It is a small index: what is settled is not in it.
create index dead_letter_events_by_state on dead_letter_events (consumer, md5(key), state, id) where state <> 'DONE';

-- Records without a key have been queued behind each other as if they had one. They have no order: each is tried by itself. A process of the
-- version before leaves them to one of this.
update dead_letter_events set state = 'READY' where key = '' and state = 'PARKED' and behind;
