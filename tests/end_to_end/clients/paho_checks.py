"""What a user of paho-mqtt expects of a server: `paho_checks.py PORT 3.1.1|5`.

Prints a line for each check that holds, and ends with status 1 at the first that does not.
"""

import queue
import subprocess
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

LIMIT = 10
PORT = int(sys.argv[1])
V5 = sys.argv[2] == "5"
WILL_TOPIC = "clients/will"


def properties(packet, **values):
    """Properties of a packet; None in 3.1.1, which has none."""
    if not V5:
        return None
    found = Properties(packet)
    for name, value in values.items():
        setattr(found, name, value)
    return found


class Peer:
    """A connected client whose every step is waited for."""

    def __init__(self, name, durable=False, will=None):
        self.messages = queue.Queue()
        self.acks = queue.Queue()
        version = {"protocol": mqtt.MQTTv5} if V5 else {"protocol": mqtt.MQTTv311, "clean_session": not durable}
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, f"paho-{name}", **version)
        self.client.on_message = lambda _client, _data, message: self.messages.put(message)
        self.client.on_connect = lambda _client, _data, flags, reason, _properties: self.acks.put((flags, reason))
        self.client.on_subscribe = lambda _client, _data, _id, reasons, _properties: self.acks.put(reasons)
        self.client.on_disconnect = lambda *_: self.acks.put("disconnected")
        if will:
            self.client.will_set(**will)
        options = {}
        if V5:
            expiry = properties(PacketTypes.CONNECT, SessionExpiryInterval=3600 if durable else 0)
            options = {"clean_start": not durable, "properties": expiry}
        self.client.connect("127.0.0.1", PORT, **options)
        self.client.loop_start()
        flags, reason = self.acks.get(timeout=LIMIT)
        equal(reason.value, 0)
        self.session_present = flags.session_present

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        equal([reason.value for reason in self.acks.get(timeout=LIMIT)], [qos])

    def publish(self, topic, payload, qos, **more):
        info = self.client.publish(topic, payload, qos, **more)
        info.wait_for_publish(LIMIT)
        equal(info.is_published(), True)

    def message(self):
        return self.messages.get(timeout=LIMIT)

    def payloads(self, count):
        return [self.message().payload.decode() for _ in range(count)]

    def leave(self):
        self.client.disconnect()
        equal(self.acks.get(timeout=LIMIT), "disconnected")
        self.client.loop_stop()
        equal(self.messages.qsize(), 0)


def equal(found, expected):
    assert found == expected, f"{found!r} where {expected!r} was expected"


def connect():
    peer = Peer("connect")
    equal(peer.session_present, False)
    peer.leave()


def every_qos():
    publisher = Peer("publisher")
    for granted in range(3):
        subscriber = Peer(f"subscriber-{granted}")
        subscriber.subscribe("clients/qos/#", granted)
        for qos in range(3):
            payload = f"sent at {qos}"
            publisher.publish(f"clients/qos/{qos}", payload, qos)
            message = subscriber.message()
            equal(message.topic, f"clients/qos/{qos}")
            equal(message.payload.decode(), payload)
            equal((message.qos, message.retain, message.dup), (min(qos, granted), False, False))
        subscriber.leave()
    publisher.leave()


def retained():
    publisher = Peer("publisher")
    # At QoS 0 nobody says when a message has arrived; one who gets it does.
    watcher = Peer("watcher")
    watcher.subscribe("clients/retained/#", 0)

    def publish(topic, payload, qos, retain):
        publisher.publish(topic, payload, qos, retain=retain)
        equal(watcher.payloads(1), [payload])

    for qos in range(3):
        topic = f"clients/retained/{qos}"
        publish(topic, "old", qos, retain=True)
        publish(topic, "kept", qos, retain=True)
        newcomer = Peer("newcomer")
        newcomer.subscribe(topic, 2)
        message = newcomer.message()
        equal((message.payload, message.retain, message.qos), (b"kept", True, qos))
        publish(topic, "live", qos, retain=True)
        message = newcomer.message()
        equal((message.payload, message.retain), (b"live", False))
        newcomer.leave()
        publish(topic, "", qos, retain=True)
        late = Peer("late")
        late.subscribe(topic, 2)
        publish(topic, "first", qos, retain=False)
        message = late.message()
        equal((message.payload, message.retain), (b"first", False))
        late.leave()
    for peer in (publisher, watcher):
        peer.leave()


def with_will(name, payload):
    more = properties(PacketTypes.WILLMESSAGE, ContentType="text/plain", UserProperty=("reason", "gone"))
    will = {"topic": WILL_TOPIC, "payload": payload, "qos": 2, "properties": more}
    return Peer(name, will=will)


