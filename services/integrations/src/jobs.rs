//! What integrations does in the background, one job a file.
//! Deliberately absent: work of other services. What a webhook means happens at its owner.

pub mod deliver_webhook;
pub mod empty_old_weeks;
pub mod recover_webhooks;
pub mod release_senders;
pub mod replay_webhooks;
pub mod rewrap_data_keys;
