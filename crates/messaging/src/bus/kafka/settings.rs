//! What the clients of librdkafka are told beside its defaults, each setting with its reason. docs/kafka.md shows the same tables, and a
//! test compares them.

/// Name, value, reason.
pub(super) type Setting = (&'static str, &'static str, &'static str);

pub(super) const EVERY_CLIENT: &[Setting] = &[
    ("client.id", "settle", "names us in the broker's logs and quotas"),
    (
        "allow.auto.create.topics",
        "false",
        "a topic is created by us with its partition count or not at all: one that a broker made by itself would send keys elsewhere",
    ),
    ("socket.keepalive.enable", "true", "a connection that a firewall forgot is noticed"),
    ("socket.timeout.ms", "20000", "a broker that stands still is given up after this and connected to anew"),
    ("reconnect.backoff.max.ms", "2000", "back within two seconds of the broker's return; the pauses before are jittered"),
    (
        "topic.metadata.propagation.max.ms",
        "5000",
        "a topic that was deleted is known to be gone after this, and is created again, instead of after half a minute",
    ),
];

pub(super) const PRODUCER: &[Setting] = &[
    ("acks", "all", "a record is published when every in-sync replica has it"),
    ("enable.idempotence", "true", "the client's own retries neither repeat nor reorder records"),
    (
        "enable.gapless.guarantee",
        "true",
        "a batch that fails for good is a fatal error: nothing behind it overtakes it, and the relay begins again at its cursor",
    ),
    ("max.in.flight.requests.per.connection", "5", "the most that an idempotent producer keeps in order"),
    ("message.timeout.ms", "0", "a record never fails by waiting: maybe the broker has it, and only the broker can say so"),
    ("linger.ms", "0", "the relay hands over whole runs, and an order passes nine streams: waiting would add up"),
    ("compression.type", "lz4", "headers repeat themselves; costs hardly any CPU"),
    ("message.max.bytes", "1000000", "a broker's own default; what is committed stays far below, 262,144 bytes of payload"),
    ("queue.buffering.max.messages", "100000", "more than a run has"),
    ("queue.buffering.max.kbytes", "65536", "memory of a relay at most; a run stops at 16 MiB"),
    ("partitioner", "murmur2_random", "what producers in Java choose; the relay names the partition itself, by the same hash"),
];

pub(super) const CONSUMER: &[Setting] = &[
    ("enable.auto.commit", "false", "where a group stands is kept in its database, with the effect"),
    ("enable.auto.offset.store", "false", "the same"),
    (
        "auto.offset.reset",
        "error",
        "an offset that the log does not have is looked into: the log is read from its beginning, never skipped to its end",
    ),
    ("isolation.level", "read_committed", "a foreign producer's aborted transaction is not heard"),
    ("fetch.min.bytes", "1", "a record is delivered as soon as it is there"),
    ("fetch.wait.max.ms", "100", "only how often an idle consumer asks again: a record that comes meanwhile is answered at once"),
    ("fetch.queue.backoff.ms", "20", "how soon a full queue is filled again; the default of a second would show as pauses"),
    ("fetch.error.backoff.ms", "100", "how soon a partition that failed is asked for again"),
    ("fetch.message.max.bytes", "1048576", "of one partition in one answer"),
    ("fetch.max.bytes", "8388608", "of one answer: memory"),
    ("queued.min.messages", "10000", "enough for ten batches; above it nothing more is fetched"),
    (
        "queued.max.messages.kbytes",
        "16384",
        "memory of a reader at most, whatever the database does: a reader that waits does not poll, and then nothing more is fetched",
    ),
];

/// The short-lived reader of the last records, before a relay sends.
pub(super) const TAIL: &[Setting] = &[
    ("group.id", "settle.relay", "librdkafka wants a name to assign partitions; nothing is committed under it"),
    ("enable.auto.commit", "false", "nothing is committed"),
    ("auto.offset.reset", "earliest", "fewer records than were asked for: then all of them"),
    ("isolation.level", "read_committed", "as readers see it"),
    ("enable.partition.eof", "true", "tells when the last record was read"),
    ("fetch.wait.max.ms", "10", "the end is told with an empty answer"),
    ("queued.max.messages.kbytes", "16384", "memory"),
];

#[cfg(test)]
mod tests {
    use rdkafka::{ClientConfig, consumer::BaseConsumer, producer::BaseProducer};

    use super::*;

    /// A table is shown whole and in its order.
    #[test]
    fn the_page_shows_every_setting_with_its_reason() {
        let page = include_str!("../../../../../docs/kafka.md");
        for table in [EVERY_CLIENT, PRODUCER, CONSUMER, TAIL] {
            let rows: String = table.iter().map(|(name, value, why)| format!("| `{name}` | `{value}` | {why} |\n")).collect();
            assert!(page.contains(&rows), "docs/kafka.md does not show\n{rows}");
        }
    }

    /// Names, values, and that they do not contradict each other.
    #[test]
    fn librdkafka_takes_them() {
        let config = |table: &[Setting]| {
            let mut config = ClientConfig::new();
            for (name, value, _) in EVERY_CLIENT.iter().chain(table) {
                config.set(*name, *value);
            }
            config
        };
        config(PRODUCER).create::<BaseProducer>().unwrap();
        config(CONSUMER).set("group.id", "test").create::<BaseConsumer>().unwrap();
        config(TAIL).create::<BaseConsumer>().unwrap();
    }
}
