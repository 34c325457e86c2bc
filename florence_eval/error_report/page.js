// The state of the page is its address: #category=wrong&text=total&min=0&max=0.5&sort=best&q=ID.
// All text of the data becomes text nodes; nothing here writes HTML.

const byId = (id) => document.getElementById(id);
const block = (id) => byId(id) && JSON.parse(byId(id).textContent);

const index = block("index");
const total = index.ids.length;
const facets = index.facets;
const byKey = new Map(facets.map((facet) => [facet.key, facet]));
const numberOf = new Map(index.ids.map((id, number) => [id, number]));
const compared = Boolean(index.gains);

const SORTS = {
  worst: ["worst first", () => index.worst],
  best: ["best first", () => [...index.worst].reverse()],
  file: ["order of the file", () => index.ids.map((_, number) => number)],
};
if (compared) {
  const byGain = (sign) => () =>
    [...index.worst].sort((a, b) => sign * (index.gains[b] - index.gains[a]));
  SORTS.improved = ["most improved first", byGain(1)];
  SORTS.worsened = ["most worsened first", byGain(-1)];
}
const orders = {};
const order = (name) => (orders[name] ??= SORTS[name][1]());

// ---------------------------------------------------------------- text

// What cannot be seen, or turns text round, shows its code (escaping.py has the same).
const UNSEEN =
  /[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const shown = (text) =>
  String(text).replace(
    UNSEEN,
    (found) => `⟨U+${found.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child != null));
  return made;
}

const share = (value) => value.toFixed(3);
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(3);
const count = (value) => value.toLocaleString("en");
const categoryName = (category) => category.replaceAll("_", " ");
const labelOf = (facet, code) =>
  facet.key === "category" ? categoryName(facet.labels[code]) : shown(facet.labels[code]);

const side = (answer, which) =>
  answer.pairs.map((pair) => (typeof pair === "string" ? pair : pair[which])).join("");
const prediction = (answer) => side(answer, 0);

// ---------------------------------------------------------------- texts, in parts

const parts = new Map(); // number of a part: its questions, once they are there
const waiting = new Map(); // number of a part: [promise, what fulfils it]

window.questions = (number, found) => {
  parts.set(number, found);
  waiting.get(number)?.[1](found);
};

function load(number) {
  if (parts.has(number)) return parts.get(number);
  if (waiting.has(number)) return waiting.get(number)[0];
  const inline = block(`questions-${number}`);
  if (inline) {
    window.questions(number, inline);
    return inline;
  }
  let fulfil;
  const promise = new Promise((resolve, reject) => {
    fulfil = resolve;
    const script = element("script", { src: `report_files/questions/${number}.js` });
    script.onerror = () => {
      waiting.delete(number);
      reject(new Error(`report_files/questions/${number}.js is not beside report.html`));
    };
    document.head.append(script);
  });
  waiting.set(number, [promise, fulfil]);
  return promise;
}

const partOf = (number) => Math.floor(number / index.part);
const textsOf = (number) => parts.get(partOf(number))?.[number % index.part];

const searched = []; // of each question: all of its text in lower case
function searchText(number) {
  if (searched[number] === undefined) {
    const found = textsOf(number);
    const texts = [index.ids[number], found.question, found.document, found.image, ...found.others];
    for (const answer of [found.answer, found.before]) {
      if (answer) texts.push(prediction(answer), side(answer, 1));
    }
    texts.push(...Object.values(found.facts));
    searched[number] = texts.join("\n").toLowerCase();
  }
  return searched[number];
}

// ---------------------------------------------------------------- state

function readState() {
  const address = new URLSearchParams(location.hash.slice(1));
  const number = (name) =>
    address.get(name) && isFinite(address.get(name)) ? Number(address.get(name)) : null;
  const labels = [...address].filter(([key]) => byKey.has(key));
  return {
    q: address.get("q"),
    text: address.get("text") ?? "",
    min: number("min"),
    max: number("max"),
    sort: address.get("sort") in SORTS ? address.get("sort") : "worst",
    labels: Object.fromEntries(labels),
  };
}

function addressOf(state) {
  const address = new URLSearchParams(state.labels);
  for (const name of ["text", "min", "max", "sort", "q"]) {
    const value = state[name];
    const isDefault = name === "sort" && value === "worst";
    if (value !== null && value !== "" && !isDefault) address.set(name, value);
  }
  return `#${address}`;
}

// Typing and arrow keys replace the entry in the history; a click adds one. Another filter or order
// begins at its first question.
function change(changes, { replace = false } = {}) {
  const address = addressOf({ ...readState(), q: null, ...changes });
  if (replace) {
    history.replaceState(null, "", address);
    apply();
  } else {
    location.hash = address;
  }
}

let rows = []; // numbers of the questions that the filters leave, in order
let current = -1; // the number of the question that is shown
let applied = null; // the filters and order that `rows` are of
let turn = 0; // grows with each change, so that what comes late is not shown

async function apply() {
  const state = readState();
  const wanted = addressOf({ ...state, q: null });
  const mine = ++turn;
  if (wanted !== applied) {
    showControls(state);
    let found;
    try {
      found = await filter(state, () => mine === turn);
    } catch (trouble) {
      return showTrouble(trouble);
    }
    if (mine !== turn) return;
    rows = found;
    applied = wanted;
    showCount();
    list.scrollTop = 0;
  }
  const asked = state.q === null ? -1 : numberOf.get(state.q) ?? -1;
  setOpen(state.q !== null);
  current = state.q === null ? rows[0] ?? -1 : asked;
  if (state.q !== null && asked >= 0) reveal(rows.indexOf(asked));
  drawList();
  await drawQuestion(state.q);
}

// On a narrow screen an opened question covers everything else.
const narrow = matchMedia("(max-width: 760px)");
const covered = document.querySelectorAll("header, .overview, .filters, .result, .list, .about");
function setOpen(open) {
  const opening = open && !document.body.classList.contains("open");
  document.body.classList.toggle("open", open);
  for (const part of covered) part.inert = open && narrow.matches;
  if (opening && narrow.matches) byId("question").focus();
}

async function filter(state, isWanted) {
  const labels = Object.entries(state.labels).map(([key, label]) => {
    const facet = byKey.get(key);
    return [facet.codes, facet.labels.indexOf(label)];
  });
  const { min, max } = state;
  const kept = order(state.sort).filter((number) => {
    const score = index.scores[number];
    if ((min !== null && score < min) || (max !== null && score > max)) return false;
    return labels.every(([codes, wanted]) =>
      typeof codes[number] === "number"
        ? codes[number] === wanted
        : codes[number].includes(wanted),
    );
  });
  const text = state.text.trim().toLowerCase();
  if (!text) return kept;
  const needed = [...new Set(kept.map(partOf))];
  for (const [done, number] of needed.entries()) {
    if (!parts.has(number)) {
      byId("count").value = `Searching, ${Math.round((100 * done) / needed.length)} %`;
      await load(number);
      if (!isWanted()) return [];
    }
  }
  return kept.filter((number) => searchText(number).includes(text));
}

// ---------------------------------------------------------------- filters

function makeControls() {
  for (const facet of facets) {
    const found = new Map();
    for (const codes of facet.codes) {
      for (const code of typeof codes === "number" ? [codes] : codes) {
        found.set(code, (found.get(code) ?? 0) + 1);
      }
    }
    const options = facet.labels.flatMap((label, code) =>
      found.has(code)
        ? [element("option", { value: label }, `${labelOf(facet, code)} (${count(found.get(code))})`)]
        : [],
    );
    const all = element("option", { value: "" }, `${shown(facet.title)}: any`);
    const select = element("select", { "aria-label": shown(facet.title) }, all, options);
    select.dataset.key = facet.key;
    select.addEventListener("change", () => {
      const labels = { ...readState().labels };
      if (select.value) labels[facet.key] = select.value;
      else delete labels[facet.key];
      change({ labels });
    });
    byId("facets").append(select);
  }
  for (const [name, [title]] of Object.entries(SORTS)) {
    byId("sort").append(element("option", { value: name }, title));
  }
  byId("sort").addEventListener("change", () => change({ sort: byId("sort").value }));
  for (const name of ["min", "max"]) {
    byId(name).addEventListener("change", () => {
      const value = byId(name).value;
      change({ [name]: value === "" ? null : Number(value) }, { replace: true });
    });
  }
  let typing;
  byId("text").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => change({ text: byId("text").value }, { replace: true }), 150);
  });
  byId("clear").addEventListener("click", () =>
    change({ text: "", min: null, max: null, labels: {} }),
  );
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
}

