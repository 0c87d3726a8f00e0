"use strict";
// The live page: what `/v1/live` says each second, and the API for everything else.

const byId = (id) => document.getElementById(id);
const json = { "Content-Type": "application/json" };

// How things are written.

const compact = (value) => {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${(value / size).toFixed(value >= 10 * size ? 0 : 1)} ${unit}`;
  }
  return value >= 10 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
};
const bytes = (value) => {
  for (const [size, unit] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (value >= size) return `${(value / size).toFixed(value >= 10 * size ? 0 : 1)} ${unit}`;
  }
  return `${value.toFixed(0)} B`;
};
const millis = (value) => `${value >= 10 ? value.toFixed(0) : value.toFixed(2)} ms`;
const count = (value) => value.toLocaleString("en");
const clock = (time) => new Date(time).toLocaleTimeString("en-GB");
const moment = (time) => {
  const then = new Date(time);
  const today = then.toDateString() === new Date().toDateString();
  return today ? clock(time) : `${then.toISOString().slice(0, 10)} ${clock(time)}`;
};
const span = (seconds) => {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.floor(seconds)} s`;
};

// What the page is made of.

const make = (name, text, kind) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
};
const button = (text, act, kind) => {
  const element = make("button", text, kind);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
};
/** A row of cells: texts, or [text or element, class]. */
const row = (cells) => {
  const line = make("tr");
  for (const cell of cells) {
    const [content, kind] = Array.isArray(cell) ? cell : [cell, ""];
    const field = make("td", undefined, kind);
    field.append(content instanceof Node ? content : `${content ?? "–"}`);
    line.append(field);
  }
  return line;
};
/** Replaces rows, unless somebody is at one of them. */
const fill = (body, rows, empty) => {
  if (body.contains(document.activeElement)) return;
  if (rows.length > 0) return body.replaceChildren(...rows);
  const line = row([[empty, "empty"]]);
  line.firstChild.colSpan = 9;
  body.replaceChildren(line);
};
let toasting;
const toast = (text) => {
  byId("toast").textContent = text;
  byId("toast").hidden = false;
  clearTimeout(toasting);
  toasting = setTimeout(() => { byId("toast").hidden = true; }, 6000);
};

const ask = async (path, options) => {
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail ?? answer.title ?? response.statusText);
  return answer;
};
const send = (path, body) => ask(path, { method: "POST", headers: json, body: JSON.stringify(body) });
/** Does something that may fail, and says so. */
const attempt = (act) => async (...given) => {
  try {
    await act(...given);
  } catch (error) {
    toast(error.message);
  }
};

// A sheet over the page.

const showSheet = (title, parts, actions = []) => {
  byId("sheet-title").textContent = title;
  byId("sheet-body").replaceChildren(...parts);
  byId("sheet-actions").replaceChildren(...actions);
  if (!byId("sheet").open) byId("sheet").showModal();
};
const closeSheet = () => byId("sheet").close();
byId("sheet-close").addEventListener("click", closeSheet);
const list = (pairs) => {
  const element = make("dl");
  for (const [name, value] of pairs) {
    if (value !== null && value !== undefined && value !== "") element.append(make("dt", name), make("dd", `${value}`));
  }
  return element;
};
const table = (headings, rows) => {
  const element = make("table");
  const head = element.appendChild(make("thead")).appendChild(make("tr"));
  for (const heading of headings) head.append(make("th", heading));
  element.appendChild(make("tbody")).append(...rows);
  return element;
};
const sure = (question, word, act) => {
  showSheet(question, [], [button(word, attempt(async () => { await act(); closeSheet(); }), "danger")]);
};

// Now.

const plots = {
  events: new Plot(byId("plots"), "Events per second",
    [{ name: "in", kind: "one" }, { name: "out", kind: "two" }], compact),
  sync: new Plot(byId("plots"), "Sync of the log",
    [{ name: "p50", kind: "one" }, { name: "p99", kind: "two" }], millis),
  clients: new Plot(byId("plots"), "Clients",
    [{ name: "connected", kind: "one" }, { name: "sessions", kind: "two" }], compact),
  lost: new Plot(byId("plots"), "Not taken, not delivered, per second",
    [{ name: "rejected", kind: "one" }, { name: "shed", kind: "three" }, { name: "dropped", kind: "two" }], compact),
  pending: new Plot(byId("plots"), "Waiting",
    [{ name: "sessions", kind: "one" }, { name: "consumers", kind: "two" }], compact),
  load: new Plot(byId("plots"), "Load",
    [{ name: "processors", kind: "one" }, { name: "pressure", kind: "two" }], (value) => value.toFixed(2)),
};
const LEVELS = ["normal", "conserve", "throttle", "shed", "protect", "read-only"];
const sum = (items, key) => items.reduce((total, item) => total + item[key], 0);

