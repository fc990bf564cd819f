//! The handler: commands of the saga, completed orders and calls, all decided against the same rows.

use std::collections::BTreeSet;

use contracts::{
    Message,
    common::v1::Line,
    ids,
    inventory::v1::{
        InventoryFailed, InventoryReleased, InventoryReserved, Product, ProductUpserted, ReleaseStock, ReserveStock, StockAdjusted,
    },
    order::v1::OrderCompleted,
};
use messaging::{Decision, Envelope, Handler, Heard, News, Record};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    error::{Refusal, Unreadable},
    reservation::{self, Ask, Said, State},
    stock::{Change, Stock},
    store::{self, Book, Called, Changed},
};

/// The one warehouse there is.
const WAREHOUSE: &str = "WH-01";

pub(crate) struct Inventory;

#[derive(Debug)]
pub(crate) enum Input {
    /// About one reservation of an order.
    Told { order: Uuid, reservation: Uuid, ask: Ask },
    /// A product as it is to be, its prices in order of currency.
    Upsert(Product),
    /// A person changes what is on hand.
    Count {
        sku: String,
        change: Change,
        /// Of a call with an idempotency key: tells the same request from another one.
        request: Option<String>,
    },
}

impl Input {
    /// What a message means here; `None` if nothing.
    fn of(message: Message) -> Option<Result<Self, Unreadable>> {
        match message {
            Message::ReserveStock(told) => Some(Self::reserve(told)),
            Message::ReleaseStock(told) => Some(Self::release(&told)),
            // An order without a reservation has nothing to take.
            Message::OrderCompleted(told) if !told.reservation_id.is_empty() => Some(Self::commit(&told)),
            _ => None,
        }
    }

    fn reserve(told: ReserveStock) -> Result<Self, Unreadable> {
        let command = ids::parse(&told.command_id)?;
        if let Some(Line { sku, quantity }) = told.lines.iter().find(|line| line.quantity < 1 || !is_plain(&line.sku)) {
            return Err(Unreadable::Line { sku: sku.clone(), quantity: *quantity });
        }
        let ask = Ask::Reserve { command, lines: told.lines };
        Ok(Self::Told { order: ids::parse(&told.order_id)?, reservation: reservation_of(command), ask })
    }

    fn release(told: &ReleaseStock) -> Result<Self, Unreadable> {
        let undoes = ids::parse(&told.undoes)?;
        let ask = Ask::Release { command: ids::parse(&told.command_id)?, undoes };
        Ok(Self::Told { order: ids::parse(&told.order_id)?, reservation: reservation_of(undoes), ask })
    }

    fn commit(told: &OrderCompleted) -> Result<Self, Unreadable> {
        let reservation = ids::parse(&told.reservation_id)?;
        Ok(Self::Told { order: ids::parse(&told.order_id)?, reservation, ask: Ask::Commit })
    }
}

fn is_plain(sku: &str) -> bool {
    !sku.is_empty() && !sku.contains(char::is_control)
}

/// The reservation that this ReserveStock leads to.
fn reservation_of(command: Uuid) -> Uuid {
    ids::derive(command, "reservation")
}

impl Handler for Inventory {
    type Input = Input;
    /// What a call leaves on the shelf; nobody asks for more.
    type Answer = Option<Stock>;
    type Refusal = Refusal;
    type State = Book;

    fn hear(&self, record: &Record) -> Heard<Input> {
        kit::hear(record, Input::of)
    }

    fn refuse(&self, record: &Record) -> Option<Input> {
        kit::refuse(record, |message| {
            let Message::ReserveStock(told) = message else { return None };
            let command = ids::parse(&told.command_id).ok()?;
            let (order, reservation) = (ids::parse(&told.order_id).ok()?, reservation_of(command));
            Some(Input::Told { order, reservation, ask: Ask::Refuse { command } })
        })
    }

