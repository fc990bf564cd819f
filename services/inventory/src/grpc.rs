//! The gRPC door of inventory: decode, one call, encode.

use contracts::{
    inventory::v1::{
        ListProductsRequest, ListProductsResponse, ListStockRequest, ListStockResponse, Product, SetStockRequest, SetStockResponse,
        Stock, UpsertProductRequest, UpsertProductResponse,
        inventory_service_server::{InventoryService, InventoryServiceServer},
    },
    money::Currency,
};
use messaging::Runner;
use sqlx::PgPool;
pub(crate) use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::{
    error::Refusal,
    events::{Input, Inventory},
    store,
};

const SKU_CHARS: std::ops::RangeInclusive<usize> = 1..=64;
const NAME_CHARS_MAX: usize = 200;
const ON_HAND_MAX: i64 = 1_000_000_000_000;

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
        let mut products = store::list_products(&self.pool, after, page.size + 1).await.map_err(kit::grpc::internal)?;
        let next_page_token = cut(&mut products, page.size, |product| &product.sku);
        Ok(Response::new(ListProductsResponse { products, next_page_token }))
    }

    async fn set_stock(&self, request: Request<SetStockRequest>) -> Reply<SetStockResponse> {
        let trace = kit::grpc::trace_of(&request);
        let SetStockRequest { sku, on_hand } = request.into_inner();
        kit::grpc::text("sku", &sku, SKU_CHARS)?;
        if !(0..=ON_HAND_MAX).contains(&on_hand) {
            return Err(kit::grpc::invalid("on_hand", &format!("must be 0 to {ON_HAND_MAX}"), "ON_HAND_OUT_OF_RANGE"));
        }
        let input = Input::SetStock { sku: sku.clone(), on_hand };
        let left = self.runner.call(kit::fresh_id(), sku.clone(), trace, input).await.map_err(kit::grpc::call_error)?;
        let stock = left.map(|left| Stock { sku, on_hand: left.on_hand, reserved: left.reserved });
        Ok(Response::new(SetStockResponse { stock }))
    }

    async fn list_stock(&self, request: Request<ListStockRequest>) -> Reply<ListStockResponse> {
        let ListStockRequest { page_size, page_token } = request.into_inner();
        let page = kit::grpc::page(page_size, &page_token)?;
        let after = page.after.as_deref().unwrap_or_default();
        let rows = store::list_stock(&self.pool, after, page.size + 1).await.map_err(kit::grpc::internal)?;
        let mut stock: Vec<Stock> = rows.into_iter().map(|(sku, on_hand, reserved)| Stock { sku, on_hand, reserved }).collect();
        let next_page_token = cut(&mut stock, page.size, |stock| &stock.sku);
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

/// Takes off the row that only told that there is more, and gives back the token of the next page.
fn cut<T>(rows: &mut Vec<T>, size: i64, key: impl Fn(&T) -> &str) -> String {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if rows.len() <= size {
        return String::new();
    }
    rows.truncate(size);
    rows.last().map(|last| kit::grpc::page_token(key(last))).unwrap_or_default()
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::UnknownSku { sku } => kit::grpc::not_found("product", sku),
            Refusal::BelowReserved { .. } => kit::grpc::refused("BELOW_RESERVED", &refusal),
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
}
