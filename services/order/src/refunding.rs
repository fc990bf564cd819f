//! Refunds in the book of a batch: asked for by callers, closed by the saga.

pub(crate) mod store;

use contracts::money;
use messaging::{Decision, Envelope};
use uuid::Uuid;

use crate::{
    error::Refusal,
    events::{Answer, Book, Input},
    order::Order,
    refund::{self, Ask, Closing, Refund, State},
    said,
};

impl Book {
    pub(crate) fn refund(&mut self, asked: &Envelope<Input>, ask: &Ask) -> Result<Decision<Answer>, Refusal> {
        let order = self.order(ask.order_id)?;
        if let Some(refund) = self.refunds.get(&(ask.order_id, ask.id)) {
            if refund.request_hash != ask.request_hash {
                return Err(Refusal::KeyReused);
            }
            // The first answer again, whatever has become of the refund since.
            let again = answer(&order, refund, true);
            return Ok(match refund.said_again_by(asked.at) {
                None => Decision::quiet(again),
                // The ids of news come from their call, and those of this call may be said already.
                Some(call) if call != asked.id => Decision::quiet(Answer { say_again: Some(call), ..again }),
                Some(_) => {
                    let news = said::refund_requested(&order, refund);
                    let refund = Refund { updated_at: asked.at, ..refund.clone() };
                    self.keep(refund);
                    Decision::new(again, vec![news])
                }
            });
        }
        let (order, refund) = refund::begin(&order, ask, asked.at).map_err(Refusal::NoRefund)?;
        let mut detail = money::readable(refund.amount, &order.currency);
        if !refund.reason.is_empty() {
            detail = format!("{detail}: {}", refund.reason);
        }
        let decided = Decision::new(answer(&order, &refund, false), vec![said::refund_requested(&order, &refund)]);
        self.keep(refund);
        self.write(order, asked, asked.id, asked.at, "OrderRefundRequested", &detail);
        Ok(decided)
    }

    pub(crate) fn close_refund(
        &mut self,
        asked: &Envelope<Input>,
        key: (Uuid, Uuid),
        command_id: &str,
        how: &Closing,
    ) -> Result<Decision<Answer>, Refusal> {
        let order = self.order(key.0)?;
        let refund = self.refunds.get(&key).ok_or(Refusal::UnknownRefund { order: key.0, refund: key.1 })?;
        let (order, refund, is_news) = match refund::close(&order, refund, how, asked.at) {
            Some((order, refund)) => (order, refund, true),
            None => (order, refund.clone(), false),
        };
        let news = said::refund_closed(&order, &refund, command_id).into_iter().collect();
        let answer = answer(&order, &refund, !is_news);
        if is_news {
            let (event, detail) = match &refund.state {
                State::Refused { reason } => ("OrderRefundRefused", reason.clone()),
                State::Pending | State::Refunded { .. } => ("OrderRefunded", money::readable(refund.amount, &order.currency)),
            };
            self.keep(refund);
            self.write(order, asked, asked.id, asked.at, event, &detail);
        }
        Ok(Decision::new(answer, news))
    }

    fn keep(&mut self, refund: Refund) {
        let key = (refund.order_id, refund.id);
        self.changed_refunds.insert(key);
        self.refunds.insert(key, refund);
    }
}

fn answer(order: &Order, refund: &Refund, replayed: bool) -> Answer {
    Answer { refund: Some((refund.id, refund.amount, order.currency.clone())), ..Answer::of(order.id, order.status, replayed) }
}

#[cfg(test)]
mod tests {
    use contracts::order::v1::{OrderRefunded, RefundOrderRequest};
    use messaging::{Handler, Trace};
    use prost::Message;
    use time::{Duration, OffsetDateTime};

    use super::*;
    use crate::{
        events::Orders,
        order::{Status, sample},
    };

    const ORDER: Uuid = Uuid::from_u128(1);

    fn book(status: Status) -> Book {
        Book { orders: [(ORDER, sample(ORDER, status))].into(), ..Book::default() }
    }

    fn decide_at(book: &mut Book, at: OffsetDateTime, id: Uuid, input: Input) -> Result<Decision<Answer>, Refusal> {
        let asked = Envelope { id, key: String::new(), at, correlation: String::new(), trace: Trace::default(), input };
        Orders::new(std::sync::Arc::default(), "checkout").decide(book, &asked)
    }

    fn decide(book: &mut Book, id: u128, input: Input) -> Result<Decision<Answer>, Refusal> {
        decide_at(book, OffsetDateTime::UNIX_EPOCH, Uuid::from_u128(id), input)
    }

    fn wanted(key: &str, amount: i64) -> Ask {
        let request = RefundOrderRequest { idempotency_key: key.to_owned(), amount: Some(amount), ..Default::default() };
        Ask::check(ORDER, request, Uuid::nil).expect("good")
    }

    fn ask(book: &mut Book, key: &str, amount: i64) -> Result<Decision<Answer>, Refusal> {
        let ask = wanted(key, amount);
        decide(book, ask.id.as_u128(), Input::Refund(ask))
    }

