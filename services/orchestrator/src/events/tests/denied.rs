//! The order says no to what ends a saga, since it came to the opposite before; or it says nothing at all.

use contracts::{
    Message,
    order::v1::{OrderCompleted, OrderRefundRefused, OrderRefunded},
};
use saga::{Operation, Phase, State};

use super::play::{ORDER, Play, command_id, commands, done, name, names, refused};
use crate::{
    definitions::{CHECKOUT, REFUND},
    instance::attention,
};

/// A saga whose last command was just asked, with that.
fn closing(last: &str) -> (Play, Message) {
    let (play, last_asked) = match last {
        "CloseOrder" => {
            let (mut play, charge) = Play::at_step(&CHECKOUT, 0);
            let close = play.asks(refused(&charge).expect("it can be refused"));
            (play, close)
        }
        "RefuseRefund" => {
            let (mut play, give_back) = Play::new(&REFUND);
            let refuse = play.asks(refused(&give_back).expect("it can be refused"));
            (play, refuse)
        }
        _ => Play::at_step(&REFUND, 1),
    };
    assert_eq!(name(&last_asked), last);
    (play, last_asked)
}

/// What the order says to the command if it came to the opposite before.
fn denied(command: &Message) -> Message {
    let (order_id, command_id) = (ORDER.to_string(), command_id(command));
    match command {
        Message::CloseOrder(_) => OrderCompleted { order_id, command_id, ..Default::default() }.into(),
        Message::SettleRefund(_) => OrderRefundRefused { order_id, command_id, ..Default::default() }.into(),
        Message::RefuseRefund(_) => OrderRefunded { order_id, command_id, ..Default::default() }.into(),
        other => panic!("{} is never denied", name(other)),
    }
}

fn why(play: &Play) -> String {
    attention(play.saga().definition, &play.saga().progress)
}

const DENIALS: [(&str, &str); 3] = [
    ("CloseOrder", "CloseOrder is refused: the order is confirmed"),
    ("SettleRefund", "SettleRefund is refused: the order has this refund as refused"),
    ("RefuseRefund", "RefuseRefund is refused: the order has this refund as made"),
];

#[test]
fn what_the_order_denies_needs_a_person_who_is_told_why() {
    for (last, says) in DENIALS {
        let (mut play, asked) = closing(last);
        let news = play.hear(denied(&asked));
        assert_eq!(names(&news), ["+SagaNeedsAttention", "SagaNeedsAttention"], "{last}");
        let Message::RecordProgress(fact) = &news[0] else { panic!("{news:?}") };
        assert_eq!((fact.detail.as_str(), why(&play).as_str()), (says, says));
        assert_eq!((play.saga().progress.state(), play.saga().deadline_at), (State::NeedsAttention, None), "{last}");
        let before = play.book.sagas.clone();
        assert!(play.hear(denied(&asked)).is_empty(), "{last}: said again");
        assert_eq!(play.book.sagas, before);
        assert!(play.operate(Operation::Skip).is_err(), "{last}: there is no way around it");
    }
}

#[test]
fn what_the_order_denied_is_asked_again_as_a_new_attempt() {
    for (last, says) in DENIALS {
        let (mut play, asked) = closing(last);
        play.hear(denied(&asked));
        let again = commands(&play.operate(Operation::Retry).expect("allowed")).pop().expect("it asks");
        assert_eq!(name(&again), last);
        assert_ne!(command_id(&again), command_id(&asked), "{last}: it is to be decided anew");
        assert_eq!(why(&play), "", "{last}: it waits for the answer");
        assert!(play.hear(denied(&asked)).is_empty(), "{last}: that was the first attempt");

        let mut mended = play.clone();
        assert_eq!(names(&mended.hear(done(&again))), ["SagaCompleted"], "{last}: somebody mended it");
        assert!(mended.saga().progress.is_over());
        play.hear(denied(&again));
        assert_eq!(why(&play), says);
    }
}

#[test]
fn what_completes_the_order_confirms_it_still() {
    let (mut play, confirm) = Play::at_step(&CHECKOUT, 3);
    let Message::ConfirmOrder(_) = &confirm else { panic!("{confirm:?}") };
    play.hear(done(&confirm));
    assert_eq!(play.saga().progress.phase, Phase::Done);
}

#[test]
fn s16_an_end_that_is_never_answered_is_asked_again_and_then_listed() {
    // As where a person discards the command: the order has no other answer to it.
    for (last, _) in DENIALS {
        let (mut play, asked) = closing(last);
        let mut repeats = 0;
        while play.saga().deadline_at.is_some() {
            for again in commands(&play.due(&[])) {
                assert_eq!((name(&again), command_id(&again)), (last, command_id(&asked)));
                repeats += 1;
            }
        }
        assert_eq!(repeats, CHECKOUT.resends_max, "{last}");
        assert_eq!((play.saga().progress.state(), why(&play)), (State::NeedsAttention, format!("{last} has no answer")));
        assert_eq!(
            names(&play.hear(done(&asked))).last().map(String::as_str),
            Some("SagaCompleted"),
            "{last}: a late answer ends it"
        );
    }
}
