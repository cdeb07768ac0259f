// The page works without this script; with it, what moves is seen to move.
"use strict";

const EVERY = 2000; // milliseconds

function distance(milliseconds) {
  const seconds = Math.round(Math.abs(milliseconds) / 1000);
  if (seconds < 90) return `${seconds} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h`;
  return null;
}

function fromNow(moment) {
  const past = Date.now() - moment;
  if (Math.abs(past) < 5000) return past < 0 ? "in a moment" : "just now";
  const text = distance(past);
  return text && (past < 0 ? `in ${text}` : `${text} ago`);
}

function tellTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    const text = fromNow(moment) ?? moment.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    if (time.textContent !== text) time.textContent = text;
    if (!time.title) time.title = moment.toLocaleString();
  }
}

function readyCopying(within) {
  for (const button of within.querySelectorAll("button[data-copies]")) button.hidden = false;
}

async function copy(button) {
  const field = document.getElementById(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    field.closest("details").open = true;
    field.select();
    document.execCommand("copy");
  }
  say("The link was copied.");
  const words = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = words; }, 1500);
}

function say(text) {
  document.getElementById("said").textContent = text;
}

// Puts a region's new content in place, keeping what is open and where the focus is.
function replace(region, fresh) {
  const open = [...region.querySelectorAll("details[id][open]")].map((one) => one.id);
  const focused = region.contains(document.activeElement) ? document.activeElement : null;
  const chosen = [...region.querySelectorAll("select[id]")].map((one) => [one.id, one.value]);
  const known = new Set([...region.querySelectorAll("[data-row]")].map((one) => one.dataset.row));
  region.replaceChildren(...fresh.childNodes);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  for (const [id, value] of chosen) {
    const select = document.getElementById(id);
    if (select && [...select.options].some((one) => one.value === value)) select.value = value;
  }
  if (focused) likeIt(region, focused)?.focus();
  let arrived = 0;
  for (const row of region.querySelectorAll("[data-row]")) {
    if (!known.has(row.dataset.row)) { row.classList.add("arrived"); arrived += 1; }
  }
  if (arrived && known.size) say(arrived === 1 ? "A new push came in." : `${arrived} new pushes came in.`);
  readyCopying(region);
}

function likeIt(region, old) {
  if (old.id) return document.getElementById(old.id);
  const same = [...region.querySelectorAll(old.tagName)].filter((one) => one.href === old.href);
  return same.find((one) => one.textContent === old.textContent) ?? (old.href ? same[0] : null);
}

const seen = new Map(); // what each region held when it was last fetched

function adopt(text) {
  const fetched = new DOMParser().parseFromString(text, "text/html");
  for (const fresh of fetched.querySelectorAll("[data-live]")) {
    const region = document.querySelector(`[data-live="${fresh.dataset.live}"]`);
    const content = fresh.innerHTML;
    if (!region || seen.get(fresh.dataset.live) === content) continue;
    const busy = region.querySelector("select:focus, input:focus:not([readonly])");
    const selected = !window.getSelection().isCollapsed && region.contains(window.getSelection().anchorNode);
    if (busy || selected) continue;
    seen.set(fresh.dataset.live, content);
    replace(region, fresh);
  }
  tellTimes();
}

let tag = "";

// The session ended: sign in, and come back to where one was. The receiver judges `next`.
function signIn() {
  const here = window.location.pathname + window.location.search;
  window.location.assign(here === "/" ? "/login" : `/login?next=${encodeURIComponent(here)}`);
}

async function look() {
  if (document.hidden) return;
  const address = new URL(window.location.href);
  address.searchParams.set("live", "1");
  try {
    const answer = await fetch(address, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (answer.status === 401) { signIn(); return; }
    if (answer.status === 200) { tag = answer.headers.get("ETag") ?? ""; adopt(await answer.text()); }
    document.body.classList.toggle("away", answer.status >= 500);
  } catch {
    document.body.classList.add("away"); // the receiver restarts, or the network is gone
  }
  tellTimes();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copies]");
  if (button) copy(button);
});

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.asks;
  if (question && !window.confirm(question)) { event.preventDefault(); return; }
  for (const button of event.target.querySelectorAll("button[type=submit]")) {
    setTimeout(() => { button.disabled = true; }, 0); // once is enough
  }
});

window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button[type=submit]")) button.disabled = false;
});

for (const region of document.querySelectorAll("[data-live]")) {
  seen.set(region.dataset.live, region.innerHTML); // before anything of it is changed here
}
tellTimes();
readyCopying(document);
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
