//! What people do with dead letters: look, redrive, discard. None of it loses a record, doubles an effect or changes an order.

use messaging::{
    Held, Parked,
    parking::{Discarded, Filter, REDRIVES_MAX, Redrive, Which},
};
use uuid::Uuid;

use crate::fixture::{
    On, Stage,
    desk::{self, ASKED},
    key_in, store, wait,
};

/// What is held back, as (state, behind another, redrives).
fn states(parked: &[Parked]) -> Vec<(Held, bool, i32)> {
    parked.iter().map(|row| (row.held, row.behind, row.redrives)).collect()
}

fn ids(parked: &[Parked]) -> Vec<i64> {
    parked.iter().map(|row| row.id).collect()
}

/// A poisoned note of a key, and so many behind it.
async fn poisoned(stage: &Stage, key: &str, behind: i64) -> Vec<Parked> {
    let before = stage.pair.parked().await.len();
    stage.say(key, 1, "poison").await;
    for n in 2..2 + behind {
        stage.say(key, n, "ok").await;
    }
    stage.pair.wait_parked(before + 1 + usize::try_from(behind).unwrap()).await;
    stage.pair.parked().await.into_iter().filter(|row| row.record.key == key).collect()
}

on_buses!(c14_a_redrive_is_audited_and_a_second_one_harmless);

async fn c14_a_redrive_is_audited_and_a_second_one_harmless(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let (key, neighbour) = (key_in(0, 0), key_in(0, 1));
    let rows = poisoned(&stage, &key, 2).await;
    let other = poisoned(&stage, &neighbour, 0).await;
    assert_eq!(states(&rows), [(Held::Parked, false, 0), (Held::Parked, true, 0), (Held::Parked, true, 0)]);

    pair.mind.cure();
    // What only waits behind it comes with it.
    let redriven = pair.redrive_ids(&ids(&rows)[..1]).await;
    assert_eq!((redriven.marked, redriven.refused), (ids(&rows), vec![]));
    let again = pair.redrive_ids(&ids(&rows)).await;
    assert!(again.marked.is_empty() && again.refused.is_empty() && again.last().is_none(), "{again:?}");
    pair.wait_seen(&key, &[1, 2, 3]).await;
    pair.wait_parked(1).await;
    let settled = pair.redrive_ids(&ids(&rows)).await;
    assert!(settled.marked.is_empty(), "what is settled is left alone");
    for row in &rows {
        let audit = pair.interventions(row.id).await;
        let [done] = audit.as_slice() else { panic!("{audit:?}") };
        assert_eq!((done.action.as_str(), done.who.as_str(), done.why.as_str()), ("REDRIVE", ASKED.who, ASKED.why));
    }
    assert!(pair.interventions(other[0].id).await.is_empty());
    assert_eq!(ids(&pair.parked().await), ids(&other), "others are left alone");
    assert_eq!(pair.seen_of(&neighbour).await, [0; 0]);
    stage.stop().await;
}

on_buses!(the_audit_can_only_grow: postgres);

async fn the_audit_can_only_grow(on: On) {
    let stage = Stage::start(on).await;
    let rows = poisoned(&stage, "a", 0).await;
    assert_eq!(stage.pair.redrive_ids(&ids(&rows)).await.marked.len(), 1);
    for sql in ["update dead_letter_audit set who = 'nobody'", "delete from dead_letter_audit", "truncate dead_letter_audit"] {
        let refused = sqlx::raw_sql(sql).execute(&stage.pair.consumer).await;
        assert!(refused.is_err_and(|error| error.to_string().contains("append-only")), "{sql}");
    }
    stage.stop().await;
}

on_buses!(slices_are_marked_one_after_the_other);

/// However small the slices are: each record once, in order.
async fn slices_are_marked_one_after_the_other(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let rows = poisoned(&stage, "a", 6).await;
    pair.mind.cure();
    let (mut after, mut marked) = (0, Vec::new());
    for slice in [3, 3, 1, 0] {
        let redriven = pair.redrive_as(&Redrive { after, rows_max: 3, ..Redrive::of(Which::Key("a")) }).await;
        assert_eq!(redriven.marked.len(), slice);
        after = redriven.last().unwrap_or(after);
        marked.extend(redriven.marked);
    }
    assert_eq!(marked, ids(&rows));
    pair.all_applied(&["a".to_owned()], 7).await;
    pair.wait_parked(0).await;
    stage.stop().await;
}

on_buses!(a_loop_of_redrives_ends);

async fn a_loop_of_redrives_ends(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let rows = poisoned(&stage, "a", 1).await;
    let refused = pair.mind.refused();
    assert_eq!(pair.redrive("a").await, 2);
    wait("it to be tried", || async { pair.mind.refused() > refused }).await;
    wait("it to be parked again", || async { states(&pair.parked().await)[0] == (Held::Parked, false, 1) }).await;
    assert_eq!(states(&pair.parked().await)[1].2, 0, "what only waits behind it was not tried");

    desk::redriven_before(&pair.consumer, rows[0].id, REDRIVES_MAX).await;
    stage.say("a", 3, "ok").await;
    pair.wait_parked(3).await;
    let third = pair.parked().await[2].id;
    let redriven = pair.redrive_as(&Redrive::of(Which::Key("a"))).await;
    assert_eq!((redriven.marked, redriven.refused), (vec![], vec![rows[0].id, third]), "nor does what waits behind it come");
    assert!(pair.redrive_ids(&[rows[0].id]).await.marked.is_empty());
    assert_eq!(pair.interventions(rows[0].id).await.len(), 1, "nothing was done");

    pair.mind.cure();
    let forced = pair.redrive_as(&Redrive { force: true, ..Redrive::of(Which::Key("a")) }).await;
    assert_eq!(forced.marked, [rows[0].id, third]);
    pair.all_applied(&["a".to_owned()], 3).await;
    pair.wait_parked(0).await;
    stage.stop().await;
}

