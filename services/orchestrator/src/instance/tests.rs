mod play;

use contracts::shipping::v1::ShippingScheduled;
use play::{ORDER, Play, cancel, created};
use saga::State;

use super::*;
use crate::definitions::CHECKOUT;

/// Names of the messages, behind the facts that they bring along; a fact by itself is `+` and its event.
fn names(news: &[Message]) -> Vec<String> {
    let name = |message: &Message| {
        let facts = match message {
            Message::RecordProgress(fact) => return format!("+{}", fact.event),
            Message::ConfirmOrder(confirm) => confirm.facts.as_slice(),
            Message::CloseOrder(close) => close.facts.as_slice(),
            _ => &[],
        };
        let name = message.type_name().rsplit('.').next().unwrap_or_default();
        facts.iter().map(|fact| fact.event.as_str()).chain([name]).collect::<Vec<_>>().join("+")
    };
    news.iter().map(name).collect()
}

/// Hears what `answer` makes of the saga as it stands.
fn then(play: &mut Play, answer: fn(&Play) -> Message) -> Vec<String> {
    let message = answer(play);
    names(&play.hear(message))
}

#[test]
fn happy_path_news_in_order() {
    let (mut play, news) = Play::new();
    assert_eq!(news, ["+SagaStarted", "ChargePayment", "SagaStarted"]);
    assert_eq!(then(&mut play, Play::charged), ["+PaymentSucceeded", "ReserveStock"]);
    assert_eq!(then(&mut play, Play::reserved), ["+InventoryReserved", "ScheduleShipment"]);
    assert_eq!(then(&mut play, Play::scheduled), ["ShippingScheduled+ConfirmOrder"]);
    assert_eq!(then(&mut play, Play::completed), ["SagaCompleted"]);
    assert_eq!((play.state(), play.saga().deadline_at, play.saga().version), (State::Done, None, 5));
}

#[test]
fn commands_carry_what_was_ordered_and_what_was_answered() {
    let mut play = Play { saga: None, at: OffsetDateTime::UNIX_EPOCH };
    let Some(Message::ChargePayment(charge)) = play.hear(created()).into_iter().nth(1) else { panic!("no charge") };
    assert_eq!((charge.amount, charge.currency.as_str(), charge.payment_token.as_str()), (2405, "USD", "tok"));
    assert_eq!(charge.command_id, play.do_id(0));
    let charged = play.charged();
    let Some(Message::ReserveStock(reserve)) = play.hear(charged).pop() else { panic!("no reserve") };
    assert_eq!((reserve.lines[0].sku.as_str(), reserve.lines[0].quantity), ("SKU-123", 2));
    let reserved = play.reserved();
    let Some(Message::ScheduleShipment(schedule)) = play.hear(reserved).pop() else { panic!("no schedule") };
    assert_eq!((schedule.customer_id.as_str(), schedule.lines.len()), ("c-1", 1));
    let scheduled = play.scheduled();
    let Some(Message::ConfirmOrder(confirm)) = play.hear(scheduled).pop() else { panic!("no confirm") };
    assert_eq!((confirm.reservation_id.as_str(), confirm.shipment_id.as_str()), ("res-1", "ship-1"));
    let fact = order::Fact { event: "ShippingScheduled".into(), occurred_at: Some(to_proto(play.at)), detail: "ship-1".into() };
    assert_eq!(confirm.facts, [fact]);
}

#[test]
fn what_a_command_brought_along_is_not_told_again() {
    let mut play = Play::at_step(3);
    assert_eq!(names(&play.due()), ["ConfirmOrder"]);
    let mut play = Play::at_step(0);
    then(&mut play, Play::declined);
    assert_eq!(names(&play.due()), ["CloseOrder"]);
}

#[test]
fn a_saga_that_was_stuck_brings_along_that_it_goes_on() {
    let mut play = Play::at_step(2);
    (0..=CHECKOUT.resends_max).for_each(|_| drop(play.due()));
    assert_eq!(play.state(), State::NeedsAttention);
    assert_eq!(then(&mut play, Play::scheduled), ["ShippingScheduled+SagaResumed+ConfirmOrder"]);
}

