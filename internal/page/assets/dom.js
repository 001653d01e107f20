// Builds elements. Text is only ever text: nothing that comes from the cluster is read as markup.

export function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

// setText leaves the node alone where the text is as before, so that nobody's selection is lost.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const symbols = { verified: "✓", refuted: "✗", unknown: "?", wavering: "!" };
export const meanings = {
  verified: "as expected", refuted: "not as expected", unknown: "could not be told", wavering: "latest run not as expected",
};

// symbol shows a state; whoever hears the page hears the word.
export function symbol(state) {
  return element("span", { class: "symbol " + state },
    element("span", { "aria-hidden": "true" }, symbols[state]),
    element("span", { class: "unseen" }, meanings[state] + ": "));
}

export function detailAddress(namespace, name) {
  return `/probe/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
}

const absolute = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export function clockTime(when) {
  return clock.format(new Date(when));
}

export function ago(when, now = Date.now()) {
  const seconds = Math.round((now - new Date(when)) / 1000);
  const past = Math.abs(seconds);
  const words = past < 100 ? `${past} s` : past < 6000 ? `${Math.round(past / 60)} min`
    : past < 172800 ? `${Math.round(past / 3600)} h` : `${Math.round(past / 86400)} d`;
  return seconds < 0 ? `in ${words}` : `${words} ago`;
}

// time shows how long ago something was, and when exactly to whoever points at it.
export function time(when, exact) {
  if (!when) return element("span", { class: "none" }, "never");
  const full = absolute.format(new Date(when));
  return element("time", { datetime: when, title: full, "data-exact": exact }, exact ? `${full} (${ago(when)})` : ago(when));
}

// keepTime lets shown times grow older.
export function keepTime() {
  for (const shown of document.querySelectorAll("time[datetime]")) {
    const words = ago(shown.dateTime);
    setText(shown, shown.hasAttribute("data-exact") ? `${shown.title} (${words})` : words);
  }
}
