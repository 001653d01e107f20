// The stream of changes, and how far what is shown can be believed.

const silence = 15000; // the server says something every 5 s
const hiddenFor = 30000; // a browser allows six connections to a server, and hidden pages would hold them

export class Feed {
  // onUpdate gets what changed; onState gets {live, word, trouble, seen}.
  constructor(onUpdate, onState) {
    this.onUpdate = onUpdate;
    this.onState = onState;
    this.seen = null;
    document.addEventListener("visibilitychange", () => this.#visibility());
    this.#open();
  }

  #open() {
    this.source = new EventSource("/api/stream");
    this.source.addEventListener("update", (message) => this.#update(JSON.parse(message.data)));
    this.source.addEventListener("ended", () => this.#end("kubectl meshprobe ui has ended; start it again and open the address that it prints"));
    this.source.addEventListener("error", () => this.#fault());
  }

  #update(update) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#silent(), silence);
    const { live, seen, trouble } = update.connection;
    this.seen = seen.startsWith("0001") ? null : seen;
    this.onUpdate(update);
    if (live) this.onState({ live: true, word: "live", seen: this.seen });
    else if (this.seen === null) this.onState({ live: false, word: "connecting", trouble: trouble || "waiting for the cluster", seen: null });
    else this.onState({ live: false, word: "connection lost", trouble: "Connection to the cluster lost: " + (trouble || "waiting for the watch"), seen: this.seen });
  }

  #fault() {
    if (this.source === null) return;
    if (this.source.readyState === EventSource.CLOSED) {
      this.#end("kubectl meshprobe ui does not know this page any more; open the address that it printed last");
      return;
    }
    this.onState({ live: false, word: "connection lost", trouble: "Connection to kubectl meshprobe ui lost; trying again", seen: this.seen });
  }

  // silent: the connection may be cut somewhere without either end knowing (a tunnel, a machine that slept).
  #silent() {
    this.#fault();
    if (this.ended) return;
    this.#close();
    this.#open();
    this.timer = setTimeout(() => this.#silent(), silence);
  }

  #end(trouble) {
    this.#close();
    this.ended = true;
    this.onState({ live: false, word: "ended", trouble, seen: this.seen });
  }

  #close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  #visibility() {
    clearTimeout(this.hiding);
    if (document.visibilityState === "hidden") {
      this.hiding = setTimeout(() => {
        if (this.ended) return;
        this.#close();
        this.onState({ live: false, word: "paused", trouble: "Paused while nobody looks", seen: this.seen });
      }, hiddenFor);
    } else if (this.source === null && !this.ended) {
      this.#open();
    }
  }
}
