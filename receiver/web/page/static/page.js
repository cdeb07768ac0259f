// The page works without this script, which updates its live parts.
"use strict";

const SECOND = 1000; // milliseconds

// The same words as the receiver's: a page that was just rendered does not change.
function distance(milliseconds) {
  const seconds = Math.floor(Math.abs(milliseconds) / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 60 * 60) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 36 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return null;
}

function fromNow(moment, lasting) {
  const past = Date.now() - moment;
  const text = distance(past);
  if (lasting) return past < 5000 ? "for a moment" : text && `for ${text}`;
  if (Math.abs(past) < 5000) return past < 0 ? "in a moment" : "just now";
  return text && (past < 0 ? `in ${text}` : `${text} ago`);
}

// A time of the clock, to the second, and the name of its zone: UTC, or the browser's offset.
function onClock(moment, local) {
  const offset = local ? -moment.getTimezoneOffset() : 0;
  const [hours, minutes] = [Math.floor(Math.abs(offset) / 60), Math.abs(offset) % 60].map((one) => String(one).padStart(2, "0"));
  const zone = local ? `${offset < 0 ? "-" : "+"}${hours}${minutes === "00" ? "" : `:${minutes}`}` : "UTC";
  return [new Date(moment.getTime() + offset * 60_000).toISOString().slice(0, 19).replace("T", " "), zone];
}

// `all`: also where something in use or in view would move, as a longer text may take another line.
function showTimes(all = true) {
  const changes = [];
  const local = localStorage.getItem("times") === "local";
  for (const button of document.querySelectorAll("[data-zone]")) {
    button.setAttribute("aria-pressed", String((button.dataset.zone === "local") === local));
  }
  for (const time of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    const lasting = "lasting" in time.dataset;
    const [clock, zone] = onClock(moment, local);
    const absolute = `${clock.slice("clock" in time.dataset ? 11 : 0, 16)} ${zone}`;
    const text = fromNow(moment, lasting) ?? (lasting ? `since ${absolute}` : absolute);
    const shown = time.textContent;
    if (shown !== text) changes.push(() => { time.textContent = text; return () => { time.textContent = shown; }; });
    const title = `${clock} ${zone} · ${onClock(moment, !local).join(" ")}`;
    if (time.title !== title) time.title = title;
  }
  const page = document.querySelector("main");
  if (changes.length && !unlessMoved(page, changes, all)) for (const change of changes) unlessMoved(page, [change]);
}

// The link of a repository is on a page of its own, which is shown if it cannot be copied from here.
async function linkFrom(address) {
  const response = await fetch(address, { cache: "no-store" });
  return new DOMParser().parseFromString(await response.text(), "text/html").getElementById("link").value;
}

async function copy(button) {
  const field = document.getElementById(button.dataset.copies ?? "");
  const { href } = button;
  try {
    await navigator.clipboard.writeText(href ? await linkFrom(href) : field?.value ?? button.dataset.text);
  } catch {
    if (href) window.location.assign(href);
    if (!field) return;
    field.select();
    document.execCommand("copy");
  }
  say(field || href ? "The link was copied." : "Copied.");
  const words = button.innerHTML;
  button.textContent = "Copied";
  setTimeout(() => { button.innerHTML = words; }, 1500);
}

function say(text) {
  document.getElementById("said").textContent = text;
}

// Gives an element the content of another; open details, choices and focus are kept. Returns what
// takes it back.
function put(element, fresh) {
  const old = [...element.childNodes];
  const open = [...element.querySelectorAll("details[id][open]")].map((details) => details.id);
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const chosen = [...element.querySelectorAll("select[id]")].map((select) => [select.id, select.value]);
  element.replaceChildren(...fresh.cloneNode(true).childNodes);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  for (const [id, value] of chosen) {
    const select = document.getElementById(id);
    if (select && [...select.options].some((option) => option.value === value)) select.value = value;
  }
  if (focused) counterpart(element, focused)?.focus({ preventScroll: true });
  return () => {
    element.replaceChildren(...old);
    focused?.focus({ preventScroll: true });
  };
}

