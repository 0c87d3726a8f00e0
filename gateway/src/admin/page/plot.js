"use strict";
// Lines over the last minutes, five at most, as inline SVG.

const SAMPLES = 300;
const SAMPLES_LEAST = 60;
const SVG = "http://www.w3.org/2000/svg";

/** A figure with up to three lines. `lines`: [{name, kind: "one" | "two" | "three"}]; `format` writes a value. */
class Plot {
  constructor(parent, title, lines, format) {
    this.title = title;
    this.format = format;
    this.figure = document.createElement("figure");
    const caption = this.figure.appendChild(document.createElement("figcaption"));
    caption.appendChild(document.createElement("b")).textContent = title;
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.lines = lines.map(({ name, kind }) => {
      const label = caption.appendChild(document.createElement("span"));
      label.className = kind;
      const polyline = this.svg.appendChild(document.createElementNS(SVG, "polyline"));
      polyline.setAttribute("class", kind);
      return { name, label, polyline, values: [] };
    });
    this.figure.appendChild(this.svg);
    const scale = this.figure.appendChild(document.createElement("div"));
    scale.className = "scale";
    this.least = scale.appendChild(document.createElement("span"));
    this.most = scale.appendChild(document.createElement("span"));
    parent.appendChild(this.figure);
  }

  /** One value for each line; null where there is none. */
  push(values) {
    this.lines.forEach((line, index) => {
      line.values.push(values[index] ?? null);
      if (line.values.length > SAMPLES) line.values.shift();
    });
    const top = Math.max(...this.lines.flatMap((line) => line.values.map((value) => value ?? 0)));
    const unit = top > 0 ? top : 1;
    const span = Math.max(SAMPLES_LEAST, this.lines[0].values.length);
    this.svg.setAttribute("viewBox", `0 0 ${span - 1} 100`);
    this.least.textContent = span < 120 ? `last ${span} s` : `last ${Math.floor(span / 60)} min`;
    const words = this.lines.map((line) => {
      const last = line.values[line.values.length - 1];
      const text = `${line.name} ${last === null ? "–" : this.format(last)}`;
      line.label.textContent = text;
      const left = span - line.values.length;
      const points = line.values.flatMap((value, at) =>
        value === null ? [] : [`${left + at},${(98 - (value / unit) * 94).toFixed(1)}`]);
      line.polyline.setAttribute("points", points.join(" "));
      return text;
    });
    this.most.textContent = `top ${this.format(top)}`;
    this.svg.setAttribute("aria-label", `${this.title}: ${words.join(", ")}`);
  }
}
