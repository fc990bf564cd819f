-- Nothing unpublishable can be committed: Kafka would refuse it after the fact. A violation blames the input that said it. Copies of dead
-- letters are as they came, whoever made them; the code keeps them below what brokers take by default (1 MB).
alter table outbox add constraint outbox_publishable check (
    case when topic like '%.dlq' then octet_length(payload) <= 900000
    else type <> '' and octet_length(key) <= 1024 and octet_length(payload) <= 262144 end
);