function showControls(state) {
  for (const select of byId("facets").children) {
    select.value = state.labels[select.dataset.key] ?? "";
    select.classList.toggle("set", select.value !== "");
  }
  byId("sort").value = state.sort;
  for (const name of ["min", "max"]) byId(name).value = state[name] ?? "";
  if (byId("text") !== document.activeElement) byId("text").value = state.text;
  const { text, min, max, labels } = state;
  byId("clear").hidden = !(text || min !== null || max !== null || Object.keys(labels).length);
}

function showCount() {
  const all = rows.length === total ? "" : ` of ${count(total)}`;
  const mean = rows.reduce((sum, number) => sum + index.scores[number], 0) / rows.length;
  const score = rows.length ? `, mean score ${share(mean)}` : "";
  byId("count").value = `${count(rows.length)}${all} question${total === 1 ? "" : "s"}${score}`;
}

// ---------------------------------------------------------------- list

const list = byId("list");
const space = byId("space");
const ROW = 68; // pixels; page.css has the same
const TALLEST = 8_000_000; // browsers draw no element beyond some 16 million pixels

// Where the list is scrolled to if it were as tall as its rows: above TALLEST the bar is coarser.
function scrolledTo() {
  const tall = rows.length * ROW;
  const inside = list.clientHeight;
  return tall <= TALLEST
    ? list.scrollTop
    : (list.scrollTop / (TALLEST - inside)) * (tall - inside);
}

