//! MQTT 5: the client library's second half.

use std::collections::VecDeque;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{
    LastWill, Packet, PubAck, PubAckReason, PubRecReason, Publish, PublishProperties, SubscribeReasonCode,
};
use rumqttc::v5::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, MqttState, Request, StateError,
};
use rumqttc::{NetworkOptions, Outgoing};

use super::recovery::{PublishMut, sort_out};
use super::{
    Answer, CONNECT_TIMEOUT_S, LinkError, LinkEvent, LinkOptions, Message, PACKET_BYTES_MAX, SESSION_EXPIRY_S,
};
use crate::qos::QoS;

pub(crate) struct Link {
    events: EventLoop,
    inflight_max: u16,
    /// Whether a connection of this link has been up before.
    seen_up: bool,
    /// Events of the connection that broke, and why it did.
    leftover: VecDeque<Event>,
    broken: Option<LinkError>,
    pub(super) unsent: VecDeque<Request>,
    answers_itself: bool,
}

impl Link {
    pub(super) fn new(options: &LinkOptions) -> (AsyncClient, Self) {
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        let mut mqtt = MqttOptions::new(&options.client_id, &options.broker.host, options.broker.port);
        mqtt.set_clean_start(!options.durable)
            .set_keep_alive(Duration::from_secs(options.keep_alive_s.into()))
            .set_connection_timeout(CONNECT_TIMEOUT_S)
            .set_network_options(network)
            .set_outgoing_inflight_upper_limit(options.inflight_max)
            .set_manual_acks(options.answers_itself)
            .set_max_packet_size(Some(PACKET_BYTES_MAX));
        if options.durable {
            mqtt.set_session_expiry_interval(Some(SESSION_EXPIRY_S));
        }
        let (client, mut events) = AsyncClient::new(mqtt, options.requests_max);
        // The queue is made for a hundred events; a device has two or three, and there are many devices.
        events.state.events.shrink_to(4);
        let link = Link {
            events,
            inflight_max: options.inflight_max,
            seen_up: false,
            leftover: VecDeque::new(),
            broken: None,
            unsent: VecDeque::new(),
            answers_itself: options.answers_itself,
        };
        (client, link)
    }

    pub(super) fn set_will(&mut self, will: Message) {
        let Message { topic, qos, retain, payload, correlation: _ } = will;
        let will = LastWill::new(topic, payload, qos.of_client_v5(), retain, None);
        self.events.options.set_last_will(will);
    }

    pub(super) async fn poll(&mut self) -> Result<LinkEvent, LinkError> {
        if self.broken.is_none() {
            match self.events.poll().await {
                Ok(event) => {
                    if let Event::Incoming(Packet::ConnAck(ack)) = &event {
                        let receive_max =
                            ack.properties.as_ref().and_then(|properties| properties.receive_max);
                        self.connected(ack.session_present, receive_max);
                    }
                    return Ok(self.convert(event));
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
        let mut ack = PubAck::new(id, None);
        if answer == Answer::Refused {
            ack.reason = PubAckReason::UnspecifiedError;
        }
        self.events.pending.push_back(Request::PubAck(ack));
    }

    fn convert(&self, event: Event) -> LinkEvent {
        match event {
            Event::Incoming(Packet::Publish(publish)) if self.answers_itself => LinkEvent::Handed {
                id: publish.pkid,
                offset: offset_of(publish.properties.as_ref()),
                topic: publish.topic,
                payload: publish.payload,
            },
            event => convert(event),
        }
    }

    fn connected(&mut self, session_present: bool, receive_max: Option<u16>) {
        if self.seen_up && !session_present {
            // Nothing is in flight. A fresh state starts its Packet Identifiers anew, within the new Receive Maximum.
            let inflight_max = self.inflight_max.min(receive_max.unwrap_or(u16::MAX));
            self.events.state = MqttState::new(inflight_max, self.answers_itself);
        }
        self.seen_up = true;
        self.events.pending.append(&mut self.unsent);
    }

    pub(super) fn recover(&mut self, keep: bool, order_of: impl Fn(u16) -> u32) {
        sort_out(&mut self.events.pending, &mut self.unsent, publish, order_of);
        if let Some(mut waiting) = self.events.state.collision.take() {
            waiting.pkid = 0;
            self.unsent.push_front(Request::Publish(waiting));
        }
        if !keep {
            self.events.pending.clear();
            self.events.state = MqttState::new(self.inflight_max, self.answers_itself);
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
        Event::Incoming(Packet::PubAck(ack)) => {
            let accepted = matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
            LinkEvent::Acknowledged { id: ack.pkid, accepted }
        }
        Event::Incoming(Packet::PubRec(ack))
            if !matches!(ack.reason, PubRecReason::Success | PubRecReason::NoMatchingSubscribers) =>
        {
            LinkEvent::Acknowledged { id: ack.pkid, accepted: false }
        }
        Event::Incoming(Packet::PubComp(ack)) => LinkEvent::Acknowledged { id: ack.pkid, accepted: true },
        Event::Incoming(Packet::Publish(publish)) => delivered(publish),
        Event::Incoming(Packet::SubAck(ack)) => LinkEvent::Subscribed(subscribed(ack.return_codes.first())),
        Event::Outgoing(Outgoing::Publish(id)) => LinkEvent::Published(id),
        Event::Outgoing(Outgoing::Disconnect) => LinkEvent::Disconnected,
        _ => LinkEvent::Other,
    }
}

/// The User Property by which the gateway says where in its log a delivery stands.
fn offset_of(properties: Option<&PublishProperties>) -> Option<u64> {
    let (_, offset) = properties?.user_properties.iter().find(|(name, _)| name == "offset")?;
    offset.parse().ok()
}

fn delivered(publish: Publish) -> LinkEvent {
    let Publish { topic, payload, properties, .. } = publish;
    let request = properties.and_then(|all| Some((all.response_topic?, all.correlation_data)));
    match request {
        Some((response_topic, correlation)) => {
            LinkEvent::Requested { topic, payload, response_topic, correlation }
        }
        None => LinkEvent::Delivered { topic, payload },
    }
}

fn subscribed(code: Option<&SubscribeReasonCode>) -> Result<QoS, String> {
    match code {
        Some(SubscribeReasonCode::Success(rumqttc::v5::mqttbytes::QoS::AtMostOnce)) => Ok(QoS::AtMostOnce),
        Some(SubscribeReasonCode::Success(_)) => Ok(QoS::AtLeastOnce),
        Some(refusal) => Err(format!("{refusal:?}")),
        None => Err("an empty SUBACK".to_owned()),
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
