//! What a caller gets wrong is named: code, field, stable reason; and nothing of it is stored.

mod elsewhere;
mod orders;
mod refunds;
mod rest;
mod wire;

use contracts::{ids, order::v1::GetOrderRequest};
use tonic::{Code, Status};

use crate::{
    harness::Stage,
    placing::{fields_of, reason_of},
};

/// The refusal is INVALID_ARGUMENT that names this field and gives this reason.
fn assert_invalid(what: &str, status: &Status, field: &str, reason: &str) {
    let told = (status.code(), fields_of(status), reason_of(status));
    assert_eq!(told, (Code::InvalidArgument, vec![field.to_owned()], reason.to_owned()), "{what}: {status:?}");
}

/// No order of this customer or of keys with this beginning, and nothing said of one.
async fn assert_nothing_stored(stage: &Stage, marker: &str) {
    let sql = "select (select count(*) from orders where customer_id = $1 or starts_with(idempotency_key, $1)),
                   (select count(*) from outbox where position(convert_to($1, 'UTF8') in payload) > 0)";
    let mut db = stage.database("order").await;
    let stored: (i64, i64) = sqlx::query_as(sql).bind(marker).fetch_one(&mut db).await.expect("read");
    assert_eq!(stored, (0, 0), "orders and news of {marker}");
}

/// There is no order of this key.
async fn assert_not_there(stage: &Stage, what: &str, key: &str) {
    let request = GetOrderRequest { order_id: ids::order_of_key(key).to_string() };
    let status = stage.orders().await.get_order(request).await.expect_err(what);
    assert_eq!(status.code(), Code::NotFound, "{what} was stored");
}