function counterpart(element, old) {
  if (old.id) return document.getElementById(old.id);
  const same = [...element.querySelectorAll(old.tagName)].filter((other) => other.href === old.href);
  return same.find((other) => other.textContent === old.textContent) ?? (old.href ? same[0] : null);
}

// Shows a region's new content, unless something would move that must not. Returns whether it did.
function replace(region, fresh, all) {
  const known = rowsOf(region);
  if (!unlessMoved(region, [() => put(region, fresh)], all)) return false;
  let arrived = 0;
  for (const [name, row] of rowsOf(region)) {
    if (!known.has(name)) { row.classList.add("arrived"); arrived += 1; }
  }
  if (arrived && known.size && "rows" in region.dataset) say(arrived === 1 ? "1 new push received." : `${arrived} new pushes received.`);
  return true;
}

const seen = new Map(); // each region's content when it was last fetched
const waiting = new Map(); // by name: the newest content of the regions that hold still

// Relative times change by themselves, and each answer has the forms' token as another text.
function contentOf(region) {
  return region.innerHTML.replace(/(<time datetime="[^"]*")[^>]*>[^<]*/g, "$1>").replace(/(name="csrf" value=")[^"]*/g, "$1");
}

function rowsOf(region) {
  return new Map([...region.querySelectorAll("[data-row]")].map((row) => [row.dataset.row, row]));
}

const CONTROLS = "a[href], button, input, select, textarea, summary, label";

const FIELDS = "input, select, textarea";

let pointer = "mouse";
for (const kind of ["pointerdown", "pointermove"]) {
  document.addEventListener(kind, (event) => { pointer = event.pointerType; }, { passive: true });
}

// What the mouse rests on. A finger does not rest on what it pressed.
function hovered() {
  const one = pointer === "touch" ? null : [...document.querySelectorAll("main :hover")].pop();
  return one?.matches("button.new") ? null : one;
}

// What a click or a key would use now, and what is selected. The focus that a mouse leaves behind
// is not visible.
function inUse() {
  const active = document.activeElement;
  const focused = active?.matches(`:focus-visible, ${FIELDS}`) && !active.matches("button.new") ? active : null;
  const selection = window.getSelection();
  const selected = selection.isCollapsed ? null : selection.anchorNode?.parentElement;
  return [hovered()?.closest(CONTROLS), focused, selected].filter((one) => one);
}

// A region holds still while any of it is in use, or someone has scrolled into it.
function holdsStill(region) {
  const { top, bottom } = region.getBoundingClientRect();
  return inUse().some((one) => region.contains(one)) || (top < 0 && bottom > 0);
}

// The parts that can be seen, if the page is scrolled.
function inView() {
  const parts = window.scrollY > 0 ? document.querySelectorAll("main [data-row], main [data-live], main .card, main h2") : [];
  return [...parts].filter((one) => {
    const { top, bottom } = one.getBoundingClientRect();
    return top < bottom && bottom > 0 && top < window.innerHeight;
  });
}

// Returns how an element is found once its region has other content: a row by its name, others by
// their place in the region.
function finder(one, region) {
  if (one === region || !region.contains(one)) return () => one;
  if (one.dataset.row) return () => rowsOf(region).get(one.dataset.row);
  const path = [];
  for (let at = one; at !== region; at = at.parentElement) path.unshift([...at.parentElement.children].indexOf(at));
  return () => path.reduce((at, index) => at?.children[index], region);
}

function isSame(one, other) {
  if (one === other || one.dataset.row) return true;
  const says = [...one.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  return one.tagName === other.tagName && (!says || contentOf(one) === contentOf(other));
}

// Changes a region unless something would move that is in use or in view, or what the mouse rests on
// would be another; nothing is painted in between. Each change returns what takes it back. Returns
// whether the region was changed.
function unlessMoved(region, changes, all = false) {
  const used = [hovered(), ...inUse()].filter((one) => one).map((one) => one.closest("[data-row]") ?? one);
  const before = all ? [] : [...used, ...inView()].map((one) => (
    { one, find: finder(one, region), top: one.getBoundingClientRect().top }
  ));
  const scrolled = window.scrollY;
  const made = changes.map((change) => change());
  const moved = before.some(({ one, find, top }) => {
    const now = find();
    if (!now || !isSame(one, now)) return used.includes(one);
    return Math.abs(now.getBoundingClientRect().top - top) > 1;
  });
  if (!moved) return true;
  for (const takeBack of made) takeBack();
  if (window.scrollY !== scrolled) window.scrollTo({ top: scrolled, behavior: "instant" });
  return false;
}

// The rows of a list that are there change in place, also while it holds still: each stays the same
// delivery's. Returns whether that was all.
function patchRows(region, fresh) {
  const changed = rowsOf(fresh);
  const known = [...rowsOf(region)];
  const changes = known.map(([name, row]) => [row, changed.get(name)])
    .filter(([row, now]) => now && contentOf(row) !== contentOf(now))
    .map(([row, now]) => () => put(row, now));
  return unlessMoved(region, changes) && known.map(([name]) => name).join() === [...changed.keys()].join();
}

// Shows what waits, in the regions that need not hold still any more or in all.
function showWaiting(all = false) {
  for (const [name, fresh] of waiting) {
    const region = document.querySelector(`[data-live="${name}"]`);
    const patched = !all && holdsStill(region);
    const shown = !patched ? replace(region, fresh, all) : "rows" in region.dataset && patchRows(region, fresh);
    if (shown) waiting.delete(name);
  }
  announce();
}

// Says that something waits, in a place where nothing moves for it.
function announce() {
  const button = document.querySelector("button.new");
  let arrived = 0;
  for (const [name, fresh] of waiting) {
    const region = document.querySelector(`[data-live="${name}"]`);
    if (!("rows" in region.dataset)) continue;
    const known = rowsOf(region);
    arrived += [...rowsOf(fresh).keys()].filter((row) => !known.has(row)).length;
  }
  const text = arrived ? `${arrived} new ${arrived === 1 ? "push" : "pushes"} ▲` : "Show what changed";
  if (waiting.size && (button.hidden || button.textContent !== text)) say(text);
  button.textContent = text;
  button.hidden = !waiting.size;
}

function adopt(text) {
  const fetched = new DOMParser().parseFromString(text, "text/html");
  if (fetched.title) document.title = fetched.title;
  const icon = document.querySelector("link[rel=icon]");
  const shown = fetched.querySelector("link[rel=icon]")?.getAttribute("href");
  if (shown && shown !== icon.getAttribute("href")) icon.setAttribute("href", shown);
  const token = fetched.querySelector("input[name=csrf]")?.value; // after signing in again: another one
  if (token) for (const field of document.querySelectorAll("input[name=csrf]")) field.value = token;
  for (const fresh of fetched.querySelectorAll("[data-live]")) {
    const name = fresh.dataset.live;
    const content = contentOf(fresh);
    if (!document.querySelector(`[data-live="${name}"]`) || seen.get(name) === content) continue;
    seen.set(name, content);
    waiting.set(name, fresh);
    busyAt = performance.now();
  }
}

let tag = document.body.dataset.etag ?? "";

// The session ended: sign in, then return to this page. The receiver validates `next`.
function signIn() {
  const here = window.location.pathname + window.location.search;
  window.location.assign(here === "/" ? "/login" : `/login?next=${encodeURIComponent(here)}`);
}

async function look() {
  const address = new URL(window.location.href);
  address.searchParams.set("live", "1");
  try {
    const response = await fetch(address, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (response.status === 401) { signIn(); return; }
    if (response.status === 200) { tag = response.headers.get("ETag") ?? ""; adopt(await response.text()); }
    document.body.classList.toggle("away", response.status >= 500);
  } catch {
    document.body.classList.add("away"); // the receiver restarts, or the network is gone
  }
  showWaiting();
}

// How often it looks: every 2 seconds while something is in progress, and for a while after
// something changed or was done here; then every 5, every 15 at rest, and in the background, for the
// title and the icon of the tab, every 60.
let busyAt = 0;
let dueAt = 0;

function interval() {
  if (document.hidden) return 60 * SECOND;
  // In the charts, what is queued may be paused.
  if (document.querySelector("[data-live] .busy:not(.pictures .busy), [data-live] .live")) busyAt = performance.now();
  const quiet = performance.now() - busyAt;
  return (quiet < 30 * SECOND ? 2 : quiet < 300 * SECOND ? 5 : 15) * SECOND;
}

let looking = false;

async function lookIfDue() {
  if (looking) return;
  if (performance.now() >= dueAt - SECOND / 2) {
    looking = true;
    dueAt = performance.now();
    await look();
    dueAt += interval();
    looking = false;
  } else if (waiting.size) showWaiting();
  showTimes(false);
}

function lookAtOnce() {
  if (document.hidden) return;
  busyAt = performance.now();
  dueAt = 0;
  lookIfDue();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copies], [data-text]");
  if (button && !event.ctrlKey && !event.metaKey) {
    event.preventDefault(); // of one that leads to the link
    copy(button);
  }
  const zone = event.target.closest("[data-zone]");
  if (zone) {
    localStorage.setItem("times", zone.dataset.zone);
    showTimes();
  }
  if (event.target.closest("button.new")) {
    const list = document.querySelector("[data-rows]");
    showWaiting(true);
    showTimes();
    if (list) window.scrollTo({ top: 0 });
  }
});

// Single keys: `/` searches, j and k go through the rows, g and a letter goes to a page.
const PAGES = { o: "/", d: "/deliveries", c: "/channels", v: "/versions", r: "/rules" };
const SEARCH = "#text";
let afterG = false;

function nextRow(step) {
  const rows = [...document.querySelectorAll("main [data-row], main .pushes > li")]
    .map((row) => row.querySelector("a[href]")).filter((link) => link?.checkVisibility());
  const at = rows.indexOf(document.activeElement);
  rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + step, 0), rows.length - 1)]?.focus();
}

