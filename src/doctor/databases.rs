//! What is wrong with databases: away, of another version, set to forget, held up by a session that does nothing.

use anyhow::{Context, Result, ensure};
use messaging::operate;
use sqlx::{PgConnection, migrate::Migrator};

use super::{Check, store};
use crate::deployment::Deployment;

/// An open transaction older than this keeps retention from dropping what is old, and vacuum from its work.
const IDLE_S_MAX: f64 = 10.0;

/// What a database says of itself.
struct Found {
    service: &'static str,
    partitions: Option<i32>,
    relaxed: Vec<String>,
    idle: Option<String>,
}

pub(super) async fn look(deployment: &Deployment) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut all = Vec::new();
    for service in deployment.services() {
        match one(deployment, service).await {
            Ok((unapplied, found)) => {
                checks.push(migrated(service, &unapplied, found.partitions));
                all.push(found);
            }
            Err(error) => checks.push(Check::new(format!("database {service}"), true, Err::<String, _>(format!("{error:#}")))),
        }
    }
    checks.push(same_partitions(&all));
    let relaxed: Vec<String> =
        all.iter().flat_map(|found| found.relaxed.iter().map(|setting| format!("{}: {setting}", found.service))).collect();
    checks.push(Check::none_of("durability", &relaxed, "fsync, full_page_writes and synchronous_commit are on"));
    let idle: Vec<String> = all.iter().filter_map(|found| found.idle.clone()).collect();
    checks.push(Check::none_of("idle transactions", &idle, format!("none is older than {IDLE_S_MAX:.0} s")));
    checks
}

async fn one(deployment: &Deployment, service: &'static str) -> Result<(Vec<String>, Found)> {
    let mut db = deployment.connect(service).await?;
    let unapplied = unapplied(&mut db, service).await.context("its migrations")?;
    // Without its tables there is nothing to ask.
    let partitions = if unapplied.is_empty() { operate::partitions(&mut db).await? } else { None };
    let relaxed = store::relaxed_settings(&mut db).await?;
    let (sessions, age_s) = store::idle_transactions(&mut db, IDLE_S_MAX).await?;
    let idle = (sessions > 0).then(|| format!("{service}: {sessions}, the oldest for {age_s:.0} s"));
    Ok((unapplied, Found { service, partitions, relaxed, idle }))
}

/// What the database of a service lacks.
async fn unapplied(db: &mut PgConnection, service: &str) -> Result<Vec<String>> {
    let mut unapplied: Vec<String> =
        operate::unapplied_migrations(db).await?.iter().map(|version| format!("messaging {version:04}")).collect();
    let applied = store::applied_migrations(db).await?;
    let own = migrations(service).into_iter().flat_map(Migrator::iter).map(|migration| migration.version);
    unapplied.extend(own.filter(|version| !applied.contains(version)).map(|version| format!("{service} {version:04}")));
    Ok(unapplied)
}

fn migrations(service: &str) -> Option<&'static Migrator> {
    Some(match service {
        "order" => &order::MIGRATIONS,
        "orchestrator" => &orchestrator::MIGRATIONS,
        "payment" => &payment::MIGRATIONS,
        "inventory" => &inventory::MIGRATIONS,
        "shipping" => &shipping::MIGRATIONS,
        "notification" => &notification::MIGRATIONS,
        _ => return None,
    })
}

fn migrated(service: &str, unapplied: &[String], partitions: Option<i32>) -> Check {
    let name = format!("database {service}");
    if !unapplied.is_empty() {
        let says = format!("not migrated: {} missing; `settle migrate`", unapplied.join(", "));
        return Check { name, ok: false, needed: true, says };
    }
    let says = match partitions {
        Some(partitions) => format!("answers, migrated, {partitions} partitions"),
        None => "answers, migrated, not started yet".to_owned(),
    };
    Check { name, ok: true, needed: true, says }
}

/// Keys go to the same partition in every service.
fn same_partitions(all: &[Found]) -> Check {
    let counts: Vec<(&str, i32)> = all.iter().filter_map(|found| Some((found.service, found.partitions?))).collect();
    let same = || -> Result<String> {
        let Some((_, first)) = counts.first() else { return Ok("not fixed yet".to_owned()) };
        let told: Vec<String> = counts.iter().map(|(service, count)| format!("{service} {count}")).collect();
        ensure!(counts.iter().all(|(_, count)| count == first), "{}", told.join(", "));
        Ok(format!("{first} in every database"))
    };
    Check::new("partitions", true, same())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(service: &'static str, partitions: Option<i32>) -> Found {
        Found { service, partitions, relaxed: Vec::new(), idle: None }
    }

    #[test]
    fn another_partition_count_is_named() {
        let check = same_partitions(&[found("order", Some(4)), found("payment", Some(8)), found("shipping", None)]);
        assert!(!check.ok && check.needed);
        assert_eq!(check.says, "order 4, payment 8");
        assert!(same_partitions(&[found("order", Some(4)), found("payment", Some(4))]).ok);
        assert!(same_partitions(&[]).ok);
    }

    #[test]
    fn a_database_without_its_tables_is_named() {
        let check = migrated("order", &["messaging 0004".to_owned()], None);
        assert!(!check.ok && check.says.contains("messaging 0004"));
        assert!(migrated("order", &[], Some(4)).ok);
    }

    #[test]
    fn every_service_with_streams_has_its_migrations() {
        for (_, service) in contracts::topic::WRITERS {
            assert!(migrations(service).is_some(), "{service}");
        }
    }
}
