// The matrix of all probes. A change touches the cells that it changes and no others.

import { detailAddress, element, setText, symbol, time } from "/assets/dom.js";

const columns = [
  { label: "Declared", of: (row) => [row.mode, row.sidecar, row.clientMode], show: declared },
  { label: "Ready", of: (row) => [row.ready.state, row.ready.reason, row.ready.message, row.marks], show: ready },
  ...["sleep", "istio-proxy", "outsider"].map((name, i) => ({ label: name, of: (row) => row.paths[i], show: (row) => path(row.paths[i]) })),
  { label: "Policy", of: (row) => [row.policy.state, row.policy.reason], show: (row) => [symbol(row.policy.state), words(row.policy.reason)] },
  { label: "Checked", of: (row) => row.checked ?? "", show: (row) => [time(row.checked)] },
];

function declared(row) {
  const parts = [element("span", { class: "mode" }, row.mode)];
  const more = [];
  if (row.sidecar === "Disabled") more.push("no sidecar");
  if (row.clientMode && row.clientMode !== "UNSET") more.push("client " + row.clientMode);
  if (more.length) parts.push(element("span", { class: "more" }, more.join(", ")));
  return parts;
}

function ready(row) {
  const parts = [element("span", { class: "word " + row.ready.state }, symbol(row.ready.state), words(row.ready.reason))];
  for (const mark of row.marks) parts.push(" ", element("span", { class: "mark", title: mark.message }, mark.word));
  if (row.ready.state !== "verified") parts.push(element("span", { class: "why" }, row.ready.message));
  return parts;
}

export function path(cell) {
  const parts = [symbol(cell.state)];
  if (cell.earlier) parts.push(element("span", { class: "was" }, "was "));
  parts.push(element("span", { class: "observed" }, cell.observed || "–"));
  const unlike = cell.observed !== cell.expected && cell.expected;
  if (unlike && !cell.earlier && cell.observed) parts.push(element("span", { class: "more" }, "expected " + cell.expected));
  return parts;
}

// words turns a reason in CamelCase into words, abbreviations left whole.
export function words(reason) {
  return reason.replace(/([a-z])([A-Z])/g, "$1 $2").replace(/([A-Z]+)([A-Z][a-z])/g, "$1 $2")
    .replace(/\b[A-Z][a-z]+/g, (word, at) => (at === 0 ? word : word.toLowerCase()));
}

export class Matrix {
  constructor() {
    this.rows = new Map();
    this.body = document.getElementById("rows");
    this.query = document.getElementById("query");
    this.only = document.getElementById("only");
    const asked = new URLSearchParams(location.search);
    this.query.value = asked.get("q") ?? "";
    this.only.checked = asked.has("only");
    this.query.addEventListener("input", () => this.#refilter());
    this.only.addEventListener("change", () => this.#refilter());
    document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());
    this.body.addEventListener("keydown", (event) => this.#step(event));
  }

  // address is where the matrix is, with its filter.
  address() {
    const asked = new URLSearchParams();
    if (this.query.value) asked.set("q", this.query.value);
    if (this.only.checked) asked.set("only", "");
    return asked.size ? "/?" + asked : "/";
  }

  // apply takes an update in and returns the rows whose verdict changed.
  apply(update) {
    const turned = [];
    if (update.all) {
      const there = new Set(update.rows.map(keyOf));
      for (const key of [...this.rows.keys()]) if (!there.has(key)) this.#remove(key);
    }
    for (const key of update.gone) this.#remove(key);
    const added = [];
    for (const row of update.rows) {
      const known = this.rows.get(keyOf(row));
      if (!known) added.push(this.#make(row));
      else {
        if (known.row.ready.state !== row.ready.state) turned.push(row);
        this.#fill(known, row, true);
      }
    }
    this.#insert(added);
    if (update.all || update.rows.length || update.gone.length) this.#sum();
    return turned;
  }

  #make(row) {
    const link = element("a", { href: detailAddress(row.namespace, row.name) },
      element("span", { class: "namespace" }, row.namespace + "/"), element("span", { class: "name" }, row.name));
    const target = element("span", { class: "more" });
    const tr = element("tr", { role: "row" }, element("th", { role: "rowheader", scope: "row" }, link, target));
    const made = { tr, target, cells: columns.map((column) => element("td", { role: "cell", "data-label": column.label })), signatures: [] };
    tr.append(...made.cells);
    this.rows.set(keyOf(row), made);
    this.#fill(made, row, false);
    return made;
  }

  #fill(made, row, wasThere) {
    made.row = row;
    setText(made.target, row.target);
    made.tr.dataset.state = row.ready.state;
    columns.forEach((column, i) => {
      const signature = JSON.stringify(column.of(row));
      if (made.signatures[i] === signature) return;
      made.signatures[i] = signature;
      const cell = made.cells[i];
      cell.replaceChildren(...column.show(row));
      if (wasThere && column.label !== "Checked") {
        cell.classList.remove("changed");
        void cell.offsetWidth; // lets the highlight begin again
        cell.classList.add("changed");
      }
    });
    made.text = [row.namespace + "/" + row.name, row.target, row.mode, row.ready.state, row.ready.reason, words(row.ready.reason),
      row.ready.message, row.policy.reason, ...row.marks.map((mark) => mark.word)].join(" ").toLowerCase();
    this.#filter(made);
  }

  #remove(key) {
    const made = this.rows.get(key);
    if (!made) return;
    if (made.tr.contains(document.activeElement)) (made.tr.nextElementSibling ?? made.tr.previousElementSibling)?.querySelector("a")?.focus();
    made.tr.remove();
    this.rows.delete(key);
  }