function reveal(place) {
  if (place < 0) return;
  space.style.height = `${Math.min(rows.length * ROW, TALLEST)}px`;
  const top = scrolledTo();
  const inside = list.clientHeight;
  const tall = rows.length * ROW;
  let wanted = top;
  if (place * ROW < top) wanted = place * ROW;
  if ((place + 1) * ROW > top + inside) wanted = (place + 1) * ROW - inside;
  if (wanted === top) return;
  list.scrollTop = tall <= TALLEST ? wanted : (wanted / (tall - inside)) * (TALLEST - inside);
}

function drawList() {
  space.style.height = `${Math.min(rows.length * ROW, TALLEST)}px`;
  const top = scrolledTo();
  const first = Math.max(0, Math.floor(top / ROW) - 4);
  const last = Math.min(rows.length, Math.ceil((top + list.clientHeight) / ROW) + 4);
  const items = [];
  for (let place = first; place < last; place++) {
    const item = listItem(rows[place], place);
    item.style.transform = `translateY(${place * ROW - top + list.scrollTop}px)`;
    items.push(item);
  }
  space.replaceChildren(...items);
  if (rows.includes(current)) list.setAttribute("aria-activedescendant", `item-${current}`);
  else list.removeAttribute("aria-activedescendant");
}

function listItem(number, place) {
  const found = textsOf(number);
  if (!found) {
    const loading = load(partOf(number));
    loading.then?.(drawSoon, showTrouble);
  }
  const score = index.scores[number];
  const gain = compared && index.gains[number] ? signed(index.gains[number]) : null;
  const item = element(
    "div",
    {
      id: `item-${number}`,
      className: "item",
      role: "option",
      "aria-selected": String(number === current),
      "aria-setsize": rows.length,
      "aria-posinset": place + 1,
    },
    element("span", { className: "asked", dir: "auto" }, found ? shown(found.question) : "…"),
    element("span", { className: `score ${scoreKind(score)}` }, share(score)),
    element("span", { className: "said", dir: "auto" }, found ? saidBy(found) : ""),
    gain
      ? element("span", { className: index.gains[number] > 0 ? "up" : "down" }, gain)
      : element("span", { className: "kind" }, found ? categoryName(found.answer.category) : ""),
  );
  item.addEventListener("click", () => change({ q: index.ids[number] }));
  return item;
}

const saidBy = (found) => shown(prediction(found.answer)) || "(empty)";
const scoreKind = (score) => (score >= 1 ? "full" : score > 0 ? "some" : "none");

let drawing = 0;
function drawSoon() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    drawList();
  });
}

// ---------------------------------------------------------------- one question

