// What a user of MQTT.js expects of a server: `mqttjs_checks.js PORT 3.1.1|5`, the library found by NODE_PATH.
//
// Prints a line for each check that holds, and ends with status 1 at the first that does not.
"use strict";

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const { setTimeout: delay } = require("node:timers/promises");
const mqtt = require("mqtt");

const LIMIT_MS = 10_000;
const [port, version, role] = process.argv.slice(2);
const v5 = version === "5";
const WILL_TOPIC = "clients/will";

/** Properties, which 3.1.1 does not have. */
const properties = (values) => (v5 ? { properties: values } : {});

function within(promise, what) {
  const limit = delay(LIMIT_MS, undefined, { ref: false }).then(() => assert.fail(`${what}: not within ${LIMIT_MS} ms`));
  return Promise.race([promise, limit]);
}

/** A connected client whose every step is waited for. */
class Peer {
  static async connect(name, { durable = false, will } = {}) {
    const peer = new Peer();
    peer.received = [];
    peer.waiting = [];
    peer.client = mqtt.connect({
      host: "127.0.0.1",
      port: Number(port),
      protocolVersion: v5 ? 5 : 4,
      clientId: `mqttjs-${name}`,
      clean: !durable,
      reconnectPeriod: 0,
      will,
      ...properties({ sessionExpiryInterval: durable ? 3600 : 0 }),
    });
    peer.client.on("message", (topic, payload, packet) => {
      const message = { ...packet, topic, payload: payload.toString() };
      const first = peer.waiting.shift();
      if (first) first(message);
      else peer.received.push(message);
    });
    const [connack] = await within(once(peer.client, "connect"), "CONNACK");
    peer.sessionPresent = connack.sessionPresent;
    return peer;
  }

  async subscribe(topic, qos) {
    const [granted] = await within(this.client.subscribeAsync(topic, { qos }), "SUBACK");
    assert.equal(granted.qos, qos);
  }

  async publish(topic, payload, qos, options = {}) {
    await within(this.client.publishAsync(topic, payload, { qos, ...options }), "the last acknowledgement");
  }

  async message() {
    if (this.received.length > 0) return this.received.shift();
    return within(new Promise((resolve) => this.waiting.push(resolve)), "a message");
  }

  async payloads(count) {
    const found = [];
    while (found.length < count) found.push((await this.message()).payload);
    return found;
  }

  async leave() {
    await within(this.client.endAsync(), "the end");
    assert.deepEqual(this.received, []);
  }
}

async function connect() {
  const peer = await Peer.connect("connect");
  assert.equal(peer.sessionPresent, false);
  await peer.leave();
}

async function every_qos() {
  const publisher = await Peer.connect("publisher");
  for (const granted of [0, 1, 2]) {
    const subscriber = await Peer.connect(`subscriber-${granted}`);
    await subscriber.subscribe("clients/qos/#", granted);
    for (const qos of [0, 1, 2]) {
      await publisher.publish(`clients/qos/${qos}`, `sent at ${qos}`, qos);
      const message = await subscriber.message();
      assert.equal(message.topic, `clients/qos/${qos}`);
      assert.equal(message.payload, `sent at ${qos}`);
      assert.deepEqual([message.qos, message.retain, message.dup], [Math.min(qos, granted), false, false]);
    }
    await subscriber.leave();
  }
  await publisher.leave();
}

async function retained() {
  const publisher = await Peer.connect("publisher");
  // At QoS 0 nobody says when a message has arrived; one who gets it does.
  const watcher = await Peer.connect("watcher");
  await watcher.subscribe("clients/retained/#", 0);
  const publish = async (topic, payload, qos, retain) => {
    await publisher.publish(topic, payload, qos, { retain });
    assert.deepEqual(await watcher.payloads(1), [payload]);
  };
  for (const qos of [0, 1, 2]) {
    const topic = `clients/retained/${qos}`;
    await publish(topic, "old", qos, true);
    await publish(topic, "kept", qos, true);
    const newcomer = await Peer.connect("newcomer");
    await newcomer.subscribe(topic, 2);
    let message = await newcomer.message();
    assert.deepEqual([message.payload, message.retain, message.qos], ["kept", true, qos]);
    await publish(topic, "live", qos, true);
    message = await newcomer.message();
    assert.deepEqual([message.payload, message.retain], ["live", false]);
    await newcomer.leave();
    await publish(topic, "", qos, true);
    const late = await Peer.connect("late");
    await late.subscribe(topic, 2);
    await publish(topic, "first", qos, false);
    message = await late.message();
    assert.deepEqual([message.payload, message.retain], ["first", false]);
    await late.leave();
  }
  for (const peer of [publisher, watcher]) await peer.leave();
}

const withWill = (name, payload) =>
  Peer.connect(name, {
    will: {
      topic: WILL_TOPIC,
      payload: Buffer.from(payload),
      qos: 2,
      retain: false,
      ...properties({ contentType: "text/plain", userProperties: { reason: "gone" } }),
    },
  });

async function wills() {
  const watcher = await Peer.connect("watcher");
  await watcher.subscribe(WILL_TOPIC, 2);
  await (await withWill("polite", "never sent")).leave();
  const victim = spawn(process.execPath, [...process.argv.slice(1), "victim"], { stdio: ["ignore", "pipe", "inherit"] });
  const [said] = await within(once(victim.stdout, "data"), "the victim");
  assert.equal(said.toString(), "connected\n");
  victim.kill("SIGKILL");
  const message = await watcher.message();
  assert.deepEqual([message.payload, message.qos], ["killed", 2]);
  if (v5) {
    assert.equal(message.properties.contentType, "text/plain");
    assert.deepEqual({ ...message.properties.userProperties }, { reason: "gone" });
  }
  await watcher.leave();
}

