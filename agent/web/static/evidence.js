// A picture of the evidence over time: one channel as inline SVG.

const NAMESPACE = "http://www.w3.org/2000/svg";
const WIDTH = 1000;
const HEIGHT = 100;
const LEAST_TOP = 12; // powers of ten that the picture shows at least

function shape(name, attributes) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// `threshold` is the false-alarm probability that counts as found, `label` what the channel is called.
export function evidence(channel, seconds, threshold, label) {
  const top = Math.max(LEAST_TOP, ...channel.curve);
  const x = (at) => (WIDTH * at) / Math.max(seconds, 0.001);
  const y = (value) => HEIGHT - (HEIGHT * value) / top;
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const found = channel.stretches.map((part) => `${clock(part.start)} to ${clock(part.end)}`);
  svg.append(shape("title", {}));
  svg.firstChild.textContent = found.length ? `${label}: marked from ${found.join(", ")}` : `${label}: no mark`;
  for (const part of channel.stretches) {
    svg.append(shape("rect", {
      class: "stretch", x: x(part.start), y: 0, width: Math.max(2, x(part.end) - x(part.start)), height: HEIGHT,
    }));
  }
  const line = -Math.log10(threshold);
  svg.append(shape("line", { class: "threshold", x1: 0, x2: WIDTH, y1: y(line), y2: y(line) }));
  const points = channel.curve.map((value, n) => `${x((n + 0.5) * channel.curve_seconds).toFixed(1)},${y(value).toFixed(2)}`);
  if (points.length) {
    const last = x(channel.curve.length * channel.curve_seconds).toFixed(1);
    svg.append(shape("polygon", { class: "curve", points: `0,${HEIGHT} ${points.join(" ")} ${last},${HEIGHT}` }));
  }
  const figure = document.createElement("figure");
  figure.className = "evidence";
  const caption = document.createElement("figcaption");
  caption.textContent = `${label}: evidence, in powers of ten up to ${Math.round(top)}; dashed: what counts as found`;
  const scale = document.createElement("div");
  scale.className = "scale";
  for (const at of [0, seconds / 2, seconds]) {
    const mark = document.createElement("span");
    mark.textContent = clock(at);
    scale.append(mark);
  }
  figure.append(caption, svg, scale);
  return figure;
}
