//! A connection to each database that an audit reads, and the provider's statement.

use anyhow::Result;
use sqlx::PgConnection;

use super::{statement::Statement, store};
use crate::deployment::Deployment;

pub(super) struct Books {
    pub(super) order: PgConnection,
    pub(super) orchestrator: PgConnection,
    pub(super) inventory: PgConnection,
    pub(super) payment: PgConnection,
    pub(super) provider: Statement,
}

impl Books {
    pub(super) async fn open(deployment: &Deployment) -> Result<Self> {
        Ok(Self {
            order: deployment.connect("order").await?,
            orchestrator: deployment.connect("orchestrator").await?,
            inventory: deployment.connect("inventory").await?,
            payment: deployment.connect("payment").await?,
            provider: Statement::open(deployment).await?,
        })
    }

    /// All databases as they are now, one right after the other: what follows first, so that what it follows from is there as a rule.
    pub(super) async fn begin(&mut self) -> Result<()> {
        self.provider.prepare().await?;
        for db in self.databases() {
            store::begin(db).await?;
        }
        Ok(self.provider.begin().await?)
    }

    /// Nobody's vacuum waits any longer.
    pub(super) async fn end(&mut self) -> sqlx::Result<()> {
        for db in self.databases() {
            store::end(db).await?;
        }
        self.provider.end().await
    }

    fn databases(&mut self) -> [&mut PgConnection; 4] {
        let Self { order, orchestrator, inventory, payment, .. } = self;
        [order, orchestrator, inventory, payment]
    }
}
