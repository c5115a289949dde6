"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const viewer = $("viewer"), handle = $("handle");
  const state = { set: null, left: 0, right: 1, mode: "slider", zoom: 1, x: 0, y: 0, split: 0.5, gain: 8 };
  let panes = [], width = 1, height = 1, fitted = true;
  const pixels = new Map(); // picture -> ImageData, of the two that are compared

  const current = () => data.sets[state.set].pictures;

  function element(name, attributes = {}, text = "") {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  }

  // --- pictures ------------------------------------------------------------------

  function pane(content, label, kind) {
    const made = element("div", { class: `pane ${kind}` });
    content.style.width = `${width}px`;
    content.style.height = `${height}px`;
    made.append(content, element("span", {}, label));
    viewer.insertBefore(made, handle);
    return { box: made, content };
  }

  function show(picture, kind) {
    const image = element("img", { src: picture.src, alt: picture.name, draggable: "false" });
    return pane(image, picture.name, kind);
  }

  function build() {
    for (const one of panes) one.box.remove();
    const pictures = current(), left = pictures[state.left], right = pictures[state.right];
    handle.hidden = state.mode !== "slider";
    $("gainbox").hidden = state.mode !== "difference";
    if (state.mode === "side") panes = pictures.map((picture) => show(picture, "tile"));
    else if (state.mode === "slider") panes = [show(left, "first"), show(right, "second")];
    else {
      const canvas = element("canvas", { role: "img", "aria-label": `difference of ${left.name} and ${right.name}` });
      panes = [pane(canvas, `|${left.name} − ${right.name}| × ${state.gain}`, "first")];
      difference(canvas);
    }
    for (const button of document.querySelectorAll("[data-mode]"))
      button.setAttribute("aria-pressed", String(button.dataset.mode === state.mode));
    layout();
  }

  async function read(picture) {
    if (!pixels.has(picture)) {
      const image = new Image();
      image.src = picture.src;
      await image.decode();
      const canvas = element("canvas", { width, height });
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.imageSmoothingEnabled = false;
      context.drawImage(image, 0, 0, width, height);
      pixels.set(picture, context.getImageData(0, 0, width, height));
      while (pixels.size > 2) pixels.delete(pixels.keys().next().value);
    }
    return pixels.get(picture);
  }

  async function difference(canvas) {
    const pictures = current(), gain = state.gain;
    const one = await read(pictures[state.left]), other = await read(pictures[state.right]);
    if (one.data.length !== other.data.length) return;
    const out = new ImageData(one.width, one.height);
    for (let i = 0; i < out.data.length; i += 4) {
      for (let c = 0; c < 3; c++) out.data[i + c] = gain * Math.abs(one.data[i + c] - other.data[i + c]);
      out.data[i + 3] = 255;
    }
    canvas.width = one.width;
    canvas.height = one.height;
    canvas.getContext("2d").putImageData(out, 0, 0);
    canvas.dataset.ready = String(gain);
  }

  // --- where they are --------------------------------------------------------------

  function grid() {
    if (state.mode !== "side") return [1, 1];
    const count = panes.length, wide = viewer.clientWidth / viewer.clientHeight;
    const columns = Math.max(1, Math.min(count, Math.round(Math.sqrt((count * wide * height) / width))));
    return [columns, Math.ceil(count / columns)];
  }

  function room() {
    const [columns, rows] = grid();
    return [viewer.clientWidth / columns, viewer.clientHeight / rows];
  }

  function fit() {
    const [w, h] = room();
    state.zoom = Math.min(w / width, h / height);
    state.x = (w - width * state.zoom) / 2;
    state.y = (h - height * state.zoom) / 2;
    fitted = true;
    place();
  }

  function layout() {
    if (fitted) fit();
    else place();
  }

  // Keeps the picture in view: centered where it is smaller than its room.
  const clamp = (offset, size, space) =>
    size <= space ? (space - size) / 2 : Math.min(0, Math.max(space - size, offset));

  function place() {
    const [columns] = grid(), [w, h] = room();
    state.x = clamp(state.x, width * state.zoom, w);
    state.y = clamp(state.y, height * state.zoom, h);
    const hard = state.zoom * window.devicePixelRatio >= 1;
    panes.forEach((one, index) => {
      const column = index % columns, row = Math.floor(index / columns);
      const tiled = state.mode === "side";
      one.box.style.left = tiled ? `${column * w}px` : "0";
      one.box.style.top = tiled ? `${row * h}px` : "0";
      one.box.style.width = `${w}px`;
      one.box.style.height = `${h}px`;
      one.box.style.clipPath = state.mode === "slider" && index ? `inset(0 0 0 ${state.split * w}px)` : "";
      one.content.style.transform = `translate(${state.x}px, ${state.y}px) scale(${state.zoom})`;
      one.content.style.imageRendering = hard ? "pixelated" : "auto";
    });
    handle.style.left = `${state.split * 100}%`;
    handle.setAttribute("aria-valuenow", String(Math.round(state.split * 100)));
    handle.setAttribute("aria-valuetext", `${Math.round(state.split * 100)}% ${current()[state.left].name}`);
    $("zoom").value = `${Math.round(state.zoom * 100)}%`;
  }

  function zoomTo(zoom, at) {
    const [w, h] = room(), [cx, cy] = at || [w / 2, h / 2];
    const next = Math.min(64, Math.max(Math.min(1, w / width, h / height) / 2, zoom));
    state.x = cx - ((cx - state.x) * next) / state.zoom;
    state.y = cy - ((cy - state.y) * next) / state.zoom;
    state.zoom = next;
    fitted = false;
    place();
  }

  function pan(dx, dy) {
    state.x += dx;
    state.y += dy;
    fitted = false;
    place();
  }

  function divide(split) {
    state.split = Math.min(1, Math.max(0, split));
    place();
  }

  // --- choices -----------------------------------------------------------------------

  function choose(set) {
    const before = state.set === null ? null : data.sets[state.set];
    state.set = set;
    const pictures = current();
    width = Math.max(...pictures.map((p) => p.width));
    height = Math.max(...pictures.map((p) => p.height));
    pixels.clear();
    // Another scene of the same pictures keeps the pair; any other has its own first one.
    const names = (one) => one && one.pictures.map((p) => p.name).join("\n");
    if (names(before) !== names(data.sets[set])) [state.left, state.right] = data.sets[set].shown;
    for (const id of ["left", "right"]) {
      $(id).replaceChildren(...pictures.map((p, i) => element("option", { value: i }, p.name)));
      $(id).value = String(state[id]);
    }
    for (const button of document.querySelectorAll("#list button"))
      button.setAttribute("aria-current", String(Number(button.dataset.set) === set));
    fitted = true;
    table();
    build();
    $("viewer").dispatchEvent(new Event("chosen"));
  }

  function list() {
    if (data.sets.length < 2) return;
    $("sets").hidden = false;
    const order = data.sets.map((_, index) => index), measured = data.sets[0].difference !== null;
    $("sorting").hidden = !measured;
    if (!measured || $("order").value === "name") order.sort((a, b) => data.sets[a].name.localeCompare(data.sets[b].name));
    else order.sort((a, b) => data.sets[b].difference - data.sets[a].difference);
    $("list").replaceChildren(...order.map((index) => {
      const one = data.sets[index], item = element("li");
      const button = element("button", { type: "button", "data-set": index });
      const text = element("span", {}, one.name);
      if (measured) text.append(element("small", {}, `difference ${one.difference.toFixed(2)}`));
      button.append(element("img", { src: one.thumbnail, alt: "" }), text);
      button.setAttribute("aria-current", String(index === state.set));
      button.addEventListener("click", () => choose(index));
      item.append(button);
      return item;
    }));
  }

  function table() {
    const pictures = current(), one = data.sets[state.set];
    const columns = data.measures.filter((m) => pictures.some((p) => m.key in p.measures));
    $("measures").hidden = data.measures.length === 0;
    const head = element("tr");
    head.append(element("th", { scope: "col" }, "picture"), element("th", { scope: "col" }, "size"));
    for (const m of columns) head.append(element("th", { scope: "col" }, m.label));
    $("table").tHead.replaceChildren(head);
    const format = (m, value) => (value === null ? "∞" : value.toFixed(m.digits));
    $("table").tBodies[0].replaceChildren(...pictures.map((p) => {
      const row = element("tr");
      row.append(element("th", { scope: "row" }, p.name), element("td", {}, `${p.width} × ${p.height}`));
      for (const m of columns) {
        // Infinity is null: JSON has none.
        const values = pictures.filter((q) => m.key in q.measures).map((q) => q.measures[m.key] ?? Infinity);
        const value = m.key in p.measures ? p.measures[m.key] ?? Infinity : undefined;
        const best = values.length > 1 && value === (m.better === "higher" ? Math.max(...values) : Math.min(...values));
        const cell = element("td", best ? { class: "best" } : {}, value === undefined ? "–" : format(m, p.measures[m.key]));
        if (best) cell.title = "best";
        row.append(cell);
      }
      return row;
    }));
    $("table").caption.textContent = one.against ? `Measured against ${one.against}` : "";
  }

  async function readout(event) {
    const bounds = viewer.getBoundingClientRect(), [w, h] = room();
    const x = Math.floor((((event.clientX - bounds.left) % w) - state.x) / state.zoom);
    const y = Math.floor((((event.clientY - bounds.top) % h) - state.y) / state.zoom);
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    const pictures = current(), parts = [];
    for (const picture of new Set([pictures[state.left], pictures[state.right]])) {
      const found = await read(picture), at = 4 * (y * found.width + x);
      parts.push(`${picture.name} ${[...found.data.slice(at, at + 3)].join(" ")}`);
    }
    $("readout").textContent = `x ${x}, y ${y}: ${parts.join(" · ")}`;
  }

  // --- events --------------------------------------------------------------------------

  let held = null;
  viewer.addEventListener("pointerdown", (event) => {
    held = { divider: event.target.closest("#handle") !== null, x: event.clientX, y: event.clientY };
    viewer.setPointerCapture(event.pointerId);
    viewer.classList.add("moving");
  });
  viewer.addEventListener("pointermove", (event) => {
    if (!held) {
      readout(event);
      return;
    }
    const bounds = viewer.getBoundingClientRect();
    if (held.divider) divide((event.clientX - bounds.left) / bounds.width);
    else pan(event.clientX - held.x, event.clientY - held.y);
    held.x = event.clientX;
    held.y = event.clientY;
  });
  for (const end of ["pointerup", "pointercancel"])
    viewer.addEventListener(end, () => {
      held = null;
      viewer.classList.remove("moving");
    });
  viewer.addEventListener("wheel", (event) => {
    event.preventDefault();
    const bounds = viewer.getBoundingClientRect(), [w, h] = room();
    zoomTo(state.zoom * 2 ** (-event.deltaY / 240), [(event.clientX - bounds.left) % w, (event.clientY - bounds.top) % h]);
  }, { passive: false });

  const mode = (name) => { state.mode = name; build(); };
  const swap = () => {
    [state.left, state.right] = [state.right, state.left];
    $("left").value = String(state.left);
    $("right").value = String(state.right);
    build();
  };
  const step = (by) => {
    const shown = [...document.querySelectorAll("#list button")].map((b) => Number(b.dataset.set));
    const next = shown[shown.indexOf(state.set) + by];
    if (next !== undefined) choose(next);
  };
  const keys = {
    "+": () => zoomTo(state.zoom * 1.25), "=": () => zoomTo(state.zoom * 1.25),
    "-": () => zoomTo(state.zoom / 1.25), 0: fit, 1: () => zoomTo(1),
    ",": () => divide(state.split - 0.02), ".": () => divide(state.split + 0.02),
    ArrowLeft: () => pan(40, 0), ArrowRight: () => pan(-40, 0), ArrowUp: () => pan(0, 40), ArrowDown: () => pan(0, -40),
    s: () => mode("slider"), a: () => mode("side"), d: () => mode("difference"), x: swap,
    n: () => step(1), p: () => step(-1),
  };
  const slides = { ArrowLeft: -0.02, ArrowRight: 0.02, ArrowDown: -0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 };
  // On a page of sections the keys belong to this one.
  ($("layout").closest("section") ?? document).addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const on = event.target;
    if (on === handle && event.key in slides) {
      divide(state.split + slides[event.key]);
      event.preventDefault();
      return;
    }
    // Selects and ranges have keys of their own; arrows scroll the page elsewhere.
    if (["SELECT", "INPUT"].includes(on.tagName)) return;
    if (event.key.startsWith("Arrow") && on !== viewer) return;
    if (!Object.hasOwn(keys, event.key)) return;
    keys[event.key]();
    event.preventDefault();
  });
  for (const id of ["left", "right"])
    $(id).addEventListener("change", (event) => { state[id] = Number(event.target.value); build(); });
  for (const button of document.querySelectorAll("[data-mode]"))
    button.addEventListener("click", () => mode(button.dataset.mode));
  $("swap").addEventListener("click", swap);
  $("in").addEventListener("click", () => zoomTo(state.zoom * 1.5));
  $("out").addEventListener("click", () => zoomTo(state.zoom / 1.5));
  $("fit").addEventListener("click", fit);
  $("full").addEventListener("click", () => zoomTo(1));
  $("order").addEventListener("change", list);
  $("gain").addEventListener("input", (event) => {
    state.gain = Number(event.target.value);
    $("gainout").value = event.target.value;
    build();
  });
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  new ResizeObserver(layout).observe(viewer);
  list();
  const first = document.querySelector("#list button");
  choose(first ? Number(first.dataset.set) : 0);
})();
