// One probe in full. Each part is drawn anew only when what it shows has changed.

import { element, symbol, time } from "/assets/dom.js";
import { path, words } from "/assets/matrix.js";

const explainEvery = 15000; // policies can change without the probe's status

export class Detail {
  constructor() {
    this.section = document.getElementById("one");
    this.key = null;
  }

  // open shows a probe and fetches all there is to say of it.
  open(namespace, name) {
    this.close();
    this.key = `${namespace}/${name}`;
    this.address = `/api/probes/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
    this.signatures = {};
    this.parts = {};
    this.section.replaceChildren(
      element("p", { class: "back" }, element("a", { href: "/", "data-to-all": true }, "← All probes")),
      element("h1", { id: "one-title", tabindex: "-1" }, element("span", { class: "namespace" }, namespace + "/"), name),
      ...["verdict", "explanation", "paths", "history", "conditions", "delivered", "change", "declared", "certificate"].map((part) =>
        (this.parts[part] = element("div", { class: "part " + part }))));
    this.refresh();
    this.timer = setInterval(() => {
      if (!document.hidden) this.refresh();
    }, explainEvery);
  }

  close() {
    clearInterval(this.timer);
    this.key = null;
  }

  // refresh fetches once more; while a fetch is under way, the next one waits for it.
  async refresh() {
    if (this.key === null) return;
    if (this.busy) {
      this.again = true;
      return;
    }
    this.busy = true;
    const key = this.key;
    const [probe, explanation] = await Promise.all([ask(this.address), ask(this.address + "/explanation")]);
    this.busy = false;
    if (key === this.key) this.#draw(probe, explanation);
    if (this.again || key !== this.key) {
      this.again = false;
      this.refresh();
    }
  }

  #draw(probe, explanation) {
    if (probe.problem) {
      // What was drawn before stays: the banner says since when it is old.
      if (probe.gone) {
        this.#part("verdict", probe, () => [element("p", { class: "word unknown" }, symbol("unknown"), "There is no such probe, or not any more.")]);
        for (const part of Object.keys(this.parts)) if (part !== "verdict") this.#part(part, null, () => []);
      }
      return;
    }
    const { detail, history, eventsMissing } = probe;
    this.#part("verdict", [detail.row.ready, detail.row.marks, detail.row.checked], () => verdict(detail.row));
    this.#part("explanation", explanation, () => explained(explanation));
    this.#part("paths", detail.paths, () => paths(detail.paths));
    this.#part("history", [history, eventsMissing], () => happened(history, eventsMissing));
    this.#part("conditions", detail.conditions, () => conditions(detail.conditions));
    this.#part("delivered", detail.delivered, () => fieldsUnder("Where the client's sidecar leads requests", detail.delivered));
    this.#part("change", detail.policyChange, () => fieldsUnder("Last change of the policy", detail.policyChange));
    this.#part("declared", detail.declared, () => fieldsUnder("Declared", detail.declared));
    this.#part("certificate", detail.certificate, () => fieldsUnder("The server's certificate", detail.certificate));
  }

  #part(name, data, show) {
    const signature = JSON.stringify(data);
    if (this.signatures[name] === signature) return;
    this.signatures[name] = signature;
    this.parts[name].replaceChildren(...show());
  }
}

async function ask(address) {
  try {
    const response = await fetch(address);
    return response.ok ? await response.json() : { problem: await response.text() };
  } catch (fault) {
    return { problem: String(fault) };
  }
}

function verdict(row) {
  const parts = [element("p", { class: "word " + row.ready.state }, symbol(row.ready.state), words(row.ready.reason),
    ...row.marks.flatMap((mark) => [" ", element("span", { class: "mark", title: mark.message }, mark.word)]))];
  parts.push(element("p", { class: "message" }, row.ready.message));
  for (const mark of row.marks) {
    if (mark.message !== row.ready.message) parts.push(element("p", { class: "message" }, `${mark.word}: ${mark.message}`));
  }
  parts.push(element("p", { class: "more" }, row.target + ", checked ", time(row.checked)));
  return parts;
}

function explained(e) {
  const title = element("h2", {}, "Declared, computed, delivered, observed");
  if (e.problem) return [title, element("p", { class: "missing" }, `What Istio computes cannot be told: ${e.problem}.`)];
  const state = { True: "verified", False: "refuted" }[e.policy.status] ?? "unknown";
  return [title,
    element("p", { class: "word " + state }, symbol(state), words(e.policy.reason)),
    element("p", { class: "message" }, e.policy.message),
    answers(e.paths), ...deciders(e.endpoints ?? []),
    ...listed("To change", e.changes ?? [], (change) => [element("b", {}, change.object), element("span", { class: "more" }, change.advice)]),
    ...listed("Good to know", e.notes ?? [], (note) => [note])];
}

function answers(paths) {
  return table("What each path is to see by the spec and by Istio's policies, where the client's sidecar leads it, and what it saw", "answers", ["Path", "Declared", "Computed", "Delivered", "Observed"],
    paths.map((one) => [one.name,
      answer(one.declared, one.declaredWhy),
      answer(one.computed || "nothing single", one.computedWhy, one.promised === "Mismatch"),
      answer(one.delivered || "-", one.deliveredWhy),
      answer(one.observed || "no run yet", "", one.outcome === "Mismatch")]));
}

function answer(what, why, unlike) {
  return element("div", {}, unlike ? symbol("refuted") : "", element("span", { class: "observed" }, what), element("span", { class: "more" }, why ?? ""));
}

function deciders(endpoints) {
  return listed("Who decides", endpoints, (one) => {
    const lost = one.overridden?.length ? `; without effect: ${one.overridden.join(", ")}` : "";
    const names = one.count > one.names.length ? `${one.names.join(", ")} and ${one.count - one.names.length} more` : one.names.join(", ");
    return [element("b", {}, one.why || one.enforced), lost,
      element("span", { class: "more" }, `The client's sidecar sends ${one.sends}${one.sendsWhy ? `: ${one.sendsWhy}` : ""}`),
      element("span", { class: "more" }, `before ${names}`)];
  });
}

