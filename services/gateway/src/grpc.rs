//! The services behind the gateway, and calls to them with messages known at run time only.

use std::{error::Error as _, time::Duration};

use messaging::Trace;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tonic::{
    Code, Request, Response, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{Ascii, MetadataMap, MetadataValue},
    transport::Channel,
};

use crate::{
    limits::{ANSWER_BYTES_MAX, DEADLINE_MS},
    routes::Call,
};

/// Where each service is.
#[derive(Clone, Default)]
pub struct Upstreams {
    channels: Vec<(String, Channel)>,
}

impl Upstreams {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends the services of a package, such as `settle.order.v1`, or one service by its full name, to this channel. The longest
    /// prefix wins.
    #[must_use]
    pub fn add(mut self, prefix: &str, channel: Channel) -> Self {
        self.channels.push((prefix.to_owned(), channel));
        self
    }

    pub(crate) fn of(&self, service: &str) -> Option<&Channel> {
        let covers = |prefix: &str| service.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let covering = self.channels.iter().filter(|(prefix, _)| covers(prefix));
        covering.max_by_key(|(prefix, _)| prefix.len()).map(|(_, channel)| channel)
    }
}

pub(crate) struct Answer {
    pub(crate) message: DynamicMessage,
    /// It is the first answer of the same idempotency key.
    pub(crate) replayed: bool,
}

pub(crate) async fn unary(
    channel: &Channel,
    call: &Call,
    output: MessageDescriptor,
    message: DynamicMessage,
    trace: &Trace,
) -> Result<Answer, Status> {
    let mut request = request(message, trace);
    request.set_timeout(DEADLINE);
    let response = in_time(async {
        let mut client = client(channel).await?;
        client.unary(request, call.path.clone(), Dynamic { output }).await
    });
    let (metadata, message, _) = response.await?.into_parts();
    Ok(Answer { message, replayed: replayed(&metadata) })
}

/// Opens a stream. The deadline is that of its opening: how long it lives is the service's business.
pub(crate) async fn streaming(
    channel: &Channel,
    call: &Call,
    output: MessageDescriptor,
    message: DynamicMessage,
    trace: &Trace,
) -> Result<Messages, Status> {
    let request = request(message, trace);
    let response = in_time(async {
        let mut client = client(channel).await?;
        client.server_streaming(request, call.path.clone(), Dynamic { output }).await
    });
    response.await.map(|response| Messages(response.into_inner()))
}

/// The messages of an open stream.
pub(crate) struct Messages(Streaming<DynamicMessage>);

impl Messages {
    /// May be dropped and called again: nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<DynamicMessage>, Status> {
        self.0.message().await.map_err(plain)
    }
}

const DEADLINE: Duration = Duration::from_millis(DEADLINE_MS);

async fn client(channel: &Channel) -> Result<Grpc<Channel>, Status> {
    let mut client = Grpc::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(client)
}

/// The deadline goes to the service too; this one also covers a connection that does not come about.
async fn in_time<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<Response<T>, Status> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => answer.map_err(plain),
        Err(_) => Err(late()),
    }
}

fn late() -> Status {
    Status::deadline_exceeded(format!("The service did not answer within {DEADLINE_MS} ms; what was asked may still happen."))
}

/// Tonic tells a passed deadline as CANCELLED, and a broken connection as any code that HTTP/2 has for it.
pub(crate) fn plain(status: Status) -> Status {
    if status.code() == Code::Cancelled && status.message() == "Timeout expired" {
        late()
    } else if status.source().is_some() {
        Status::unavailable(status.message())
    } else {
        status
    }
}

pub(crate) fn request<M>(message: M, trace: &Trace) -> Request<M> {
    let mut request = Request::new(message);
    let headers = [("traceparent", &trace.parent), ("tracestate", &trace.state)];
    for (name, value) in headers {
        let value: Option<MetadataValue<Ascii>> = value.as_deref().and_then(|value| value.parse().ok());
        if let Some(value) = value {
            request.metadata_mut().insert(name, value);
        }
    }
    request
}

fn replayed(metadata: &MetadataMap) -> bool {
    metadata.get("idempotent-replayed").is_some_and(|value| value.as_bytes() == b"true")
}

/// Messages of descriptors instead of types.
struct Dynamic {
    output: MessageDescriptor,
}

struct Encode;

struct Decode {
    output: MessageDescriptor,
}

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Encode;
    type Decoder = Decode;

    fn encoder(&mut self) -> Encode {
        Encode
    }

    fn decoder(&mut self) -> Decode {
        Decode { output: self.output.clone() }
    }
}

impl Encoder for Encode {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(to).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Decode {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.output.clone(), from);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;

    use super::*;

    fn at(address: &'static str) -> Channel {
        Endpoint::from_static(address).connect_lazy()
    }

    #[tokio::test]
    async fn the_longest_prefix_wins() {
        let upstreams = Upstreams::new().add("settle.order.v1", at("http://a")).add("settle.order.v1.Other", at("http://b"));
        assert!(upstreams.of("settle.order.v1.OrderService").is_some());
        assert!(upstreams.of("settle.order.v1.Other").is_some());
        assert!(upstreams.of("settle.order.v10.OrderService").is_none());
        assert!(upstreams.of("settle.payment.v1.PaymentService").is_none());
    }

    #[test]
    fn deadlines_and_broken_connections() {
        assert_eq!(plain(Status::cancelled("Timeout expired")).code(), Code::DeadlineExceeded);
        assert_eq!(plain(Status::cancelled("the caller left")).code(), Code::Cancelled);
        let broken = Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        assert_eq!(plain(broken).code(), Code::Unavailable);
        assert_eq!(plain(Status::not_found("no order")).code(), Code::NotFound);
    }

    #[test]
    fn the_trace_goes_along() {
        let pool = prost_reflect::DescriptorPool::decode(contracts::DESCRIPTORS).unwrap();
        let message = DynamicMessage::new(pool.get_message_by_name("settle.order.v1.GetOrderRequest").unwrap());
        let trace = Trace { parent: Some("00-a".to_owned()), state: Some("a\n".to_owned()) };
        let request = request(message, &trace);
        assert_eq!(request.metadata().get("traceparent").unwrap(), "00-a");
        assert!(request.metadata().get("tracestate").is_none());
    }
}
