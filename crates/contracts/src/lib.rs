//! What the services say to each other and to callers.
//!
//! Everything here but [`ids`], [`money`] and [`time`] is generated from `proto/` at build time. Services meet in this crate alone.

pub mod ids;
pub mod money;
pub mod time;

/// Includes the generated code of one package.
macro_rules! package {
    ($service:ident) => {
        #[allow(clippy::all, clippy::pedantic, unreachable_pub, reason = "generated code")]
        pub mod $service {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/settle.", stringify!($service), ".v1.rs"));
            }
        }
    };
}

package!(common);
package!(order);
package!(payment);
package!(inventory);
package!(shipping);
package!(notification);
package!(saga);
package!(messaging);

#[allow(clippy::all, reason = "generated code")]
mod messages {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

pub use messages::Message;

/// All files of `proto/` with their imports, comments and options, as an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Why a command is refused that a person gave up.
pub const DISCARDED: &str = "DISCARDED";

/// Topics in the order of the services that write them.
pub mod topic {
    pub const ORDER_EVENTS: &str = "order.events";
    pub const ORDER_COMMANDS: &str = "order.commands";
    pub const PAYMENT_EVENTS: &str = "payment.events";
    pub const PAYMENT_COMMANDS: &str = "payment.commands";
    pub const INVENTORY_EVENTS: &str = "inventory.events";
    pub const INVENTORY_COMMANDS: &str = "inventory.commands";
    pub const PRODUCT_EVENTS: &str = "product.events";
    pub const SHIPPING_EVENTS: &str = "shipping.events";
    pub const SHIPPING_COMMANDS: &str = "shipping.commands";
    pub const NOTIFICATION_EVENTS: &str = "notification.events";
    pub const SAGA_EVENTS: &str = "saga.events";

    /// Each topic with the one service that writes it.
    pub const WRITERS: &[(&str, &str)] = &[
        (ORDER_EVENTS, "order"),
        (ORDER_COMMANDS, "orchestrator"),
        (PAYMENT_EVENTS, "payment"),
        (PAYMENT_COMMANDS, "orchestrator"),
        (INVENTORY_EVENTS, "inventory"),
        (INVENTORY_COMMANDS, "orchestrator"),
        (PRODUCT_EVENTS, "inventory"),
        (SHIPPING_EVENTS, "shipping"),
        (SHIPPING_COMMANDS, "orchestrator"),
        (NOTIFICATION_EVENTS, "notification"),
        (SAGA_EVENTS, "orchestrator"),
    ];

    /// Where each service copies what it heard and could not apply. Such a topic has as many writers as the one beside it has readers.
    pub const COPIES: &[(&str, &str)] = &[
        ("order.commands.dlq", "order"),
        ("product.events.dlq", "order"),
        ("order.events.dlq", "orchestrator"),
        ("payment.events.dlq", "orchestrator"),
        ("inventory.events.dlq", "orchestrator"),
        ("shipping.events.dlq", "orchestrator"),
        ("payment.commands.dlq", "payment"),
        ("inventory.commands.dlq", "inventory"),
        ("order.events.dlq", "inventory"),
        ("shipping.commands.dlq", "shipping"),
        ("order.events.dlq", "shipping"),
        ("order.events.dlq", "notification"),
        ("shipping.events.dlq", "notification"),
    ];
}