function press(key) {
  const dialog = document.getElementById("keys");
  if (afterG && key in PAGES) { window.location.assign(PAGES[key]); return true; }
  if (key === "?") dialog.showModal();
  else if (key === "j" || key === "k") nextRow(key === "j" ? 1 : -1);
  else if (key === "/") {
    const field = document.querySelector(`main ${SEARCH}`);
    if (field) field.focus(); else window.location.assign(`/deliveries${SEARCH}`);
  } else return false;
  return true;
}

const keysOn = document.getElementById("keys-on");
if (keysOn) {
  keysOn.checked = localStorage.getItem("keys") !== "off";
  keysOn.addEventListener("change", () => localStorage.setItem("keys", keysOn.checked ? "on" : "off"));
  document.getElementById("show-keys").addEventListener("click", () => document.getElementById("keys").showModal());
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.(`${FIELDS}, dialog`) || event.ctrlKey || event.metaKey || event.altKey;
    if (typing || !keysOn.checked) return;
    if (press(event.key)) event.preventDefault();
    afterG = event.key === "g" && !afterG;
  });
  if (window.location.hash === SEARCH) document.querySelector(SEARCH)?.focus();
}

document.addEventListener("animationend", (event) => event.target.classList.remove("arrived"));

document.addEventListener("submit", (event) => {
  for (const button of event.target.querySelectorAll("button[type=submit]")) {
    setTimeout(() => { button.disabled = true; }, 0); // prevents a second submit
  }
});

window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button[type=submit]")) button.disabled = false;
});

for (const region of document.querySelectorAll("[data-live]")) {
  seen.set(region.dataset.live, contentOf(region)); // before this script changes it
}
showTimes();
document.documentElement.classList.add("scripted");
if (document.querySelector("[data-live]")) {
  setInterval(lookIfDue, SECOND);
  document.addEventListener("visibilitychange", lookAtOnce);
  for (const kind of ["focus", "pageshow"]) window.addEventListener(kind, lookAtOnce); // after an action, too
}
