-- How far each group has ever said that it had come. `seq` goes down with a group whose database was put back to an older copy, so that
-- retention keeps what it needs; this does not, so that the group learns of it, also if nobody ran meanwhile. A rejoin sets both. Who was
-- started before this does not write it: then it lags behind, and less is noticed.
alter table readers add column furthest bigint not null default 0 check (furthest >= 0);
update readers set furthest = seq;
