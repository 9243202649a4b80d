"use strict";
(() => {
  // Everything that comes from data goes into the page by textContent, attribute or CSSOM, never as markup.
  const STATES = ["right", "wrong", "error", "skipped"];
  const TONES = ["good", "bad", "bad", "calm"];
  const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
  const byId = (id) => document.getElementById(id);
  const shown = (value) => String(value).replace(HIDDEN, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
  const el = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const say = (value, tag = "span", attributes = {}) => el(tag, attributes, shown(value));
  const figure = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));
  const time = (ms) => (ms === null || ms === undefined ? "–" : ms >= 1000 ? `${(ms / 1000).toFixed(2)} s` : ms >= 10 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(2)} ms`);
  const count = (value) => value.toLocaleString("en-US");
  const paint = () => new Promise((done) => setTimeout(done));

  const unpack = async (id) => {
    const text = byId(id).textContent;
    const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), (c) => c.charCodeAt(0)); // slower, for browsers before 2025
    return JSON.parse(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text());
  };

  // The samples of one case: filters over columns, a list of which only what is seen is in the page, and one sample in full.
  class Browser {
    constructor(place) {
      this.place = place;
      this.number = place.dataset.case;
      this.chunks = new Map();
      this.words = new Map();
      this.pair = null;
      this.sort = { by: "number", down: false };
      this.at = 0;
      this.turn = 0;
      this.ready = this.open();
    }

    async open() {
      this.place.append(say("Unpacking …", "p", { class: "facts" }));
      this.data = await unpack(`data-${this.number}-0`);
      this.length = this.data.id.length;
      this.cut = this.prefix();
      this.numbered = this.data.number.length ? this.data.number : null;
      this.build();
      await this.filter();
    }

    // What all ids begin with tells none apart, and would take the room of what does.
    prefix() {
      const ids = this.data.id;
      let same = ids.length > 1 ? ids[0].length : 0;
      for (const id of ids) while (same && !id.startsWith(ids[0].slice(0, same))) same--;
      const numbers = ids.length > 1 ? ids[0].slice(0, same).search(/\d+$/) : -1; // not into a number
      same = numbers >= 0 ? numbers : same;
      return same > 5 ? same : 0;
    }

    build() {
      const d = this.data;
      this.search = el("input", { type: "search", placeholder: "Search ids and texts", "aria-label": "Search ids and texts", autocomplete: "off", spellcheck: "false" });
      this.outcome = el("select", { "aria-label": "Outcome" }, el("option", { value: "" }, "All outcomes"));
      const states = STATES.map((name, state) => [name, state, d.state.split(String(state)).length - 1]).filter((entry) => entry[2]);
      for (const [name, state, n] of states) this.outcome.append(el("option", { value: state }, `${name} (${count(n)})`));
      this.label = el("select", { "aria-label": "Label" }, el("option", { value: "" }, "All labels"));
      d.labels.forEach((label, index) => this.label.append(el("option", { value: index }, shown(label))));
      this.label.hidden = !d.labels.length;
      this.clear = el("button", { type: "button" }, "Clear");
      this.told = el("output", { "aria-live": "polite" });
      const heads = [["state", "outcome", ""], ["id", "id", ""], ["number", "sample", "preview"], ["score", "score", "r"], ["ms", "latency", "r"]];
      this.head = el("div", { class: "cols head", role: "row", "aria-rowindex": 1 });
      for (const [by, name, look] of heads) {
        const button = el("button", { type: "button", tabindex: 0 }, name);
        button.addEventListener("click", () => this.order(by));
        this.head.append(el("div", { role: "columnheader", class: look, "data-by": by, "aria-sort": "none" }, button));
      }
      this.spacer = el("div", { class: "spacer", role: "rowgroup" });
      this.rows = el("div", { class: "rows", tabindex: 0, role: "presentation" }, this.spacer);
      this.grid = el("div", { class: "list", role: "grid", "aria-label": "Samples" }, this.head, this.rows);
      this.rows.setAttribute("aria-label", "Samples: arrow keys move, Enter reads");
      this.detail = el("article", { class: "detail", tabindex: -1, "aria-label": "Sample" });
      this.place.replaceChildren(el("div", { class: "tools", role: "search" }, this.search, this.outcome, this.label, this.clear, this.told), el("div", { class: "browser" }, this.grid, this.detail));
      this.search.addEventListener("input", () => this.filter());
      this.outcome.addEventListener("change", () => this.filter());
      this.label.addEventListener("change", () => this.filter());
      this.clear.addEventListener("click", () => this.reset());
      this.rows.addEventListener("scroll", () => this.draw(), { passive: true });
      this.rows.addEventListener("keydown", (event) => this.key(event));
      this.rows.addEventListener("click", (event) => this.clicked(event));
      this.detail.addEventListener("keydown", (event) => event.key === "Escape" && this.rows.focus());
      new ResizeObserver(() => this.draw()).observe(this.rows);
    }

    reset() {
      this.search.value = this.outcome.value = this.label.value = "";
      this.pair = null;
      return this.filter();
    }

    async chunk(number) {
      if (!this.chunks.has(number)) this.chunks.set(number, unpack(`data-${this.number}-${number + 1}`));
      return this.chunks.get(number);
    }

    // What search looks at, in lower case, for each sample of a chunk.
    async wordsOf(number) {
      if (!this.words.has(number)) {
        const chunk = await this.chunk(number);
        const flat = (value) => (value === null || value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value));
        const answers = this.data.task === "span_detection" ? () => "" : (place) => `${flat(chunk.gold[place])}\n${flat(chunk.predicted[place])}`;
        const first = number * this.data.chunk;
        this.words.set(number, chunk.text.map((text, place) => `${this.data.id[first + place]}\n${flat(text)}\n${answers(place)}\n${chunk.message[place] || ""}`.toLowerCase()));
      }
      return this.words.get(number);
    }

    async filter() {
      const turn = ++this.turn;
      const d = this.data;
      const [state, label, text] = [this.outcome.value, this.label.value === "" ? -1 : Number(this.label.value), this.search.value.trim().toLowerCase()];
      const strict = state === "1"; // wrong ones of a label: those wrong in it
      const fits = (row) => {
        if (state !== "" && d.state[row] !== state) return false;
        if (this.pair && (d.of[row][0] >> 1 !== this.pair[0] || d.of[row][1] >> 1 !== this.pair[1])) return false;
        return label < 0 || d.of[row].some((code) => code >> 1 === label && (!strict || code & 1));
      };
      let found = [];
      for (let row = 0; row < this.length; row++) if (fits(row)) found.push(row);
      if (text) {
        const kept = [];
        let words = null, at = -1, paused = performance.now();
        for (const row of found) {
          const chunk = Math.floor(row / d.chunk);
          if (chunk !== at) {
            words = await this.wordsOf(chunk);
            at = chunk;
            if (turn !== this.turn) return; // somebody types on
            if (performance.now() - paused > 100) {
              this.told.textContent = `Searching … ${Math.round((100 * row) / this.length)} %`;
              await paint();
              paused = performance.now();
            }
          }
          if (words[row % d.chunk].includes(text)) kept.push(row);
        }
        if (turn !== this.turn) return;
        found = kept;
      }
      this.found = found;
      this.told.textContent = `${count(found.length)} of ${count(this.length)}${this.pair ? `: ${shown(d.labels[this.pair[0]])} taken for ${shown(d.labels[this.pair[1]])}` : ""}`;
      this.clear.disabled = !(text || state !== "" || label >= 0 || this.pair);
      this.arrange();
    }

    order(by) {
      this.sort = { by, down: this.sort.by === by ? !this.sort.down : by === "ms" };
      this.arrange();
    }

    arrange() {
      const { by, down } = this.sort;
      const values = this.data[by];
      for (const head of this.head.children) head.setAttribute("aria-sort", head.dataset.by !== by ? "none" : down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      const rank = { id: (a, b) => (values[a] < values[b] ? -1 : values[a] > values[b] ? 1 : a - b), state: (a, b) => values.charCodeAt(a) - values.charCodeAt(b) || a - b, number: (a, b) => a - b }[by];
      // Samples without a value come last, either way.
      const missing = (a, b) => (values[a] === null) - (values[b] === null);
      this.found.sort(rank ? (a, b) => sign * rank(a, b) : (a, b) => missing(a, b) || sign * (values[a] - values[b]) || a - b);
      this.grid.setAttribute("aria-rowcount", this.found.length + 1);
      this.rows.scrollTop = 0;
      this.at = 0;
      this.draw(true);
      this.select(0, false);
    }

    get height() {
      return parseFloat(getComputedStyle(this.rows).getPropertyValue("--row")) || 46;
    }

    draw(anew = false) {
      if (!this.found) return;
      const height = this.height;
      this.head.style.paddingRight = `calc(.8rem + ${this.rows.offsetWidth - this.rows.clientWidth}px)`; // the scrollbar's
      this.spacer.style.height = `${Math.max(this.found.length * height, 1)}px`;
      const first = Math.max(0, Math.floor(this.rows.scrollTop / height) - 5);
      const last = Math.min(this.found.length, Math.ceil((this.rows.scrollTop + this.rows.clientHeight) / height) + 5);
      const there = new Map();
      for (const item of [...this.spacer.children]) {
        const place = Number(item.dataset.place);
        if (anew || place < first || place >= last || item.classList.contains("none")) item.remove();
        else there.set(place, item);
      }
      if (!this.found.length) {
        this.spacer.style.height = "auto";
        this.spacer.append(el("p", { class: "none" }, "No sample fits. "));
        return;
      }
      for (let place = first; place < last; place++) {
        const item = there.get(place) || this.item(place);
        item.style.top = `${place * height}px`;
        item.setAttribute("aria-selected", place === this.at);
        if (!there.has(place)) this.spacer.append(item);
      }
      this.rows.setAttribute("aria-activedescendant", `item-${this.number}-${this.at}`);
    }

    item(place) {
      const d = this.data, row = this.found[place], state = Number(d.state[row]);
      const preview = el("div", { class: "preview", role: "gridcell" });
      const item = el("div", { class: "item cols", role: "row", id: `item-${this.number}-${place}`, "data-place": place, "aria-rowindex": place + 2 },
        el("div", { role: "gridcell" }, el("span", { class: `pill ${TONES[state]}` }, STATES[state])),
        say(this.cut ? `…${d.id[row].slice(this.cut)}` : d.id[row], "div", { role: "gridcell", title: shown(d.id[row]), dir: "auto" }), preview,
        el("div", { class: "r", role: "gridcell" }, figure(d.score[row])), el("div", { class: "r", role: "gridcell" }, time(d.ms[row])));
      this.chunk(Math.floor(row / d.chunk)).then((chunk) => { preview.textContent = shown(this.summary(chunk, row)); });
      return item;
    }

    // A line that says what a sample is.
    summary(chunk, row) {
      const place = row % this.data.chunk;
      const text = chunk.text[place];
      if (chunk.message[place]) return chunk.message[place].slice(0, 200);
      if (this.data.task === "classification" && this.data.state[row] === "1") return `${chunk.gold[place]} → ${this.predicted(row)}${text ? ` · ${text.slice(0, 160)}` : ""}`;
      if (typeof text === "string") return text.slice(0, 200).replace(/\s+/g, " ");
      if (Array.isArray(text)) return String(text.at(-1)?.[1] ?? "").slice(0, 200);
      if (text) return JSON.stringify(text).slice(0, 200);
      return [...new Set(this.data.of[row].map((code) => this.data.labels[code >> 1]))].join(", ");
    }

    predicted(row) {
      return this.data.labels[this.data.of[row][1] >> 1];
    }

    clicked(event) {
      const item = event.target.closest(".item");
      if (!item) return;
      this.select(Number(item.dataset.place));
      if (matchMedia("(max-width: 56rem)").matches) this.detail.scrollIntoView({ block: "start" });
    }

    key(event) {
      const page = Math.max(1, Math.floor(this.rows.clientHeight / this.height) - 1);
      const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
      if (event.key in moves) {
        event.preventDefault();
        this.select(Math.min(Math.max(this.at + moves[event.key], 0), this.found.length - 1));
      } else if (event.key === "Enter") {
        event.preventDefault();
        this.detail.focus();
      }
    }

    async select(place, reveal = true) {
      if (!this.found.length) {
        this.detail.replaceChildren(el("p", { class: "none" }, "Nothing to show."));
        return;
      }
      this.at = place;
      if (reveal) {
        const height = this.height, top = place * height, seen = this.rows.clientHeight;
        if (top < this.rows.scrollTop) this.rows.scrollTop = top;
        else if (top + height > this.rows.scrollTop + seen) this.rows.scrollTop = top + height - seen;
      }
      this.draw();
      const row = this.found[place];
      const chunk = await this.chunk(Math.floor(row / this.data.chunk));
      if (this.found[this.at] === row) this.show(row, chunk);
    }

    async showId(id) {
      await this.ready;
      const row = this.data.id.indexOf(id);
      if (row < 0) return;
      await this.reset();
      await this.select(this.found.indexOf(row));
      this.place.scrollIntoView({ block: "start" });
      this.rows.focus({ preventScroll: true });
    }

    async showPair(gold, predicted) {
      await this.ready;
      this.search.value = this.outcome.value = this.label.value = "";
      this.pair = [this.data.labels.indexOf(gold), this.data.labels.indexOf(predicted)];
      await this.filter();
      this.place.scrollIntoView({ block: "start" });
      this.rows.focus({ preventScroll: true });
    }

    show(row, chunk) {
      const d = this.data, place = row % d.chunk, state = Number(d.state[row]);
      const facts = [`sample ${count(this.numbered ? this.numbered[row] : row + 1)}`];
      if (d.score[row] !== null) facts.push(`${d.task === "classification" ? "confidence" : "score"} ${d.score[row].toFixed(3)}`);
      if (d.ms[row] !== null) facts.push(time(d.ms[row]));
      if (chunk.tokens[place]) facts.push(`${count(chunk.tokens[place][0])} tokens read, ${count(chunk.tokens[place][1])} written`);
      const parts = [say(d.id[row], "h4", { dir: "auto" }), el("p", { class: "facts" }, el("span", { class: `pill ${TONES[state]}` }, STATES[state]), ` ${facts.join(" · ")}`)];
      if (chunk.message[place]) parts.push(say(chunk.message[place], "pre", { class: state > 1 ? "reason" : "" }));
      const text = chunk.text[place], gold = chunk.gold[place], predicted = chunk.predicted[place];
      if (text === null) parts.push(el("p", { class: "facts" }, "Its text is not in this file."));
      if (d.task === "span_detection") parts.push(...this.spans(text, gold, predicted));
      else {
        if (Array.isArray(text)) for (const [role, content] of text) parts.push(say(role, "h5"), say(content, "div", { class: "text block", dir: "auto" }));
        else if (text !== null) parts.push(say(typeof text === "string" ? text : JSON.stringify(text, null, 2), "div", { class: "text block", dir: "auto" }));
        if (chunk.choices[place]) parts.push(say("choices", "h5"), el("ol", { start: 0 }, ...chunk.choices[place].map((choice) => say(choice, "li", { dir: "auto" }))));
        if (state < 2) parts.push(...(d.task === "classification" ? this.classes(row, gold, predicted) : d.task === "multilabel" ? this.sets(gold, predicted) : this.answers(gold, predicted)));
      }
      this.detail.replaceChildren(...parts);
      this.detail.scrollTop = 0;
    }

    // Text with its spans: `gold` are those that were missed. Offsets count code points, as Python's do.
    spans(text, gold, predicted) {
      const placed = ([start, length, index, score], kind) => ({ span: [start, start + length, index], kind, score: score ?? null });
      const all = [
        ...(predicted || []).map((span) => placed(span, span.length < 5 ? "both" : span[4] ? "hit" : "false")),
        ...(gold || []).map((span) => placed(span, "missed")),
      ].sort((a, b) => a.span[0] - b.span[0] || a.span[1] - b.span[1]);
      const parts = [], label = (index) => this.data.labels[index];
      const points = text === null ? null : Array.from(text);
      if (points) {
        const edges = [...new Set([0, points.length, ...all.flatMap(({ span }) => [span[0], span[1]])])].filter((edge) => edge <= points.length).sort((a, b) => a - b);
        const line = el("div", { class: "text", dir: "auto" });
        for (let i = 0; i + 1 < edges.length; i++) {
          const [from, to] = [edges[i], edges[i + 1]];
          const over = all.filter(({ span }) => span[0] <= from && span[1] >= to);
          const kinds = new Set(over.map(({ kind }) => kind));
          const piece = points.slice(from, to).join("");
          line.append(over.length ? say(piece, "mark", { class: kinds.size > 1 ? "both" : over[0].kind }) : shown(piece));
          for (const { span, kind } of over) if (span[1] === to) line.append(say(label(span[2]), "span", { class: `tag ${kind}`, "aria-hidden": "true" }));
        }
        parts.push(line);
      }
      if (!all.length) return [...parts, el("p", { class: "facts" }, gold === null && text !== null ? "" : "No spans, neither gold nor predicted.")];
      const names = { hit: ["found", "good"], missed: ["missed", "bad"], false: ["false", "calm"], both: ["predicted", "calm"] };
      const body = el("tbody");
      for (const { span, kind, score } of all) {
        body.append(el("tr", {}, el("td", {}, el("span", { class: `pill ${names[kind][1]}` }, names[kind][0])), say(label(span[2]), "td"),
          say(points ? points.slice(span[0], span[1]).join("") : "–", "td", { dir: "auto" }), el("td", { class: "n" }, `${span[0]}–${span[1]}`), el("td", { class: "n" }, figure(score))));
      }
      const head = el("tr", {}, ...["", "label", "text"].map((name) => el("th", { scope: "col" }, name)), ...["at", "score"].map((name) => el("th", { scope: "col", class: "n" }, name)));
      return [...parts, el("div", { class: "scroll" }, el("table", {}, el("thead", {}, head), body))];
    }

    classes(row, gold, predicted) {
      const said = this.predicted(row);
      const parts = [el("p", {}, "gold ", say(gold, "b"), " · predicted ", say(said, "b", { class: said === gold ? "" : "bad" }))];
      return typeof predicted === "object" && predicted ? [...parts, this.scores(predicted, [gold])] : parts;
    }

    sets(gold, predicted) {
      const line = (name, labels, tone) => (labels.length ? [el("p", {}, `${name} `, ...labels.flatMap((label) => [say(label, "span", { class: `pill ${tone}` }), " "]))] : []);
      const parts = [
        ...line("found", gold.filter((label) => predicted.labels.includes(label)), "good"),
        ...line("missed", gold.filter((label) => !predicted.labels.includes(label)), "bad"),
        ...line("false", predicted.labels.filter((label) => !gold.includes(label)), "calm"),
      ];
      return predicted.scores ? [...parts, this.scores(predicted.scores, gold)] : parts;
    }

    scores(scores, gold) {
      const body = el("tbody");
      for (const [label, score] of Object.entries(scores).sort((a, b) => b[1] - a[1]).slice(0, 12)) {
        body.append(el("tr", {}, say(label, "th", { scope: "row" }), el("td", { class: "n" }, score.toFixed(3)), el("td", {}, gold.includes(label) ? "gold" : "")));
      }
      return el("table", {}, body);
    }

    answers(gold, predicted) {
      const text = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 1));
      const block = (name, value) => [say(name, "h5"), say(text(value), "div", { class: "text block", dir: "auto" })];
      if (predicted === null && gold === null) return [el("p", { class: "facts" }, "Its answers are not in this file.")];
      const parts = gold === null ? [] : block("accepted", Array.isArray(gold) && gold.every((one) => typeof one === "string") ? gold.join("\n") : gold);
      const judged = predicted && typeof predicted === "object" && "judge" in predicted;
      const listed = (value) => (Array.isArray(value) && value.every((one) => typeof one === "string") ? value : [value]);
      listed(judged ? predicted.text : predicted).forEach((one, index, every) => {
        parts.push(...block(every.length > 1 ? `answer ${index + 1}` : "answer", one));
        if (judged) parts.push(...block("judge", listed(predicted.judge)[index]));
      });
      return parts;
    }
  }

  const browsers = new Map();
  const browserOf = (section) => {
    const place = section.querySelector(".samples");
    if (!place) return null;
    if (!browsers.has(place)) browsers.set(place, new Browser(place));
    return browsers.get(place);
  };

  // Curves over a threshold: of all labels together, which the page has drawn, or of one that is chosen.
  const chosen = new Set();
  const offerLabels = async (view) => {
    const place = view.querySelector("[data-curves]");
    if (!place || chosen.has(place)) return;
    chosen.add(place);
    const data = await unpack(`curves-${place.dataset.curves}`);
    const all = place.querySelector("figure"), one = all.cloneNode(true), plot = one.querySelector(".plot");
    one.hidden = true;
    one.querySelector(".facts").textContent = shown(data.note);
    one.querySelector(".legend").replaceChildren(...data.names.map((name, at) => say(name, "span", { class: `key key-${at}` })));
    const choice = el("select", { "aria-label": "Label of the curves" }, el("option", { value: "" }, "All labels"));
    data.labels.forEach((label, index) => choice.append(el("option", { value: index }, shown(label))));
    choice.addEventListener("change", () => {
      const { ticks, lines } = data.drawn[choice.value] || {};
      all.hidden = Boolean(lines);
      one.hidden = !lines;
      if (!lines) return;
      const title = `${data.title}: ${shown(data.labels[choice.value])}`;
      one.querySelector("h3").textContent = title;
      plot.setAttribute("aria-label", title);
      [...plot.querySelectorAll(".tick")].slice(-ticks.length).forEach((tick, at) => { tick.textContent = ticks[at]; });
      plot.querySelectorAll(".line").forEach((line) => line.remove());
      lines.forEach((points, at) => {
        const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
        line.setAttribute("class", `line line-${at}`);
        line.setAttribute("points", points);
        plot.append(line);
      });
    });
    place.append(one, choice);
  };

  // One view at a time, named by the address, so that "back" and links to a case work.
  const views = [...document.querySelectorAll(".view")];
  const jump = byId("jump");
  const go = (focus) => {
    const section = byId(location.hash.slice(1)) || views[0];
    const view = section.closest(".view") || views[0];
    for (const other of views) other.classList.toggle("here", other === view);
    jump.value = view.id;
    const at = views.indexOf(view);
    byId("before").disabled = at === 0;
    byId("after").disabled = at === views.length - 1;
    if (focus) {
      scrollTo(0, 0);
      view.focus({ preventScroll: true });
    }
    browserOf(view);
    offerLabels(view);
  };
  const step = (by) => { location.hash = views[Math.min(Math.max(views.findIndex((view) => view.id === jump.value) + by, 0), views.length - 1)].id; };
  document.documentElement.classList.add("js");
  byId("nav").hidden = false;
  jump.addEventListener("change", () => { location.hash = jump.value; });
  byId("before").addEventListener("click", () => step(-1));
  byId("after").addEventListener("click", () => step(1));
  addEventListener("hashchange", () => go(true));
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    const search = document.querySelector(".view.here .tools input");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  });

  // Tables that sort by a click on a header.
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = el("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
        const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
        table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => (up ? 1 : -1) * compare(value(a), value(b))));
      });
    });
  }

  // Cells of a confusion matrix, and samples that changed most, lead to the samples.
  for (const cell of document.querySelectorAll(".matrix [data-gold]")) {
    const browser = cell.closest(".view");
    if (!browser.querySelector(".samples")) continue;
    const button = el("button", { type: "button" }, ...cell.childNodes);
    cell.append(button);
    button.addEventListener("click", () => browserOf(browser).showPair(JSON.parse(cell.dataset.gold), JSON.parse(cell.dataset.predicted)));
  }
  for (const name of document.querySelectorAll("[data-sample]")) {
    const view = name.closest(".view");
    if (!view.querySelector(".samples")) continue;
    const button = el("button", { type: "button" }, ...name.childNodes);
    name.append(button);
    button.addEventListener("click", () => browserOf(view).showId(JSON.parse(name.dataset.sample)));
  }
  go(false);
})();
