//! Bodies of HTTP requests, bounded in length and time.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use futures::StreamExt as _;
use http::StatusCode;
use tokio::time::timeout;

/// A body that takes longer to arrive is refused.
pub const READ_MS: u64 = 10_000;
/// What is too long is still taken off the wire up to here: a connection closed over unread bytes is reset, and the answer that says
/// why is lost with it.
const DISCARDED_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("The body must not be longer than {bytes_max} bytes.")]
    TooLarge { bytes_max: usize },
    #[error("The body did not arrive within {READ_MS} ms.")]
    TooSlow,
    #[error("The body broke off.")]
    Broken,
}

impl BodyError {
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }

    /// Stable, for programs.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "BODY_TOO_LARGE",
            Self::TooSlow => "BODY_TOO_SLOW",
            Self::Broken => "BODY_BROKEN",
        }
    }
}

/// The whole body, if it has no more than `bytes_max` bytes and arrives within [`READ_MS`].
pub async fn whole(body: Body, bytes_max: usize) -> Result<Bytes, BodyError> {
    if body.size_hint().lower() > DISCARDED_BYTES_MAX.max(bytes_max) as u64 {
        return Err(BodyError::TooLarge { bytes_max });
    }
    timeout(Duration::from_millis(READ_MS), collect(body, bytes_max)).await.map_err(|_| BodyError::TooSlow)?
}

async fn collect(body: Body, bytes_max: usize) -> Result<Bytes, BodyError> {
    let mut chunks = body.into_data_stream();
    let mut whole = Vec::new();
    let mut came = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| BodyError::Broken)?;
        came += chunk.len();
        if came <= bytes_max {
            whole.extend_from_slice(&chunk);
        } else if came > DISCARDED_BYTES_MAX {
            break;
        }
    }
    if came > bytes_max { Err(BodyError::TooLarge { bytes_max }) } else { Ok(whole.into()) }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
    };

    use super::*;

    const MAX: usize = 1024;
    const TOO_LARGE: BodyError = BodyError::TooLarge { bytes_max: MAX };

    /// A body of unknown length in chunks of `MAX` bytes, and how many were read.
    fn streamed(chunks: usize) -> (Body, Arc<AtomicUsize>) {
        let read = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&read);
        let chunks = futures::stream::iter(0..chunks).map(move |_| {
            counted.fetch_add(1, Relaxed);
            Ok::<_, Infallible>(vec![b' '; MAX])
        });
        (Body::from_stream(chunks), read)
    }

    #[tokio::test]
    async fn up_to_its_bound() {
        assert_eq!(whole(Body::empty(), MAX).await.unwrap().len(), 0);
        assert_eq!(whole(Body::from(vec![b' '; MAX]), MAX).await.unwrap().len(), MAX);
        assert_eq!(whole(Body::from(vec![b' '; MAX + 1]), MAX).await, Err(TOO_LARGE));
        let huge = Body::from(vec![b' '; DISCARDED_BYTES_MAX + 1]);
        assert_eq!(whole(huge, MAX).await, Err(TOO_LARGE));
    }

    #[tokio::test]
    async fn what_is_too_long_is_taken_off_the_wire_up_to_a_bound() {
        let (body, read) = streamed(8);
        assert_eq!(whole(body, MAX).await, Err(TOO_LARGE));
        assert_eq!(read.load(Relaxed), 8);
        let (body, read) = streamed(usize::MAX);
        assert_eq!(whole(body, MAX).await, Err(TOO_LARGE));
        assert_eq!(read.load(Relaxed), DISCARDED_BYTES_MAX / MAX + 1);
    }

    #[tokio::test]
    async fn that_breaks_off() {
        let chunks = [Ok(vec![b'{']), Err(std::io::Error::other("gone"))];
        assert_eq!(whole(Body::from_stream(futures::stream::iter(chunks)), MAX).await, Err(BodyError::Broken));
    }
}
