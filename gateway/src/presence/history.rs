//! How the last connections of each client ended.
//!
//! Bounded in bytes, by client: where there is no more room, the client goes whose last connection ended longest ago, so a client
//! that flaps pushes out nothing but its own past. Ends that follow each other within a minute for the same cause are one record with
//! a count, so that the few records of a client reach far back.

use super::{Address, Cause};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// Records of one client.
const PER_CLIENT: usize = 8;
/// Ends for the same cause within this time of each other are one record.
const FOLDED_MS: u64 = 60_000;
/// What a client costs besides its identifier and its records: its places in two tables.
const CLIENT_BYTES: usize = 160;

/// How a connection ended, or several in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// When the last of them was accepted, in milliseconds since the Unix epoch; 0: none was.
    pub since_ms: u64,
    /// When the first of them ended.
    pub first_ms: u64,
    /// When the last of them ended.
    pub ended_ms: u64,
    /// How many there are.
    pub count: u32,
    /// Where the client was the last time.
    pub address: Address,
    /// Why.
    pub cause: Cause,
}

#[derive(Debug)]
struct Client {
    /// Its place among all clients, by when its last connection ended.
    turn: u64,
    pasts: VecDeque<Past>,
}

/// The pasts of many clients.
#[derive(Debug)]
pub struct History {
    clients: HashMap<Arc<str>, Client>,
    by_turn: BTreeMap<u64, Arc<str>>,
    next_turn: u64,
    bytes: usize,
    bytes_max: usize,
}

fn cost(client_id: &str, pasts: usize) -> usize {
    CLIENT_BYTES + client_id.len() + pasts * size_of::<Past>()
}

impl History {
    /// An empty one that may take `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { clients: HashMap::new(), by_turn: BTreeMap::new(), next_turn: 0, bytes: 0, bytes_max }
    }

    /// Adds how a connection of `client_id` ended.
    pub fn record(&mut self, client_id: &str, past: Past) {
        let turn = self.next_turn;
        self.next_turn += 1;
        let key: Arc<str> = match self.clients.get_key_value(client_id) {
            Some((key, client)) => {
                self.by_turn.remove(&client.turn);
                self.bytes = self.bytes.saturating_sub(cost(client_id, client.pasts.len()));
                key.clone()
            }
            None => client_id.into(),
        };
        self.by_turn.insert(turn, key.clone());
        let client = self.clients.entry(key).or_insert_with(|| Client { turn, pasts: VecDeque::new() });
        client.turn = turn;
        match client.pasts.back_mut() {
            Some(last) if folds(last, &past) => {
                *last = Past { first_ms: last.first_ms, count: last.count.saturating_add(1), ..past };
            }
            _ => client.pasts.push_back(past),
        }
        if client.pasts.len() > PER_CLIENT {
            client.pasts.pop_front();
        }
        self.bytes += cost(client_id, client.pasts.len());
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.by_turn.pop_first() else { break };
            if let Some(client) = self.clients.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(cost(&oldest, client.pasts.len()));
            }
        }
    }

    /// What is known of a client, the oldest first.
    pub fn of(&self, client_id: &str) -> impl DoubleEndedIterator<Item = &Past> {
        self.clients.get(client_id).into_iter().flat_map(|client| &client.pasts)
    }

    /// About what it takes in memory.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// All clients there is something known of, in no order.
    pub fn clients(&self) -> impl Iterator<Item = &Arc<str>> {
        self.clients.keys()
    }
}

fn folds(last: &Past, past: &Past) -> bool {
    last.cause == past.cause && past.ended_ms.saturating_sub(last.ended_ms) < FOLDED_MS
}
