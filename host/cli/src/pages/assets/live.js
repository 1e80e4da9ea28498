// Makes pages look again when something happens. Without it they show how things stood when they were loaded.
const main = document.getElementById("main");
const SOON = 600; // ms between two looks
const AGAIN = 3000; // ms until a stream that has ended is opened again

// Once somebody has typed or chosen something, the page stays as it is until it is sent: nothing typed is lost.
let typed = false;
main?.addEventListener("input", () => { typed = true; });

// Finds in the new page what had the focus in the old one.
function same(element) {
  if (!main.contains(element)) return null;
  const by = ["id", "href", "name"].find((name) => element.getAttribute(name));
  return by ? `${element.tagName}[${by}="${CSS.escape(element.getAttribute(by))}"]` : null;
}

// Puts the server's new page into this one. It was escaped there.
async function look() {
  if (typed || document.hidden || !getSelection().isCollapsed) return;
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
  if (!page) return;
  const open = new Set([...main.querySelectorAll("details[open][id]")].map((element) => element.id));
  const log = document.getElementById("log");
  const focused = same(document.activeElement);
  if (typed) return;
  main.replaceChildren(...page.childNodes);
  if (!page.dataset.live) delete main.dataset.live;
  open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
  if (focused) main.querySelector(focused)?.focus({ preventScroll: true });
  // Until the run has ended, what was heard is more than what is stored.
  const stored = document.getElementById("log");
  if (log?.hasChildNodes() && stored && page.dataset.live) {
    stored.replaceWith(log);
    log.closest("section").hidden = false;
  }
}

let planned = 0;
function soon() {
  if (planned) return;
  planned = setTimeout(() => { planned = 0; look().catch(() => {}); }, SOON);
}

// What a step says while it runs is text, and is put into the page as that.
function say(update) {
  const log = document.getElementById("log");
  if (!log) return;
  const line = update.update === "node_log" ? update.line
    : update.update === "node_progress" ? `${update.done}${update.total ? "/" + update.total : ""} ${update.message}` : null;
  if (line === null) return;
  const step = update.node.step + (update.node.index === null ? "" : `[${update.node.index}]`);
  log.closest("section").hidden = false;
  log.append(`${update.at.slice(11, 19)} ${step}: ${line}\n`);
  while (log.childNodes.length > 2000) log.firstChild.remove();
  log.scrollTop = log.scrollHeight;
}

const live = main?.dataset.live;
if (live?.startsWith("every ")) {
  setInterval(() => look().catch(() => {}), 1000 * Number(live.slice(6)));
} else if (live?.startsWith("count ")) {
  // A list that would jump away under its reader only says that there is more.
  let count = 0;
  const news = document.getElementById("news");
  const source = new EventSource(live.slice(6));
  const seen = () => {
    count += 1;
    const link = document.createElement("a");
    link.href = location.href;
    link.textContent = `${count} new ${count === 1 ? "event" : "events"}: show`;
    news.replaceChildren(link);
  };
  for (const name of main.querySelector("[data-types]").dataset.types.split(" ")) source.addEventListener(name, seen);
} else if (live) {
  follow(live);
}

// Follows a run. One that waits for people ends its stream and goes on later, so whoever watches comes back.
function follow(path) {
  const source = new EventSource(path);
  source.addEventListener("update", (event) => { say(JSON.parse(event.data)); soon(); });
  for (const name of ["ended", "failed"]) {
    source.addEventListener(name, () => {
      source.close();
      soon();
      setTimeout(() => { if (main.dataset.live) follow(path); }, AGAIN);
    });
  }
}

// Keys: / goes to the first field of a filter.
addEventListener("keydown", (event) => {
  if (event.key !== "/" || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const field = main.querySelector("form.filters input");
  if (field) { event.preventDefault(); field.focus(); }
});