async function drawQuestion(asked) {
  const mine = turn;
  const number = current;
  const pane = byId("question");
  if (number < 0) {
    const why = asked === null ? "No question matches these filters." : "There is no question ";
    pane.replaceChildren(
      element("p", { className: "note" }, why, asked === null ? null : shown(asked)),
    );
    return;
  }
  try {
    await load(partOf(number));
  } catch (trouble) {
    return showTrouble(trouble);
  }
  if (mine !== turn) return;
  const found = textsOf(number);
  const place = rows.indexOf(number);
  const at = place < 0 ? "not among the filtered" : `${count(place + 1)} of ${count(rows.length)}`;
  const step = (by, name, label) => {
    const button = element("button", { type: "button", disabled: !(place + by in rows) }, name);
    button.setAttribute("aria-label", label);
    button.addEventListener("click", () => move(by));
    return button;
  };
  const back = element("button", { type: "button", className: "back" }, "‹ List");
  back.addEventListener("click", () => {
    change({ q: null });
    list.focus();
  });
  const link = element("a", { className: "id", href: addressOf({ ...cleared, q: index.ids[number] }) });
  link.append(element("bdi", {}, shown(index.ids[number])));
  link.title = "Link to this question";
  const shownNow = [
    element(
      "div",
      { className: "bar" },
      back,
      element("span", { className: "place" }, at),
      step(-1, "‹", "Previous question"),
      step(1, "›", "Next question"),
    ),
    element("h2", { dir: "auto" }, shown(found.question) || "(no question text)"),
    compared ? pairOf(found) : null,
    element(
      "div",
      { className: "columns" },
      element(
        "div",
        { className: "facts" },
        compared ? null : answerOf(found.answer, found.metric, "Prediction"),
        othersOf(found),
        factsOf(found, number, link),
      ),
      pageOf(found, number),
    ),
  ];
  const focused = pane.contains(document.activeElement) && document.activeElement.ariaLabel;
  pane.replaceChildren(...shownNow.filter(Boolean));
  pane.scrollTop = 0;
  if (focused) {
    const same = [...pane.querySelectorAll("button:enabled")].find((it) => it.ariaLabel === focused);
    (same ?? pane).focus();
  }
}

const cleared = { labels: {}, text: "", min: null, max: null, sort: "worst" };

function pairOf(found) {
  return element(
    "div",
    { className: "pair" },
    found.before
      ? answerOf(found.before, found.metric, "Before")
      : element("p", { className: "note" }, "Not in the other file."),
    answerOf(found.answer, found.metric, "After"),
  );
}

function answerOf(answer, metric, title) {
  const line = (name, which) => [
    element("dt", {}, name),
    element("dd", { className: "text", dir: "auto" }, marked(answer, which)),
  ];
  return element(
    "section",
    { className: "answer" },
    element(
      "p",
      { className: "verdict" },
      element("span", { className: `score ${scoreKind(answer.score)}` }, share(answer.score)),
      element("span", { className: "category" }, categoryName(answer.category)),
      element("span", { className: "metric" }, shown(metric)),
    ),
    element("dl", {}, line(title, 0), line("Nearest reference", 1)),
  );
}

// Pairs are in turn alike and different; one string stands for both, alike ones may differ in case.
function marked(answer, which) {
  if (!side(answer, which)) return element("span", { className: "empty" }, "(empty)");
  return answer.pairs.map((pair, place) => {
    if (typeof pair === "string") return shown(pair);
    if (place % 2 === 0) return cases([...pair[which]], [...pair[1 - which]]);
    if (!pair[which]) return null;
    return element(which === 0 ? "del" : "ins", {}, visible(pair[which]));
  });
}

// A difference of white space alone has to be seen too.
const visible = (text) => (text.trim() ? shown(text) : shown(text).replaceAll(" ", "␣"));

function cases(own, other) {
  const nodes = [];
  for (let at = 0; at < own.length; ) {
    let end = at;
    const differs = own[at] !== other[at];
    while (end < own.length && (own[end] !== other[end]) === differs) end++;
    const text = shown(own.slice(at, end).join(""));
    nodes.push(differs ? element("span", { className: "case" }, text) : text);
    at = end;
  }
  return nodes;
}

function othersOf(found) {
  if (!found.others.length) return null;
  return element(
    "section",
    { className: "others" },
    element("h3", {}, "Also accepted"),
    element("ul", {}, found.others.map((text) => element("li", { dir: "auto" }, shown(text)))),
  );
}

