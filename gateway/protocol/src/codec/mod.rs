//! Bytes to packets and back.
//!
//! [`decode()`] is incremental (it says how many bytes it waits for), bounded (a fixed header that announces too much is refused
//! before its body arrives), strict (what the text forbids is refused, with the Reason Code the text gives it) and borrows
//! everything: it allocates nothing, reads nothing past the packet and panics on no input. [`encode()`] writes the shortest form
//! and either a whole packet or nothing. What lies within a packet is in `packet/`, one file each.
//!
//! Not known here: whether a packet may come now, or from this side. That is for `session/`.

mod ahead;
mod decode;
mod encode;
mod error;
mod fixed_header;
pub(crate) mod primitives;
mod publishes;

pub use ahead::topics_ahead;
pub use decode::{Decoded, decode};
pub(crate) use encode::{Frame, check_binary, check_string};
pub use encode::{PublishFrame, encode, encode_puback, encode_publish, publish_frame_len};
pub use error::{DecodeError, EncodeError};
pub use primitives::{FieldError, varint_len};
pub use publishes::Publishes;
