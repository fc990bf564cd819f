//! Reads what belongs together from the databases it is spread over: each list once, in the order of its key, so that of a million orders
//! a few thousand are in memory at a time.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use uuid::Uuid;

use super::{
    books::Books,
    charge::{Charge, Payment},
    saga::Saga,
    shelf::Shelf,
    store::{self, Rows},
    story::{Order, Reservation, Story},
};

/// Every order, and what there is of orders that there are not.
pub(super) async fn stories(books: &mut Books, mut each: impl FnMut(Story)) -> sqlx::Result<()> {
    let mut orders = Rows::open(&mut books.order, store::ORDERS, |order: &Order| order.id).await?;
    let mut sagas = Rows::open(&mut books.orchestrator, store::SAGAS, |saga: &Saga| saga.order_id).await?;
    let mut reservations = Rows::open(&mut books.inventory, store::RESERVATIONS, |one: &Reservation| one.order_id).await?;
    let mut payments = Rows::open(&mut books.payment, store::PAYMENTS_BY_ORDER, |payment: &Payment| payment.order_id).await?;
    loop {
        let next = [orders.key().await?, sagas.key().await?, reservations.key().await?, payments.key().await?];
        let Some(id) = next.into_iter().flatten().min() else { return Ok(()) };
        each(Story {
            id,
            order: orders.take(&id).await?.pop(),
            payment: payments.take(&id).await?.pop(),
            reservations: reservations.take(&id).await?,
            sagas: sagas.take(&id).await?,
        });
    }
}

/// Every payment and every charge of the statement.
pub(super) async fn charges(books: &mut Books, mut each: impl FnMut(Charge)) -> Result<()> {
    let mut payments = Rows::open(&mut books.payment, store::PAYMENTS_BY_KEY, |payment: &Payment| payment.key.clone()).await?;
    let mut statement = books.provider.charges().await?;
    loop {
        let next = [payments.key().await?, statement.key().await?];
        let Some(key) = next.into_iter().flatten().min() else { return Ok(()) };
        let (payment, entry) = (payments.take(&key).await?.pop(), statement.take(&key).await?);
        each(Charge { key, payment, entry });
    }
}

/// Every product that is counted.
pub(super) async fn shelves(books: &mut Books, mut each: impl FnMut(Shelf)) -> sqlx::Result<()> {
    let mut shelves = Rows::open(&mut books.inventory, store::SHELVES, |shelf: &Shelf| shelf.sku.clone()).await?;
    while let Some(sku) = shelves.key().await? {
        shelves.take(&sku).await?.into_iter().for_each(&mut each);
    }
    Ok(())
}

/// These orders, as they are now.
pub(super) async fn stories_of(books: &mut Books, ids: &[Uuid]) -> sqlx::Result<Vec<Story>> {
    let mut stories = BTreeMap::new();
    for order in store::orders_of(&mut books.order, ids).await? {
        let id = order.id;
        story(&mut stories, id).order = Some(order);
    }
    for saga in store::sagas_of(&mut books.orchestrator, ids).await? {
        story(&mut stories, saga.order_id).sagas.push(saga);
    }
    for reservation in store::reservations_of(&mut books.inventory, ids).await? {
        story(&mut stories, reservation.order_id).reservations.push(reservation);
    }
    for payment in store::payments_of(&mut books.payment, ids).await? {
        let id = payment.order_id;
        story(&mut stories, id).payment = Some(payment);
    }
    Ok(stories.into_values().collect())
}

fn story(stories: &mut BTreeMap<Uuid, Story>, id: Uuid) -> &mut Story {
    let nothing = Story { id, order: None, payment: None, reservations: Vec::new(), sagas: Vec::new() };
    stories.entry(id).or_insert(nothing)
}

/// These charges, as they are now.
pub(super) async fn charges_of(books: &mut Books, keys: &[String]) -> Result<Vec<Charge>> {
    let ids: Vec<Uuid> = keys.iter().filter_map(|key| key.parse().ok()).collect();
    let payments = store::payments_with(&mut books.payment, &ids).await?;
    let mut payments: BTreeMap<_, _> = payments.into_iter().map(|payment| (payment.key.clone(), payment)).collect();
    let statement = books.provider.charges_of(keys).await?;
    let mut statement: BTreeMap<_, _> = statement.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    let there: BTreeSet<String> = payments.keys().chain(statement.keys()).cloned().collect();
    let charge = |key: String| Charge { payment: payments.remove(&key), entry: statement.remove(&key), key };
    Ok(there.into_iter().map(charge).collect())
}