const showSecond = (second) => {
  const { rates, streams, consumers } = second;
  const ready = byId("ready");
  ready.textContent = second.ready ? "ready" : "not ready";
  ready.className = `badge ${second.ready ? "good" : "bad"}`;
  byId("reasons").hidden = second.ready;
  if (byId("reasons").textContent !== second.reasons.join("; ")) byId("reasons").textContent = second.reasons.join("; ");
  byId("level").hidden = second.level === null;
  if (second.level !== null) {
    byId("level").textContent = `L${second.level} ${LEVELS[second.level] ?? ""}`;
    byId("level").className = `badge ${["good", "warn", "warn", "bad", "bad", "bad"][second.level] ?? ""}`;
  }
  byId("facts").textContent = `log ${bytes(second.log_bytes)} · memory ${bytes(second.resident_bytes)}`;
  plots.events.push([rates.received, rates.delivered]);
  plots.sync.push(second.sync_ms ?? [null, null]);
  plots.clients.push([second.connections, second.sessions]);
  plots.lost.push([rates.rejected, rates.shed, rates.dropped]);
  plots.pending.push([second.pending, sum(consumers, "lag_events")]);
  plots.load.push([second.cpu, second.pressure.length ? Math.max(...second.pressure.map(([, value]) => value)) : null]);
  showStreams(streams, consumers);
  noteLetters(consumers);
  noteDecisions(second.level !== null);
};

const live = new EventSource("/v1/live");
live.addEventListener("second", (event) => showSecond(JSON.parse(event.data)));
live.addEventListener("error", () => {
  byId("ready").textContent = "no connection";
  byId("ready").className = "badge bad";
});

// Clients.

const CLIENTS_PAGE = 20;
/** How many come with each "More". */
const CLIENTS_MORE = 200;
let clientsShown = 0;
let clientsNext = null;
const clientRow = (client) => {
  const end = client.last_end;
  return row([
    button(client.client_id, () => showClient(client.client_id), "link"),
    client.state,
    [client.address, "wide"],
    [client.session, "wide"],
    [client.pending === null ? "–" : count(client.pending), "number"],
    [end ? `${moment(end.time)} ${end.reason.replaceAll("_", " ")}` : "–", "wide"],
  ]);
};
const clientsQuery = (after) => {
  const query = new URLSearchParams({ state: byId("clients-state").value, limit: after === null ? CLIENTS_PAGE : CLIENTS_MORE });
  if (byId("clients-search").value !== "") query.set("search", byId("clients-search").value);
  if (after !== null) query.set("after", after);
  return `/v1/clients?${query}`;
};
let clientsAsked = 0;
const loadClients = attempt(async (more = false) => {
  const turn = ++clientsAsked;
  const page = await ask(clientsQuery(more ? clientsNext : null));
  if (turn !== clientsAsked) return;
  const rows = page.clients.map(clientRow);
  if (more) byId("clients-rows").append(...rows);
  else fill(byId("clients-rows"), rows, "No client is like that.");
  clientsShown = more ? clientsShown + rows.length : rows.length;
  clientsNext = page.next;
  byId("clients-more").hidden = page.next === null;
  byId("clients-note").textContent = `${count(clientsShown)} shown${page.next === null ? "" : ", there are more"}`;
});
let searching;
byId("clients-search").addEventListener("input", () => {
  clearTimeout(searching);
  searching = setTimeout(() => loadClients(), 200);
});
byId("clients-state").addEventListener("change", () => loadClients());
byId("clients-form").addEventListener("submit", (event) => { event.preventDefault(); loadClients(); });
byId("clients-more").addEventListener("click", () => loadClients(true));

