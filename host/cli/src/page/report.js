"use strict";
// Shows decisions a page at a time. Everything goes into the page as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SIZE = 200;
  const at = (id) => document.getElementById(id);
  const [words, outcome, capability] = [at("words"), at("outcome"), at("capability")];
  const text = (number) => data.texts[number];
  const [NUMBER, TIME, ACTOR, STEP, ATTEMPT, CALL, CAPABILITY, RESOURCE, DECISION, REASON, LAYER, RULE] =
    Array(12).keys();
  let found = [];
  let page = 0;

  const lower = data.texts.map((one) => one.toLowerCase());
  for (const number of new Set(data.rows.map((row) => row[CAPABILITY]))) {
    const option = document.createElement("option");
    option.value = String(number);
    option.textContent = text(number);
    capability.append(option);
  }

  function matches(row, wanted) {
    if (outcome.value !== "" && row[DECISION] !== Number(outcome.value)) return false;
    if (capability.value !== "" && row[CAPABILITY] !== Number(capability.value)) return false;
    return wanted.every((word) =>
      [ACTOR, STEP, CAPABILITY, RESOURCE, REASON, LAYER, RULE].some((part) => lower[row[part]].includes(word)));
  }

  function cell(content, kind) {
    const element = document.createElement("td");
    if (kind) element.className = kind;
    element.append(content);
    return element;
  }

  function badge(row) {
    const element = document.createElement("span");
    const kinds = ["good", "bad", "odd"];
    element.className = "badge " + kinds[row[DECISION]];
    const denied = text(row[REASON]) + " by " + text(row[LAYER]);
    element.textContent = ["allowed", denied, "would be denied"][row[DECISION]];
    return element;
  }

  function line(index) {
    const row = data.rows[index];
    const element = document.createElement("tr");
    element.id = "d-" + data.ids[index];
    element.tabIndex = -1;
    const link = document.createElement("a");
    link.href = "#" + element.id;
    link.textContent = String(row[NUMBER]);
    link.title = "handshake audit explain " + data.ids[index];
    const code = document.createElement("code");
    code.textContent = text(row[CAPABILITY]);
    const time = new Date(data.start + row[TIME]).toISOString().slice(11, 23);
    const step = text(row[STEP]) + (row[ATTEMPT] > 1 ? " attempt " + row[ATTEMPT] : "");
    element.append(cell(link, "number"), cell(time), cell(text(row[ACTOR])), cell(step), cell(code),
      cell(text(row[RESOURCE]), "resource"), cell(badge(row)), cell(text(row[RULE])));
    return element;
  }

  function show() {
    const pages = Math.max(1, Math.ceil(found.length / SIZE));
    page = Math.min(Math.max(page, 0), pages - 1);
    at("rows").replaceChildren(...found.slice(page * SIZE, (page + 1) * SIZE).map(line));
    at("count").textContent = found.length + " of " + data.rows.length + " decisions";
    at("page").textContent = "page " + (page + 1) + " of " + pages;
    at("earlier").disabled = page === 0;
    at("later").disabled = page === pages - 1;
  }

  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = [];
    data.rows.forEach((row, index) => { if (matches(row, wanted)) found.push(index); });
    page = 0;
    show();
  }

  function follow() {
    if (!location.hash.startsWith("#d-")) return;
    const index = data.ids.indexOf(location.hash.slice(3));
    if (index < 0) return;
    if (!found.includes(index)) {
      words.value = outcome.value = capability.value = "";
      filter();
    }
    page = Math.floor(found.indexOf(index) / SIZE);
    show();
    const element = at("d-" + data.ids[index]);
    document.querySelectorAll("tr.here").forEach((other) => other.classList.remove("here"));
    element.classList.add("here");
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "center" });
  }

  at("filters").addEventListener("submit", (event) => event.preventDefault());
  [words, outcome, capability].forEach((input) => input.addEventListener("input", filter));
  at("earlier").addEventListener("click", () => { page -= 1; show(); });
  at("later").addEventListener("click", () => { page += 1; show(); });
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !typing) { event.preventDefault(); words.focus(); }
    if (event.key === "Escape" && event.target === words) { words.value = ""; filter(); }
  });
  addEventListener("hashchange", follow);
  filter();
  follow();
})();
