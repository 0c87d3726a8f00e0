//! Requests against the routes, with a gateway behind them that does as the test says.

mod fake;
mod requests;

pub(super) use fake::{Server, piece};