    fn close(book: &mut Book, id: u128, refund_id: Uuid, how: Closing) -> Result<Decision<Answer>, Refusal> {
        let command_id = format!("command of {refund_id}");
        decide(book, id, Input::CloseRefund { order_id: ORDER, refund_id, command_id, how })
    }

    fn id(decision: &Decision<Answer>) -> Uuid {
        decision.answer.refund.as_ref().expect("a refund").0
    }

    fn money(book: &Book) -> (i64, i64) {
        (book.orders[&ORDER].refunded_amount, book.orders[&ORDER].refund_pending)
    }

    fn story(book: &Book) -> Vec<&str> {
        book.entries.iter().map(|entry| entry.event.as_str()).collect()
    }

    #[test]
    fn the_same_key_is_one_refund_and_another_body_is_refused() {
        let mut book = book(Status::Confirmed);
        let first = ask(&mut book, "k", 400).expect("there is enough");
        assert_eq!((first.news.len(), first.answer.replayed), (1, false));
        let again = ask(&mut book, "k", 400).expect("said again");
        assert_eq!((again.news.len(), again.answer.replayed, id(&again)), (0, true, id(&first)));
        assert!(matches!(ask(&mut book, "k", 401), Err(Refusal::KeyReused)));
        assert_eq!((money(&book), story(&book)), ((0, 400), vec!["OrderRefundRequested"]));
    }

    #[test]
    fn a_refund_that_was_passed_over_is_said_again_once_in_a_while() {
        let mut book = book(Status::Confirmed);
        let first = ask(&mut book, "k", 400).expect("there is enough");
        let (order, late) = (book.orders.clone(), OffsetDateTime::UNIX_EPOCH + Duration::HOUR);
        let (asks, own) = (wanted("k", 400), id(&first));
        let found = decide_at(&mut book, late, own, Input::Refund(asks.clone())).expect("said again");
        assert_eq!((found.news.len(), found.answer.replayed), (0, true), "not under the id that the first news are of");
        let call = found.answer.say_again.expect("it is due");
        assert_ne!(call, own);

        let said = decide_at(&mut book, late, call, Input::Refund(asks.clone())).expect("said again");
        assert_eq!((said.news, said.answer.replayed, said.answer.say_again), (first.news, true, None), "word for word");
        // Another caller found it due as well, or the call is repeated after a commit in doubt; the caller asks once more at once.
        for call in [call, own] {
            let again = decide_at(&mut book, late, call, Input::Refund(asks.clone())).expect("said again");
            assert_eq!((again.news.len(), again.answer.say_again), (0, None));
        }
        assert!(matches!(decide_at(&mut book, late, call, Input::Refund(wanted("k", 401))), Err(Refusal::KeyReused)));
        assert_eq!((&book.orders, story(&book)), (&order, vec!["OrderRefundRequested"]), "nothing new has happened to the order");

        close(&mut book, 10, own, Closing::Settled).expect("it was open");
        let over = decide_at(&mut book, late + Duration::HOUR, own, Input::Refund(asks)).expect("said again");
        assert_eq!((over.news.len(), over.answer.say_again), (0, None));
    }

    #[test]
    fn a_command_is_answered_the_same_each_time() {
        let mut book = book(Status::Confirmed);
        let (one, two) = (id(&ask(&mut book, "1", 400).expect("good")), id(&ask(&mut book, "2", 500).expect("good")));
        let first = close(&mut book, 10, one, Closing::Settled).expect("it was open");
        close(&mut book, 11, two, Closing::Settled).expect("it was open");
        let again = close(&mut book, 12, one, Closing::Settled).expect("said again");
        assert_eq!(again.news, first.news);
        let said = OrderRefunded::decode(&*first.news[0].payload).expect("it is said");
        assert_eq!((said.amount, said.refunded_amount), (400, 400), "not what came back since");
        assert_eq!((money(&book), book.orders[&ORDER].status), ((900, 0), Status::Confirmed));
        assert_eq!(story(&book), ["OrderRefundRequested", "OrderRefundRequested", "OrderRefunded", "OrderRefunded"]);
    }

    #[test]
    fn what_a_refused_refund_had_set_aside_is_free_again() {
        let mut book = book(Status::Confirmed);
        let refund = id(&ask(&mut book, "1", 1_000).expect("good"));
        assert!(matches!(ask(&mut book, "2", 1), Err(Refusal::NoRefund(_))));
        let refused = close(&mut book, 10, refund, Closing::Refused { reason: "REFUND_REFUSED".to_owned() }).expect("it was open");
        assert_eq!(close(&mut book, 11, refund, Closing::Settled).expect("said again").news, refused.news, "it is over");
        assert_eq!(money(&book), (0, 0));
        assert!(ask(&mut book, "2", 1_000).is_ok());
    }

    #[test]
    fn a_refusal_leaves_the_book_as_it_was() {
        for status in Status::ALL.into_iter().filter(|status| *status != Status::Confirmed) {
            let mut book = book(status);
            assert!(matches!(ask(&mut book, "k", 1), Err(Refusal::NoRefund(_))));
            let unknown = close(&mut book, 10, Uuid::from_u128(7), Closing::Settled);
            assert!(matches!(unknown, Err(Refusal::UnknownRefund { .. })));
            assert!(book.entries.is_empty() && book.changed_refunds.is_empty());
        }
    }
}
