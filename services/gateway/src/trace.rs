//! The W3C trace context of a request. What is not valid is dropped, never an error: the trace then begins here.

use http::HeaderMap;
use messaging::Trace;

use crate::limits::TRACE_STATE_BYTES_MAX;

pub(crate) fn of(headers: &HeaderMap) -> Trace {
    let mut parents = headers.get_all("traceparent").iter();
    let (Some(parent), None) = (parents.next(), parents.next()) else { return Trace::default() };
    let Some(parent) = parent.to_str().ok().filter(|parent| valid(parent)) else { return Trace::default() };
    let states: Option<Vec<&str>> = headers.get_all("tracestate").iter().map(|state| state.to_str().ok()).collect();
    let state = states.map(|states| states.join(",")).filter(|state| !state.is_empty() && state.len() <= TRACE_STATE_BYTES_MAX);
    Trace { parent: Some(parent.to_owned()), state }
}

/// `version-trace-parent-flags`; a later version may go on behind the flags.
fn valid(parent: &str) -> bool {
    let mut parts = parent.split('-');
    let [version, trace, span, flags] = [(); 4].map(|()| parts.next().unwrap_or_default());
    let hex = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |part: &str| part.bytes().all(|b| b == b'0');
    hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && !zero(trace)
        && hex(span, 16)
        && !zero(span)
        && hex(flags, 2)
        && (version != "00" || parts.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn valid_is_forwarded() {
        let trace = of(&headers(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]));
        assert_eq!(trace, Trace { parent: Some(PARENT.to_owned()), state: Some("a=1,b=2".to_owned()) });
        assert!(valid("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"));
    }

    #[test]
    fn invalid_is_dropped() {
        let upper = PARENT.to_uppercase();
        let longer = format!("{PARENT}-more");
        let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        for bad in ["", "x", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", zero, &upper, &longer] {
            assert_eq!(of(&headers(&[("traceparent", bad), ("tracestate", "a=1")])), Trace::default(), "{bad}");
        }
        assert_eq!(of(&headers(&[("traceparent", PARENT), ("traceparent", PARENT)])), Trace::default());
        assert_eq!(of(&headers(&[("tracestate", "a=1")])), Trace::default());
        let long = format!("a={}", "x".repeat(TRACE_STATE_BYTES_MAX));
        assert_eq!(of(&headers(&[("traceparent", PARENT), ("tracestate", &long)])).state, None);
    }
}
