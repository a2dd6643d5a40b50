// The latency of each turn: a line that shows where it goes, and a table that says how much.

const SVG = "http://www.w3.org/2000/svg";
const SHOWN = 30;

export class LatencyView {
  #spark;
  #rows;
  #values = [];

  constructor(spark, rows) {
    this.#spark = spark;
    this.#rows = rows;
  }

  clear() {
    this.#values = [];
    this.#rows.replaceChildren();
    this.#draw();
  }

  add({ turn, ms, stages }) {
    this.#values = [...this.#values, ms].slice(-SHOWN);
    const row = this.#rows.insertRow(0);
    const described = Object.entries(stages ?? {})
      .map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`)
      .join(", ");
    for (const text of [String(turn), `${ms} ms`, described]) {
      row.insertCell().textContent = text;
    }
    while (this.#rows.rows.length > SHOWN) {
      this.#rows.deleteRow(-1);
    }
    this.#draw();
  }

  #draw() {
    const values = this.#values;
    if (values.length === 0) {
      this.#spark.replaceChildren();
      this.#spark.setAttribute("aria-label", "No turns yet");
      return;
    }
    const highest = Math.max(...values, 1);
    const step = 100 / Math.max(1, values.length - 1);
    const points = values.map((value, index) => `${index * step},${38 - (36 * value) / highest}`);
    if (points.length === 1) {
      points.push(`100,${38 - (36 * values[0]) / highest}`);
    }
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 100 40");
    svg.setAttribute("preserveAspectRatio", "none");
    const line = document.createElementNS(SVG, "polyline");
    line.setAttribute("points", points.join(" "));
    svg.append(line);
    this.#spark.replaceChildren(svg);
    const latest = values.at(-1);
    this.#spark.setAttribute("aria-label", `Latest ${latest} ms, highest ${highest} ms`);
  }
}