function factsOf(found, number, link) {
  const rows = [["id", link], ["document", found.document]];
  if (found.image && found.image !== found.document) rows.push(["page", found.image]);
  for (const facet of facets) {
    if (facet.key === "category" || /^(by|metadata)\./.test(facet.key)) continue;
    const codes = [facet.codes[number]].flat();
    rows.push([facet.title, codes.map((code) => labelOf(facet, code)).join(", ")]);
  }
  if (compared && found.before) rows.push(["score changed by", signed(index.gains[number])]);
  rows.push(["similarity", share(found.answer.similarity)]);
  rows.push(...Object.entries(found.facts));
  return element(
    "dl",
    { className: "metadata" },
    rows.map(([name, value]) => [
      element("dt", {}, shown(name)),
      element("dd", { dir: "auto" }, typeof value === "string" ? shown(value) : value),
    ]),
  );
}

function pageOf(found, number) {
  const page = index.page[number];
  if (page < 0) {
    const why = found.image ? "The image of this page is not in the report." : "No page is named.";
    return element("p", { className: "page note" }, why);
  }
  const [width, height] = index.sizes[page];
  const image = element("img", {
    src: block(`page-${page}`) ?? `report_files/pages/${page}.jpg`,
    width,
    height,
    alt: `Page ${shown(found.image)}`,
    decoding: "async",
  });
  const button = element("button", { type: "button", className: "zoom", title: "Zoom" }, image);
  button.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-label", `Zoom page ${shown(found.image)}`);
  const figure = element("div", { className: "page" }, button);
  button.addEventListener("click", (event) => {
    const box = image.getBoundingClientRect();
    const at = event.detail ? [event.clientX - box.left, event.clientY - box.top] : [0, 0];
    const zoomed = figure.classList.toggle("zoomed");
    button.setAttribute("aria-pressed", String(zoomed));
    const grown = image.getBoundingClientRect().width / box.width;
    figure.scrollTo(at[0] * grown - figure.clientWidth / 2, at[1] * grown - figure.clientHeight / 2);
  });
  return figure;
}

function showTrouble(trouble) {
  byId("question").replaceChildren(element("p", { className: "note", role: "alert" }, trouble.message));
}

// ---------------------------------------------------------------- keyboard

function move(by) {
  const place = rows.indexOf(current) + by;
  goTo(Math.max(0, Math.min(rows.length - 1, place)));
}

function goTo(place) {
  if (rows.length && rows[place] !== current) change({ q: index.ids[rows[place]] }, { replace: true });
}

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target.matches("input, select, textarea")) return;
  const inList = event.target === list;
  const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
  const moves = {
    ArrowLeft: () => move(-1),
    ArrowRight: () => move(1),
    Escape: () => document.body.classList.contains("open") && change({ q: null }),
    ...(inList && {
      ArrowUp: () => move(-1),
      ArrowDown: () => move(1),
      PageUp: () => move(-page),
      PageDown: () => move(page),
      Home: () => goTo(0),
      End: () => goTo(rows.length - 1),
    }),
  };
  if (event.key in moves && !event.target.closest(".zoomed")) {
    event.preventDefault();
    moves[event.key]();
  }
});

// ---------------------------------------------------------------- tables

for (const table of document.querySelectorAll("table.sortable")) {
  const head = table.tHead.rows[0];
  for (const button of head.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      const cell = button.parentElement;
      const up = cell.getAttribute("aria-sort") === "descending";
      for (const other of head.cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[cell.cellIndex].dataset.value;
      const body = table.tBodies[0];
      const sorted = [...body.rows].sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        if (cell.cellIndex === 0) return a.localeCompare(b);
        return (isNaN(a) ? -Infinity : a) - (isNaN(b) ? -Infinity : b);
      });
      body.append(...(up ? sorted : sorted.reverse()));
    });
  }
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  list.focus();
});

// A filter in the overview also brings its questions into view.
for (const link of document.querySelectorAll(".overview a, .headline a")) {
  link.addEventListener("click", () => byId("questions").scrollIntoView());
}

// ---------------------------------------------------------------- start

makeControls();
list.addEventListener("scroll", drawSoon, { passive: true });
new ResizeObserver(drawSoon).observe(list);
window.addEventListener("hashchange", apply);
narrow.addEventListener("change", () => setOpen(document.body.classList.contains("open")));
apply();
if (location.hash) byId("questions").scrollIntoView();