    async fn load(&self, db: &mut PgConnection, batch: &[&Envelope<Input>]) -> sqlx::Result<Book> {
        let mut upserted = BTreeSet::new();
        let mut orders = BTreeSet::new();
        let mut skus = BTreeSet::new();
        for asked in batch {
            match &asked.input {
                Input::Told { order, .. } => _ = orders.insert(*order),
                Input::Upsert(product) => _ = upserted.insert(product.sku.as_str()),
                Input::Count { sku, .. } => _ = skus.insert(sku.as_str()),
            }
        }
        let products = store::products(db, &upserted).await?;
        let reservations = store::reservations(db, &orders).await?;
        for asked in batch {
            if let Input::Told { order, reservation, ask: Ask::Reserve { lines, .. } } = &asked.input
                && reservations.get(&(*order, *reservation)).is_none()
            {
                skus.extend(lines.iter().map(|line| line.sku.as_str()));
            }
        }
        for held in reservations.loaded().filter(|row| row.state == State::Held) {
            skus.extend(held.lines.iter().map(|line| line.sku.as_str()));
        }
        let stock = store::stock(db, &skus).await?;
        let calls = batch.iter().filter(|asked| !matches!(asked.input, Input::Told { .. })).map(|asked| asked.id).collect();
        let calls = store::calls(db, calls).await?;
        Ok(Book { products, reservations, stock, calls, changes: Vec::new() })
    }

    fn decide(&self, book: &mut Book, asked: &Envelope<Input>) -> Result<Decision<Option<Stock>>, Refusal> {
        let (decided, request) = match (&asked.input, book.calls.get(&asked.id)) {
            (Input::Told { order, reservation, ask }, _) => return settle(book, *order, *reservation, ask),
            // The same key, but not the same request.
            (Input::Count { request, .. }, Some(called)) if called.request != *request => return Err(Refusal::KeyReused),
            // Asked again, or its commit was in doubt and had gone through.
            (_, Some(called)) => return Ok(Decision::quiet(called.answer)),
            (Input::Upsert(product), None) => (upsert(book, product), None),
            (Input::Count { sku, change, request }, None) => (count(book, asked, sku, change)?, request.clone()),
        };
        book.calls.put(asked.id, Called { answer: decided.answer, request });
        Ok(decided)
    }

    async fn save(&self, db: &mut PgConnection, book: Book) -> sqlx::Result<()> {
        store::save(db, &book).await
    }
}

fn settle(book: &mut Book, order: Uuid, id: Uuid, ask: &Ask) -> Result<Decision<Option<Stock>>, Refusal> {
    let turn = reservation::settle(book.reservations.get(&(order, id)), ask, &|sku: &str| book.stock.get(sku).copied())?;
    for (sku, stock) in turn.stock {
        book.stock.put(sku, stock);
    }
    if let Some(row) = turn.row {
        book.reservations.put((order, id), row);
    }
    Ok(Decision::new(None, news_of(order, id, ask, turn.said).into_iter().collect()))
}

fn news_of(order: Uuid, reservation: Uuid, ask: &Ask, said: Said) -> Option<News> {
    let (Ask::Reserve { command, .. } | Ask::Release { command, .. } | Ask::Refuse { command }) = ask else { return None };
    let (order_id, command_id, reservation_id) = (order.to_string(), command.to_string(), reservation.to_string());
    match said {
        Said::Reserved(lines) => {
            let warehouse = WAREHOUSE.to_owned();
            Some(kit::news(order, InventoryReserved { order_id, command_id, reservation_id, reservations: lines, warehouse }))
        }
        Said::Failed(no) => Some(kit::news(order, InventoryFailed { order_id, command_id, reason: no.reason, sku: no.sku })),
        Said::Released => Some(kit::news(order, InventoryReleased { order_id, command_id, reservation_id })),
        Said::Nothing => None,
    }
}

/// The same product again is no news, so a call that is repeated after a lost answer says nothing twice.
fn upsert(book: &mut Book, product: &Product) -> Decision<Option<Stock>> {
    let Product { sku, name, prices } = product.clone();
    match book.products.get(&sku) {
        Some(known) if known == product => return Decision::quiet(None),
        Some(_) => {}
        // Another instance may have made it a moment ago, and counted it.
        None if book.stock.get(&sku).is_none() => book.stock.put(sku.clone(), Stock::default()),
        None => {}
    }
    book.products.put(sku.clone(), product.clone());
    Decision::new(None, vec![kit::news(&product.sku, ProductUpserted { sku, name, prices })])
}

