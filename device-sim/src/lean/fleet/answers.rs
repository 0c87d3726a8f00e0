//! What the broker answers to devices: which event each packet is about, and what it says of it.

use gateway_protocol::packet::{Ack, ConnAck};
use gateway_protocol::{Packet, ReasonCode};

use super::Fleet;
use crate::lean::common::Common;
use crate::lean::link::Broken;
use crate::lean::publisher::Awaits;
use crate::qos::QoS;

impl Fleet {
    pub(super) fn packet(
        &mut self,
        index: u32,
        packet: &Packet<'_>,
        common: &mut Common,
    ) -> Result<(), Broken> {
        match packet {
            Packet::PubAck(ack) => self.acknowledged(index, ack, Awaits::Acknowledgement, common),
            Packet::PubRec(ack) if ack.reason_code.is_error() => {
                self.acknowledged(index, ack, Awaits::Receipt, common);
            }
            Packet::PubRec(ack) => {
                if let Some(publisher) = self.publishers.get_mut(index as usize) {
                    publisher.received(ack.packet_id)?;
                }
            }
            Packet::PubComp(ack) => {
                // The broker has had it since PUBREC, whatever it says now.
                let ack = Ack { reason_code: ReasonCode::Success, ..*ack };
                self.acknowledged(index, &ack, Awaits::Completion, common);
            }
            Packet::ConnAck(ack) => self.accepted(index, ack, common)?,
            Packet::Disconnect(disconnect) => return Err(Broken::Disconnected(disconnect.reason_code)),
            _ => {}
        }
        Ok(())
    }

    fn accepted(&mut self, index: u32, ack: &ConnAck<'_>, common: &mut Common) -> Result<(), Broken> {
        if ack.reason_code.is_error() {
            return Err(Broken::Refused(ack.reason_code));
        }
        let Some(publisher) = self.publishers.get_mut(index as usize) else { return Ok(()) };
        let (again, given_up) = publisher.accepted(ack, self.window, common.run_us());
        common.tally.retransmitted += again as u64;
        common.tally.given_up += given_up as u64;
        common.tally.connected += 1;
        Ok(())
    }

    fn acknowledged(&mut self, index: u32, ack: &Ack<'_>, awaited: Awaits, common: &mut Common) {
        let Some(publisher) = self.publishers.get_mut(index as usize) else { return };
        let Some(done) = publisher.acknowledged(ack.packet_id, awaited) else { return };
        let now_us = common.run_us();
        if done.was_full {
            publisher.free_since_us = now_us;
        }
        let event = done.event;
        if event.is_aside() {
            return;
        }
        let slot = event.slot as usize;
        if ack.reason_code.is_error() {
            common.tally.rejected += 1;
            self.half.rejected(slot, event.sequence);
        } else {
            common.tally.acknowledged += 1;
            self.half.acknowledged(slot, event.sequence);
            if let Some(device) = self.devices.get(slot) {
                self.groups.expect(device.group, QoS::AtLeastOnce);
            }
        }
        if let Some(device) = self.devices.get(slot) {
            common.watch(device.number, event.due_us, now_us.saturating_sub(event.due_us));
        }
        let counts = common.counts(event.due_us);
        self.due_to_puback.record(now_us.saturating_sub(event.due_us), counts);
        self.sent_to_puback.record(now_us.saturating_sub(event.sent_us), counts);
    }
}
