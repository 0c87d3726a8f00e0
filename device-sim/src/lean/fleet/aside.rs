//! What lean devices say beside their events: a status that the Will Message takes back, and the retained copy of the newest reading.
//!
//! Only where every device has a connection of its own, so that a device's place is its connection's. What is said takes its turn
//! in the connection's window like an event, and stands in no ledger.

use gateway_protocol::packet::Will;
use gateway_protocol::{Properties, TopicName};

use super::{Device, Fleet};
use crate::lean::common::{Common, monotonic_us};
use crate::lean::link::{Broken, State};
use crate::lean::publisher::of_protocol;
use crate::mqtt::Message;

/// A Will Message as a CONNECT holds it.
pub(super) fn will(message: &Message) -> Option<Will<'_>> {
    Some(Will {
        qos: of_protocol(message.qos),
        retain: message.retain,
        topic: TopicName::parse(&message.topic).ok()?,
        properties: Properties::default(),
        payload: &message.payload,
    })
}

impl Device {
    /// The Will Message of the next connection.
    pub(super) fn will(&mut self, now_us: u64) -> Option<Message> {
        self.presence.as_mut()?.will(&mut self.payloads, now_us)
    }
}

impl Fleet {
    /// Says that a device is there, once for each connection, when there is room.
    pub(super) fn greet(&mut self, index: u32, now_us: u64) -> Result<(), Broken> {
        let Some(publisher) = self.publishers.get_mut(index as usize) else { return Ok(()) };
        let Some(device) = self.devices.get_mut(index as usize) else { return Ok(()) };
        let Some(presence) = device.presence.as_mut().filter(|_| publisher.greets && publisher.has_room())
        else {
            return Ok(());
        };
        publisher.greets = false;
        let said = presence.connected(&mut device.payloads, now_us);
        said.iter().try_for_each(|message| publisher.say(message, now_us))
    }

    /// Says the newest reading once more, to be retained, when it is time and there is room.
    pub(super) fn say_state(&mut self, index: u32, now_us: u64) -> Result<(), Broken> {
        let Some(publisher) = self.publishers.get_mut(index as usize) else { return Ok(()) };
        let Some(device) = self.devices.get_mut(index as usize) else { return Ok(()) };
        let Some(presence) = device.presence.as_mut().filter(|_| publisher.has_room()) else { return Ok(()) };
        let state = presence.state(&mut device.payloads, now_us);
        state.iter().try_for_each(|message| publisher.say(message, now_us))
    }

    /// Says goodbye: what DISCONNECT discards with the Will Message, and DISCONNECT, as far as the network takes them at once.
    pub(in crate::lean) fn leave(&mut self, common: &Common) {
        let now_us = common.run_us();
        let devices = self.devices.iter_mut().map(Some).chain(std::iter::repeat_with(|| None));
        for ((token, publisher), device) in (0..).zip(&mut self.publishers).zip(devices) {
            let presence = device.and_then(|device| Some((device.presence.as_mut()?, &mut device.payloads)));
            if let Some((presence, payloads)) = presence.filter(|_| publisher.link.state == State::Up) {
                let said = presence.goodbye(payloads, now_us);
                let said = said.iter().try_for_each(|message| publisher.say(message, now_us));
                // One that is broken has its Will Message published.
                let _ = said.and_then(|()| publisher.link.flush(&common.poller, token, monotonic_us()));
            }
            publisher.link.leave();
        }
    }
}
