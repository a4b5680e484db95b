// Draws the series that the page holds: nothing is asked for.
const times = JSON.parse(document.getElementById("times").textContent);
const INKS = ["--accent", "--second", "--good", "--bad", "--soft"];
const UNITS = { bytes: ["B", "kB", "MB", "GB", "TB"], cps: "/s", reqps: "/s", s: "s", percentunit: "%", short: "" };

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim() || "gray";
}

function said(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "percentunit") return `${(100 * value).toFixed(1)} %`;
  if (unit === "bytes") {
    let size = value, step = 0;
    while (size >= 1000 && step < 4) { size /= 1000; step += 1; }
    return `${size.toFixed(step ? 1 : 0)} ${UNITS.bytes[step]}`;
  }
  if (unit === "s" && value !== 0 && Math.abs(value) < 1) return `${+(1000 * value).toPrecision(3)} ms`;
  if (unit === "s" && Math.abs(value) >= 7200) return `${+(value / 3600).toPrecision(3)} h`;
  const number = Number.isInteger(value) ? value.toLocaleString("en") : String(+value.toPrecision(3));
  return `${number} ${UNITS[unit] ?? ""}`.trim();
}

function draw(place) {
  const { unit, lines } = JSON.parse(place.dataset.chart);
  const axis = { stroke: color("--soft"), font: "12px system-ui", grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  const series = lines.map(([label], i) => ({
    label, stroke: color(INKS[i % INKS.length]), width: 1.75, dash: i < INKS.length ? [] : [4, 3], points: { show: false },
    value: (_, v) => said(v, unit), spanGaps: false,
  }));
  const chart = new uPlot({
    width: place.clientWidth, height: 160,
    series: [{ label: "time", value: (_, at) => (at === null || at === undefined ? "–" : new Date(1000 * at).toISOString().slice(11, 19)) }, ...series],
    axes: [{ ...axis, grid: { show: false }, space: 70, values: (_, at) => at.map((one) => new Date(1000 * one).toISOString().slice(11, 19)) },
           { ...axis, size: 64, values: (_, at) => at.map((one) => said(one, unit)) }],
    scales: { y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.1 : 1] } },
    cursor: { drag: { x: false, y: false } },
  }, [times, ...lines.map(([, values]) => values)], place);
  new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: 160 })).observe(place);
}

for (const place of document.querySelectorAll("[data-chart]")) draw(place);
for (const place of document.querySelectorAll("[data-stat]")) {
  const { unit, lines } = JSON.parse(place.dataset.stat);
  const list = document.createElement("dl");
  list.className = "pairs";
  for (const [label, values] of lines) {
    const row = document.createElement("div"), name = document.createElement("dt"), value = document.createElement("dd");
    name.textContent = label;
    value.textContent = said(values.findLast((one) => one !== null), unit);
    row.append(name, value);
    list.append(row);
  }
  place.append(list);
}
