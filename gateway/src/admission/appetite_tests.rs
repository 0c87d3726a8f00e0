//! A line of clients in virtual time, read in turns.

use super::super::fair::Fair;
use super::super::level::Level;
use super::super::pressure::{Pressure, Pressures, Stance};
use super::super::share::{Charge, Share};
use super::*;
use std::collections::VecDeque;

const NORMAL: usize = 999;
const RATE: f64 = 3.0;
/// Events of one turn: 8 KiB of some 290 bytes.
const TURN: f64 = 28.0;
/// How long a hog is there before the gateway has seen that it is pressed.
const SEEN_AFTER_MS: u64 = 300;

struct Line {
    fair: Fair,
    pressure: Pressure,
    clients: Vec<Client>,
    line: VecDeque<usize>,
    /// Events a second.
    capacity: f64,
    now_ms: u64,
    random: u64,
    /// When, who, and how many turns.
    told: Vec<(u64, usize, u32)>,
}

struct Client {
    rate: f64,
    due: f64,
    stands: bool,
    share: Share,
    appetite: Appetite,
}

impl Line {
    fn new(capacity: f64, rates: impl IntoIterator<Item = f64>) -> Self {
        let client =
            |rate| Client { rate, due: 0.0, stands: false, share: Share::new(0), appetite: Appetite::new(0) };
        Self {
            fair: Fair::default(),
            pressure: Pressure::default(),
            clients: rates.into_iter().map(client).collect(),
            line: VecDeque::new(),
            capacity,
            now_ms: 0,
            random: 0x5eed_0007,
            told: Vec::new(),
        }
    }

    fn run(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        let mut work = 0.0;
        while self.now_ms < until {
            if self.now_ms.is_multiple_of(100) {
                let level = if self.now_ms < SEEN_AFTER_MS { Level::Normal } else { Level::Conserve };
                self.fair.sample(self.now_ms, Stance::at(level), &Pressures::default(), &self.pressure);
            }
            for at in 0..self.clients.len() {
                let jitter = 2.0 * self.chance();
                let client = &mut self.clients[at];
                client.due += client.rate / 1000.0 * jitter;
                if client.due >= 1.0 && !client.stands {
                    client.stands = true;
                    self.line.push_back(at);
                }
            }
            work += self.capacity / 1000.0;
            while work > 0.0
                && let Some(at) = self.line.pop_front()
            {
                work -= self.turn(at);
            }
            work = work.min(0.0);
            self.now_ms += 1;
        }
    }

    fn turn(&mut self, at: usize) -> f64 {
        let Self { pressure, now_ms, told, line, clients, .. } = self;
        let client = &mut clients[at];
        let events = client.due.floor().min(TURN);
        client.due -= events;
        let is_cut = client.due >= 1.0;
        if *now_ms >= SEEN_AFTER_MS {
            for _ in 0..events as u32 {
                client.share.charge(Charge { now_ms: *now_ms, cost: 1.0, pressure });
                client.appetite.bring(1.0);
            }
            if let Some(turns) = client.appetite.end_turn(*now_ms, is_cut, pressure.equal_part()) {
                told.push((*now_ms, at, turns.get()));
            }
        }
        client.stands = is_cut;
        if is_cut {
            line.push_back(at);
        }
        events
    }

    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % 1_000) as f64 / 1_000.0
    }
}

fn normal() -> impl Iterator<Item = f64> {
    std::iter::repeat_n(RATE, NORMAL)
}

#[test]
fn a_hog_is_named_within_a_second_and_the_999_beside_it_are_not() {
    for times in [100.0, 1_000.0] {
        let hog = times * RATE;
        // There is room for half of what the hog brings.
        let mut line = Line::new(RATE * NORMAL as f64 + hog / 2.0, normal().chain([hog]));
        line.run(60_000);
        let (first, ..) = line.told[0];
        assert!(first <= 1_000, "{times} times: {:?}", &line.told[..1]);
        assert!(line.told.iter().all(|(_, at, _)| *at == NORMAL), "{:?}", line.told);
        let apart = |pair: &[(u64, usize, u32)]| pair[1].0 - pair[0].0;
        assert!(line.told.windows(2).all(|pair| apart(pair) >= TELL_MS), "{:?}", line.told);
        assert!(line.told.len() >= 8, "and again while it lasts: {:?}", line.told);
        assert!(line.told.iter().all(|(.., turns)| *turns >= u32::from(WINDOWS) * CUT_MIN));
    }
}

#[test]
fn where_everybody_has_too_much_nobody_is_named() {
    let mut line = Line::new(RATE * NORMAL as f64, normal().map(|rate| 10.0 * rate));
    line.run(60_000);
    assert_eq!(line.told, []);
    assert!(line.clients.iter().all(|client| client.due > TURN), "all of them have more than a turn");
}

#[test]
fn one_that_is_read_to_the_end_is_not_named() {
    let mut line = Line::new(RATE * NORMAL as f64 * 3.0, normal().chain([100.0 * RATE]));
    line.run(20_000);
    assert_eq!(line.told, []);
}

#[test]
fn a_bundle_of_readings_is_over_before_it_is_named() {
    let mut line = Line::new(RATE * NORMAL as f64 * 1.2, normal());
    for at in 0..30 {
        // What it could not say in the last while, three turns of it.
        line.clients[at * 30].due += 2.5 * TURN;
        line.run(1_000);
    }
    assert_eq!(line.told, []);
}

#[test]
fn ten_times_the_equal_part_is_the_limit() {
    let named = |per_second: f32| {
        let mut appetite = Appetite::new(0);
        let told = (1..=200_u64).filter_map(|turn| {
            appetite.bring(per_second / 100.0);
            appetite.end_turn(turn * 10, true, 100.0)
        });
        told.count()
    };
    assert_eq!(named(990.0), 0);
    assert_eq!(named(1_010.0), 1, "once in five seconds");
}

#[test]
fn the_equal_part_is_not_known_at_l0() {
    let mut appetite = Appetite::new(0);
    let equal = Pressure::default().equal_part();
    for turn in 1..1_000 {
        appetite.bring(1e6);
        assert_eq!(appetite.end_turn(turn * 10, true, equal), None);
    }
}
