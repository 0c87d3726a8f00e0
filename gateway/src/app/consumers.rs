//! Configured consumers, as the consumers' room has them.

use crate::config::{Config, ConsumerConfig, ConsumerOrder, ConsumerStart};
use crate::consumer::{ConsumerLimits, ConsumerOptions};
use crate::engine::Order;
use crate::stream::From;
use gateway_storage::Offset;
use std::time::Duration;

pub(super) fn limits(config: &Config) -> ConsumerLimits {
    ConsumerLimits {
        workers_max: config.consumer_limits.workers_max as usize,
        hang_limit: config.consumer_limits.hang_limit,
        ..ConsumerLimits::default()
    }
}

/// Name and options of each. `now_ms` is what `-15m` counts from.
pub(super) fn configured(config: &Config, now_ms: u64) -> Vec<(Box<str>, ConsumerOptions)> {
    config
        .consumers
        .iter()
        .map(|consumer| (consumer.name.as_str().into(), options(consumer, now_ms)))
        .collect()
}

fn options(consumer: &ConsumerConfig, now_ms: u64) -> ConsumerOptions {
    ConsumerOptions {
        stream: consumer.stream.as_str().into(),
        filter: consumer.filter.as_str().into(),
        from: match consumer.from {
            ConsumerStart::Earliest => From::Earliest,
            ConsumerStart::Latest => From::Latest,
            ConsumerStart::Offset(offset) => From::Offset(Offset::new(offset)),
            ConsumerStart::Time(time_ms) => From::Time(time_ms),
            ConsumerStart::Ago(span) => From::Time(now_ms.saturating_sub(millis(span))),
        },
        ack_wait_ms: millis(consumer.ack_wait),
        max_deliver: consumer.max_deliver,
        backoff_ms: consumer.backoff.iter().copied().map(millis).collect(),
        max_ack_pending: consumer.max_ack_pending,
        order: match consumer.order {
            ConsumerOrder::None => Order::None,
            ConsumerOrder::Key => Order::Key,
        },
        configured: true,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
