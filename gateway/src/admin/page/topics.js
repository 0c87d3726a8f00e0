"use strict";
// The tree of topics with their rates: one level at a time, asked for again every two seconds while it is open.
// Keys as in every tree: up and down, right opens, left closes or goes up, Home and End.

const TOPICS_EVERY_MS = 2000;
const TOPICS_SHOWN = 100;
const topicsTree = byId("topics-tree");
let topicsTimer = null;

const rateOf = (level) => `${compact(level.events_per_sec)}/s`;

const topicItem = (level) => {
  const item = make("li");
  item.setAttribute("role", "treeitem");
  item.tabIndex = -1;
  item.dataset.topic = level.topic;
  const line = item.appendChild(make("div", undefined, "line"));
  line.append(make("span", undefined, "name"), make("span", undefined, "figure"), make("span", undefined, "figure wide"), make("span", undefined, "figure wide"));
  return item;
};
const showLevel = (item, level) => {
  const [name, rate, size, topics] = item.firstChild.children;
  name.textContent = level.name === "" ? "(empty)" : level.name;
  rate.textContent = rateOf(level);
  size.textContent = `${bytes(level.bytes_per_sec)}/s`;
  topics.textContent = level.topics === 1 ? "1 topic" : `${count(level.topics)} topics`;
  if (level.has_children && !item.hasAttribute("aria-expanded")) item.setAttribute("aria-expanded", "false");
};
/** Puts levels into a list in their order; items that are there already stay, with the focus and what is open below them. */
const showLevels = (parent, page) => {
  const known = new Map([...parent.children].filter((item) => item.dataset.topic !== undefined).map((item) => [item.dataset.topic, item]));
  const items = page.topics.map((level) => {
    const item = known.get(level.topic) ?? topicItem(level);
    showLevel(item, level);
    return item;
  });
  if (page.next !== null) {
    const more = make("li", `there are more than ${TOPICS_SHOWN}`, "quiet");
    more.setAttribute("role", "none");
    items.push(more);
  }
  // Only what has changed is moved: a node that is moved loses the focus.
  const same = items.length === parent.children.length && items.every((item, at) => item === parent.children[at]);
  if (!same) {
    const focused = parent.contains(document.activeElement) ? document.activeElement : null;
    parent.replaceChildren(...items);
    if (focused !== null && parent.contains(focused)) focused.focus({ preventScroll: true });
  }
};
const loadLevel = async (parent, prefix) => {
  const query = new URLSearchParams({ limit: TOPICS_SHOWN });
  if (prefix !== null) query.set("prefix", prefix);
  const page = await ask(`/v1/topics?${query}`);
  showLevels(parent, page);
  return page;
};
const loadTopics = async () => {
  const page = await loadLevel(topicsTree, null);
  const open = [...topicsTree.querySelectorAll("[aria-expanded='true']")];
  await Promise.all(open.map((item) => loadLevel(item.lastChild, item.dataset.topic)));
  const visible = topicItems();
  if (visible.length > 0 && !visible.some((item) => item.tabIndex === 0)) visible[0].tabIndex = 0;
  const other = page.other.events > 0 ? `; ${rateOf(page.other)} more on topics for which the table has no room` : "";
  byId("topics-note").textContent = visible.length === 0 ? "Nothing has come yet." : `Counted for ${span(page.counted_ms / 1000)}${other}.`;
};
const topicItems = () => [...topicsTree.querySelectorAll("[role='treeitem']")].filter((item) => item.closest("[role='group'][hidden]") === null);

const setOpen = attempt(async (item, open) => {
  if (!item.hasAttribute("aria-expanded")) return;
  if (open && item.lastChild.getAttribute("role") !== "group") {
    const group = item.appendChild(make("ul"));
    group.setAttribute("role", "group");
  }
  item.setAttribute("aria-expanded", `${open}`);
  const group = item.lastChild;
  if (group.getAttribute("role") === "group") group.hidden = !open;
  if (open) await loadLevel(group, item.dataset.topic);
});
const goTo = (item) => {
  if (!item) return;
  for (const other of topicsTree.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
  item.tabIndex = 0;
  item.focus();
};
const isOpen = (item) => item.getAttribute("aria-expanded") === "true";
topicsTree.addEventListener("click", (event) => {
  const item = event.target.closest("[role='treeitem']");
  if (!item) return;
  goTo(item);
  setOpen(item, !isOpen(item));
});
topicsTree.addEventListener("keydown", (event) => {
  const item = event.target.closest("[role='treeitem']");
  if (!item) return;
  const items = topicItems();
  const at = items.indexOf(item);
  const keys = {
    ArrowDown: () => goTo(items[at + 1]),
    ArrowUp: () => goTo(items[at - 1]),
    Home: () => goTo(items[0]),
    End: () => goTo(items[items.length - 1]),
    ArrowRight: () => (isOpen(item) ? goTo(items[at + 1]) : setOpen(item, true)),
    ArrowLeft: () => (isOpen(item) ? setOpen(item, false) : goTo(item.parentElement.closest("[role='treeitem']"))),
    Enter: () => setOpen(item, !isOpen(item)),
    " ": () => setOpen(item, !isOpen(item)),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

const lookAtTopics = attempt(loadTopics);
byId("topics-toggle").addEventListener("click", () => {
  const toggle = byId("topics-toggle");
  const begins = topicsTimer === null;
  clearInterval(topicsTimer);
  topicsTimer = begins ? setInterval(() => { if (!document.hidden) lookAtTopics(); }, TOPICS_EVERY_MS) : null;
  toggle.textContent = begins ? "Stop" : "Count";
  toggle.setAttribute("aria-pressed", `${begins}`);
  topicsTree.hidden = !begins;
  byId("topics-note").textContent = begins ? "Counting begins." : "Topics are counted only while you look.";
  if (begins) lookAtTopics();
  else topicsTree.replaceChildren();
});
