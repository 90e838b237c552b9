//! Topics, queues, subscriptions, settlement, dead letters and schedules, on engines that keep messages.
