//! What a device says beside its events: that it is there, that it is gone, its state, its births, its replies. Pure.
//!
//! ```text
//! will ─► CONNECT ─► connected: births or "online" ─► state now and then, replies to commands ─► goodbye: deaths or "offline"
//! ```
//!
//! Everything said here is an aside ([`crate::envelope::open_aside`]): sealed, and no event of the ledger.

use bytes::Bytes;

use super::Payloads;
use crate::envelope;
use crate::mqtt::Message;
use crate::payload::Encoder;
use crate::payload::json::write_text;
use crate::payload::sparkplug::{self, Names};
use crate::qos::QoS;
use crate::roster::Identity;

/// The longest command that a reply repeats.
const ECHO_BYTES_MAX: usize = 1_024;

/// The ways in which one device makes itself known.
pub(crate) struct Presence {
    status: Option<String>,
    state: Option<State>,
    commands: Option<Commands>,
    node: Option<Node>,
}

struct State {
    topic: String,
    every_us: u64,
    next_us: u64,
}

struct Commands {
    topic: String,
    replies: String,
}

/// A Sparkplug edge node.
struct Node {
    names: Names,
    /// The number of the connection, 0 to 255.
    bd_seq: u8,
}

impl Presence {
    /// None for a device that says nothing but its events.
    pub(crate) fn new(identity: &Identity) -> Option<Self> {
        let cohort = &identity.cohort;
        let node = match *cohort.payload {
            Encoder::Sparkplug(_) => {
                Names::of_data_topic(&identity.topic).map(|names| Node { names, bd_seq: 0 })
            }
            _ => None,
        };
        let presence = Presence {
            status: cohort.status.as_ref().map(|topic| identity.fill(topic)),
            state: cohort.state.as_ref().map(|state| State {
                topic: identity.fill(&state.topic),
                every_us: state.every_us,
                next_us: 0,
            }),
            commands: cohort.commands.as_ref().map(|topics| Commands {
                topic: identity.fill(&topics.commands),
                replies: identity.fill(&topics.replies),
            }),
            node,
        };
        let silent = presence.status.is_none()
            && presence.state.is_none()
            && presence.commands.is_none()
            && presence.node.is_none();
        (!silent).then_some(presence)
    }

    /// Whether what was not sent on one connection is worth nothing on the next: Sparkplug numbers its messages anew.
    pub(super) fn starts_anew(&self) -> bool {
        self.node.is_some()
    }

    /// The Will Message of the next connection.
    pub(crate) fn will(&mut self, payloads: &mut Payloads, now_us: u64) -> Option<Message> {
        if let Some(Node { names, bd_seq }) = &self.node {
            let topic = names.topic(sparkplug::Message::NodeDeath);
            let envelope = payloads.aside(now_us, QoS::AtLeastOnce);
            let payload = sparkplug::node_death(envelope, &payloads.model, *bd_seq, &topic);
            return Some(Message { topic, qos: QoS::AtLeastOnce, retain: false, payload, correlation: None });
        }
        self.status.as_ref().map(|topic| status(topic, "offline", payloads, now_us))
    }

    /// A connection broke: the next one has another number.
    pub(super) fn connection_broke(&mut self) {
        if let Some(node) = &mut self.node {
            node.bd_seq = node.bd_seq.wrapping_add(1);
        }
    }

    /// What comes first on a new connection.
    pub(crate) fn connected(&mut self, payloads: &mut Payloads, now_us: u64) -> Vec<Message> {
        let mut said = self.births(payloads, now_us);
        said.extend(self.status.as_ref().map(|topic| status(topic, "online", payloads, now_us)));
        said
    }

    /// The Topic Filter of commands.
    pub(super) fn subscription(&self) -> Option<String> {
        let commands = self.commands.as_ref().map(|commands| format!("{}/#", commands.topic));
        commands.or_else(|| self.node.as_ref().map(|node| node.names.command_topic()))
    }

    /// The retained copy of the newest reading, if it is time for one.
    pub(crate) fn state(&mut self, payloads: &mut Payloads, now_us: u64) -> Option<Message> {
        let state = self.state.as_mut().filter(|state| state.next_us <= now_us)?;
        state.next_us = now_us.saturating_add(state.every_us);
        let payload = payloads.state(now_us, &state.topic);
        Some(Message {
            topic: state.topic.clone(),
            qos: QoS::AtLeastOnce,
            retain: true,
            payload,
            correlation: None,
        })
    }

