//! A flow of six facts, each on a topic of its own, so that they may come in any order: in each of the 720 every fact is applied once,
//! and none before those it builds on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use messaging::{Decision, Envelope, Handler, Heard, News, Record, Refused, Verdict};
use sqlx::{PgConnection, PgPool};

use crate::fixture::{On, Pair, faults, publisher::Say, wait};

const STEPS: usize = 6;
/// What must be there before a step: as an order is created; paid and reserved; scheduled; confirmed; told.
const AFTER: [&[usize]; STEPS] = [&[], &[0], &[0], &[1, 2], &[3], &[4]];

on_buses!(c07_every_order_of_six_facts_on_six_topics: postgres, kafka);

async fn c07_every_order_of_six_facts_on_six_topics(on: On) {
    let (pair, topics) = Pair::new(on).await.with_steps(STEPS);
    make_flows(&pair.consumer).await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    let early = Arc::new(AtomicUsize::new(0));
    let consumer = pair.in_place_of_the_consumer(Flows { early: early.clone() }, topics, &bus).await;

    let orders = permutations();
    for nth in 0..STEPS {
        let fact = |(flow, order): (usize, &[usize; STEPS])| News {
            topic: topics[order[nth]],
            type_name: "test.Step",
            key: format!("flow-{flow}"),
            payload: vec![u8::try_from(order[nth]).unwrap()].into(),
        };
        let facts: Vec<News> = orders.iter().enumerate().map(fact).collect();
        publisher.call(&format!("nth fact: {nth}"), "flows", Say::plain(facts)).await.unwrap();
        // In this order they were said, and in this order they come: all of them are heard before the next ones are said.
        let all = i64::try_from(orders.len() * (nth + 1)).unwrap();
        wait("these facts to be heard", || async { faults::passed(&pair.consumer, pair.group).await == all }).await;
    }

    wait("every fact to be applied", || async { done(&pair.consumer).await == orders.len() * STEPS }).await;
    for (flow, steps) in applied(&pair.consumer).await {
        let place = |step: &usize| steps.iter().position(|applied| applied == step);
        assert_eq!(steps.iter().copied().collect::<BTreeSet<_>>(), (0..STEPS).collect(), "{flow}");
        for (step, after) in AFTER.iter().enumerate() {
            assert!(after.iter().all(|before| place(before) < place(&step)), "{flow} went {steps:?}");
        }
    }
    assert!(early.load(Ordering::Relaxed) > 1_000, "many came too early");
    assert_eq!(pair.parked().await.len(), 0);
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}

/// All orders of the steps.
fn permutations() -> Vec<[usize; STEPS]> {
    let mut all = vec![Vec::new()];
    for step in 0..STEPS {
        all = all
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut longer = order.clone();
                    longer.insert(at, step);
                    longer
                })
            })
            .collect();
    }
    all.into_iter().map(|order| order.try_into().unwrap()).collect()
}

/// A service that takes a step of a flow when those before it are done.
struct Flows {
    early: Arc<AtomicUsize>,
}

#[derive(Debug, thiserror::Error)]
#[error("a step before this one is not done yet")]
struct Early;

impl Refused for Early {
    fn verdict(&self) -> Verdict {
        Verdict::Early
    }
}

#[derive(Default)]
struct Taken {
    done: BTreeMap<String, BTreeSet<usize>>,
    keys: Vec<String>,
    steps: Vec<i32>,
    places: Vec<i32>,
}

impl Handler for Flows {
    type Input = usize;
    type Answer = ();
    type Refusal = Early;
    type State = Taken;

    fn hear(&self, record: &Record) -> Heard<usize> {
        match record.payload[..] {
            [step] => Heard::Input(usize::from(step)),
            _ => Heard::Undecodable("this is no step".to_owned()),
        }
    }

    async fn load(&self, db: &mut PgConnection, batch: &[&Envelope<usize>]) -> sqlx::Result<Taken> {
        let keys: BTreeSet<&str> = batch.iter().map(|asked| asked.key.as_str()).collect();
        let rows: Vec<(String, i32)> = sqlx::query_as("select key, step from flows where key = any($1)")
            .bind(keys.into_iter().collect::<Vec<_>>())
            .fetch_all(db)
            .await?;
        let mut taken = Taken::default();
        for (key, step) in rows {
            taken.done.entry(key).or_default().insert(usize::try_from(step).unwrap());
        }
        Ok(taken)
    }

    fn decide(&self, taken: &mut Taken, asked: &Envelope<usize>) -> Result<Decision<()>, Early> {
        let done = taken.done.entry(asked.key.clone()).or_default();
        if !AFTER[asked.input].iter().all(|before| done.contains(before)) {
            self.early.fetch_add(1, Ordering::Relaxed);
            return Err(Early);
        }
        if done.insert(asked.input) {
            taken.keys.push(asked.key.clone());
            taken.steps.push(i32::try_from(asked.input).unwrap());
            taken.places.push(i32::try_from(done.len()).unwrap());
        }
        Ok(Decision::quiet(()))
    }

    async fn save(&self, db: &mut PgConnection, taken: Taken) -> sqlx::Result<()> {
        sqlx::query("insert into flows (key, step, place) select * from unnest($1::text[], $2::int[], $3::int[])")
            .bind(taken.keys)
            .bind(taken.steps)
            .bind(taken.places)
            .execute(db)
            .await?;
        Ok(())
    }
}

async fn make_flows(db: &PgPool) {
    let sql = "create table flows (key text, step int, place int not null, primary key (key, step), unique (key, place))";
    sqlx::query(sql).execute(db).await.unwrap();
}

/// The steps of each flow, in the order in which they were applied.
async fn applied(db: &PgPool) -> BTreeMap<String, Vec<usize>> {
    let rows: Vec<(String, Vec<i32>)> =
        sqlx::query_as("select key, array_agg(step order by place) from flows group by key").fetch_all(db).await.unwrap();
    rows.into_iter().map(|(key, steps)| (key, steps.into_iter().map(|step| usize::try_from(step).unwrap()).collect())).collect()
}

/// Steps of all flows.
async fn done(db: &PgPool) -> usize {
    let steps: i64 = sqlx::query_scalar("select count(*) from flows").fetch_one(db).await.unwrap();
    usize::try_from(steps).unwrap()
}