  // insert puts new rows where they belong, in one pass over those that are there.
  #insert(added) {
    if (!added.length) return;
    added.sort((a, b) => inOrder(a.row, b.row));
    const byElement = new Map([...this.rows.values()].map((made) => [made.tr, made.row]));
    let at = this.body.firstElementChild;
    for (const made of added) {
      while (at && inOrder(byElement.get(at), made.row) < 0) at = at.nextElementSibling;
      this.body.insertBefore(made.tr, at);
    }
  }

  #filter(made) {
    const open = made.row.ready.state !== "verified" || made.row.paths.some((cell) => cell.state !== "verified") || made.row.policy.state !== "verified";
    const wanted = this.query.value.toLowerCase().split(/\s+/).every((word) => made.text.includes(word));
    made.tr.hidden = !(wanted && (open || !this.only.checked));
  }

  #refilter() {
    for (const made of this.rows.values()) this.#filter(made);
    history.replaceState(null, "", this.address());
    this.#sum();
  }

  #sum() {
    const count = { verified: 0, refuted: 0, unknown: 0 };
    let shown = 0;
    for (const made of this.rows.values()) {
      count[made.row.ready.state]++;
      if (!made.tr.hidden) shown++;
    }
    this.count = count;
    document.getElementById("summary").replaceChildren(...Object.entries(count).map(([state, n]) =>
      element("span", { class: "count" + (n ? "" : " zero") }, symbol(state), element("b", {}, String(n)), " " + state)));
    const filtered = this.query.value.trim() || this.only.checked;
    setText(document.getElementById("shown"), filtered ? `${shown} of ${this.rows.size} shown` : "");
    const nothing = document.getElementById("nothing");
    nothing.hidden = shown > 0;
    setText(nothing, this.rows.size === 0 ? "There are no HTTPSMeshProbes here."
      : this.only.checked && !this.query.value.trim() ? "Everything is verified." : "No probe matches the filter.");
    document.getElementById("matrix").hidden = shown === 0;
  }

  // step moves between probes with the arrow keys.
  #step(event) {
    const rows = [...this.body.children].filter((tr) => !tr.hidden);
    const at = rows.indexOf(event.target.closest("tr"));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (to === undefined || !rows[to]) return;
    event.preventDefault();
    rows[to].querySelector("a").focus();
  }
}

function keyOf(row) {
  return `${row.namespace}/${row.name}`;
}

function inOrder(a, b) {
  return a.namespace < b.namespace ? -1 : a.namespace > b.namespace ? 1 : a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