const showClient = attempt(async (id) => {
  const client = await ask(`/v1/clients/${encodeURIComponent(id)}`);
  const parts = [list([
    ["State", client.state],
    ["Connected since", client.connected_since && moment(client.connected_since)],
    ["Address", client.address],
    ["Protocol", client.protocol && `MQTT ${client.protocol}`],
    ["Keep Alive", client.keep_alive_secs && span(client.keep_alive_secs)],
    ["Session", client.session],
    ["Outlives its connection for", client.session_expiry_secs && span(client.session_expiry_secs)],
    ["Not acknowledged", client.pending && `${count(client.pending)} messages, ${bytes(client.pending_bytes)}`],
    ["Subscriptions", client.subscriptions.map(({ filter, qos }) => `${filter} (QoS ${qos})`).join(", ")],
  ])];
  const end = client.last_end;
  if (end) {
    const why = make("p", undefined, "why");
    const what = end.kind === "refused" ? "Last refused" : "Last ended";
    why.append(make("b", `${what} ${moment(end.time)} by the ${end.by}: ${end.reason.replaceAll("_", " ")}. `), end.meaning);
    parts.push(why, table(["Ended", "Times", "By", "Reason", "Connected since"], client.history.map((past) => row([
      [moment(past.time), "time"], [count(past.count), "number"], past.by,
      past.reason.replaceAll("_", " ") + (past.reason_code === null ? "" : ` (0x${past.reason_code.toString(16).padStart(2, "0")})`),
      [past.connected_since ? moment(past.connected_since) : "–", "time"],
    ]))));
  } else {
    parts.push(make("p", `No connection of it has ended since ${moment(client.history_since)}.`, "quiet"));
  }
  const kick = button("Kick", () => sure(`Close the connection of ${id}?`, "Kick", async () => {
    await send(`/v1/clients/${encodeURIComponent(id)}/kick`, {});
    toast(`${id} was asked to go`);
    loadClients();
  }), "danger");
  showSheet(id, parts, client.state === "connected" ? [kick] : []);
});

// Streams and consumers.

const showStreams = (streams, consumers) => {
  fill(byId("streams-rows"), streams.map((stream) => row([
    stream.name, [stream.topics.join(" "), "wide"], [count(stream.events), "number"], [bytes(stream.bytes), "number"],
    [bytes(stream.max_bytes), "number wide"], [stream.max_age, "wide"],
  ])), "There is no stream.");
  fill(byId("consumers-rows"), consumers.map((consumer) => row([
    consumer.name, [consumer.stream, "wide"], consumer.paused ? "paused" : consumer.state, [count(consumer.lag_events), "number"],
    [count(consumer.open), "number wide"], [count(consumer.acked), "number wide"], [count(consumer.redeliveries), "number wide"],
    [count(consumer.workers.length), "number"], [count(consumer.dead_letters), "number"],
  ])), "There is no consumer.");
  choose(byId("messages-stream"), streams.map((stream) => stream.name));
  choose(byId("letters-consumer"), ["", ...consumers.map((consumer) => consumer.name)]);
};
/** Offers these words; what was chosen stays. */
const choose = (select, words) => {
  if (select.options.length === words.length && words.every((word, at) => select.options[at].value === word)) return;
  const chosen = select.value;
  select.replaceChildren(...words.map((word) => {
    const option = make("option", word === "" ? "all" : word);
    option.value = word;
    return option;
  }));
  if (words.includes(chosen)) select.value = chosen;
};

// Dead letters.

let lettersSeen = null;
let lettersNext = null;
const noteLetters = (consumers) => {
  const state = consumers.map(({ name, dead_letters, acked }) => `${name} ${dead_letters} ${acked}`).join();
  if (state !== lettersSeen) loadLetters();
  lettersSeen = state;
};
const letterRow = (letter) => {
  const one = { consumer: letter.consumer, offsets: [letter.offset] };
  const actions = make("span");
  actions.append(
    button("Redrive", attempt(() => redrive(one))),
    button("Purge", () => sure(`Remove the dead letter at offset ${letter.offset} of ${letter.consumer} for good?`, "Purge", () => purge(one)), "danger"),
  );
  return row([
    button(letter.consumer, () => showLetter(letter), "link"), [count(letter.offset), "number wide"],
    letter.redriven ? "redriven, under way" : letter.cause, [count(letter.attempts), "number wide"], [moment(letter.dead_since), "wide time"],
    letter.event.topic, [actions, "actions"],
  ]);
};
const loadLetters = attempt(async (more = false) => {
  const consumer = byId("letters-consumer").value;
  const query = new URLSearchParams({ limit: "50" });
  if (consumer !== "") query.set("consumer", consumer);
  if (more) query.set("after", lettersNext);
  const page = await ask(`/v1/dead-letters?${query}`);
  const rows = page.dead_letters.map(letterRow);
  if (more) byId("letters-rows").append(...rows);
  else fill(byId("letters-rows"), rows, "There are no dead letters.");
  lettersNext = page.next;
  byId("letters-more").hidden = page.next === null;
  byId("letters-redrive").disabled = byId("letters-purge").disabled = consumer === "" || page.dead_letters.length === 0;
});
const redrive = async (which) => {
  const { redriven } = await send("/v1/dead-letters/redrive", which);
  toast(`${count(redriven)} on their way again to ${which.consumer}`);
  document.activeElement?.blur();
  await loadLetters();
};
const purge = async (which) => {
  const { purged } = await send("/v1/dead-letters/purge", which);
  toast(`${count(purged)} removed`);
  await loadLetters();
};
byId("letters-consumer").addEventListener("change", () => loadLetters());
byId("letters-more").addEventListener("click", () => loadLetters(true));
byId("letters-redrive").addEventListener("click", attempt(() => redrive({ consumer: byId("letters-consumer").value, all: true })));
byId("letters-purge").addEventListener("click", () => {
  const consumer = byId("letters-consumer").value;
  sure(`Remove all dead letters of ${consumer} for good?`, "Purge", () => purge({ consumer, all: true }));
});
const payloadOf = (event) => event.payload ?? `(base64) ${event.payload_base64}`;
const showLetter = (letter) => {
  const { event } = letter;
  showSheet(`Dead letter of ${letter.consumer}, offset ${letter.offset}`, [
    list([
      ["Cause", letter.cause + (letter.reason_code ? ` (0x${letter.reason_code.toString(16)})` : "")],
      ["Last failure", letter.failure], ["Note", letter.note], ["Attempts", letter.attempts],
      ["Last worker", letter.worker], ["First attempt", letter.first_attempt && moment(letter.first_attempt)],
      ["Dead since", moment(letter.dead_since)], ["Redriven", letter.redriven && moment(letter.redriven)],
      ["Received", moment(event.time)], ["Publisher", event.publisher], ["Topic", event.topic], ["QoS", event.qos],
    ]),
    make("pre", payloadOf(event)),
  ]);
};