fn count(book: &mut Book, asked: &Envelope<Input>, sku: &str, change: &Change) -> Result<Decision<Option<Stock>>, Refusal> {
    let before = *book.stock.get(sku).ok_or_else(|| Refusal::UnknownSku { sku: sku.to_owned() })?;
    let after = before.changed(sku, change)?;
    if after == before {
        return Ok(Decision::quiet(Some(after)));
    }
    book.stock.put(sku.to_owned(), after);
    let delta = after.on_hand - before.on_hand;
    book.changes.push(Changed { id: asked.id, sku: sku.to_owned(), at: asked.at, change: change.clone(), delta });
    let news = StockAdjusted { sku: sku.to_owned(), on_hand: after.on_hand, reserved: after.reserved };
    Ok(Decision::new(Some(after), vec![kit::news(sku, news)]))
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::rows::Rows;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn book(on_hand: i64) -> Book {
        Book {
            products: Rows::stored([]),
            reservations: Rows::stored([]),
            stock: Rows::stored([("a".to_owned(), Stock { on_hand, ..Stock::default() })]),
            calls: Rows::stored([]),
            changes: Vec::new(),
        }
    }

    fn asked(input: Input) -> Envelope<Input> {
        let (id, key) = (id(99), "key".to_owned());
        Envelope { id, correlation: key.clone(), key, at: OffsetDateTime::UNIX_EPOCH, trace: messaging::Trace::default(), input }
    }

    fn message(message: impl Into<Message>) -> Envelope<Input> {
        asked(Input::of(message.into()).unwrap().unwrap())
    }

    fn reserve(order: u128, quantity: i32) -> Envelope<Input> {
        let lines = vec![Line { sku: "a".to_owned(), quantity }];
        message(ReserveStock { order_id: id(order).to_string(), command_id: id(order + 1).to_string(), lines })
    }

    fn release(order: u128) -> Envelope<Input> {
        let undoes = id(order + 1).to_string();
        message(ReleaseStock { order_id: id(order).to_string(), command_id: id(order + 2).to_string(), undoes })
    }

    fn completed(order: u128) -> Envelope<Input> {
        let reservation_id = reservation_of(id(order + 1)).to_string();
        message(OrderCompleted { order_id: id(order).to_string(), reservation_id, ..OrderCompleted::default() })
    }

    /// The short names of what is said.
    fn said(book: &mut Book, asked: &Envelope<Input>) -> Vec<&'static str> {
        let decision = Inventory.decide(book, asked).unwrap();
        decision.news.iter().map(|news| news.type_name.rsplit('.').next().unwrap()).collect()
    }

    fn stock(book: &Book) -> (i64, i64) {
        book.stock.get("a").map(|stock| (stock.on_hand, stock.reserved)).unwrap()
    }

    #[test]
    fn orders_of_one_batch_see_what_those_before_them_took() {
        let mut book = book(5);
        assert_eq!(said(&mut book, &reserve(10, 3)), ["InventoryReserved"]);
        assert_eq!(said(&mut book, &reserve(20, 3)), ["InventoryFailed"]);
        assert_eq!(said(&mut book, &release(10)), ["InventoryReleased"]);
        assert_eq!(said(&mut book, &reserve(30, 5)), ["InventoryReserved"]);
        assert_eq!(said(&mut book, &completed(30)), Vec::<&str>::new());
        assert_eq!(stock(&book), (0, 0));
        assert_eq!(book.reservations.fresh().len(), 3);
    }

    #[test]
    fn repeats_have_no_effect() {
        let mut book = book(5);
        for _ in 0..2 {
            assert_eq!(said(&mut book, &reserve(10, 3)), ["InventoryReserved"]);
            assert_eq!(stock(&book), (5, 3));
        }
        for _ in 0..2 {
            assert!(said(&mut book, &completed(10)).is_empty());
            assert_eq!(stock(&book), (2, 0));
        }
    }

    #[test]
    fn a_release_before_its_reserve_leaves_a_mark_that_refuses_it() {
        let mut book = book(5);
        for _ in 0..2 {
            assert_eq!(said(&mut book, &release(10)), ["InventoryReleased"]);
            assert_eq!(said(&mut book, &reserve(10, 3)), ["InventoryFailed"]);
        }
        assert_eq!(stock(&book), (5, 0));
        let marks = book.reservations.fresh();
        assert_eq!((marks.len(), &marks[0].1.state), (1, &State::Voided));
    }

    #[test]
    fn a_refusal_leaves_the_rows_as_they_were() {
        let mut book = book(5);
        assert_eq!(Inventory.decide(&mut book, &completed(10)).unwrap_err(), Refusal::NotYet);
        said(&mut book, &release(10));
        assert_eq!(Inventory.decide(&mut book, &completed(10)).unwrap_err(), Refusal::Undone);
        assert_eq!(stock(&book), (5, 0));
        assert!(book.stock.updated().is_empty());
    }

    #[test]
    fn a_new_product_starts_with_nothing_and_the_same_again_is_no_news() {
        let mut book = book(5);
        let product = || asked(Input::Upsert(Product { sku: "new".to_owned(), name: "New".to_owned(), prices: Vec::new() }));
        assert_eq!(said(&mut book, &product()), ["ProductUpserted"]);
        assert_eq!(book.stock.get("new"), Some(&Stock::default()));
        assert!(said(&mut book, &product()).is_empty());
    }

    fn count(call: u128, sku: &str, change: Change, request: Option<&str>) -> Envelope<Input> {
        let request = request.map(str::to_owned);
        Envelope { id: id(call), ..asked(Input::Count { sku: sku.to_owned(), change, request }) }
    }

    fn set(call: u128, sku: &str, on_hand: i64) -> Envelope<Input> {
        count(call, sku, Change::Set { on_hand }, None)
    }

    fn adjust(call: u128, delta: i64, request: &str) -> Envelope<Input> {
        count(call, "a", Change::Adjust { delta, reason: "found".to_owned() }, Some(request))
    }

    /// Cause and pieces of what is written into the journal.
    fn journal(book: &Book) -> Vec<(&'static str, i64)> {
        book.changes.iter().map(|changed| (changed.change.cause(), changed.delta)).collect()
    }

    #[test]
    fn stock_is_set_by_hand_where_there_is_a_product() {
        let mut book = book(5);
        said(&mut book, &reserve(10, 3));
        assert_eq!(said(&mut book, &set(1, "a", 3)), ["StockAdjusted"]);
        assert!(said(&mut book, &set(2, "a", 3)).is_empty());
        assert!(matches!(Inventory.decide(&mut book, &set(3, "a", 2)), Err(Refusal::BelowReserved { .. })));
        assert!(matches!(Inventory.decide(&mut book, &set(4, "b", 2)), Err(Refusal::UnknownSku { .. })));
        assert_eq!(journal(&book), [("SET", -2)], "what changes nothing is not written down");
    }

    #[test]
    fn an_adjustment_with_a_key_is_made_once() {
        let mut book = book(5);
        assert_eq!(said(&mut book, &adjust(1, 4, "one")), ["StockAdjusted"]);
        assert!(said(&mut book, &adjust(1, 4, "one")).is_empty());
        assert_eq!(stock(&book), (9, 0));
        assert_eq!(Inventory.decide(&mut book, &adjust(1, 5, "other")).unwrap_err(), Refusal::KeyReused);
        assert_eq!(said(&mut book, &adjust(2, -9, "two")), ["StockAdjusted"]);
        assert!(matches!(Inventory.decide(&mut book, &adjust(3, -1, "three")), Err(Refusal::BelowReserved { .. })));
        assert_eq!((stock(&book), journal(&book)), ((0, 0), vec![("ADJUST", 4), ("ADJUST", -9)]));
    }

    #[test]
    fn a_call_whose_commit_was_in_doubt_brings_back_nothing_that_has_left() {
        let mut book = book(5);
        let count = set(1, "a", 10);
        assert_eq!(said(&mut book, &count), ["StockAdjusted"]);
        said(&mut book, &reserve(10, 3));
        said(&mut book, &completed(10));
        assert_eq!(stock(&book), (7, 0));
        assert!(said(&mut book, &count).is_empty(), "it was told before");
        assert_eq!(stock(&book), (7, 0));
    }

    #[test]
    fn what_cannot_be_read_is_told_apart_from_what_is_of_no_interest() {
        let bad = |quantity, sku: &str| ReserveStock {
            order_id: id(1).to_string(),
            command_id: id(2).to_string(),
            lines: vec![Line { sku: sku.to_owned(), quantity }],
        };
        for told in [bad(0, "a"), bad(-1, "a"), bad(1, ""), bad(1, "a\u{1f}b"), ReserveStock::default()] {
            assert!(Input::of(told.into()).is_some_and(|read| read.is_err()));
        }
        assert!(Input::of(OrderCompleted::default().into()).is_none());
    }
}
