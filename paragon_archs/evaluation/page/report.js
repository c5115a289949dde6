(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const state = { at: null, from: 0, smoothing: 0.6, log: data.log };
  const HEIGHT = 260, LEFT = 62, RIGHT = 12, TOP = 10, BOTTOM = 26;
  const all = data.charts.flatMap((c) => c.series.flatMap((s) => s.x));
  const last = Math.max(...all), first = Math.min(...all);

  function element(name, attributes = {}, text = "") {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  }

  function svg(name, attributes, text = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  }

  const short = (value) => value === null ? "not finite" : String(Number(value.toPrecision(4)));
  const count = (value) => Math.round(value).toLocaleString("en");

  // --- axes ------------------------------------------------------------------------

  function ticks(low, high, wanted) {
    const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough * 0.999);
    const found = [];
    for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-6; at++) found.push(at * step);
    return found;
  }

  function decades(low, high) {
    const found = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const f of [1, 2, 5]) found.push(f * 10 ** e);
    const inside = found.filter((v) => v >= low * 0.999 && v <= high * 1.001);
    const plain = inside.filter((v) => Math.abs(Math.log10(v) % 1) < 1e-9);
    return plain.length > 2 ? plain : inside;
  }

  // A moving average that starts unbiased, as TensorBoard's.
  function smooth(values, weight) {
    let sum = 0, norm = 0;
    return values.map((v) => {
      if (v === null) return null;
      sum = weight * sum + (1 - weight) * v;
      norm = weight * norm + (1 - weight);
      return sum / norm;
    });
  }

  // --- one chart -------------------------------------------------------------------

  function chart(one) {
    const figure = element("figure"), plot = element("div", { class: "plot", tabindex: "0", role: "group" });
    const legend = element("div", { class: "legend" }), out = element("output", { "aria-live": "polite" });
    plot.setAttribute("aria-label", `${one.title}; left and right arrow keys read the values`);
    const shown = one.series.map(() => true);
    const color = (index) => `var(--c${index % 8})`;
    one.series.forEach((series, index) => {
      const button = element("button", { type: "button", "aria-pressed": "true" }, series.name);
      const swatch = element("i");
      swatch.style.background = color(index);
      button.prepend(swatch);
      button.addEventListener("click", () => {
        shown[index] = !shown[index];
        button.setAttribute("aria-pressed", String(shown[index]));
        draw();
      });
      legend.append(button);
    });
    figure.append(element("figcaption", {}, one.title), plot, out);
    if (one.series.length > 1) figure.append(legend);
    let scale = (x) => x, back = (x) => x, drawn = [], root = null;

    function draw() {
      const width = Math.max(280, plot.clientWidth), start = first + state.from * (last - first);
      const low = Math.min(start, last - 1), span = last - low || 1;
      scale = (x) => LEFT + ((x - low) / span) * (width - LEFT - RIGHT);
      back = (px) => low + ((px - LEFT) / (width - LEFT - RIGHT)) * span;
      drawn = one.series.map((series, index) => {
        const keep = series.x.map((x) => x >= start);
        const pick = (values) => values.filter((_, i) => keep[i]);
        const lines = one.smooth ? smooth(series.y, state.smoothing) : series.y;
        return { index, name: series.name, x: pick(series.x), raw: pick(series.y), y: pick(lines) };
      }).filter((series) => shown[series.index] && series.x.length);
      const values = drawn.flatMap((s) => [...s.y, ...(one.smooth ? s.raw : [])]).filter((v) => v !== null);
      const log = one.log && state.log && values.every((v) => v > 0);
      let [bottom, top] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
      const pad = bottom === top ? Math.abs(bottom) * 0.1 || 1 : 0;
      if (log) [bottom, top] = pad ? [bottom / 2, top * 2] : [bottom, top];
      else [bottom, top] = [bottom - pad, top + pad];
      const map = log ? Math.log10 : (v) => v, room = HEIGHT - TOP - BOTTOM;
      const up = (v) => HEIGHT - BOTTOM - ((map(v) - map(bottom)) / (map(top) - map(bottom))) * room;

      root = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, "aria-hidden": "true" });
      for (const v of log ? decades(bottom, top) : ticks(bottom, top, 5)) {
        root.append(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: up(v), y2: up(v) }));
        root.append(svg("text", { x: LEFT - 6, y: up(v) + 4, "text-anchor": "end" }, short(v)));
      }
      for (const v of ticks(low, last, width / 110).filter((t) => t % 1 === 0)) {
        const anchor = scale(v) > width - 30 ? "end" : "middle";
        root.append(svg("text", { x: scale(v), y: HEIGHT - 6, "text-anchor": anchor }, count(v)));
      }
      for (const series of drawn) {
        const path = (ys) => ys.map((y, i) => y === null ? "" : `${i && ys[i - 1] !== null ? "L" : "M"}${scale(series.x[i]).toFixed(1)} ${up(y).toFixed(1)}`).join("");
        const stroke = color(series.index);
        if (one.smooth && state.smoothing > 0) root.append(svg("path", { class: "raw", d: path(series.raw), style: `stroke:${stroke}` }));
        root.append(svg("path", { class: "line", d: path(series.y), style: `stroke:${stroke}` }));
        if (series.x.length < 40) series.y.forEach((y, i) => y !== null && root.append(svg("circle", { cx: scale(series.x[i]), cy: up(y), r: 2.5, style: `fill:${stroke}` })));
        if (one.better) {
          const good = series.y.filter((y) => y !== null), most = one.better === "higher" ? Math.max(...good) : Math.min(...good);
          const at = series.y.indexOf(most);
          if (at >= 0) root.append(svg("circle", { class: "best", cx: scale(series.x[at]), cy: up(most), r: 6, style: `stroke:${stroke}` }));
        }
      }
      if (one.skips) for (const [x] of data.skipped.filter(([x]) => x >= low))
        root.append(svg("path", { class: "skip", d: `M${scale(x)} ${HEIGHT - BOTTOM}l-4 8h8z` }));
      plot.replaceChildren(root);
      cursor();
    }

    function cursor() {
      root.querySelector(".cursor")?.remove();
      const nearest = (series) => {
        let found = 0;
        series.x.forEach((x, i) => { if (Math.abs(x - state.at) < Math.abs(series.x[found] - state.at)) found = i; });
        return found;
      };
      if (state.at === null) {
        out.textContent = drawn.map((s) => `${s.name} ${short(s.raw[s.raw.length - 1])}`).join(" · ");
        return;
      }
      if (!drawn.length) return;
      const near = drawn.map((s) => s.x[nearest(s)]).sort((a, b) => Math.abs(a - state.at) - Math.abs(b - state.at))[0];
      root.append(svg("line", { class: "cursor", x1: scale(near), x2: scale(near), y1: TOP, y2: HEIGHT - BOTTOM }));
      const skipped = one.skips ? data.skipped.find(([x]) => x === near) : undefined;
      out.textContent = `iteration ${count(near)}: `
        + drawn.map((s) => `${s.name} ${short(s.raw[nearest(s)])}`).join(" · ")
        + (skipped ? ` · skipped steps ${skipped[1]}` : "");
    }

    plot.addEventListener("pointermove", (event) => {
      const bounds = root.getBoundingClientRect();
      const x = ((event.clientX - bounds.left) / bounds.width) * root.viewBox.baseVal.width;
      read(Math.min(last, Math.max(first, back(x))));
    });
    plot.addEventListener("pointerleave", () => read(null));
    plot.addEventListener("keydown", (event) => {
      const places = [...new Set(drawn.flatMap((s) => s.x))].sort((a, b) => a - b);
      const here = state.at === null ? places.length - 1 : places.findLastIndex((x) => x <= state.at);
      const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
      if (!(event.key in steps) || !places.length) return;
      read(places[Math.min(places.length - 1, Math.max(0, here + steps[event.key]))]);
      event.preventDefault();
    });
    return { figure, draw, cursor };
  }

  const charts = data.charts.map(chart);
  $("charts").append(...charts.map((one) => one.figure));
  const drawAll = () => charts.forEach((one) => one.draw());
  function read(at) {
    state.at = at;
    charts.forEach((one) => one.cursor());
  }

  $("smoothing").addEventListener("input", (event) => {
    state.smoothing = Number(event.target.value);
    $("smoothout").value = event.target.value;
    drawAll();
  });
  $("from").addEventListener("input", (event) => {
    state.from = Number(event.target.value);
    $("fromout").value = count(state.from ? first + state.from * (last - first) : 0);
    drawAll();
  });
  $("log").checked = state.log;
  $("log").addEventListener("change", (event) => {
    state.log = event.target.checked;
    drawAll();
  });
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").hidden = charts.length === 0;
  let wide = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width !== wide) {
      wide = contentRect.width;
      drawAll();
    }
  }).observe($("charts"));

  // --- samples through time --------------------------------------------------------

  if ($("time")) {
    const time = $("time"), right = $("right");
    const moments = () => [...right.options].filter((o) => o.text.startsWith("iteration"));
    const follow = () => {
      const at = moments().findIndex((o) => o.value === right.value);
      time.max = moments().length - 1;
      time.value = at < 0 ? time.max : at;
      time.setAttribute("aria-valuetext", moments()[time.value].text);
      $("timeout").value = moments()[time.value].text;
    };
    time.addEventListener("input", () => {
      right.value = moments()[time.value].value;
      right.dispatchEvent(new Event("change"));
    });
    right.addEventListener("change", follow);
    $("viewer").addEventListener("chosen", follow);
  }

  // --- commands --------------------------------------------------------------------

  $("checkpoint")?.addEventListener("change", (event) => {
    for (const block of document.querySelectorAll("[data-file]"))
      block.hidden = block.dataset.file !== event.target.value;
  });
  for (const button of document.querySelectorAll("[data-copy]"))
    button.addEventListener("click", () => {
      const code = button.parentElement.querySelector("code"), range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      // Pages on a disk have no clipboard in some browsers: the text stays selected.
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    });
})();
