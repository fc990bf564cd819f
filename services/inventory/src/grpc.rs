//! The gRPC door of inventory: decode, one call, encode.

use contracts::{
    ids,
    inventory::v1::{
        AdjustStockRequest, AdjustStockResponse, ListProductsRequest, ListProductsResponse, ListStockRequest, ListStockResponse,
        Product, SetStockRequest, SetStockResponse, Stock, UpsertProductRequest, UpsertProductResponse,
        inventory_service_server::{InventoryService, InventoryServiceServer},
    },
    money::Currency,
};
use messaging::Runner;
use sqlx::PgPool;
pub(crate) use tonic::service::Routes;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    error::Refusal,
    events::{Input, Inventory},
    stock::{Change, ON_HAND_MAX},
    store,
};

const SKU_CHARS: std::ops::RangeInclusive<usize> = 1..=64;
const NAME_CHARS_MAX: usize = 200;
const REASON_CHARS_MAX: usize = 256;
/// What the ids of adjustments with an idempotency key are derived from.
const ADJUSTMENTS: Uuid = Uuid::from_u128(0x3c1d_77aa_52f0_4d0e_8f6b_91c2_e04a_b85d);

pub(crate) fn routes(runner: Runner<Inventory>, pool: PgPool) -> Routes {
    Routes::new(InventoryServiceServer::new(Door { runner, pool }))
}

