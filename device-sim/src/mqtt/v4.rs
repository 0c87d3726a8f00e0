//! MQTT 3.1.1: the client library's first half.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, MqttOptions, MqttState, NetworkOptions,
    Outgoing, Packet, PubAck, Request, StateError, SubscribeReasonCode,
};

use super::recovery::{PublishMut, sort_out};
use super::{Answer, CONNECT_TIMEOUT_S, LinkError, LinkEvent, LinkOptions, Message, PACKET_BYTES_MAX};
use crate::qos::QoS;

pub(crate) struct Link {
    events: EventLoop,
    /// Events of the connection that broke, and why it did.
    leftover: VecDeque<Event>,
    broken: Option<LinkError>,
    pub(super) unsent: VecDeque<Request>,
    answers_itself: bool,
}

impl Link {
    pub(super) fn new(options: &LinkOptions) -> (AsyncClient, Self) {
        let mut mqtt = MqttOptions::new(&options.client_id, &options.broker.host, options.broker.port);
        mqtt.set_clean_session(!options.durable)
            .set_keep_alive(Duration::from_secs(options.keep_alive_s.into()))
            .set_inflight(options.inflight_max)
            .set_manual_acks(options.answers_itself)
            .set_max_packet_size(PACKET_BYTES_MAX as usize, PACKET_BYTES_MAX as usize);
        let (client, mut events) = AsyncClient::new(mqtt, options.requests_max);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(CONNECT_TIMEOUT_S);
        events.set_network_options(network);
        // The queue is made for a hundred events; a device has two or three, and there are many devices.
        events.state.events.shrink_to(4);
        let answers_itself = options.answers_itself;
        let (leftover, unsent) = (VecDeque::new(), VecDeque::new());
        (client, Link { events, leftover, broken: None, unsent, answers_itself })
    }

    pub(super) fn set_will(&mut self, will: Message) {
        let Message { topic, qos, retain, payload, correlation: _ } = will;
        self.events.mqtt_options.set_last_will(LastWill::new(topic, payload, qos.of_client_v4(), retain));
    }

    pub(super) async fn poll(&mut self) -> Result<LinkEvent, LinkError> {
        if self.broken.is_none() {
            match self.events.poll().await {
                Ok(event) => {
                    let event = self.convert(event);
                    if matches!(event, LinkEvent::Connected { .. }) {
                        self.events.pending.append(&mut self.unsent);
                    }
                    return Ok(event);
                }
                Err(error) => {
                    self.leftover.append(&mut self.events.state.events);
                    self.broken = Some(explain(error));
                }
            }
        }
        match (self.leftover.pop_front(), self.broken.take()) {
            (Some(event), broken) => {
                self.broken = broken;
                Ok(self.convert(event))
            }
            (None, Some(error)) => Err(error),
            (None, None) => Ok(LinkEvent::Other),
        }
    }

    pub(super) fn answer(&mut self, id: u16, answer: Answer) {
        if answer == Answer::Done {
            self.events.pending.push_back(Request::PubAck(PubAck::new(id)));
        }
    }

    fn convert(&self, event: Event) -> LinkEvent {
        match event {
            Event::Incoming(Packet::Publish(publish)) if self.answers_itself => LinkEvent::Handed {
                id: publish.pkid,
                offset: None,
                topic: Bytes::from(publish.topic),
                payload: publish.payload,
            },
            event => convert(event),
        }
    }

    pub(super) fn recover(&mut self, keep: bool, order_of: impl Fn(u16) -> u32) {
        sort_out(&mut self.events.pending, &mut self.unsent, publish, order_of);
        if let Some(mut waiting) = self.events.state.collision.take() {
            waiting.pkid = 0;
            self.unsent.push_front(Request::Publish(waiting));
        }
        if !keep {
            self.events.pending.clear();
            self.events.state = MqttState::new(self.events.mqtt_options.inflight(), self.answers_itself);
        }
    }
}

fn publish(request: &mut Request) -> Option<PublishMut<'_>> {
    match request {
        Request::Publish(publish) => Some(PublishMut { id: &mut publish.pkid, dup: Some(&mut publish.dup) }),
        Request::PubRel(release) => Some(PublishMut { id: &mut release.pkid, dup: None }),
        _ => None,
    }
}

fn convert(event: Event) -> LinkEvent {
    match event {
        Event::Incoming(Packet::ConnAck(ack)) => {
            LinkEvent::Connected { session_present: ack.session_present }
        }
        Event::Incoming(Packet::PubAck(ack)) => LinkEvent::Acknowledged { id: ack.pkid, accepted: true },
        Event::Incoming(Packet::PubComp(ack)) => LinkEvent::Acknowledged { id: ack.pkid, accepted: true },
        Event::Incoming(Packet::Publish(publish)) => {
            LinkEvent::Delivered { topic: Bytes::from(publish.topic), payload: publish.payload }
        }
        Event::Incoming(Packet::SubAck(ack)) => LinkEvent::Subscribed(match ack.return_codes.first() {
            Some(SubscribeReasonCode::Success(rumqttc::QoS::AtMostOnce)) => Ok(QoS::AtMostOnce),
            Some(SubscribeReasonCode::Success(_)) => Ok(QoS::AtLeastOnce),
            _ => Err("failure".to_owned()),
        }),
        Event::Outgoing(Outgoing::Publish(id)) => LinkEvent::Published(id),
        Event::Outgoing(Outgoing::Disconnect) => LinkEvent::Disconnected,
        _ => LinkEvent::Other,
    }
}

fn explain(error: ConnectionError) -> LinkError {
    match error {
        ConnectionError::ConnectionRefused(code) => LinkError::Refused(format!("{code:?}")),
        ConnectionError::MqttState(StateError::Unsolicited(_)) => LinkError::LostTrack(error.to_string()),
        ConnectionError::Io(error) => LinkError::Broken(error.to_string()),
        error => LinkError::Broken(error.to_string()),
    }
}