def wills():
    watcher = Peer("watcher")
    watcher.subscribe(WILL_TOPIC, 2)
    with_will("polite", "never sent").leave()
    with subprocess.Popen([sys.executable, *sys.argv, "victim"], stdout=subprocess.PIPE, text=True) as victim:
        equal(victim.stdout.readline(), "connected\n")
        victim.kill()
    message = watcher.message()
    equal((message.payload, message.qos), (b"killed", 2))
    if V5:
        equal(message.properties.ContentType, "text/plain")
        equal(message.properties.UserProperty, [("reason", "gone")])
    watcher.leave()


def victim():
    """The other process of `wills`: connects and waits to be killed."""
    with_will("victim", "killed")
    print("connected", flush=True)
    while True:
        time.sleep(LIMIT)


def shared_subscription():
    count = 40
    publisher = Peer("publisher")
    members = [Peer(f"member-{number}") for number in range(2)]
    for member in members:
        member.subscribe("$share/group/clients/shared", 1)
    for number in range(count):
        publisher.publish("clients/shared", str(number), 1)
    end = time.monotonic() + LIMIT
    while sum(member.messages.qsize() for member in members) < count:
        assert time.monotonic() < end, [member.messages.qsize() for member in members]
        time.sleep(0.01)
    shares = [member.payloads(member.messages.qsize()) for member in members]
    assert all(shares), f"one member has all of it: {shares}"
    for share in shares:
        equal(share, sorted(share, key=int))
    equal(sorted(map(int, shares[0] + shares[1])), list(range(count)))
    for peer in [*members, publisher]:
        peer.leave()


def durable_resume():
    publisher = Peer("publisher")
    for qos in (1, 2):
        name = f"durable-{qos}"
        peer = Peer(name, durable=True)
        equal(peer.session_present, False)
        peer.subscribe("clients/durable", qos)
        peer.leave()
        missed = [f"{qos} {number}" for number in range(20)]
        for payload in missed:
            publisher.publish("clients/durable", payload, qos)
        peer = Peer(name, durable=True)
        equal(peer.session_present, True)
        equal(peer.payloads(len(missed)), missed)
        publisher.publish("clients/durable", "live", qos)
        equal(peer.payloads(1), ["live"])
        peer.leave()
        peer = Peer(name)
        equal(peer.session_present, False)
        peer.leave()
    publisher.leave()


def message_properties():
    subscriber = Peer("subscriber")
    subscriber.subscribe("clients/properties", 1)
    user = [("unit", "celsius"), ("site", "north"), ("unit", "again")]
    sent = properties(
        PacketTypes.PUBLISH,
        PayloadFormatIndicator=1,
        ContentType="application/json",
        MessageExpiryInterval=3600,
        UserProperty=user,
    )
    publisher = Peer("publisher")
    publisher.publish("clients/properties", "{}", 1, properties=sent)
    found = subscriber.message().properties
    equal(found.UserProperty, user)
    equal(found.ContentType, "application/json")
    equal(found.PayloadFormatIndicator, 1)
    assert 3500 <= found.MessageExpiryInterval <= 3600, found.MessageExpiryInterval
    for peer in (subscriber, publisher):
        peer.leave()


def message_expiry():
    absent = Peer("absent", durable=True)
    absent.subscribe("clients/expiry", 1)
    absent.leave()
    publisher = Peer("publisher")
    for payload, seconds in (("short", 1), ("long", 3600)):
        expiry = properties(PacketTypes.PUBLISH, MessageExpiryInterval=seconds)
        publisher.publish("clients/expiry", payload, 1, properties=expiry)
    # The time itself is what is tested.
    time.sleep(2)
    absent = Peer("absent", durable=True)
    message = absent.message()
    equal(message.payload, b"long")
    assert 3500 <= message.properties.MessageExpiryInterval <= 3598, message.properties.MessageExpiryInterval
    for peer in (absent, publisher):
        peer.leave()


def request_response():
    responder = Peer("responder")
    responder.subscribe("clients/requests", 1)
    requester = Peer("requester")
    requester.subscribe("clients/replies/7", 1)
    for number in range(3):
        correlation = bytes([0, 255, number])
        asked = properties(PacketTypes.PUBLISH, ResponseTopic="clients/replies/7", CorrelationData=correlation)
        requester.publish("clients/requests", str(number), 1, properties=asked)
        request = responder.message()
        answer = properties(PacketTypes.PUBLISH, CorrelationData=request.properties.CorrelationData)
        responder.publish(request.properties.ResponseTopic, f"re: {request.payload.decode()}", 1, properties=answer)
        response = requester.message()
        equal(response.payload.decode(), f"re: {number}")
        equal(response.properties.CorrelationData, correlation)
    for peer in (responder, requester):
        peer.leave()


CHECKS = [connect, every_qos, retained, wills, shared_subscription, durable_resume]
CHECKS_V5 = [message_properties, message_expiry, request_response]


def main():
    if sys.argv[3:] == ["victim"]:
        victim()
    for check in CHECKS + (CHECKS_V5 if V5 else []):
        try:
            check()
        except BaseException as error:
            print(f"FAILED {check.__name__}: {error!r}", flush=True)
            raise
        print(f"ok {check.__name__}", flush=True)


main()