#[test]
fn declined_charge_closes_at_once() {
    let mut play = Play::at_step(0);
    let declined = play.declined();
    let news = play.hear(declined);
    assert_eq!(names(&news), ["PaymentFailed+CloseOrder"]);
    let Some(Message::CloseOrder(close)) = news.last() else { panic!("no close") };
    assert_eq!((close.reason.as_str(), close.refunded_amount), ("CARD_DECLINED", 0));
    assert_eq!(then(&mut play, Play::failed), ["SagaCompleted"]);
    assert_eq!(play.state(), State::Undone);
}

#[test]
fn stock_out_refunds_the_charge() {
    let mut play = Play::at_step(1);
    let news = then(&mut play, Play::out_of_stock);
    assert_eq!(news, ["+InventoryFailed", "+SagaCompensating", "SagaCompensating", "RefundPayment"]);
    let refunded = play.refunded();
    let news = play.hear(refunded);
    assert_eq!(names(&news), ["PaymentRefunded+CloseOrder"]);
    let Some(Message::CloseOrder(close)) = news.last() else { panic!("no close") };
    assert_eq!((close.reason.as_str(), close.refunded_amount), ("OUT_OF_STOCK", 2405));
    assert_eq!(then(&mut play, Play::failed), ["SagaCompleted"]);
}

#[test]
fn unshippable_releases_the_stock_and_refunds() {
    let mut play = Play::at_step(2);
    let news = then(&mut play, Play::unshippable);
    assert_eq!(news, ["+ShippingFailed", "+SagaCompensating", "SagaCompensating", "ReleaseStock"]);
    assert_eq!(then(&mut play, Play::released), ["+InventoryReleased", "RefundPayment"]);
    assert_eq!(then(&mut play, Play::refunded), ["PaymentRefunded+CloseOrder"]);
    assert_eq!(then(&mut play, Play::failed), ["SagaCompleted"]);
}

#[test]
fn a_refused_confirm_undoes_everything() {
    let mut play = Play::at_step(3);
    assert_eq!(then(&mut play, Play::confirm_refused), ["+SagaCompensating", "SagaCompensating", "CancelShipment"]);
    assert_eq!(then(&mut play, Play::unscheduled), ["+ShippingCancelled", "ReleaseStock"]);
    assert_eq!(then(&mut play, Play::released), ["+InventoryReleased", "RefundPayment"]);
    assert_eq!(then(&mut play, Play::refunded), ["PaymentRefunded+CloseOrder"]);
    assert_eq!(play.saga().reason, "CONFIRM_REFUSED");
}

#[test]
fn a_cancel_at_each_point_undoes_what_may_be_done() {
    for (step, first_undo) in [(0, "RefundPayment"), (1, "ReleaseStock"), (2, "CancelShipment"), (3, "CancelShipment")] {
        let mut play = Play::at_step(step);
        assert_eq!(
            names(&play.hear(cancel())),
            ["+SagaCompensating", "SagaCompensating", first_undo],
            "before step {step} is answered"
        );
        if step >= 2 {
            then(&mut play, Play::unscheduled);
        }
        if step >= 1 {
            then(&mut play, Play::released);
        }
        let refunded = if step == 0 { Play::voided } else { Play::refunded };
        let message = refunded(&play);
        let Some(Message::CloseOrder(close)) = play.hear(message).pop() else { panic!("no close") };
        assert_eq!((close.reason.as_str(), close.refunded_amount), ("changed my mind", if step == 0 { 0 } else { 2405 }));
        assert_eq!(then(&mut play, Play::cancelled), ["SagaCompleted"]);
        assert_eq!(play.state(), State::Undone);
    }
}