/** The other process of `wills`: connects and waits to be killed. */
async function victim() {
  await withWill("victim", "killed");
  console.log("connected");
}

async function shared_subscription() {
  const count = 40;
  const publisher = await Peer.connect("publisher");
  const members = [await Peer.connect("member-0"), await Peer.connect("member-1")];
  for (const member of members) await member.subscribe("$share/group/clients/shared", 1);
  for (let number = 0; number < count; number += 1) await publisher.publish("clients/shared", String(number), 1);
  const held = () => members.map((member) => member.received.length);
  const end = Date.now() + LIMIT_MS;
  while (held()[0] + held()[1] < count) {
    assert.ok(Date.now() < end, `received ${held()}`);
    await delay(10);
  }
  const shares = [];
  for (const [at, member] of members.entries()) shares.push((await member.payloads(held()[at])).map(Number));
  const inOrder = (numbers) => [...numbers].sort((one, other) => one - other);
  for (const share of shares) {
    assert.ok(share.length > 0, "one member has all of it");
    assert.deepEqual(share, inOrder(share));
  }
  assert.deepEqual(inOrder(shares.flat()), Array.from({ length: count }, (_, number) => number));
  for (const peer of [...members, publisher]) await peer.leave();
}

async function durable_resume() {
  const publisher = await Peer.connect("publisher");
  for (const qos of [1, 2]) {
    const name = `durable-${qos}`;
    let peer = await Peer.connect(name, { durable: true });
    assert.equal(peer.sessionPresent, false);
    await peer.subscribe("clients/durable", qos);
    await peer.leave();
    const missed = Array.from({ length: 20 }, (_, number) => `${qos} ${number}`);
    for (const payload of missed) await publisher.publish("clients/durable", payload, qos);
    peer = await Peer.connect(name, { durable: true });
    assert.equal(peer.sessionPresent, true);
    assert.deepEqual(await peer.payloads(missed.length), missed);
    await publisher.publish("clients/durable", "live", qos);
    assert.deepEqual(await peer.payloads(1), ["live"]);
    await peer.leave();
    peer = await Peer.connect(name);
    assert.equal(peer.sessionPresent, false);
    await peer.leave();
  }
  await publisher.leave();
}

async function message_properties() {
  const subscriber = await Peer.connect("subscriber");
  await subscriber.subscribe("clients/properties", 1);
  const publisher = await Peer.connect("publisher");
  const userProperties = { unit: ["celsius", "again"], site: "north" };
  await publisher.publish("clients/properties", "{}", 1, {
    properties: {
      payloadFormatIndicator: true,
      contentType: "application/json",
      messageExpiryInterval: 3600,
      userProperties,
    },
  });
  const found = (await subscriber.message()).properties;
  assert.deepEqual({ ...found.userProperties }, userProperties);
  assert.equal(found.contentType, "application/json");
  assert.equal(found.payloadFormatIndicator, true);
  const left = found.messageExpiryInterval;
  assert.ok(left >= 3500 && left <= 3600, `${left} s left`);
  for (const peer of [subscriber, publisher]) await peer.leave();
}

async function message_expiry() {
  let absent = await Peer.connect("absent", { durable: true });
  await absent.subscribe("clients/expiry", 1);
  await absent.leave();
  const publisher = await Peer.connect("publisher");
  await publisher.publish("clients/expiry", "short", 1, { properties: { messageExpiryInterval: 1 } });
  await publisher.publish("clients/expiry", "long", 1, { properties: { messageExpiryInterval: 3600 } });
  // The time itself is what is tested.
  await delay(2_000);
  absent = await Peer.connect("absent", { durable: true });
  const message = await absent.message();
  assert.equal(message.payload, "long");
  const left = message.properties.messageExpiryInterval;
  assert.ok(left >= 3500 && left <= 3598, `${left} s left`);
  for (const peer of [absent, publisher]) await peer.leave();
}

async function request_response() {
  const responder = await Peer.connect("responder");
  await responder.subscribe("clients/requests", 1);
  const requester = await Peer.connect("requester");
  await requester.subscribe("clients/replies/7", 1);
  for (const number of [0, 1, 2]) {
    const correlationData = Buffer.from([0, 255, number]);
    const asked = { responseTopic: "clients/replies/7", correlationData };
    await requester.publish("clients/requests", String(number), 1, { properties: asked });
    const request = await responder.message();
    const answer = { correlationData: request.properties.correlationData };
    await responder.publish(request.properties.responseTopic, `re: ${request.payload}`, 1, { properties: answer });
    const response = await requester.message();
    assert.equal(response.payload, `re: ${number}`);
    assert.deepEqual(response.properties.correlationData, correlationData);
  }
  for (const peer of [responder, requester]) await peer.leave();
}

const CHECKS = [connect, every_qos, retained, wills, shared_subscription, durable_resume];
const CHECKS_V5 = [message_properties, message_expiry, request_response];

async function main() {
  if (role === "victim") return victim();
  for (const check of [...CHECKS, ...(v5 ? CHECKS_V5 : [])]) {
    try {
      await check();
    } catch (error) {
      console.log(`FAILED ${check.name}: ${error.message}`);
      console.error(error);
      process.exit(1);
    }
    console.log(`ok ${check.name}`);
  }
}

main();
