//! Sockets that MQTT clients connect to.
//!
//! A listener accepts, counts the connection against the limit, and starts its task; what happens on the connection is not its
//! affair.

mod tcp;

pub use tcp::TcpAcceptor;
