//! Reads of single orders, batched by demand: whatever is asked while one query runs is answered by the next.

use std::{collections::HashMap, sync::Arc};

use messaging::{Tasks, patience};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::store::{self, Shown};

const BATCH_ROWS_MAX: usize = 256;
const QUEUE_ROWS_MAX: usize = 4_096;
/// Others wait behind it.
const LOOK_MS_MAX: u64 = 5_000;

type Reply = oneshot::Sender<Result<Option<Shown>, Arc<sqlx::Error>>>;

#[derive(Clone)]
pub(crate) struct Lookup(mpsc::Sender<(Uuid, Reply)>);

/// Why an order could not be read.
pub(crate) enum Failed {
    Busy,
    Database(Arc<sqlx::Error>),
}

impl Lookup {
    /// The order as it is now; `None` if there is none.
    pub(crate) async fn order(&self, id: Uuid) -> Result<Option<Shown>, Failed> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send((id, reply)).map_err(|_| Failed::Busy)?;
        answer.await.map_err(|_| Failed::Busy)?.map_err(Failed::Database)
    }
}

pub(crate) fn start(pool: PgPool, tasks: &Tasks) -> Lookup {
    let (sender, mut queue) = mpsc::channel::<(Uuid, Reply)>(QUEUE_ROWS_MAX);
    let stop = tasks.clone();
    tasks.spawn("order lookup", async move {
        let mut asked = Vec::with_capacity(BATCH_ROWS_MAX);
        loop {
            tokio::select! {
                n = queue.recv_many(&mut asked, BATCH_ROWS_MAX) => if n == 0 { return },
                () = stop.stopping(), if queue.is_empty() => return,
            }
            let ids: Vec<Uuid> = asked.iter().map(|(id, _)| *id).collect();
            let found = patience::at(LOOK_MS_MAX, &pool, async |db| store::show(db, &ids).await).await.map_err(Arc::new);
            for (id, reply) in asked.drain(..) {
                let answer = found.as_ref().map(|found: &HashMap<Uuid, Shown>| found.get(&id).cloned()).map_err(Arc::clone);
                let _ = reply.send(answer);
            }
        }
    });
    Lookup(sender)
}
