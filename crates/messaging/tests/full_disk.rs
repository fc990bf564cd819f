//! A disk that is full: calls and records wait, nothing is lost and nothing blamed, and when there is room again they go on. (Data files; a
//! server that cannot write its log stops, which is a crash.)

use sqlx::PgPool;

use crate::fixture::{On, Pair, Stage, faults, keys_everywhere, load::Load, log, small_disk::SmallDisk, store, wait};

on_buses!(d07_the_publishers_disk_is_full: postgres);

async fn d07_the_publishers_disk_is_full(on: On) {
    let pair = Pair::new(on).await;
    let (db, service) = (pair.publisher.clone(), pair.service);
    a_full_disk(pair, &db, "said", service).await;
}

on_buses!(d07_the_consumers_disk_is_full: postgres, kafka);

async fn d07_the_consumers_disk_is_full(on: On) {
    let pair = Pair::new(on).await;
    let (db, group) = (pair.consumer.clone(), pair.group);
    a_full_disk(pair, &db, "seen", group).await;
}

/// A table of this service's is on the small disk.
async fn a_full_disk(pair: Pair, db: &PgPool, table: &str, service: &str) {
    let Some(disk) = SmallDisk::mount().await else { return pair.close().await };
    faults::move_table(db, table, &disk.tablespace).await;
    let Stage { pair, publisher, consumer } = Stage::of(pair).await;
    let keys = keys_everywhere(3);
    let load = Load::start(&pair, &publisher.runner, &keys);
    wait("the load to get on", || async { store::seen(&pair.consumer).await > 24 }).await;

    disk.fill();
    wait("the disk to be full", || async { log::said(service, "PROCESSING_ERROR", "No space left on device") > 0 }).await;
    assert!(messaging::totals()[service].retries > 0);
    disk.free();

    pair.all_applied(&keys, load.stop().await).await;
    assert_eq!(pair.parked().await.len(), 0, "nothing of it is blamed on a record");
    Stage { pair, publisher, consumer }.stop().await;
    disk.unmount().await;
}