on_buses!(a_discarded_command_is_refused_in_its_turn);

/// Whoever said it hears a no, what waited behind it goes on, and nothing overtakes anything.
async fn a_discarded_command_is_refused_in_its_turn(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let (key, neighbour) = (key_in(1, 0), key_in(1, 1));
    stage.say(&key, 0, "ok").await;
    pair.wait_seen(&key, &[0]).await;
    let rows = poisoned(&stage, &key, 2).await;
    let other = poisoned(&stage, &neighbour, 0).await;

    assert_eq!(pair.discard(rows[0].id).await, Discarded::Marked);
    stage.say(&key, 4, "ok").await;
    pair.wait_seen(&key, &[0, 2, 3, 4]).await;
    wait("only the other to be held back", || async { ids(&pair.parked().await) == ids(&other) }).await;
    let said = desk::said(&pair.consumer, pair.echoes).await;
    let of_key: Vec<_> = said.iter().filter(|row| row.key == key).collect();
    let names: Vec<&str> = of_key.iter().map(|row| row.type_name.as_str()).collect();
    assert_eq!(names, ["test.Echo", "test.Refused", "test.Echo", "test.Echo", "test.Echo"]);
    let (no, record) = (of_key[1], &rows[0].record);
    assert_eq!((no.causation, &no.correlation), (Some(record.id), &record.correlation));
    assert_eq!(no.id, Uuid::new_v5(&record.id, format!("news/{}/0", pair.echoes).as_bytes()), "derived as any other");

    assert_eq!(pair.discard(rows[0].id).await, Discarded::Before);
    assert_eq!(pair.discard(rows[1].id).await, Discarded::Settled);
    assert_eq!(pair.discard(i64::MAX).await, Discarded::Absent);
    let audit = pair.interventions(rows[0].id).await;
    let [done] = audit.as_slice() else { panic!("{audit:?}") };
    assert_eq!((done.action.as_str(), done.who.as_str(), done.why.as_str()), ("DISCARD", ASKED.who, ASKED.why));
    assert!(pair.redrive_ids(&ids(&rows)).await.marked.is_empty(), "it does not come back");
    assert_eq!(store::holes(&pair.consumer).await, 0);
    stage.stop().await;
}

on_buses!(garbage_is_discarded_without_an_answer);

async fn garbage_is_discarded_without_an_answer(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    stage.say_news("garbage", vec![pair.news(pair.notes, "test.Note", "a", vec![0xff, 0xfe])]).await;
    stage.say("a", 1, "ok").await;
    pair.wait_parked(2).await;
    assert_eq!(pair.discard(pair.parked().await[0].id).await, Discarded::Marked);
    pair.all_applied(&["a".to_owned()], 1).await;
    pair.wait_parked(0).await;
    stage.stop().await;
}

on_buses!(a_record_is_discarded_behind_another);

/// It waits for its turn, and the one before is not touched.
async fn a_record_is_discarded_behind_another(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let rows = poisoned(&stage, "a", 2).await;
    assert_eq!(pair.discard(rows[1].id).await, Discarded::Marked);
    let now = pair.parked().await;
    assert_eq!((now[0].held, now[1].held), (Held::Parked, Held::Discard));
    pair.mind.cure();
    assert!(pair.redrive("a").await > 0);
    pair.wait_seen("a", &[1, 3]).await;
    pair.wait_parked(0).await;
    let said = desk::said(&pair.consumer, pair.echoes).await;
    let names: Vec<&str> = said.iter().map(|row| row.type_name.as_str()).collect();
    assert_eq!(names, ["test.Echo", "test.Refused", "test.Echo"]);
    stage.stop().await;
}

on_buses!(a_list_is_filtered_and_comes_in_pages: postgres);

async fn a_list_is_filtered_and_comes_in_pages(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let a = ids(&poisoned(&stage, "a", 2).await);
    let b = ids(&poisoned(&stage, "b", 1).await);
    let all = [a.clone(), b.clone()].concat();
    let any = Filter::default();
    assert_eq!(pair.found(&any, 0, 100).await, all);
    assert_eq!((pair.found(&any, 0, 2).await, pair.found(&any, a[1], 2).await), (all[..2].to_vec(), all[2..4].to_vec()));
    let of = |filter: Filter| async move { pair.found(&filter, 0, 100).await };
    assert_eq!(of(Filter { key: Some("b".to_owned()), ..Filter::default() }).await, b);
    assert_eq!(of(Filter { topic: Some(pair.notes.to_owned()), ..Filter::default() }).await, all);
    assert!(of(Filter { topic: Some(pair.flags.to_owned()), ..Filter::default() }).await.is_empty());
    assert!(of(Filter { state: Some(Held::Done), ..Filter::default() }).await.is_empty());
    assert_eq!(pair.discard(b[0]).await, Discarded::Marked);
    wait("it to be settled", || async { of(Filter { state: Some(Held::Done), ..Filter::default() }).await == b }).await;
    assert_eq!(of(Filter { state: Some(Held::Parked), ..Filter::default() }).await, a);
    stage.stop().await;
}
