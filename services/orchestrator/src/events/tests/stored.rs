//! Sagas over their rows: each turn is loaded, decided and saved, as the runner has it done, by binaries with other definitions.

use bytes::Bytes;
use contracts::order::v1::OrderCreated;
use messaging::Trace;
use saga::{Definition, step};
use sqlx::PgPool;

use super::{
    play::{ORDER, cancel, commands, created, done, name, refused},
    *,
};
use crate::{
    definitions::CHECKOUT,
    hear::hear,
    store::tests::{START, migrated, run},
};

/// The shipment first, and nobody reserves anything.
const NEWER: Definition = Definition {
    version: 2,
    steps: &[
        step("schedule", "ScheduleShipment").undo("CancelShipment"),
        step("charge", "ChargePayment").undo("RefundPayment"),
        step("confirm", "ConfirmOrder").pivot(),
    ],
    ..CHECKOUT
};
static BEFORE: [Definition; 1] = [CHECKOUT];
static AFTER: [Definition; 2] = [CHECKOUT, NEWER];
/// Somebody has turned two steps of it round, and left its version.
static CHANGED: [Definition; 2] = [
    CHECKOUT,
    Definition {
        steps: &[
            step("charge", "ChargePayment").undo("RefundPayment"),
            step("schedule", "ScheduleShipment").undo("CancelShipment"),
            step("confirm", "ConfirmOrder").pivot(),
        ],
        ..NEWER
    },
];

/// One that has these definitions, on a database.
struct Binary {
    pool: PgPool,
    known: Known,
}

impl Binary {
    async fn start(pool: &PgPool, definitions: &'static [Definition]) -> Self {
        let known = store::remember(pool, definitions).await.expect("remembered");
        Self { pool: pool.clone(), known }
    }

    /// What it asks then.
    async fn hears(&self, message: Message) -> Result<Vec<Message>, Refusal> {
        let payload = Bytes::from(message.encode());
        let (order_id, means) = hear(message, &payload).expect("sagas listen to it").expect("has ids");
        let (key, input) = (order_id.to_string(), Input::Heard { order_id, means });
        let (id, at) = (Uuid::nil(), OffsetDateTime::UNIX_EPOCH);
        let asked = Envelope { id, correlation: key.clone(), key, at, trace: Trace::default(), input };
        let handler = Orchestrator { known: self.known.clone() };
        let mut db = self.pool.acquire().await.expect("a connection");
        let mut book = handler.load(&mut db, &[&asked]).await.expect("loaded");
        let decision = handler.decide(&mut book, &asked)?;
        handler.save(&mut db, book).await.expect("saved");
        let read = |type_name, payload| Message::decode(type_name, payload).expect("is known").expect("is readable");
        let news: Vec<Message> = decision.news.iter().map(|news| read(news.type_name, &news.payload)).collect();
        Ok(commands(&news))
    }

    /// The one command that follows.
    async fn asks(&self, message: Message) -> Message {
        self.hears(message).await.expect("is decided").pop().expect("it asks something")
    }

    /// How many of the sagas it would ask again.
    async fn due(&self) -> usize {
        store::due(&self.pool, &self.known, 0, START, 10).await.expect("read").len()
    }
}

fn created_too() -> Message {
    let Message::OrderCreated(told) = created("checkout") else { panic!("it is one") };
    OrderCreated { order_id: Uuid::from_u128(2).to_string(), ..told }.into()
}

/// By version, how the sagas stand.
async fn stand(pool: &PgPool) -> Vec<(i32, String)> {
    let sql = "select definition_version, state from sagas order by definition_version";
    sqlx::query_as(sql).fetch_all(pool).await.expect("read")
}

#[test]
fn s15_a_saga_that_is_stored_finishes_on_its_version_beside_a_newer_one() {
    run(async {
        let pool = migrated().await;
        let mut asked = Binary::start(&pool, &BEFORE).await.asks(created("checkout")).await;
        let after = Binary::start(&pool, &AFTER).await;
        let newer = after.asks(created_too()).await;
        assert_eq!(name(&newer), "ScheduleShipment", "who begins now begins on the newer one");
        let mut all = vec![name(&asked)];
        while let Some(next) = after.hears(done(&asked)).await.expect("is decided").pop() {
            all.push(name(&next));
            asked = next;
        }
        assert_eq!(all, ["ChargePayment", "ReserveStock", "ScheduleShipment", "ConfirmOrder"]);
        assert_eq!(stand(&pool).await, [(1, "DONE".to_owned()), (2, "RUNNING".to_owned())]);
    });
}

#[test]
fn s15_a_saga_whose_version_has_changed_waits_for_the_binary_that_has_it_as_it_was() {
    run(async {
        let pool = migrated().await;
        let after = Binary::start(&pool, &AFTER).await;
        let schedule = after.asks(created("checkout")).await;
        sqlx::query("update sagas set deadline_at = now()").execute(&pool).await.expect("written");
        let changed = Binary::start(&pool, &CHANGED).await;
        let told: Vec<_> = changed.known.changed().iter().map(|one| (one.definition, one.version, &*one.began_as)).collect();
        assert_eq!(told, [("checkout", 2, &*NEWER.shape())]);

        // For it the first step is the charge, and an answer from shipping would be one to what it has not asked.
        for message in [done(&schedule), refused(&schedule).expect("it can be refused"), cancel(), created_too()] {
            let refusal = changed.hears(message).await.expect_err("it waits");
            assert_eq!(refusal.verdict(), Verdict::Unknown, "{refusal}");
        }
        assert_eq!((changed.due().await, after.due().await), (0, 1), "whoever knows it sees to its deadline");
        assert_eq!(stand(&pool).await, [(2, "RUNNING".to_owned())]);

        // The one that began it still runs beside it, and whoever comes with the same definitions knows it too.
        assert_eq!(name(&after.asks(done(&schedule)).await), "ChargePayment");
        let again = Binary::start(&pool, &AFTER).await;
        assert!(again.known.changed().is_empty());
        let book =
            store::load(&mut pool.acquire().await.expect("a connection"), &again.known, &[ORDER], &[]).await.expect("loaded");
        assert!(book.unknown.is_empty() && book.sagas.len() == 1);
    });
}
