//! Reading a stream over MQTT: `$stream/<name>/<from>/<filter>`.
//!
//! [`address`] reads such a filter, [`StreamCursor`] walks the log from there on. A cursor belongs to the connection that subscribed: it
//! is not kept with the Session, since the offset in each delivery lets the client say where to go on. A reader that trimming overtakes
//! goes on where its stream begins by then; [`metrics`] counts what it passes over. One that asks for a pace waits for each event until it
//! is due (`pacer`).

mod address;
mod cursor;
pub mod metrics;
mod pacer;
mod pager;

pub use address::{AddressError, From, PREFIX, StreamAddress};
pub use cursor::{Next, StreamCursor};
pub use pager::{Located, Pager};
