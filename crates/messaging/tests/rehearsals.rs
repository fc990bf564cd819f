//! A rehearsal tells what would become of a dead letter, and leaves nothing behind.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use messaging::{Decision, Envelope, Handler, Heard, Held, Record, Rehearsal, Verdict};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::fixture::{On, Pair, Stage, consumer::Sorry, id, keys_everywhere, load::Load, publisher::Say, store, wait};

on_buses!(a_rehearsal_tells_and_leaves_nothing);

async fn a_rehearsal_tells_and_leaves_nothing(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let desk = stage.consumer.runner.dead_letters();
    assert_eq!(desk.group(), pair.group);
    for (key, text) in [("a", "poison"), ("b", "trouble"), ("c", "panic")] {
        stage.say(key, 1, text).await;
    }
    stage.say_news("garbage", vec![pair.news(pair.notes, "test.Note", "d", vec![0xff])]).await;
    pair.wait_parked(4).await;
    let rows = pair.parked().await;
    let of = |key: &str| rows.iter().find(|row| row.record.key == key).map(|row| row.record.clone()).unwrap();
    let before = (store::news_ids(&pair.consumer).await, store::seen(&pair.consumer).await);

    let told = desk.rehearse(of("a")).await.unwrap();
    assert!(matches!(&told, Rehearsal::Refused { verdict: Verdict::Poison, reason } if reason.contains("poisonous")), "{told:?}");
    let told = desk.rehearse(of("b")).await.unwrap();
    assert!(matches!(&told, Rehearsal::Failed { error } if error.contains("no_trouble")), "{told:?}");
    let told = desk.rehearse(of("c")).await.unwrap();
    assert!(matches!(&told, Rehearsal::Failed { error } if error.contains("panicked")), "{told:?}");
    let told = desk.rehearse(of("d")).await.unwrap();
    assert!(matches!(&told, Rehearsal::Refused { reason, .. } if reason.contains("no note")), "{told:?}");
    let stranger = Record { type_name: "test.Other".to_owned(), ..of("a") };
    assert!(matches!(desk.rehearse(stranger).await.unwrap(), Rehearsal::Skipped));

    pair.mind.cure();
    for _ in 0..2 {
        let told = desk.rehearse(of("a")).await.unwrap();
        let Rehearsal::Applied { news } = &told else { panic!("{told:?}") };
        assert_eq!(news.iter().map(|news| news.type_name).collect::<Vec<_>>(), ["test.Echo"]);
    }
    assert_eq!((store::news_ids(&pair.consumer).await, store::seen(&pair.consumer).await), before);
    assert_eq!(pair.parked().await.len(), rows.len());
    assert!(pair.parked().await.iter().all(|row| row.held == Held::Parked && row.redrives == 0));

    // What was foretold comes true.
    for key in ["a", "b", "c"] {
        assert_eq!(pair.redrive(key).await, 1);
        pair.wait_seen(key, &[1]).await;
    }
    stage.stop().await;
}

on_buses!(rehearsals_disturb_nobody);

/// Under load: all is applied once, in order, without a hole.
async fn rehearsals_disturb_nobody(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let keys = keys_everywhere(3);
    stage.say("bad", 1, "poison").await;
    pair.wait_parked(1).await;
    let row = pair.parked().await.remove(0);
    let desk = stage.consumer.runner.dead_letters();
    let load = Load::start(pair, &stage.publisher.runner, &keys);
    let mut played = 0;
    while played < 50 || store::seen(&pair.consumer).await < 100 {
        // One that is refused, and one that would be applied to a key in motion.
        let (key, payload) = (keys[0].clone(), format!("{played} ok").into());
        let other = Record { key, payload, id: id(&format!("never/{played}")), ..row.record.clone() };
        assert!(matches!(desk.rehearse(row.record.clone()).await.unwrap(), Rehearsal::Refused { .. }));
        assert!(matches!(desk.rehearse(other).await.unwrap(), Rehearsal::Applied { .. }));
        played += 1;
    }
    let last = load.stop().await;
    pair.all_applied(&keys, last).await;
    assert_eq!(pair.parked().await.iter().map(|row| row.id).collect::<Vec<_>>(), [row.id]);
    stage.stop().await;
}

on_buses!(what_a_rehearsal_leaves_behind_is_never_told: postgres);

/// A handler tells after the commit what its save left behind. A rehearsal has a save, and no commit.
async fn what_a_rehearsal_leaves_behind_is_never_told(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    let teller = Teller::default();
    let told = teller.told.clone();
    let consumer = pair.in_place_of_the_consumer(teller, vec![pair.notes].leak(), &bus).await;
    let is_told = |wanted: usize| {
        let told = told.clone();
        async move { told.lock().unwrap().len() == wanted }
    };
    pair.say(&publisher.runner, "a", 1, "ok").await;
    wait("the first to be told", || is_told(1)).await;
    pair.say(&publisher.runner, "bad", 1, "poison").await;
    pair.wait_parked(1).await;
    let row = pair.parked().await.remove(0);

    let harmless = Record { payload: "1 ok".into(), ..row.record.clone() };
    let rehearsed = consumer.runner.dead_letters().rehearse(harmless).await.unwrap();
    assert!(matches!(rehearsed, Rehearsal::Applied { .. }), "{rehearsed:?}");
    // A batch that saves nothing, and one that saves something else.
    let other = Say::plain(vec![pair.news(pair.notes, "test.Other", "a", Vec::new())]);
    publisher.call("other", "a", other).await.unwrap();
    wait("the batch that saves nothing", || async {
        store::positions(&pair.consumer, pair.group, pair.notes).await.values().sum::<i64>() == 3
    })
    .await;
    pair.say(&publisher.runner, "a", 2, "ok").await;
    wait("the second to be told", || is_told(2)).await;
    assert!(!told.lock().unwrap().contains(&row.record.id), "it was only a rehearsal");
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}

/// Keeps what it saves for whoever wants to know of it after the commit, and saves nothing.
#[derive(Default)]
struct Teller {
    staged: Mutex<Vec<Uuid>>,
    told: Arc<Mutex<HashSet<Uuid>>>,
}

impl Handler for Teller {
    type Input = String;
    type Answer = ();
    type Refusal = Sorry;
    type State = Vec<Uuid>;

    fn hear(&self, record: &Record) -> Heard<String> {
        match record.type_name.as_str() {
            "test.Note" => Heard::Input(String::from_utf8_lossy(&record.payload).into_owned()),
            _ => Heard::Ignored,
        }
    }

    async fn load(&self, _: &mut PgConnection, _: &[&Envelope<String>]) -> sqlx::Result<Vec<Uuid>> {
        Ok(Vec::new())
    }

    fn decide(&self, decided: &mut Vec<Uuid>, asked: &Envelope<String>) -> Result<Decision<()>, Sorry> {
        if asked.input.contains("poison") {
            return Err(Sorry::Poisonous);
        }
        decided.push(asked.id);
        Ok(Decision::quiet(()))
    }

    async fn save(&self, _: &mut PgConnection, decided: Vec<Uuid>) -> sqlx::Result<()> {
        *self.staged.lock().unwrap() = decided;
        Ok(())
    }

    fn committed(&self) {
        self.told.lock().unwrap().extend(self.staged.lock().unwrap().drain(..));
    }
}
