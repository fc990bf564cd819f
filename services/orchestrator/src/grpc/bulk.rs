//! One operation on many sagas: whatever stops it, what was done before is told.

use contracts::saga::v1::OperateSagasResponse;
use futures::future::join_all;
use uuid::Uuid;

/// How many wait for a commit at a time.
const OPERATED_AT_ONCE_MAX: usize = 64;

/// Tries them in turn, so many at a time: each is the order of a saga, and whether that took it. With the first error no more are begun;
/// those that are left are told, with those that failed.
pub(super) async fn operate<F, E>(sagas: impl IntoIterator<Item = (Uuid, F)>) -> (OperateSagasResponse, Option<E>)
where
    F: Future<Output = Result<bool, E>>,
{
    let mut sagas = sagas.into_iter();
    let (mut told, mut stopped) = (OperateSagasResponse::default(), None);
    while stopped.is_none() {
        let (order_ids, tries): (Vec<Uuid>, Vec<F>) = sagas.by_ref().take(OPERATED_AT_ONCE_MAX).unzip();
        if order_ids.is_empty() {
            break;
        }
        for (order_id, took) in order_ids.into_iter().zip(join_all(tries).await) {
            let order_id = order_id.to_string();
            match took {
                Ok(true) => told.order_ids.push(order_id),
                Ok(false) => told.refused_order_ids.push(order_id),
                Err(error) => {
                    told.left_order_ids.push(order_id);
                    stopped.get_or_insert(error);
                }
            }
        }
    }
    told.left_order_ids.extend(sagas.map(|(order_id, _)| order_id.to_string()));
    (told, stopped)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// What comes of so many sagas, and how many were tried.
    async fn of(
        sagas: usize,
        took: impl Fn(usize) -> Result<bool, &'static str>,
    ) -> (OperateSagasResponse, Option<&'static str>, usize) {
        let tried = Cell::new(0);
        let (took, tried_by_each) = (&took, &tried);
        let sagas = (0..sagas).map(|nth| {
            let one = async move {
                tried_by_each.set(tried_by_each.get() + 1);
                took(nth)
            };
            (id(nth), one)
        });
        let (told, stopped) = operate(sagas).await;
        (told, stopped, tried.get())
    }

    fn id(nth: usize) -> Uuid {
        Uuid::from_u128(u128::try_from(nth).expect("it fits"))
    }

    fn ids(which: impl Iterator<Item = usize>) -> Vec<String> {
        which.map(|nth| id(nth).to_string()).collect()
    }

    #[tokio::test]
    async fn each_is_told_once_in_order() {
        let (told, stopped, tried) = of(150, |nth| Ok(nth % 3 > 0)).await;
        assert_eq!((stopped, tried), (None, 150));
        assert_eq!(told.order_ids, ids((0..150).filter(|nth| nth % 3 > 0)));
        assert_eq!(told.refused_order_ids, ids((0..150).step_by(3)));
        assert!(told.left_order_ids.is_empty());
        assert_eq!(of(0, |_| Ok(true)).await, (OperateSagasResponse::default(), None, 0));
    }

    #[tokio::test]
    async fn an_overload_stops_it_and_what_was_done_is_told_with_what_was_left() {
        let busy_from = OPERATED_AT_ONCE_MAX + 3;
        let busy = |nth| if nth < busy_from { Ok(nth != 1) } else { Err("too much waits already") };
        let (told, stopped, tried) = of(300, busy).await;
        assert_eq!(stopped, Some("too much waits already"));
        assert_eq!(tried, 2 * OPERATED_AT_ONCE_MAX, "what was begun is heard out, and nothing more is begun");
        assert_eq!(told.order_ids, ids((0..busy_from).filter(|nth| *nth != 1)));
        assert_eq!(told.refused_order_ids, ids(1..2));
        assert_eq!(told.left_order_ids, ids(busy_from..300));
    }
}
