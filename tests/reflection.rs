//! What grpcurl and load balancers ask of the gRPC port: which services there are, what their messages look like, and whether they serve.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FileDescriptorProto;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::harness::{Bus, platform, run};

const SERVICES: [(&str, &[&str]); 7] = [
    ("settle.order.v1.OrderService", &["CreateOrder", "GetOrder", "ListOrders", "CancelOrder", "RefundOrder", "WatchOrder"]),
    (
        "settle.payment.v1.PaymentService",
        &["GetPayment", "ListPayments", "ListProviderCalls", "RetryProviderCall", "GetTrialBalance", "Reconcile", "ReceiveWebhook"],
    ),
    ("settle.inventory.v1.InventoryService", &["UpsertProduct", "ListProducts", "SetStock", "AdjustStock", "ListStock"]),
    ("settle.shipping.v1.ShippingService", &["GetShipment", "ListShipments", "MarkDispatched", "MarkDelivered"]),
    ("settle.notification.v1.NotificationService", &["ListNotifications", "ResendNotification"]),
    (
        "settle.saga.v1.SagaService",
        &["ListSagas", "GetSaga", "RetrySaga", "SkipSaga", "PauseSaga", "ResumeSaga", "OperateSagas", "DescribeDefinition"],
    ),
    ("settle.messaging.v1.DeadLetterService", &["ListDeadLetters", "GetDeadLetter", "RedriveDeadLetters", "DiscardDeadLetter"]),
];

/// The two versions of the protocol have the same messages in different packages.
macro_rules! reflects {
    ($test:ident, $version:ident) => {
        #[test]
        fn $test() {
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };

            run(async {
                let channel = platform(Bus::Postgres).await.channel().await;
                let ask = async |message: MessageRequest| -> MessageResponse {
                    let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
                    let mut client = ServerReflectionClient::new(channel.clone());
                    let mut answers =
                        client.server_reflection_info(tokio_stream::once(request)).await.expect("it reflects").into_inner();
                    answers.message().await.expect("answered").expect("an answer").message_response.expect("a message")
                };
                let file_of = async |symbol: &str| -> Vec<FileDescriptorProto> {
                    match ask(MessageRequest::FileContainingSymbol(symbol.to_owned())).await {
                        MessageResponse::FileDescriptorResponse(files) => {
                            let files = files.file_descriptor_proto.iter();
                            files.map(|file| FileDescriptorProto::decode(file.as_slice()).expect("a file")).collect()
                        }
                        other => panic!("{symbol}: {other:?}"),
                    }
                };

                let MessageResponse::ListServicesResponse(listed) = ask(MessageRequest::ListServices(String::new())).await else {
                    panic!("no list of services");
                };
                let names: BTreeSet<String> = listed.service.into_iter().map(|service| service.name).collect();
                for (service, methods) in SERVICES {
                    assert!(names.contains(service), "{service} is not listed: {names:?}");
                    assert_has_service(&file_of(service).await, service, methods);
                }
                assert!(names.contains("grpc.health.v1.Health"), "{names:?}");
                assert_has_service(&file_of("grpc.health.v1.Health").await, "grpc.health.v1.Health", &["Check", "Watch"]);
                assert_order_created(&file_of("settle.order.v1.OrderCreated").await);
                // What a message is made of is found by its file's name, as clients do to resolve imports.
                let imported = ask(MessageRequest::FileByFilename("settle/order/v1/types.proto".to_owned())).await;
                assert!(matches!(imported, MessageResponse::FileDescriptorResponse(_)), "{imported:?}");
            });
        }
    };
}

reflects!(version_1, v1);
reflects!(version_1_alpha, v1alpha);

fn assert_has_service(files: &[FileDescriptorProto], name: &str, methods: &[&str]) {
    let short = name.rsplit('.').next().expect("a name");
    let service = files.iter().flat_map(|file| &file.service).find(|service| service.name() == short);
    let service = service.unwrap_or_else(|| panic!("{name} is not in the file said to have it"));
    for method in methods {
        assert!(service.method.iter().any(|has| has.name() == *method), "{name} has no {method}");
    }
}

fn assert_order_created(files: &[FileDescriptorProto]) {
    let message = files.iter().flat_map(|file| &file.message_type).find(|message| message.name() == "OrderCreated");
    let fields: Vec<&str> = message.expect("OrderCreated is described").field.iter().map(|field| field.name()).collect();
    assert_eq!(fields, ["order_id", "customer_id", "currency", "total", "items", "payment_token", "definition"]);
}

#[test]
fn every_service_serves() {
    run(async {
        let mut health = HealthClient::new(platform(Bus::Postgres).await.channel().await);
        // The empty name is the server as a whole.
        for service in SERVICES.iter().map(|(name, _)| *name).chain([""]) {
            let request = HealthCheckRequest { service: service.to_owned() };
            let told = health.check(request).await.unwrap_or_else(|status| panic!("{service:?}: {status:?}")).into_inner();
            assert_eq!(told.status(), ServingStatus::Serving, "{service:?}");
        }
        let unknown = health.check(HealthCheckRequest { service: "settle.nothing.v1.NothingService".into() }).await;
        assert_eq!(unknown.expect_err("there is no such service").code(), Code::NotFound);
    });
}
