//! A connection to each database that an audit reads.

use anyhow::{Context, Result};
use sqlx::PgConnection;

use super::store;
use crate::deployment::Deployment;

pub(super) struct Books {
    pub(super) order: PgConnection,
    pub(super) orchestrator: PgConnection,
    pub(super) inventory: PgConnection,
    pub(super) payment: PgConnection,
    /// The provider's statement.
    pub(super) provider: PgConnection,
}

impl Books {
    pub(super) async fn open(deployment: &Deployment) -> Result<Self> {
        const NO_STATEMENT: &str = "without the provider's statement nobody can tell what was taken. \
             That of a provider behind HTTP is compared by PaymentService/Reconcile";
        Ok(Self {
            order: deployment.connect("order").await?,
            orchestrator: deployment.connect("orchestrator").await?,
            inventory: deployment.connect("inventory").await?,
            payment: deployment.connect("payment").await?,
            provider: deployment.connect("provider").await.context(NO_STATEMENT)?,
        })
    }

    /// All databases as they are now, one right after the other: what follows first, so that what it follows from is there as a rule.
    pub(super) async fn begin(&mut self) -> sqlx::Result<()> {
        for db in self.all() {
            store::begin(db).await?;
        }
        Ok(())
    }

    /// Nobody's vacuum waits any longer.
    pub(super) async fn end(&mut self) -> sqlx::Result<()> {
        for db in self.all() {
            store::end(db).await?;
        }
        Ok(())
    }

    fn all(&mut self) -> [&mut PgConnection; 5] {
        let Self { order, orchestrator, inventory, payment, provider } = self;
        [order, orchestrator, inventory, payment, provider]
    }
}
