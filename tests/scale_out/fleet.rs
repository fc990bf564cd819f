//! Three processes of each service, each in the hands of whoever kills and pauses it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use local::process::Signal;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    PROCESSES,
    faults::{Fault, Planned},
    load::Doors,
};
use crate::served::{Ground, SERVICES, Served};

/// Records of a stream that are published again.
const SET_BACK_ROWS: i64 = 20;
const SET_BACK_WITHIN: Duration = Duration::from_secs(10);
const TAKEN_OVER: &str = "taken over from an instance that died";

/// What processes met, and what they did about it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) faults: BTreeMap<Fault, u32>,
    /// Times that the leases of another one had run out and were taken.
    pub(super) take_overs: usize,
    /// Records that came again and were seen through.
    pub(super) repeats: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        for (fault, times) in &other.faults {
            *self.faults.entry(*fault).or_default() += times;
        }
        self.take_overs += other.take_overs;
        self.repeats += other.repeats;
    }
}

/// The nth process of a service, whichever it is by now.
pub(super) struct Instance<'a> {
    pub(super) service: &'static str,
    pub(super) tally: Tally,
    pub(super) process: Served,
    nth: usize,
    ground: &'a Ground,
    doors: &'a Doors,
}

/// One of each first: it makes the topics.
pub(super) async fn start<'a>(ground: &'a Ground, doors: &'a Doors) -> Result<Vec<Instance<'a>>> {
    let mut fleet = Vec::new();
    for nth in 0..PROCESSES {
        fleet.extend(try_join_all(SERVICES.map(|service| Instance::start(ground, doors, service, nth))).await?);
    }
    Ok(fleet)
}

impl<'a> Instance<'a> {
    async fn start(ground: &'a Ground, doors: &'a Doors, service: &'static str, nth: usize) -> Result<Self> {
        let process = Served::start(ground, service).await?;
        let instance = Self { service, tally: Tally::default(), process, nth, ground, doors };
        instance.open_door().await?;
        Ok(instance)
    }

    async fn open_door(&self) -> Result<()> {
        if self.service == "order" {
            self.doors.open(self.nth, settle::client::connect(&self.process.grpc).await?);
        }
        Ok(())
    }

    /// Meets what is planned for it, one thing after the other.
    pub(super) async fn meet(&mut self, plan: &[Planned], begun: Instant) -> Result<()> {
        let (service, nth) = (self.service, self.nth);
        for planned in plan.iter().filter(|planned| planned.service == service && planned.nth == nth) {
            sleep_until(begun + planned.at).await;
            self.suffer(planned).await.with_context(|| planned.to_string())?;
            *self.tally.faults.entry(planned.fault).or_default() += 1;
        }
        Ok(())
    }

    async fn suffer(&mut self, planned: &Planned) -> Result<()> {
        match planned.fault {
            Fault::Killed => {
                self.take_stock().await?;
                self.process.kill().await?;
                self.process = Served::start(self.ground, self.service).await?;
                self.open_door().await
            }
            Fault::Paused | Fault::PausedForLong => {
                self.process.signal(Signal::Stop)?;
                // Not a wait for anything: so long it stands still.
                sleep(planned.pause).await;
                self.process.signal(Signal::Continue)
            }
            Fault::SetBack => set_back(&self.ground.databases[self.service]).await,
        }
    }

    /// What the process has told so far. Once a process: before it is killed, or at the end.
    pub(super) async fn take_stock(&mut self) -> Result<()> {
        self.process.alive()?;
        self.tally.take_overs += self.process.lines_with(TAKEN_OVER);
        self.tally.repeats += self.process.counted("settle_duplicates_skipped_total", "").await?;
        Ok(())
    }
}

/// What was published last is published again.
async fn set_back(url: &str) -> Result<()> {
    // The relays move the same rows, and may be the ones that go on when two wait for each other.
    let set = local::until("the cursors to be set back", SET_BACK_WITHIN, || async {
        let mut db = PgConnection::connect(url).await.ok()?;
        let sql = "update relay set seq = greatest(seq - $1, 0) where seq > 0";
        let set = sqlx::query(sql).bind(SET_BACK_ROWS).execute(&mut db).await.ok()?;
        (set.rows_affected() > 0).then_some(())
    });
    Ok(set.await?)
}
