// The page: which view is open, what the stream says, and how far that can be believed.

import { clockTime, keepTime, setText } from "/assets/dom.js";
import { Detail } from "/assets/detail.js";
import { Feed } from "/assets/feed.js";
import { Matrix, words } from "/assets/matrix.js";

const matrix = new Matrix();
const detail = new Detail();
const views = { all: document.getElementById("all"), one: document.getElementById("one") };
let state = { live: false, word: "connecting", seen: null };

function route(moved) {
  const found = location.pathname.match(/^\/probe\/([^/]+)\/([^/]+)$/);
  views.all.hidden = Boolean(found);
  views.one.hidden = !found;
  if (found) detail.open(decodeURIComponent(found[1]), decodeURIComponent(found[2]));
  else {
    const last = detail.key;
    detail.close();
    if (moved && last) matrix.rows.get(last)?.tr.querySelector("a").focus();
  }
  if (moved && found) {
    scrollTo(0, 0);
    document.getElementById("one-title").focus({ preventScroll: true });
  }
  title();
}

function title() {
  const refuted = matrix.count?.refuted ?? 0;
  const about = detail.key ?? "All probes";
  document.title = `${state.live ? "" : "(old) "}${refuted ? `✗ ${refuted} refuted, ` : ""}${about} – HTTPSMeshProbe`;
}

function onUpdate(update) {
  const turned = matrix.apply(update);
  if (detail.key && (update.all || update.gone.includes(detail.key) || update.rows.some((row) => `${row.namespace}/${row.name}` === detail.key))) detail.refresh();
  announce(turned);
  title();
}

// announce tells whoever hears the page what turned.
function announce(turned) {
  if (!turned.length) return;
  const news = turned.length <= 3 ? turned.map((row) => `${row.namespace}/${row.name}: ${row.ready.state}, ${words(row.ready.reason)}`).join("; ")
    : `${turned.length} probes changed: ${turned.filter((row) => row.ready.state === "refuted").length} of them are refuted now`;
  setText(document.getElementById("news"), news);
}

function onState(next) {
  state = next;
  document.documentElement.dataset.data = next.live ? "live" : next.seen ? "old" : "waiting";
  showState();
  title();
}

function showState() {
  const shown = document.getElementById("connection");
  setText(shown, state.live ? `● live, ${clockTime(state.seen)}` : `○ ${state.word}`);
  const trouble = document.getElementById("trouble");
  trouble.hidden = state.live || !state.trouble;
  if (trouble.hidden) return;
  const since = state.seen ? ` What is shown is as of ${clockTime(state.seen)}, and not of now.` : "";
  setText(trouble, state.trouble + "." + since);
}

function go(address) {
  if (address !== location.pathname + location.search) history.pushState(null, "", address);
  route(true);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (link.hasAttribute("data-to-all")) {
    event.preventDefault();
    go(matrix.address());
  } else if (link.pathname.startsWith("/probe/")) {
    event.preventDefault();
    go(link.pathname);
  }
});
addEventListener("popstate", () => route(true));
addEventListener("keydown", (event) => {
  if (event.key === "/" && !views.all.hidden && event.target.tagName !== "INPUT") {
    event.preventDefault();
    matrix.query.focus();
  }
});
setInterval(keepTime, 1000);

async function about() {
  const { cluster, namespace } = await (await fetch("/api/about")).json();
  const parts = [namespace ? `namespace ${namespace}` : "all namespaces"];
  if (cluster) parts.push(`of ${cluster}`);
  setText(document.getElementById("scope"), parts.join(" "));
}

about().catch(() => {});
route(false);
new Feed(onUpdate, onState);
