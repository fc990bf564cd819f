//! One function, a test on each bus.

/// `on_every_bus! { name … }` runs each `async fn name(stage: &'static Stage)` as `postgres::name`, `kafka::name` and so on.
macro_rules! on_every_bus {
    (@ $module:ident $bus:ident: $($name:ident)+) => {
        mod $module {
            $(
                #[test]
                fn $name() {
                    $crate::harness::run(async {
                        super::$name($crate::harness::platform($crate::harness::Bus::$bus).await).await;
                    });
                }
            )+
        }
    };
    ($($name:ident)+) => {
        $crate::every_bus::on_every_bus!(@ postgres Postgres: $($name)+);
        $crate::every_bus::on_every_bus!(@ kafka Kafka: $($name)+);
        $crate::every_bus::on_every_bus!(@ shuffle Shuffle: $($name)+);
        $crate::every_bus::on_every_bus!(@ shuffle_without_dedupe ShuffleWithoutDedupe: $($name)+);
    };
}

pub(crate) use on_every_bus;
