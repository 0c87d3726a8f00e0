//! Requests against the routes, with a gateway behind them that does as the test says.

mod fake;
mod requests;
