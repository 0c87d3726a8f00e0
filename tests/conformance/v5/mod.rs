//! MQTT 5.

mod s1_5_data;
mod s2_format;
mod s3_10_unsubscribe;
mod s3_14_disconnect;
mod s3_1_actions;
mod s3_1_connect;
mod s3_1_limits;
mod s3_1_will;
mod s3_2_connack;
mod s3_3_actions;
mod s3_3_aliases;
mod s3_3_publish;
mod s3_3_retain;
mod s3_4_acks;
mod s3_8_subscribe;
mod s4_12_auth;
mod s4_13_errors;
mod s4_1_session;
mod s4_3_qos;
mod s4_4_resume;
mod s4_6_order;
mod s4_7_topics;
mod s4_8_shared;
mod support;

#[test]
fn ledger_is_complete() {
    crate::ledger::check("mqtt5");
}
