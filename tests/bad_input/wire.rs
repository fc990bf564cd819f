//! Bytes on the gRPC port that are no message.

use bytes::{Buf, BufMut};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

use super::assert_nothing_stored;
use crate::{
    harness::{Bus, Stage, platform, run},
    placing::fresh,
};

const CREATE: &str = "/settle.order.v1.OrderService/CreateOrder";

/// Sends and takes bytes as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        Ok(Some(bytes.to_vec()))
    }
}

async fn send(stage: &Stage, path: &'static str, message: Vec<u8>) -> Status {
    let mut client = Grpc::new(stage.channel().await);
    client.ready().await.expect("connected");
    client.unary(Request::new(message), PathAndQuery::from_static(path), Raw).await.expect_err("these bytes are taken")
}

/// A field of the wire format with a length.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).expect("short");
    assert!(length < 128, "one byte of length");
    [&[(number << 3) | 2, length][..], value].concat()
}

#[test]
fn what_is_no_protobuf_is_an_invalid_argument() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let marker = fresh("bad-bytes");
        let customer = field(2, marker.as_bytes());
        for (what, bytes) in [
            ("no varint", [customer.clone(), vec![0xff; 11]].concat()),
            ("half a field", [customer.clone(), vec![(4 << 3) | 2, 100, 1]].concat()),
            ("no UTF-8", [customer.clone(), field(3, b"U\xffD")].concat()),
            ("a number where a text belongs", [customer.clone(), vec![3 << 3, 1]].concat()),
            ("a line that is no message", [customer.clone(), field(4, b"\xff\xff")].concat()),
            ("field number 0", [customer.clone(), vec![0, 0]].concat()),
        ] {
            let status = send(stage, CREATE, bytes).await;
            assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
        }
        assert_nothing_stored(stage, &marker).await;
    });
}

#[test]
fn a_message_that_is_too_large_is_refused() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let marker = fresh("bad-size");
        let message = [field(2, marker.as_bytes()), vec![0; 5 * 1024 * 1024]].concat();
        let status = send(stage, CREATE, message).await;
        // The server answers before it has read everything; a client may notice only that the stream was reset.
        assert!(
            matches!(status.code(), Code::ResourceExhausted | Code::Cancelled | Code::Internal | Code::Unknown | Code::Unavailable),
            "{status:?}"
        );
        assert_nothing_stored(stage, &marker).await;
    });
}

#[test]
fn unknown_fields_are_ignored_and_unknown_methods_unimplemented() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        // Field 100, then nothing of what an order needs: the refusal is of the customer, not of the field.
        let status = send(stage, CREATE, vec![0xa2, 0x06, 0x01, b'x']).await;
        super::assert_invalid("an unknown field", &status, "customer_id", "BAD_LENGTH");
        for path in ["/settle.order.v1.OrderService/Nothing", "/settle.nothing.v1.NothingService/Nothing"] {
            let status = send(stage, path, Vec::new()).await;
            assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
        }
    });
}
