(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const sets = data.sets.map((ids) => new Set(ids));
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const make = (tag, cls, text) => {
    const e = document.createElement(tag);
    if (cls) e.className = cls;
    if (text !== undefined) e.textContent = text;
    return e;
  };
  const shape = (tag, attributes) => {
    const e = document.createElementNS(SVG, tag);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    return e;
  };
  const number = (x) => Math.round(x).toLocaleString("en-US");
  const plural = (n, one) => `${number(n)} ${one}${n === 1 ? "" : "s"}`;

  // -- code listings ---------------------------------------------------------------------------------------------
  const OPCODE = { ir: /^(\s*(?:%[\w.]+ = )?)([\w.]+)(.*)$/, asm: /^(\s+)([\w.]+)(.*)$/ };
  const spread = (share) => (data.most > 0 ? Math.min(1, share / data.most) : 0);
  const heat = (share) => `color-mix(in oklab, var(--hot) ${Math.round(100 * spread(share))}%, var(--cold))`;

  function listing(which) {
    const list = $(`list-${which}`);
    const page = document.createDocumentFragment();
    list.blocks = [];
    for (const f of data[which]) {
      const head = make("div", "fn");
      head.append(make("span", "", f.name), make("small", "", f.words));
      head.title = "Fold this function";
      head.onclick = () => {
        head.classList.toggle("shut");
        rulers();
      };
      const body = make("div", f.step ? "fn-body step" : "fn-body");
      const block = make("div", "fn-block");
      block.style.containIntrinsicHeight = `auto ${Math.round(18.6 * (f.lines.length + 1))}px`;
      block.append(head, body);
      page.append(block);
      list.blocks.push({ head, sets: f.lines.map(([, all, own]) => own ?? all) });
      for (const [text, all, own, reads] of f.lines) {
        const line = make("div", "ln");
        line.style.setProperty("--heat", f.share > 0 ? heat(f.share) : "transparent");
        if (all >= 0) piece(line, all, own, reads);
        const code = make("span", "tx");
        const found = OPCODE[which].exec(text);
        if (found && !text.endsWith(":")) code.append(found[1], make("span", "k", found[2]), found[3]);
        else code.textContent = text;
        line.append(make("span", "no"), code);
        body.append(line);
      }
    }
    list.append(page);
  }

  // -- pieces: what can be pointed at, and what lights up -----------------------------------------------------------
  // all: what is chosen by pointing here; own: what this computes or says; reads: what it only loads.
  function piece(e, all, own, reads) {
    e.dataset.s = all;
    if (own !== undefined) e.dataset.o = own;
    if (reads !== undefined && reads >= 0) e.dataset.r = reads;
    if (e instanceof HTMLElement || e instanceof SVGElement) {
      e.setAttribute("role", "option");
      e.setAttribute("aria-selected", "false");
    }
  }
  const own = new Map(); // set -> pieces that light up with it; those of the graph change with the frame
  const readers = []; // pieces that load something
  const ownSet = (e) => Number(e.dataset.o ?? e.dataset.s);
  function register(body) {
    const pane = body.id.slice("list-".length);
    for (const e of body.querySelectorAll("[data-s]")) {
      const set = ownSet(e);
      if (!own.has(set)) own.set(set, []);
      own.get(set).push(e);
      e.counted = e.classList.contains("formula") ? null : pane;
      if (e.dataset.r !== undefined) readers.push(e);
    }
  }
  const meets = (a, b) => {
    if (a.size > b.size) [a, b] = [b, a];
    for (const x of a) if (b.has(x)) return true;
    return false;
  };

  let chosen = null; // the piece that stays lit
  let on = sets.map(() => false); // the sets that are lit now
  let pointed = null; // the piece that is lit because it is pointed at
  const isOn = (set) => on[set] ?? false;
  function light(nodes, source) {
    const before = on;
    document.body.classList.toggle("choosing", nodes !== null);
    on = sets.map((s) => nodes !== null && meets(s, nodes));
    if (pointed) pointed.classList.toggle("lit", isOn(ownSet(pointed)));
    for (const [set, found] of own)
      if (isOn(set) !== (before[set] ?? false)) for (const e of found) e.classList.toggle("lit", isOn(set));
    for (const e of readers) e.classList.toggle("reads", isOn(Number(e.dataset.r)) && !isOn(ownSet(e)));
    pointed = source ?? null;
    if (pointed) pointed.classList.add("lit");
    lightGraph();
    for (const which of ["ir", "asm"])
      for (const { head, sets } of $(`list-${which}`).blocks) head.classList.toggle("has-lit", sets.some(isOn));
    counts(nodes !== null);
    rulers();
    inspect(nodes, source);
  }
  function lightGraph() {
    for (const e of drawn.values())
      e.classList.toggle("lit", e === pointed || (e.dataset.s !== undefined && isOn(ownSet(e))));
    for (const path of edges ? edges.children : []) {
      const ends = [path.dataset.a, path.dataset.b].map((key) => drawn.get(key));
      path.classList.toggle("lit", ends.every((e) => e && e.classList.contains("lit")));
    }
  }
  const nodesOf = (e) => sets[Number(e.dataset.s)];
  const pieceAt = (target) => (target instanceof Element ? target.closest("[data-s]") : null);

  function choose(e) {
    if (chosen) {
      chosen.classList.remove("pinned");
      chosen.setAttribute("aria-selected", "false");
    }
    chosen = e === chosen ? null : e;
    if (!chosen) return light(null);
    chosen.classList.add("pinned");
    chosen.setAttribute("aria-selected", "true");
    light(nodesOf(chosen), chosen);
    for (const pane of document.querySelectorAll(".pane")) if (!pane.contains(chosen)) reveal(pane);
  }
  function reveal(pane) {
    const body = pane.querySelector(".body");
    // In code, the kernel itself says more than the line that calls it.
    const found = [...body.querySelectorAll(".lit")];
    const first = found.find((e) => !e.closest(".step")) ?? found[0];
    if (!first || pane.classList.contains("folded")) return;
    first.closest(".fn-body")?.previousElementSibling.classList.remove("shut");
    const a = first.getBoundingClientRect(), b = body.getBoundingClientRect();
    const inside = a.top >= b.top + 24 && a.bottom <= b.bottom && a.left >= b.left && a.left <= b.right;
    if (inside) return;
    body.scrollTop += a.top - b.top - Math.max(40, b.height / 3);
    if (pane.id === "pane-graph") body.scrollLeft += a.left - b.left - b.width / 3;
  }
  function back() {
    if (chosen) light(nodesOf(chosen), chosen);
    else light(null);
  }

  const WORDS = {
    source: "line", formulas: "term", graph: "node", kernels: "kernel", ir: "instruction", asm: "instruction",
  };
  function counts(any) {
    const lit = Object.fromEntries(Object.keys(WORDS).map((pane) => [pane, 0]));
    for (const [set, found] of own) if (isOn(set)) for (const e of found) if (e.counted) lit[e.counted]++;
    for (const e of drawn.values()) if (e.classList.contains("lit")) lit.graph++;
    for (const [pane, word] of Object.entries(WORDS))
      $(`pane-${pane}`).querySelector(".count").textContent = any ? plural(lit[pane], word) : "";
  }

  // -- what the pointer is on, in words ----------------------------------------------------------------------------
  const HINT = "Point at any line, term, node, kernel or instruction: what belongs to it lights up everywhere.";
  function inspect(nodes, source) {
    const box = $("inspector");
    box.replaceChildren();
    if (!nodes) return void box.append(make("span", "hint", HINT));
    const found = [...nodes].map((n) => data.nodes[n]).filter(Boolean);
    const add = (name, text, code) => {
      const part = make("span");
      if (name) part.append(make("b", "", name), " ");
      part.append(code ? make("code", "", text) : text);
      box.append(part);
    };
    if (found.length === 1) add("", found[0].text, true);
    else add(plural(found.length, "node"), [...new Set(found.map((n) => n.op))].slice(0, 6).join(", "));
    const flops = found.reduce((sum, n) => sum + n.flops, 0), bytes = found.reduce((sum, n) => sum + n.bytes, 0);
    add("", `${plural(flops, "flop")} · ${plural(bytes, "byte")}`);
    const at = [...new Set(found.flatMap((n) => n.kernels))].sort((a, b) => a - b);
    if (at.length) {
      const ns = at.reduce((sum, k) => sum + data.kernels[k].ns, 0);
      const names = at.slice(0, 4).map((k) => `${k} ${data.kernels[k].title}`).join(", ") + (at.length > 4 ? ", …" : "");
      add(at.length === 1 ? "kernel" : "kernels", names);
      if (data.measured) add("", `${number(ns)} ns, ${((100 * ns) / data.step).toFixed(1)}% of the step`);
    }
    const where = [...new Set(found.map((n) => n.where).filter(Boolean))];
    if (where.length) add("", where.slice(0, 4).join(" ") + (where.length > 4 ? " …" : ""), true);
    if (source && source.dataset.words) add("", source.dataset.words);
  }

  // -- rulers ------------------------------------------------------------------------------------------------------
  let waiting = 0;
  function rulers() {
    if (!waiting) waiting = requestAnimationFrame(() => {
      waiting = 0;
      const color = getComputedStyle(document.documentElement).getPropertyValue("--lit-edge").trim();
      for (const which of ["ir", "asm"]) ruler(which, color);
    });
  }
  function ruler(which, color) {
    const list = $(`list-${which}`), bar = list.parentElement.querySelector(".ruler");
    const height = bar.clientHeight, width = bar.clientWidth, scale = window.devicePixelRatio || 1;
    if (!height) return;
    bar.width = width * scale;
    bar.height = height * scale;
    const pen = bar.getContext("2d");
    pen.scale(scale, scale);
    pen.fillStyle = color;
    const rows = list.blocks.flatMap(({ head, sets }) => [-1, ...(head.classList.contains("shut") ? [] : sets)]);
    const step = height / Math.max(1, rows.length);
    rows.forEach((set, i) => isOn(set) && pen.fillRect(1, i * step, width - 1, Math.max(1.5, step)));
  }
  for (const bar of document.querySelectorAll(".ruler"))
    bar.addEventListener("click", (event) => {
      const body = bar.parentElement.querySelector(".body");
      body.scrollTop = (event.offsetY / bar.clientHeight) * body.scrollHeight - body.clientHeight / 2;
    });

  // -- the graph, one frame per pass --------------------------------------------------------------------------------
  const drawn = new Map(); // key -> element
  let canvas = null, edges = null, frame = -1, zoom = 0;
  function draw(at) {
    const film = data.frames[at], next = data.frames[at + 1], last = frame;
    frame = at;
    if (!canvas) {
      canvas = shape("svg", { role: "presentation" });
      edges = canvas.appendChild(shape("g", { class: "edges", "aria-hidden": "true" }));
      $("list-graph").append(canvas);
    }
    const keys = new Set(film.nodes.map((n) => n[0]));
    const after = next ? new Set(next.nodes.map((n) => n[0])) : keys;
    const before = at > 0 ? new Set(data.frames[at - 1].nodes.map((n) => n[0])) : keys;
    for (const [key, e] of drawn)
      if (!keys.has(key)) {
        e.remove();
        drawn.delete(key);
      }
    for (const node of film.nodes) {
      const e = drawn.get(node[0]) ?? appear(node);
      dress(e, node, !before.has(node[0]), !after.has(node[0]));
    }
    edges.replaceChildren(
      ...film.edges.map(([a, b, d]) => {
        const path = shape("path", { d });
        path.dataset.a = film.nodes[a][0];
        path.dataset.b = film.nodes[b][0];
        return path;
      }),
    );
    canvas.setAttribute("viewBox", `0 0 ${film.width} ${film.height}`);
    resize();
    const words = $("film-words");
    words.replaceChildren(make("b", "", film.name), " — " + film.words);
    for (const [sign, text] of film.changes) words.append(" ", make("span", sign === "+" ? "plus" : "minus", sign + text));
    for (const [k, tab] of [...$("strip").children].entries()) {
      tab.setAttribute("aria-selected", String(k === at));
      tab.tabIndex = k === at ? 0 : -1;
    }
    if (last >= 0) back();
    else lightGraph();
  }
  function appear(node) {
    const e = shape("g", { class: "node" });
    e.id = `g${node[0]}`;
    e.append(shape("rect", { class: "box" }), shape("rect", { class: "heat" }));
    e.append(shape("text", {}), shape("text", {}), shape("text", { class: "tag" }));
    canvas.append(e);
    drawn.set(node[0], e);
    return e;
  }
  function dress(e, [key, kind, op, name, aval, set, x, y, width, share], added, leaving) {
    e.setAttribute("class", `node ${kind}${added ? " added" : ""}${leaving ? " leaving" : ""}`);
    if (e === chosen) e.classList.add("pinned");
    e.style.transform = `translate(${x}px, ${y}px)`;
    e.setAttribute("aria-label", `${name ? name + " = " : ""}${op}, ${aval}`);
    const [box, strip, top, below, tag] = e.children;
    for (const [k, v] of Object.entries({ x: -width / 2, y: 0, width, height: 36, rx: 6 })) box.setAttribute(k, v);
    for (const [k, v] of Object.entries({ x: -width / 2 + 1, y: 5, width: 4, height: 26, rx: 2 })) strip.setAttribute(k, v);
    strip.style.setProperty("--heat", share > 0 ? heat(share) : "transparent");
    for (const [t, ty] of [[top, 15], [below, 28]]) {
      t.setAttribute("text-anchor", "middle");
      t.setAttribute("y", ty);
      t.replaceChildren();
    }
    const part = (cls, text) => {
      const span = shape("tspan", {});
      span.textContent = text;
      span.setAttribute("class", cls);
      return span;
    };
    top.setAttribute("class", name && kind === "input" ? "name" : "op");
    if (name && kind !== "input") {
      const italic = part("name", name);
      italic.style.fontStyle = "italic";
      top.append(italic, part("", ` = ${op}`));
    } else top.textContent = name || op;
    below.setAttribute("class", "small");
    below.textContent = aval;
    tag.textContent = "";
    if (data.frames[frame].schedule && set >= 0) {
      tag.textContent = [...sets[set]].flatMap((n) => data.nodes[n].kernels).join(" ");
      tag.setAttribute("x", width / 2 - 2);
      tag.setAttribute("y", -3);
    }
    if (set >= 0) piece(e, set);
    else delete e.dataset.s;
  }
  function resize() {
    const film = data.frames[frame];
    const fit = Math.min(1, ($("list-graph").clientWidth - 16) / film.width) || 1;
    const scale = zoom || Math.max(fit, 0.45);
    canvas.setAttribute("width", film.width * scale);
    canvas.setAttribute("height", film.height * scale);
  }
  const zoomBy = (factor) => () => {
    zoom = Math.min(3, Math.max(0.15, (canvas.getAttribute("width") / data.frames[frame].width) * factor));
    resize();
  };
  $("zoom-in").onclick = zoomBy(1.25);
  $("zoom-out").onclick = zoomBy(0.8);
  $("zoom-fit").onclick = () => {
    zoom = ($("list-graph").clientWidth - 16) / data.frames[frame].width;
    resize();
  };

  data.frames.forEach((film, at) => {
    if (film.same) data.frames[at] = { ...data.frames[at - 1], ...film }; // the same picture
  });
  data.frames.forEach((film, at) => {
    const tab = make("button", film.same ? "same" : "", film.name);
    tab.type = "button";
    tab.id = `frame${at}`;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", "list-graph");
    tab.title = film.words;
    tab.onclick = () => go(at);
    $("strip").append(tab);
  });
  let playing = 0;
  const go = (at) => {
    const to = Math.min(data.frames.length - 1, Math.max(0, at));
    draw(to);
    $("strip").children[to].scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  function play(on) {
    clearInterval(playing);
    playing = 0;
    $("play").setAttribute("aria-pressed", String(on));
    $("play").replaceChildren(on ? "❚❚ " : "▶ ", make("span", "", on ? "pause" : "play"));
    if (!on) return;
    if (frame === data.frames.length - 1) go(0);
    playing = setInterval(() => {
      if (frame >= data.frames.length - 1) return play(false);
      go(frame + 1);
    }, 1500);
  }
  $("play").onclick = () => play(!playing);
  $("strip").addEventListener("keydown", (event) => {
    const to = { ArrowRight: frame + 1, ArrowLeft: frame - 1, Home: 0, End: data.frames.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(to);
    $("strip").children[frame].focus();
  });

  // -- pointer and keys ----------------------------------------------------------------------------------------------
  for (const body of document.querySelectorAll(".body")) {
    body.addEventListener("pointerover", (event) => {
      const e = pieceAt(event.target);
      if (e) light(nodesOf(e), e);
      else back();
    });
    body.addEventListener("pointerleave", back);
    body.addEventListener("click", (event) => {
      const e = pieceAt(event.target);
      if (e) {
        activate(body, e, false);
        choose(e);
      } else if (chosen) choose(chosen);
    });
    body.addEventListener("keydown", (event) => walk(body, event));
    body.addEventListener("focus", () => {
      const e = current(body) ?? body.querySelector("[data-s].lit") ?? items(body)[0];
      if (e && body.matches(":focus-visible")) activate(body, e, true);
    });
    body.addEventListener("blur", () => current(body)?.classList.remove("active"));
  }
  const items = (body) => [...body.querySelectorAll(body.id === "list-formulas" ? ".formula" : "[data-s]")];
  const current = (body) => {
    const e = $(body.dataset.current ?? "");
    return e && body.contains(e) && e.dataset.s !== undefined ? e : null;
  };
  let fresh = 0;
  function activate(body, e, preview) {
    current(body)?.classList.remove("active");
    if (!e.id) e.id = `piece${fresh++}`;
    body.dataset.current = e.id;
    body.setAttribute("aria-activedescendant", e.id);
    if (!preview) return;
    e.classList.add("active");
    e.scrollIntoView({ block: "nearest", inline: "nearest" });
    light(nodesOf(e), e);
  }
  function walk(body, event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const list = items(body), here = current(body);
    const line = here ? (here.closest(".formula") ?? here) : null;
    const at = list.indexOf(line);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12, Home: -list.length, End: list.length };
    let to = null;
    if (event.key in steps && list.length)
      to = list[Math.min(list.length - 1, Math.max(0, at < 0 ? 0 : at + steps[event.key]))];
    else if ((event.key === "ArrowRight" || event.key === "ArrowLeft") && body.id === "list-formulas" && line) {
      const terms = [line, ...line.querySelectorAll("[data-t]")];
      to = terms[Math.min(terms.length - 1, Math.max(0, terms.indexOf(here) + (event.key === "ArrowRight" ? 1 : -1)))];
    } else if ((event.key === "Enter" || event.key === " ") && here) {
      event.preventDefault();
      return choose(here);
    }
    if (!to) return;
    event.preventDefault();
    activate(body, to, true);
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      play(false);
      for (const e of document.querySelectorAll(".active")) e.classList.remove("active");
      if (chosen) choose(chosen);
      else light(null);
    } else if (event.key === "]") go(frame + 1);
    else if (event.key === "[") go(frame - 1);
    else if (event.key === "p" || event.key === "P") play(!playing);
  });
  for (const button of document.querySelectorAll(".fold"))
    button.onclick = () => {
      const folded = button.closest(".pane").classList.toggle("folded");
      button.setAttribute("aria-expanded", String(!folded));
      button.textContent = folded ? "Show" : "Hide";
      rulers();
    };
  window.addEventListener("resize", () => {
    resize();
    rulers();
  });

  listing("ir");
  listing("asm");
  for (const row of document.querySelectorAll("[data-share]"))
    row.style.setProperty("--heat", heat(Number(row.dataset.share)));
  for (const e of document.querySelectorAll(".panes [data-s]")) {
    if (!e.hasAttribute("data-t")) e.setAttribute("role", "option");
    e.setAttribute("aria-selected", "false");
  }
  for (const body of document.querySelectorAll(".body")) register(body);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", rulers);
  go(data.frames.length - 1);
  light(null);
})();