struct Door {
    runner: Runner<Inventory>,
    pool: PgPool,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl InventoryService for Door {
    // The ids of these calls are fresh: a product may be set, changed and set back, and each of that is news.
    async fn upsert_product(&self, request: Request<UpsertProductRequest>) -> Reply<UpsertProductResponse> {
        let trace = kit::grpc::trace_of(&request);
        let product = product_of(request.into_inner())?;
        let input = Input::Upsert(product.clone());
        self.runner.call(kit::fresh_id(), product.sku.clone(), trace, input).await.map_err(kit::grpc::call_error)?;
        Ok(Response::new(UpsertProductResponse { product: Some(product) }))
    }

    async fn list_products(&self, request: Request<ListProductsRequest>) -> Reply<ListProductsResponse> {
        let ListProductsRequest { page_size, page_token } = request.into_inner();
        let page = kit::grpc::page(page_size, &page_token)?;
        let after = page.after.as_deref().unwrap_or_default();
        let mut products = store::list_products(&self.pool, after, page.rows()).await.map_err(kit::grpc::internal)?;
        let next_page_token = page.cut(&mut products, |last| kit::grpc::page_token(&last.sku));
        Ok(Response::new(ListProductsResponse { products, next_page_token }))
    }

    async fn set_stock(&self, request: Request<SetStockRequest>) -> Reply<SetStockResponse> {
        let trace = kit::grpc::trace_of(&request);
        let SetStockRequest { sku, on_hand } = request.into_inner();
        kit::grpc::text("sku", &sku, SKU_CHARS)?;
        if !(0..=ON_HAND_MAX).contains(&on_hand) {
            return Err(kit::grpc::invalid("on_hand", &format!("must be 0 to {ON_HAND_MAX}"), "ON_HAND_OUT_OF_RANGE"));
        }
        let input = Input::Count { sku: sku.clone(), change: Change::Set { on_hand }, request: None };
        let left = self.runner.call(kit::fresh_id(), sku.clone(), trace, input).await.map_err(kit::grpc::call_error)?;
        let stock = left.map(|left| Stock { sku, on_hand: left.on_hand, reserved: left.reserved });
        Ok(Response::new(SetStockResponse { stock }))
    }

    async fn adjust_stock(&self, request: Request<AdjustStockRequest>) -> Reply<AdjustStockResponse> {
        let trace = kit::grpc::trace_of(&request);
        let (id, sku, input) = adjustment_of(request.into_inner())?;
        let left = self.runner.call(id, sku.clone(), trace, input).await.map_err(kit::grpc::call_error)?;
        let stock = left.map(|left| Stock { sku, on_hand: left.on_hand, reserved: left.reserved });
        Ok(Response::new(AdjustStockResponse { stock }))
    }

    async fn list_stock(&self, request: Request<ListStockRequest>) -> Reply<ListStockResponse> {
        let ListStockRequest { page_size, page_token } = request.into_inner();
        let page = kit::grpc::page(page_size, &page_token)?;
        let after = page.after.as_deref().unwrap_or_default();
        let rows = store::list_stock(&self.pool, after, page.rows()).await.map_err(kit::grpc::internal)?;
        let mut stock: Vec<Stock> = rows.into_iter().map(|(sku, on_hand, reserved)| Stock { sku, on_hand, reserved }).collect();
        let next_page_token = page.cut(&mut stock, |last| kit::grpc::page_token(&last.sku));
        Ok(Response::new(ListStockResponse { stock, next_page_token }))
    }
}

/// The product as it is kept: prices in order of currency.
fn product_of(request: UpsertProductRequest) -> Result<Product, Status> {
    let Some(mut product) = request.product else {
        return Err(kit::grpc::invalid("product", "is missing", "PRODUCT_MISSING"));
    };
    kit::grpc::text("product.sku", &product.sku, SKU_CHARS)?;
    kit::grpc::text("product.name", &product.name, 0..=NAME_CHARS_MAX)?;
    for (index, price) in product.prices.iter().enumerate() {
        let field = |name| format!("product.prices[{index}].{name}");
        if Currency::parse(&price.currency).is_none() {
            return Err(kit::grpc::invalid(&field("currency"), "is not an ISO 4217 code", "UNKNOWN_CURRENCY"));
        }
        if product.prices[..index].iter().any(|earlier| earlier.currency == price.currency) {
            return Err(kit::grpc::invalid(&field("currency"), "has a price already", "CURRENCY_REPEATED"));
        }
        if price.unit_price < 0 {
            return Err(kit::grpc::invalid(&field("unit_price"), "must not be negative", "NEGATIVE_PRICE"));
        }
    }
    product.prices.sort_by(|a, b| a.currency.cmp(&b.currency));
    Ok(product)
}

/// Id, SKU and input of an adjustment. With a key it has the key's id, so that it is made once.
fn adjustment_of(request: AdjustStockRequest) -> Result<(Uuid, String, Input), Status> {
    let AdjustStockRequest { sku, delta, reason, idempotency_key } = request;
    kit::grpc::text("sku", &sku, SKU_CHARS)?;
    if delta == 0 || !(-ON_HAND_MAX..=ON_HAND_MAX).contains(&delta) {
        let description = format!("must be -{ON_HAND_MAX} to {ON_HAND_MAX}, and not 0");
        return Err(kit::grpc::invalid("delta", &description, "DELTA_OUT_OF_RANGE"));
    }
    kit::grpc::text("reason", &reason, 0..=REASON_CHARS_MAX)?;
    if !ids::is_key(&idempotency_key) {
        let description = "must have 1 to 255 printable ASCII characters";
        return Err(kit::grpc::invalid("idempotency_key", description, "BAD_IDEMPOTENCY_KEY"));
    }
    let (id, request) = match idempotency_key.as_str() {
        "" => (kit::fresh_id(), None),
        // None of the texts has a control character.
        key => (ids::derive(ADJUSTMENTS, key), Some(format!("{sku}\n{delta}\n{reason}"))),
    };
    let input = Input::Count { sku: sku.clone(), change: Change::Adjust { delta, reason }, request };
    Ok((id, sku, input))
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::UnknownSku { sku } => kit::grpc::not_found("product", sku),
            Refusal::BelowReserved { .. } => kit::grpc::refused("BELOW_RESERVED", &refusal),
            Refusal::TooMany { .. } => kit::grpc::refused("ON_HAND_OUT_OF_RANGE", &refusal),
            Refusal::Unstocked { .. } => kit::grpc::refused("UNSTOCKED", &refusal),
            Refusal::KeyReused => kit::grpc::already_exists("IDEMPOTENCY_KEY_REUSED", &refusal),
            // Said to records only.
            Refusal::NotYet | Refusal::Undone | Refusal::Committed | Refusal::Unbalanced { .. } => {
                Self::internal(refusal.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use contracts::inventory::v1::Price;

    use super::*;

    fn upsert(sku: &str, name: &str, prices: &[(&str, i64)]) -> Result<Product, Status> {
        let prices = prices
            .iter()
            .map(|(currency, unit_price)| Price { currency: (*currency).to_owned(), unit_price: *unit_price })
            .collect();
        product_of(UpsertProductRequest { product: Some(Product { sku: sku.to_owned(), name: name.to_owned(), prices }) })
    }

    #[test]
    fn prices_are_kept_in_order_of_currency() {
        let product = upsert("a", "", &[("USD", 100), ("EUR", 0)]).unwrap();
        assert_eq!(product.prices.iter().map(|price| price.currency.as_str()).collect::<Vec<_>>(), ["EUR", "USD"]);
    }

    #[test]
    fn bad_products_are_refused() {
        let long = "x".repeat(201);
        for bad in [
            upsert("", "", &[]),
            upsert(&long, "", &[]),
            upsert("a\0", "", &[]),
            upsert("a", &long, &[]),
            upsert("a", "", &[("usd", 1)]),
            upsert("a", "", &[("USD", -1)]),
            upsert("a", "", &[("USD", 1), ("EUR", 1), ("USD", 2)]),
            product_of(UpsertProductRequest { product: None }),
        ] {
            assert_eq!(bad.map_err(|status| status.code()), Err(tonic::Code::InvalidArgument));
        }
    }

    fn adjust(sku: &str, delta: i64, reason: &str, key: &str) -> Result<(Uuid, String, Input), Status> {
        adjustment_of(AdjustStockRequest { sku: sku.to_owned(), delta, reason: reason.to_owned(), idempotency_key: key.to_owned() })
    }

    #[test]
    fn the_same_key_is_the_same_adjustment() {
        let id = |key: &str| adjust("a", 1, "", key).unwrap().0;
        assert_eq!(id("k"), id("k"));
        assert_ne!(id("k"), id("l"));
        assert_ne!(id(""), id(""), "without a key every call counts");
    }

    #[test]
    fn bad_adjustments_are_refused() {
        let long = "x".repeat(257);
        for bad in [
            adjust("", 1, "", ""),
            adjust("a\0", 1, "", ""),
            adjust("a", 0, "", ""),
            adjust("a", ON_HAND_MAX + 1, "", ""),
            adjust("a", i64::MIN, "", ""),
            adjust("a", 1, &long, ""),
            adjust("a", 1, "", &long),
            adjust("a", 1, "", "ä"),
        ] {
            assert_eq!(bad.map_err(|status| status.code()).unwrap_err(), tonic::Code::InvalidArgument);
        }
    }
}