    /// What comes last before a DISCONNECT, which discards the Will Message.
    pub(crate) fn goodbye(&mut self, payloads: &mut Payloads, now_us: u64) -> Vec<Message> {
        let mut said = Vec::new();
        if let Some(Node { names, bd_seq }) = &self.node {
            let device = names.topic(sparkplug::Message::DeviceDeath);
            let envelope = payloads.aside(now_us, QoS::AtMostOnce);
            let payload = sparkplug::device_death(envelope, &payloads.model, payloads.seq, &device);
            said.push(Message {
                topic: device,
                qos: QoS::AtMostOnce,
                retain: false,
                payload,
                correlation: None,
            });
            let node = names.topic(sparkplug::Message::NodeDeath);
            let envelope = payloads.aside(now_us, QoS::AtMostOnce);
            let payload = sparkplug::node_death(envelope, &payloads.model, *bd_seq, &node);
            said.push(Message {
                topic: node,
                qos: QoS::AtMostOnce,
                retain: false,
                payload,
                correlation: None,
            });
        }
        said.extend(self.status.as_ref().map(|topic| status(topic, "offline", payloads, now_us)));
        said
    }

    /// The answer to what came in on [`subscription`](Self::subscription): a reply, new births, or nothing.
    pub(super) fn answer(
        &mut self,
        request: &Request<'_>,
        payloads: &mut Payloads,
        now_us: u64,
    ) -> Vec<Message> {
        if self.node.is_some() && sparkplug::asks_for_rebirth(request.payload) {
            return self.births(payloads, now_us);
        }
        self.reply(request, payloads, now_us).into_iter().collect()
    }

    /// To the Response Topic with the Correlation Data; or, where there is none, to a topic named after the request.
    fn reply(&self, request: &Request<'_>, payloads: &mut Payloads, now_us: u64) -> Option<Message> {
        let commands = self.commands.as_ref()?;
        let below = request.topic.strip_prefix(&commands.topic)?;
        let topic = match (request.response_topic, below.strip_prefix('/')) {
            (Some(topic), _) => topic.to_owned(),
            (None, Some(name)) if !name.is_empty() => format!("{}/{name}", commands.replies),
            (None, _) => return None,
        };
        let mut payload = Vec::new();
        envelope::begin_aside(&mut payload, payloads.aside(now_us, QoS::AtLeastOnce));
        payload.extend_from_slice(b",\"ok\":true");
        let command = Some(request.payload).filter(|command| command.len() <= ECHO_BYTES_MAX);
        if let Some(command) = command.and_then(|command| std::str::from_utf8(command).ok()) {
            payload.extend_from_slice(b",\"command\":");
            write_text(&mut payload, command);
        }
        payload.push(b'}');
        envelope::seal(&mut payload, topic.as_bytes());
        let correlation = request.correlation.cloned();
        Some(Message { topic, qos: QoS::AtLeastOnce, retain: false, payload, correlation })
    }

    fn births(&mut self, payloads: &mut Payloads, now_us: u64) -> Vec<Message> {
        let (Some(Node { names, bd_seq }), Encoder::Sparkplug(metrics)) =
            (&self.node, &*std::sync::Arc::clone(&payloads.encoder))
        else {
            return Vec::new();
        };
        let (node, device) =
            (names.topic(sparkplug::Message::NodeBirth), names.topic(sparkplug::Message::DeviceBirth));
        let envelope = payloads.aside(now_us, QoS::AtMostOnce);
        let node_birth = sparkplug::node_birth(envelope, &payloads.model, *bd_seq, &node);
        let envelope = payloads.aside(now_us, QoS::AtMostOnce);
        let device_birth = metrics.device_birth(envelope, &payloads.model, 1, &device);
        payloads.seq = sparkplug::FIRST_DATA_SEQ;
        let birth = |topic, payload| Message {
            topic,
            qos: QoS::AtMostOnce,
            retain: false,
            payload,
            correlation: None,
        };
        vec![birth(node, node_birth), birth(device, device_birth)]
    }
}

/// A command.
pub(super) struct Request<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub response_topic: Option<&'a str>,
    pub correlation: Option<&'a Bytes>,
}

fn status(topic: &str, word: &str, payloads: &mut Payloads, now_us: u64) -> Message {
    let mut payload = Vec::new();
    envelope::begin_aside(&mut payload, payloads.aside(now_us, QoS::AtLeastOnce));
    payload.extend_from_slice(b",\"status\":");
    write_text(&mut payload, word);
    payload.push(b'}');
    envelope::seal(&mut payload, topic.as_bytes());
    Message { topic: topic.to_owned(), qos: QoS::AtLeastOnce, retain: true, payload, correlation: None }
}
