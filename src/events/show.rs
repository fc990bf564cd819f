//! `settle events show`: one event, by its id.

use anyhow::{Result, anyhow, bail};
use messaging::{
    Record,
    operate::events::{self, Reception},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{decode::Decoder, time_of};
use crate::{client::Output, deployment::Deployment, outbox::name_of};

/// Ids are not indexed: an outbox is read from end to end, and a service must not suffer from that for long.
const SCAN_MS_MAX: u32 = 30_000;
/// SQLSTATE of a statement that took too long.
const CANCELLED: &str = "57014";

pub(super) async fn main(event_id: Uuid, deployment: &Deployment, output: Output) -> Result<()> {
    let written = find(event_id, deployment).await?;
    let place = written.as_ref().and_then(|record| Some((&record.stream, record.place?.seq)));
    let mut receptions = Vec::new();
    for service in deployment.services() {
        let mut db = deployment.connect(service).await?;
        let here = events::receptions(&mut db, event_id, place).await;
        receptions.extend(here.map_err(|error| anyhow!("the database of {service}: {error}"))?);
    }
    if written.is_none() && receptions.is_empty() {
        bail!("no outbox has the event {event_id}, and no group remembers it");
    }
    let decoder = Decoder::new()?;
    match output {
        Output::Json => {
            let groups: Vec<Value> = receptions.iter().map(reception_json).collect();
            say!(
                "{}",
                json!({
                    "event_id": event_id.to_string(),
                    "written": written.as_ref().map(|record| decoder.json(record)),
                    "groups": groups,
                })
            );
        }
        Output::Table => {
            match &written {
                Some(record) => print(record, &decoder)?,
                None => say!("{event_id} is in no outbox of ours: a foreign producer's, or cut away since"),
            }
            for reception in &receptions {
                let (state, at, reason) = state_of(reception);
                let line =
                    format!("  {:<14} {state:<9} {} {}", reception.group, at.unwrap_or_default(), reason.unwrap_or_default());
                say!("{}", line.trim_end());
            }
        }
    }
    Ok(())
}

async fn find(event_id: Uuid, deployment: &Deployment) -> Result<Option<Record>> {
    for service in deployment.services() {
        let mut db = deployment.connect(service).await?;
        match events::find(&mut db, event_id, SCAN_MS_MAX).await {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) if error.as_database_error().and_then(|e| e.code()).is_some_and(|code| code == CANCELLED) => {
                bail!(
                    "the outbox of {service} is too large to be searched in {SCAN_MS_MAX} ms; `settle events tail --order ID` finds the \
                     events of an order"
                );
            }
            Err(error) => bail!("the outbox of {service}: {error}"),
        }
    }
    Ok(None)
}

fn print(record: &Record, decoder: &Decoder) -> Result<()> {
    let json = decoder.json(record);
    let seq = record.place.map(|place| place.seq).unwrap_or_default();
    say!("{}  {}", record.id, record.type_name);
    say!("  written      {} {seq} by {}", name_of(&record.stream), json["service"].as_str().unwrap_or("nobody known"));
    say!("  at           {}", time_of(record.at));
    say!("  key          {}", record.key);
    say!("  correlation  {}", record.correlation);
    if let Some(causation) = record.causation {
        say!("  causation    {causation}");
    }
    let payload = if json["payload"].is_null() { &json["payload_hex"] } else { &json["payload"] };
    say!("  payload      {}", serde_json::to_string_pretty(payload)?.replace('\n', "\n  "));
    say!("groups");
    Ok(())
}

fn reception_json(reception: &Reception) -> Value {
    let (state, at, reason) = state_of(reception);
    json!({ "group": reception.group, "state": state, "at": at, "reason": reason })
}

/// What a group has made of it, since when if its database tells, and why if it was held back. APPLIED is also what was of no interest.
fn state_of(reception: &Reception) -> (String, Option<String>, Option<String>) {
    match (&reception.held, reception.processed_at, reception.passed) {
        (Some(held), _, _) if held.state != "DONE" => {
            (held.state.clone(), Some(time_of(held.failed_at)), Some(held.reason.clone()))
        }
        (_, Some(at), _) => ("APPLIED".into(), Some(time_of(at)), None),
        (Some(held), None, _) => ("APPLIED".into(), None, Some(format!("after it was held back: {}", held.reason))),
        (None, None, Some(true)) => ("APPLIED".into(), None, None),
        (None, None, _) => ("UNREAD".into(), None, None),
    }
}

#[cfg(test)]
mod tests {
    use messaging::operate::events::Holding;
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn what_is_held_back_is_not_applied() {
        let at = OffsetDateTime::UNIX_EPOCH;
        let held = |state: &str| Some(Holding { state: state.into(), reason: "bad".into(), failed_at: at });
        let of = |passed, processed_at, held| state_of(&Reception { group: "g".into(), passed, processed_at, held });
        let name = |told: (String, Option<String>, Option<String>)| told.0;
        assert_eq!(name(of(Some(true), None, None)), "APPLIED");
        assert_eq!(name(of(Some(false), None, None)), "UNREAD");
        assert_eq!(name(of(Some(true), None, held("PARKED"))), "PARKED");
        assert_eq!(of(Some(true), None, held("DONE")).2.as_deref(), Some("after it was held back: bad"));
        assert_eq!(of(None, Some(at), None).1.as_deref(), Some("1970-01-01T00:00:00Z"));
    }
}