function listed(title, some, show) {
  return some.length ? [element("h3", { class: "words" }, title), element("ul", { class: "list" }, ...some.map((one) => element("li", {}, ...show(one))))] : [];
}

function paths(all) {
  return [element("h2", {}, "Paths"), element("div", { class: "columns" }, ...all.map((one) =>
    element("article", { class: "path", "data-state": one.cell.state, "aria-label": "path " + one.cell.path },
      element("h3", {}, one.cell.path),
      element("p", { class: "more" }, one.goes),
      element("p", { class: "result" }, ...path(one.cell)),
      element("p", { class: "message" }, one.message),
      ...claims(one.claims),
      fields(one.evidence),
      ...endpoints(one.endpoints))))];
}

function claims(some) {
  if (!some.length) return [];
  return [element("h4", {}, "Who, how, what"), element("ul", { class: "endpoints" }, ...some.map((one) =>
    element("li", {}, symbol(one.state), `${one.question}: ${one.answer}`, element("span", { class: "more" }, one.evidence))))];
}

function endpoints(some) {
  if (!some.length) return [];
  return [element("h4", {}, "Endpoints that were not as expected"), element("ul", { class: "endpoints" }, ...some.map((one) =>
    element("li", {}, element("span", { class: "observed" }, one.name), ` ${one.address} saw `, element("span", { class: "observed" }, one.observed),
      element("span", { class: "more" }, one.message))))];
}

function conditions(all) {
  if (!all.length) return [];
  return [element("h2", {}, "Conditions"), table("The conditions of the status, word for word", "conditions", ["Type", "Status", "Reason", "Message", "Since"],
    all.map((one) => [one.type, one.status, one.reason, one.message, time(one.since)]))];
}

// table has its roles spelled out: on a narrow screen it is laid out as blocks, and must stay a table for who hears it.
function table(caption, name, columns, rows) {
  return element("table", { role: "table", class: "plain " + name },
    element("caption", { class: "unseen" }, caption),
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...columns.map((label) => element("th", { role: "columnheader", scope: "col" }, label)))),
    element("tbody", { role: "rowgroup" }, ...rows.map(([first, ...others]) => element("tr", { role: "row" },
      element("th", { role: "rowheader", scope: "row" }, first),
      ...others.map((content, i) => element("td", { role: "cell", "data-label": columns[i + 1] }, content))))));
}

function happened(history, missing) {
  const parts = [element("h2", {}, "What happened")];
  if (missing) parts.push(element("p", { class: "missing" }, `Events are missing here: ${missing}.`));
  if (history.length) {
    parts.push(element("ol", { class: "history" }, ...history.map((one) => element("li", {},
      time(one.at),
      element("div", {},
        element("span", { class: "what" }, one.state ? symbol(one.state) : "", one.what,
          one.to ? (one.from ? ` ${one.from} → ${one.to}` : ` became ${one.to}`) : "", ": ", words(one.reason), one.count > 1 ? ` (${one.count} times)` : ""),
        element("span", { class: "more" }, one.message))))));
  }
  return parts;
}

function fieldsUnder(title, some) {
  return some.length ? [element("h2", {}, title), fields(some)] : [];
}

function fields(some) {
  return element("dl", { class: "fields" }, ...some.map((one) =>
    element("div", {}, element("dt", {}, one.label), element("dd", {}, one.time ? time(one.time, true) : one.text))));
}