// Decisions: what was refused, shed, dropped and closed. There are none where the gateway has no levels.

let hasDecisions = false;
const loadDecisions = attempt(async () => {
  const page = await ask("/v1/decisions?limit=20");
  fill(byId("decisions-rows"), page.decisions.map((decision) => row([
    [moment(decision.time), "time"], decision.action.replaceAll("_", " "), decision.reason.replaceAll("_", " "),
    [count(decision.count), "number"], decision.client, [decision.topic, "wide"], [`L${decision.level}`, "number wide"],
  ])), "Everything went through.");
});
const noteDecisions = (has) => {
  if (has === hasDecisions) return;
  hasDecisions = has;
  byId("decisions").hidden = byId("decisions-link").hidden = !has;
  if (has) loadDecisions();
};

// Messages.

const MESSAGES_SHOWN = 200;
let watching = null;
const stopWatching = (note) => {
  watching?.close();
  watching = null;
  byId("messages-toggle").textContent = "Watch";
  byId("messages-note").textContent = note;
};
const watch = attempt(async () => {
  const stream = byId("messages-stream").value;
  const filter = byId("messages-filter").value || "#";
  const source = new EventSource(`/v1/streams/${encodeURIComponent(stream)}/watch?${new URLSearchParams({ filter })}`);
  watching = source;
  byId("messages-rows").replaceChildren();
  byId("messages-toggle").textContent = "Stop";
  byId("messages-note").textContent = `Watching ${filter} in ${stream}: nothing has come yet.`;
  source.addEventListener("event", (message) => {
    const event = JSON.parse(message.data);
    const rows = byId("messages-rows");
    rows.prepend(row([[clock(event.time), "time"], event.topic, [event.publisher, "wide"], [payloadOf(event), "payload"]]));
    while (rows.rows.length > MESSAGES_SHOWN) rows.lastChild.remove();
  });
  source.addEventListener("second", (message) => {
    if (byId("messages-rows").rows.length === 0) return;
    const sample = JSON.parse(message.data).is_sample ? ": a sample, more come than are shown" : "";
    byId("messages-note").textContent = `Watching ${filter} in ${stream}${sample}.`;
  });
  source.addEventListener("end", (message) => stopWatching(JSON.parse(message.data).detail));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) stopWatching("That cannot be watched: look at the Topic Filter.");
  });
});
byId("messages-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (watching) stopWatching("Stopped.");
  else watch();
});

// The beginning.

const loadStatus = attempt(async () => {
  const status = await ask("/v1/status");
  document.title = `Gateway ${status.listeners[0] ?? ""}`;
  document.querySelector("h1").textContent = `Gateway ${status.version}`;
});
loadStatus();
loadClients();
loadLetters();
setInterval(() => {
  // Those who have looked further down are left where they are.
  if (!document.hidden && clientsShown <= CLIENTS_PAGE) loadClients();
  if (!document.hidden && hasDecisions) loadDecisions();
}, 5000);
