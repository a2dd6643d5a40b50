// The latency of each turn: what it was made of, drawn to scale, and how much it was.

const SHOWN = 12;
const LEAST_SCALE_MS = 500;

// They follow each other and add up to the whole.
const STAGES = {
  endpointing: "End of your turn",
  language: "First word",
  phrase: "First phrase",
  synthesis: "Synthesis",
  wire: "To the wire",
};

export class LatencyView {
  #elements;
  #turns = [];

  // elements: figure, table, rows and legend.
  constructor(elements) {
    this.#elements = elements;
    for (const [name, title] of Object.entries(STAGES)) {
      const item = document.createElement("li");
      item.className = `stage ${name}`;
      item.textContent = title;
      elements.legend.append(item);
    }
    this.clear();
  }

  clear() {
    this.#turns = [];
    this.#draw();
  }

  add(turn) {
    this.#turns.push(turn);
    this.#draw();
  }

  #draw() {
    const { figure, table, rows, legend } = this.#elements;
    const turns = this.#turns;
    table.hidden = legend.hidden = turns.length === 0;
    figure.textContent = summary(turns.map(({ ms }) => ms));
    const shown = turns.slice(-SHOWN).reverse();
    const scale = Math.max(LEAST_SCALE_MS, ...shown.map(({ ms }) => ms));
    rows.replaceChildren(...shown.map((turn) => row(turn, scale)));
  }
}

function summary(values) {
  if (values.length === 0) {
    return "No turns yet";
  }
  const ordered = values.toSorted((a, b) => a - b);
  const median = ordered[Math.floor((ordered.length - 1) / 2)];
  return values.length === 1 ? `${values[0]} ms` : `${values.at(-1)} ms, median ${median} ms`;
}

function row({ turn, ms, stages }, scale) {
  const element = document.createElement("tr");
  element.insertCell().textContent = String(turn);
  const bar = document.createElement("div");
  bar.className = "bar";
  const words = [];
  for (const [name, title] of Object.entries(STAGES)) {
    const value = stages?.[name];
    if (value === undefined) {
      continue;
    }
    words.push(`${title} ${value} ms`);
    const part = document.createElement("div");
    part.className = `part ${name}`;
    part.style.width = `${(100 * value) / scale}%`;
    part.title = words.at(-1);
    bar.append(part);
  }
  const described = document.createElement("span");
  described.className = "unseen";
  described.textContent = words.join(", ");
  element.insertCell().append(bar, described);
  element.insertCell().textContent = `${ms} ms`;
  return element;
}
