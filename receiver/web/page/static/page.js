// The page works without this script, which updates its live parts.
"use strict";

const EVERY = 2000; // milliseconds

// The same words as the receiver's: a page that was just rendered does not change.
function distance(milliseconds) {
  const seconds = Math.floor(Math.abs(milliseconds) / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 60 * 60) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 36 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return null;
}

function fromNow(moment) {
  const past = Date.now() - moment;
  if (Math.abs(past) < 5000) return past < 0 ? "in a moment" : "just now";
  const text = distance(past);
  return text && (past < 0 ? `in ${text}` : `${text} ago`);
}

function showTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    const text = fromNow(moment);
    if (text && time.textContent !== text) time.textContent = text;
    if (!time.title.includes("·")) time.title += ` · ${moment.toLocaleString([], { dateStyle: "medium", timeStyle: "long" })}`;
  }
}

async function copy(button) {
  const field = document.getElementById(button.dataset.copies ?? "");
  try {
    await navigator.clipboard.writeText(field ? field.value : button.dataset.text);
  } catch {
    if (!field) return;
    field.closest("details").open = true;
    field.select();
    document.execCommand("copy");
  }
  say(field ? "The link was copied." : "Copied.");
  const words = button.innerHTML;
  button.textContent = "Copied";
  setTimeout(() => { button.innerHTML = words; }, 1500);
}

function say(text) {
  document.getElementById("said").textContent = text;
}

// Replaces a region's content; open details, selections and focus are kept.
function replace(region, fresh) {
  const open = [...region.querySelectorAll("details[id][open]")].map((details) => details.id);
  const focused = region.contains(document.activeElement) ? document.activeElement : null;
  const chosen = [...region.querySelectorAll("select[id]")].map((select) => [select.id, select.value]);
  const known = new Set([...region.querySelectorAll("[data-row]")].map((row) => row.dataset.row));
  region.replaceChildren(...fresh.childNodes);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  for (const [id, value] of chosen) {
    const select = document.getElementById(id);
    if (select && [...select.options].some((option) => option.value === value)) select.value = value;
  }
  if (focused) counterpart(region, focused)?.focus();
  let arrived = 0;
  for (const row of region.querySelectorAll("[data-row]")) {
    if (!known.has(row.dataset.row)) { row.classList.add("arrived"); arrived += 1; }
  }
  if (arrived && known.size) say(arrived === 1 ? "1 new push received." : `${arrived} new pushes received.`);
}

function counterpart(region, old) {
  if (old.id) return document.getElementById(old.id);
  const same = [...region.querySelectorAll(old.tagName)].filter((element) => element.href === old.href);
  return same.find((element) => element.textContent === old.textContent) ?? (old.href ? same[0] : null);
}

const seen = new Map(); // each region's content when it was last fetched
let waiting = null; // the list with new rows, while someone reads the old one

// Relative times change by themselves, and each answer has the forms' token as another text.
function contentOf(region) {
  return region.innerHTML.replace(/(<time[^>]*>)[^<]*/g, "$1").replace(/(name="csrf" value=")[^"]*/g, "$1");
}

function rowsOf(region) {
  return new Map([...region.querySelectorAll("[data-row]")].map((row) => [row.dataset.row, row]));
}

// Nothing moves while someone points at the list, uses it or has scrolled into it: rows that are
// there change in place, new rows wait for a click.
function holdStill(region, fresh) {
  const own = rowsOf(region);
  const arrived = [...rowsOf(fresh).keys()].filter((row) => !own.has(row)).length;
  const used = region.matches(":hover") || region.contains(document.activeElement) || region.getBoundingClientRect().top < 0;
  const button = document.querySelector("button.new");
  if (!arrived || !used || !own.size || !button) { waiting = null; if (button) button.hidden = true; return false; }
  for (const [row, changed] of rowsOf(fresh)) {
    const old = own.get(row);
    if (old && contentOf(old) !== contentOf(changed)) old.replaceChildren(...changed.cloneNode(true).childNodes);
  }
  waiting = { region, fresh };
  button.textContent = arrived === 1 ? "1 new push ▲" : `${arrived} new pushes ▲`;
  if (button.hidden) say(button.textContent);
  button.hidden = false;
  return true;
}

function showNew(button) {
  if (waiting) replace(waiting.region, waiting.fresh);
  waiting = null;
  button.hidden = true;
  window.scrollTo({ top: 0 });
}

function adopt(text) {
  const fetched = new DOMParser().parseFromString(text, "text/html");
  if (fetched.title) document.title = fetched.title;
  const token = fetched.querySelector("input[name=csrf]")?.value; // after signing in again: another one
  if (token) for (const field of document.querySelectorAll("input[name=csrf]")) field.value = token;
  for (const fresh of fetched.querySelectorAll("[data-live]")) {
    const region = document.querySelector(`[data-live="${fresh.dataset.live}"]`);
    const content = contentOf(fresh);
    if (!region || seen.get(fresh.dataset.live) === content) continue;
    const busy = region.querySelector("select:focus, input:focus:not([readonly])");
    const selected = !window.getSelection().isCollapsed && region.contains(window.getSelection().anchorNode);
    if (busy || selected) continue;
    seen.set(fresh.dataset.live, content);
    if ("steady" in region.dataset && holdStill(region, fresh)) continue;
    replace(region, fresh);
  }
  showTimes();
}

let tag = document.body.dataset.etag ?? "";

// The session ended: sign in, then return to this page. The receiver validates `next`.
function signIn() {
  const here = window.location.pathname + window.location.search;
  window.location.assign(here === "/" ? "/login" : `/login?next=${encodeURIComponent(here)}`);
}

async function look() {
  if (document.hidden) return;
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
  showTimes();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copies], button[data-text]");
  if (button) copy(button);
  const news = event.target.closest("button.new");
  if (news) showNew(news);
});

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
  let looking = false;
  const again = async () => {
    if (looking) return;
    looking = true;
    await look();
    looking = false;
  };
  setInterval(again, EVERY);
  document.addEventListener("visibilitychange", again);
}
