// Keeps the overview's figures and charts up to date: one request in two seconds, none while nobody looks.
const KEPT = 600;
const EVERY_MS = 2000;
// Key, label, unit, colour, and what a sample's number is multiplied by.
const CHARTS = {
  clicks: [["clicks", "clicks", "/s", "--ink-0"]],
  slates: [["slates", "slates", "/s", "--ink-1"]],
  latency: [["p50_ms", "median", "ms", "--ink-0"], ["p99_ms", "99th percentile", "ms", "--ink-1"]],
  lag: [["lag_seconds", "oldest waiting", "s", "--ink-5"]],
  click_through: [["click_through", "last minute", "%", "--ink-2", 100]],
  loop: [["loop_lag_ms", "late", "ms", "--ink-3"]],
};
const PERCENT = new Set(["click_through", "fallbacks"]);
const samples = {};
const charts = new Map();
let failed = 0;

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function shown(key, value) {
  if (value === null || value === undefined) return "–";
  if (PERCENT.has(key)) return `${(100 * value).toFixed(1)} %`;
  if (key === "dead_letters") return Math.round(value).toLocaleString("en");
  const size = Math.abs(value);
  const places = Number.isInteger(value) || size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
}

// Times are in UTC, as on all other pages.
function clock(at, end) {
  return at === null || at === undefined ? "–" : new Date(1000 * at).toISOString().slice(11, end);
}

function columns(lines) {
  const ys = lines.map(([key, , , , by = 1]) => samples[key].map((v) => (v === null ? v : by * v)));
  return [samples.at, ...ys];
}

function draw(place, lines) {
  const axis = { stroke: color("--soft"), font: "12px system-ui", grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  // Without a pointer the legend has the latest value.
  const series = lines.map(([, label, unit, ink], i) => ({
    label, stroke: color(ink), width: 1.75, points: { show: false },
    fill: lines.length === 1 ? `${color(ink)}1c` : undefined,
    value: (chart, v, _, at) => {
      const said = shown("", at === null ? chart.data[i + 1].at(-1) : v);
      return said === "–" ? said : `${said} ${unit}`;
    },
  }));
  const chart = new uPlot({
    width: place.clientWidth, height: 150,
    series: [{ label: "at", value: (chart, v, _, at) => clock(at === null ? chart.data[0].at(-1) : v, 19) }, ...series],
    axes: [{ ...axis, grid: { show: false }, size: 26, space: 62, incrs: [5, 10, 30, 60, 120, 180, 300], values: (_, at, _axis, _space, step) => at.map((one) => clock(one, step < 60 ? 19 : 16)) },
           { ...axis, size: 48, values: (_, at) => at.map((one) => shown("", one)) }],
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    cursor: { drag: { x: false, y: false }, sync: { key: "minutes" } },
    padding: [8, 28, null, null],
  }, columns(lines), place);
  charts.set(place, chart);
}

function redraw() {
  for (const [place, chart] of charts) { chart.destroy(); charts.delete(place); }
  update();
}

function update() {
  for (const place of document.querySelectorAll("[data-chart]")) {
    const lines = CHARTS[place.dataset.chart];
    if (charts.has(place)) charts.get(place).setData(columns(lines));
    else if (samples.at && samples.at.length > 1) {
      place.replaceChildren();
      draw(place, lines);
    }
  }
  const last = samples.at.length - 1;
  if (last < 0) return;
  for (const figure of document.querySelectorAll("[data-live]")) {
    figure.textContent = shown(figure.dataset.live, samples[figure.dataset.live][last]);
  }
}

function take(fresh) {
  for (const [key, values] of Object.entries(fresh)) {
    samples[key] = [...(samples[key] ?? []), ...values].slice(-KEPT);
  }
}

function tell(checks) {
  const ready = Object.values(checks).every(Boolean);
  const state = document.getElementById("ready");
  const word = ready ? "ready" : "not ready";
  if (state.textContent !== word) {
    state.textContent = word;
    state.className = `state ${ready ? "good" : "bad"}`;
    document.getElementById("told").textContent = `The worker is ${word}.`;
  }
  const list = Object.entries(checks).map(([name, ok]) => {
    const line = document.createElement("li");
    const mark = document.createElement("span");
    line.className = ok ? "good" : "bad";
    mark.className = "mark";
    mark.setAttribute("aria-hidden", "true");
    mark.textContent = ok ? "✓" : "✗";
    line.append(mark, ` ${name}`, ok ? "" : ": not yet");
    return line;
  });
  document.getElementById("checks").replaceChildren(...list);
}

async function poll() {
  if (!document.hidden) {
    try {
      const answer = await fetch(`/live.json?since=${samples.at?.at(-1) ?? 0}`);
      const found = await answer.json();
      take(found.samples);
      tell(found.checks);
      update();
      failed = 0;
    } catch {
      failed += 1;
      if (failed === 2) {
        const state = document.getElementById("ready");
        state.textContent = "no answer";
        state.className = "state bad";
        document.getElementById("told").textContent = "The worker does not answer.";
      }
    }
  }
  setTimeout(poll, EVERY_MS);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
new ResizeObserver(() => {
  for (const [place, chart] of charts) chart.setSize({ width: place.clientWidth, height: 150 });
}).observe(document.querySelector(".charts"));
poll();
