//! MQTT 3.1.1, section by section. Packets are written byte by byte ([`wire`]), so that what is sent owes nothing to the
//! gateway's own encoder.

mod s1_5_data;
mod s2_control_packets;
mod s3_01_connect;
mod s3_01_malformed;
mod s3_01_session;
mod s3_01_will;
mod s3_02_connack;
mod s3_03_publish;
mod s3_03_retain;
mod s3_08_suback;
mod s3_08_subscribe;
mod s3_10_unsubscribe;
mod s3_14_disconnect;
mod s4_1_state;
mod s4_3_qos;
mod s4_4_resend;
mod s4_6_order;
mod s4_7_topics;
mod s4_8_errors;
mod s7_transport;
mod wire;

#[test]
fn ledger_is_complete() {
    crate::ledger::check("mqtt311");
}