#[test]
fn an_undo_names_the_command_it_undoes() {
    let mut play = Play::at_step(0);
    let Some(Message::RefundPayment(refund)) = play.hear(cancel()).pop() else { panic!("no refund") };
    assert_eq!((refund.command_id, refund.undoes), (play.undo_id(0), play.do_id(0)));
}

#[test]
fn a_cancel_comes_too_late_behind_the_pivot() {
    let mut play = Play::at_step(3);
    then(&mut play, Play::completed);
    assert!(play.hear(cancel()).is_empty());
    assert_eq!(play.state(), State::Done);
}

#[test]
fn a_late_refusal_of_the_confirm_is_ignored() {
    let mut play = Play::at_step(3);
    play.hear(cancel());
    assert!(then(&mut play, Play::confirm_refused).is_empty());
}

#[test]
fn repeated_and_foreign_answers_are_ignored() {
    let mut play = Play::at_step(2);
    let before = play.saga().clone();
    assert!(play.hear(created()).is_empty());
    for again in [Play::charged, Play::reserved, Play::declined, Play::refunded, Play::completed, Play::failed] {
        assert!(then(&mut play, again).is_empty());
    }
    for command_id in ["", "x", "0190d3a8-7c1e-7000-8000-00000000ffff"] {
        let foreign = ShippingScheduled { order_id: ORDER.to_string(), command_id: command_id.into(), ..Default::default() };
        assert!(play.hear(foreign).is_empty());
    }
    assert_eq!(*play.saga(), before);
}

#[test]
fn a_charge_that_lands_after_the_cancel_is_told_once_and_changes_nothing_else() {
    let mut play = Play::at_step(0);
    play.hear(cancel());
    let progress = play.saga().progress.clone();
    assert_eq!(then(&mut play, Play::charged), ["+PaymentSucceeded"]);
    assert!(then(&mut play, Play::charged).is_empty());
    assert_eq!(play.saga().progress, progress);
    assert_eq!(then(&mut play, Play::refunded), ["PaymentRefunded+CloseOrder"]);
}

#[test]
fn a_refused_refund_needs_a_person() {
    let mut play = Play::at_step(1);
    play.hear(cancel());
    then(&mut play, Play::released);
    let news = then(&mut play, Play::refund_refused);
    assert_eq!(news, ["+PaymentRefundFailed", "+SagaNeedsAttention", "SagaNeedsAttention"]);
    assert_eq!((play.state(), play.saga().deadline_at), (State::NeedsAttention, None));
    assert_eq!(attention(&CHECKOUT, &play.saga().progress), "RefundPayment is refused");
}

#[test]
fn deadlines_ask_again_with_the_same_command_id_until_the_budget_is_spent() {
    let mut play = Play::at_step(0);
    let mut waits = Vec::new();
    for _ in 0..CHECKOUT.resends_max {
        let asked_at = play.at;
        let news = play.due();
        let [Message::ChargePayment(charge)] = &news[..] else { panic!("{news:?}") };
        assert_eq!(charge.command_id, play.do_id(0));
        waits.push((play.at - asked_at).whole_milliseconds());
    }
    assert!(waits.iter().all(|wait| (i128::from(DEADLINE_FIRST_MS)..=i128::from(DEADLINE_MAX_MS)).contains(wait)), "{waits:?}");
    assert_eq!(names(&play.due()), ["+SagaNeedsAttention", "SagaNeedsAttention"]);
    assert_eq!(attention(&CHECKOUT, &play.saga().progress), "ChargePayment has no answer");
    assert_eq!(then(&mut play, Play::charged), ["+PaymentSucceeded", "+SagaResumed", "ReserveStock"]);
    assert_eq!(play.state(), State::Running);
}

#[test]
fn a_deadline_that_is_not_the_sagas_any_more_does_nothing() {
    let mut play = Play::at_step(0);
    let old = play.saga().deadline_at.expect("asked");
    play.at += Duration::seconds(1);
    then(&mut play, Play::charged);
    assert_eq!(play.saga().due(old, &Unread::new(), old).expect("is decided"), None);
}
