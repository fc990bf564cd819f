//! The publisher: says what was sold. It keeps nothing, so a sale that is told twice is said twice, with one id.

use messaging::{Decision, Envelope, Handler, Heard, News, Record, bus::Publisher};
use sqlx::{PgConnection, PgPool};

use super::{SOLD, TooFew};

/// What whoever hears the shop must know of it.
pub(crate) fn publisher(pool: PgPool) -> Publisher {
    Publisher { service: "shop", topics: vec![SOLD], readers: vec!["loyalty"], pool, remote: false }
}

pub(crate) struct Shop;

impl Handler for Shop {
    type Input = i64; // points that a sale is worth; the key is the customer
    type Answer = ();
    type Refusal = TooFew;
    type State = ();

    fn hear(&self, _: &Record) -> Heard<i64> {
        Heard::Ignored
    }

    async fn load(&self, _: &mut PgConnection, _: &[&Envelope<i64>]) -> sqlx::Result<()> {
        Ok(())
    }

    fn decide(&self, _: &mut (), sale: &Envelope<i64>) -> Result<Decision<()>, TooFew> {
        let payload = sale.input.to_string().into();
        Ok(Decision::new((), vec![News { topic: SOLD, type_name: "shop.v1.Sold", key: sale.key.clone(), payload }]))
    }

    async fn save(&self, _: &mut PgConnection, _: ()) -> sqlx::Result<()> {
        Ok(())
    }
}
