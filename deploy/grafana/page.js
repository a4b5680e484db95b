// Draws the series that the page holds: nothing is asked for.
const times = JSON.parse(document.getElementById("times").textContent);
const INKS = ["--ink-0", "--ink-1", "--ink-2", "--ink-3", "--ink-4", "--ink-5", "--ink-6", "--ink-7"];
const UNITS = { bytes: ["B", "kB", "MB", "GB", "TB"], cps: "/s", reqps: "/s", s: "s", percentunit: "%", short: "" };

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim() || "gray";
}

function clock(at) {
  return new Date(1000 * at).toISOString().slice(11, 19);
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

// A name has the same colour in every chart, unless two of one chart would share it; policies have the console's.
function inks(lines) {
  const taken = new Set();
  return lines.map(([label, , given]) => {
    let at = given && !taken.has(INKS.indexOf(given)) ? INKS.indexOf(given) : [...label].reduce((sum, letter) => (31 * sum + letter.charCodeAt(0)) >>> 0, 7) % INKS.length;
    for (let step = 0; taken.has(at) && step < INKS.length; step += 1) at = (at + 1) % INKS.length;
    const again = taken.has(at);
    taken.add(at);
    return { stroke: color(INKS[at]), dash: again ? [4, 3] : [] };
  });
}

// Without a pointer the legend has the latest value.
function latest(values) {
  return values.findLast((one) => one !== null);
}

function draw(place) {
  const { unit, lines } = JSON.parse(place.dataset.chart);
  const axis = { stroke: color("--soft"), font: "12px system-ui", grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  const looks = inks(lines);
  const series = lines.map(([label, values], i) => ({
    label, ...looks[i], width: 1.75, points: { show: false }, spanGaps: false,
    value: (_, v, _series, at) => said(at === null ? latest(values) : v, unit),
  }));
  const chart = new uPlot({
    width: place.clientWidth, height: 160,
    series: [{ label: "at", value: (_, v, _series, at) => clock(at === null ? times.at(-1) : v) }, ...series],
    axes: [{ ...axis, grid: { show: false }, space: 66, incrs: [10, 30, 60, 120, 300, 600, 1800], values: (_, at) => at.map(clock) },
           { ...axis, size: 64, values: (_, at) => at.map((one) => said(one, unit)) }],
    scales: { y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.1 : 1] } },
    cursor: { drag: { x: false, y: false }, sync: { key: "panels" } },
    padding: [8, 24, null, null],
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
    value.textContent = unit === "name" ? "" : said(latest(values), unit);
    row.append(name, value);
    list.append(row);
  }
  place.append(list);
}
