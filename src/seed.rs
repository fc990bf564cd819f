//! `settle seed`: the products of the examples.

use anyhow::{Context, Result};
use contracts::inventory::v1::{
    ListProductsRequest, Price, Product, SetStockRequest, UpsertProductRequest, inventory_service_client::InventoryServiceClient,
};
use tonic::transport::Channel;

use crate::client::{Target, connect};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub target: Target,
}

const PIECES: i64 = 1_000_000;
/// (SKU, name, price in minor units, pieces). A product without a price needs one in the order.
const PRODUCTS: [(&str, &str, Option<i64>, i64); 5] = [
    ("SKU-123", "Priced by the caller", None, PIECES),
    ("prod-A", "Product A", Some(1_500), PIECES),
    ("prod-B", "Product B", Some(2_500), PIECES),
    ("SKU-EMPTY", "Always out of stock", Some(1_000), 0),
    ("SKU-UNSHIPPABLE", "Too large for any carrier", Some(9_900), PIECES),
];
const CURRENCIES: [&str; 8] = ["USD", "EUR", "GBP", "LKR", "INR", "JPY", "KWD", "CHF"];

pub async fn main(args: Args) -> Result<()> {
    let created = run(connect(&args.target.grpc()?).await?).await?;
    say!("{created} products created, {} were there", PRODUCTS.len() - created);
    Ok(())
}

/// Creates what is missing and leaves the rest as it is. Gives back how many were missing.
pub async fn run(channel: Channel) -> Result<usize> {
    let mut inventory = InventoryServiceClient::new(channel);
    let there = products(&mut inventory).await?;
    let mut created = 0;
    for (sku, name, price, pieces) in PRODUCTS {
        if there.iter().any(|product| product.sku == sku) {
            continue;
        }
        upsert(&mut inventory, sku, name, price, pieces).await.with_context(|| format!("creating {sku}"))?;
        created += 1;
    }
    Ok(created)
}

/// Every product there is.
async fn products(inventory: &mut InventoryServiceClient<Channel>) -> Result<Vec<Product>> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = inventory.list_products(ListProductsRequest { page_size: 200, page_token }).await?.into_inner();
        all.extend(page.products);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        page_token = page.next_page_token;
    }
}

/// Creates a product at one price in every currency of the examples, with so many pieces.
pub async fn upsert(
    inventory: &mut InventoryServiceClient<Channel>,
    sku: &str,
    name: &str,
    unit_price: Option<i64>,
    pieces: i64,
) -> Result<()> {
    let prices = unit_price.map(|unit_price| CURRENCIES.map(|currency| Price { currency: currency.into(), unit_price }).to_vec());
    let product = Product { sku: sku.into(), name: name.into(), prices: prices.unwrap_or_default() };
    inventory.upsert_product(UpsertProductRequest { product: Some(product) }).await?;
    inventory.set_stock(SetStockRequest { sku: sku.into(), on_hand: pieces }).await?;
    Ok(())
}
