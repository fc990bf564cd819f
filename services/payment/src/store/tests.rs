//! What the tables promise of payments and refunds, on a real Postgres.

use std::slice::from_ref;

use sqlx::{Connection, error::ErrorKind};

use super::*;

const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn payment(n: u128) -> Payment {
    Payment {
        id: Uuid::from_u128(n),
        order_id: Uuid::from_u128(n + 100),
        two_step: false,
        command_id: Uuid::from_u128(n + 200),
        capture_command_id: None,
        undo_command_id: None,
        uncapture_command_id: None,
        earlier_undos: Vec::new(),
        undo_key: None,
        state: State::Captured,
        provider: "sandbox".into(),
        currency: "USD".into(),
        amount: 100,
        captured: 100,
        refunded: 0,
        refund_pending: 0,
        refunds_unknown: 0,
        auth_code: "A1".into(),
        decline_reason: String::new(),
        capture_reason: String::new(),
        refund_reason: String::new(),
        unknown_said: false,
        created_at: AT,
        sent: true,
    }
}

/// The refund of an undo.
fn refund(n: u128, payment: &Payment, state: RefundState) -> Refund {
    let reason = if state == RefundState::Refused { "NO".to_owned() } else { String::new() };
    let (id, payment_id, currency) = (Uuid::from_u128(n), payment.id, "USD".to_owned());
    Refund { id, payment_id, command_id: None, amount: 100, currency, state, reason, unknown_said: false }
}

async fn database() -> PgConnection {
    let url = local::postgres::shared_for_tests().await.fresh_database("payment").await.expect("a database");
    let mut db = PgConnection::connect(&url).await.expect("it answers");
    crate::MIGRATIONS.run(&mut db).await.expect("migrated");
    db
}

async fn loaded(db: &mut PgConnection, payment: &Payment) -> Payment {
    lock_payments(db, &[payment.order_id]).await.expect("loaded").pop().expect("it is there")
}

/// What the database says against it.
async fn refused(db: &mut PgConnection, refunds: &[Refund]) -> ErrorKind {
    let rows: Vec<_> = refunds.iter().map(|refund| (refund.clone(), AT)).collect();
    let error = put_refunds(db, &rows).await.expect_err("it is refused");
    error.as_database_error().expect("by the database").kind()
}

async fn put(db: &mut PgConnection, refunds: &[Refund]) {
    let rows: Vec<_> = refunds.iter().map(|refund| (refund.clone(), AT)).collect();
    put_refunds(db, &rows).await.expect("written");
}

// One test, for the server's tasks are those of its runtime.
#[tokio::test]
async fn the_tables_keep_what_an_undo_needs_and_refuse_what_would_move_money_twice() {
    let mut db = database().await;
    let (plain, undone) = (payment(1), Payment { undo_command_id: Some(Uuid::from_u128(9)), ..payment(2) });
    insert_payments(&mut db, &[plain.clone(), undone.clone()]).await.expect("written");
    assert_eq!((loaded(&mut db, &plain).await, loaded(&mut db, &undone).await), (plain.clone(), undone.clone()));
    let undone = Payment {
        earlier_undos: vec![Uuid::from_u128(7), Uuid::from_u128(6)],
        undo_key: Some(Uuid::from_u128(5)),
        state: State::Refunding,
        refund_pending: 100,
        refunds_unknown: 1,
        ..undone
    };
    update_payments(&mut db, &[undone.clone(), plain.clone()]).await.expect("written");
    assert_eq!(loaded(&mut db, &undone).await, undone, "its earlier undos in their order");
    assert_eq!(loaded(&mut db, &plain).await, plain, "and one row's are not another's");
    for wrong in [
        Payment { undo_key: Some(Uuid::from_u128(5)), ..plain.clone() },
        Payment { refunds_unknown: -1, ..plain.clone() },
        Payment { earlier_undos: (0..511).map(Uuid::from_u128).collect(), ..plain.clone() },
    ] {
        let error = update_payments(&mut db, &[wrong]).await.expect_err("it is refused");
        assert_eq!(error.as_database_error().map(|error| error.kind()), Some(ErrorKind::CheckViolation), "{error}");
    }

    // Of an undo one refund at a time: the one that follows is written behind the one that is over, whatever their ids.
    let (first, second) = (refund(12, &undone, RefundState::InFlight), refund(11, &undone, RefundState::InFlight));
    put(&mut db, from_ref(&first)).await;
    assert_eq!(refused(&mut db, from_ref(&second)).await, ErrorKind::UniqueViolation);
    put(&mut db, &[second.clone(), refund(12, &undone, RefundState::Refused)]).await;
    assert_eq!(refused(&mut db, from_ref(&first)).await, ErrorKind::UniqueViolation);
    // What a RefundCapture asks for is as many as there is money for, and a refund that was refused may land late.
    let of_commands =
        [13, 14].map(|n| Refund { command_id: Some(Uuid::from_u128(n)), ..refund(n, &undone, RefundState::InFlight) });
    put(&mut db, &of_commands).await;
    put(&mut db, &[refund(12, &undone, RefundState::Succeeded)]).await;

    // A row of another payment is refused, not changed.
    assert_eq!(refused(&mut db, &[refund(12, &plain, RefundState::Refused)]).await, ErrorKind::UniqueViolation);
    let kept = refunds(&mut db, &[first.id]).await.expect("read");
    assert_eq!(kept, [refund(12, &undone, RefundState::Succeeded)]);
}
