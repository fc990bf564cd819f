use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Nobody waits for ever: what was waited for, and how long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("waited {} ms for {what}", .waited.as_millis())]
pub struct Timeout {
    pub what: String,
    pub waited: Duration,
}

/// Asks `probe` until it has an answer, in place of a sleep that is too short on one machine and too long on another.
/// A probe that hangs counts as no answer.
pub async fn until<T, F, Fut>(what: &str, deadline: Duration, mut probe: F) -> Result<T, Timeout>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let end = Instant::now() + deadline;
    let mut pause = PAUSE_MIN;
    loop {
        match timeout_at(end, probe()).await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) if Instant::now() < end => sleep(pause.min(end - Instant::now())).await,
            Ok(None) | Err(_) => return Err(Timeout { what: what.to_owned(), waited: deadline }),
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_at_the_third_probe() {
        let mut asked = 0;
        let answer = until("three", Duration::from_secs(5), || {
            asked += 1;
            let now = asked;
            async move { (now == 3).then_some(now) }
        });
        assert_eq!(answer.await, Ok(3));
    }

    #[tokio::test]
    async fn says_what_it_waited_for() {
        let never = until("the end of time", Duration::from_millis(20), || async { None::<()> }).await;
        assert_eq!(never.unwrap_err().to_string(), "waited 20 ms for the end of time");
        let hangs = until("a hang", Duration::from_millis(20), std::future::pending::<Option<()>>).await;
        assert!(hangs.is_err());
    }
}
