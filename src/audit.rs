//! `settle audit`: whether money, goods and stories agree, over the databases of all services and the provider's statement. It only reads,
//! and the platform may run on meanwhile. docs/runbooks/audit.md says what it asserts and what to do about a violation.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::{
    client::{Output, Target},
    deployment::Deployment,
};

mod books;
mod charge;
mod found;
mod read;
mod report;
mod saga;
mod shelf;
mod statement;
mod store;
mod story;
mod suspects;
#[cfg(test)]
mod tests;
mod timeline;

use books::Books;
use suspects::Suspects;

pub use found::Invariant;
pub use report::{Balance, Judged, Note, Notes, Report};
pub use timeline::replay;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub target: Target,
    /// The ready file of the platform [default: that of its data directory, else SETTLE_<SERVICE>_DATABASE_URL]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "data"])]
    pub ready: Option<PathBuf>,
    /// Nothing is under way: assert that nothing is open but what waits for a person
    #[arg(long)]
    pub at_rest: bool,
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Ends well only if nothing is violated.
pub async fn main(args: Args) -> Result<()> {
    let deployment = match &args.ready {
        Some(file) => Deployment::read(file)?,
        None => Deployment::find(&args.target)?,
    };
    let report = audit(&deployment, args.at_rest).await?;
    report.print(args.output);
    ensure!(report.violations() == 0, "{} violations", report.violations());
    Ok(())
}

/// Payments that the ledger knows and that there are not, which are named.
const ORPHANS_MAX: i64 = 100;

/// Reads everything once, and what looks wrong again.
pub async fn audit(deployment: &Deployment, at_rest: bool) -> Result<Report> {
    let mut books = Books::open(deployment).await?;
    let mut report = Report::new(at_rest);
    let (mut stories, mut charges, mut shelves) = (Suspects::new(at_rest), Suspects::new(at_rest), Suspects::new(at_rest));

    books.begin().await?;
    read::stories(&mut books, |story| stories.look(story, &mut report)).await?;
    read::charges(&mut books, |charge| {
        report.weigh(&charge);
        charges.look(charge, &mut report);
    })
    .await?;
    read::shelves(&mut books, |shelf| shelves.look(shelf, &mut report)).await?;
    let accounts = store::accounts(&mut books.payment).await?;
    let orphans = store::orphaned_transfers(&mut books.payment, ORPHANS_MAX).await?;
    books.end().await?;

    let settled = at_rest && charges.is_empty() && report.attention.count == 0;
    report.balance(accounts, &orphans, settled);
    stories.settle(&mut books, &mut report).await?;
    charges.settle(&mut books, &mut report).await?;
    shelves.settle(&mut books, &mut report).await?;
    Ok(report)
}
