// The table of a run: on the terminal and in docs/benchmarks.md.
import { readFileSync, writeFileSync } from 'node:fs';

const HEAD = ['what', 'ours', 'compared with', '', 'ratio', 'must reach', ''];

/** Milliseconds, microseconds, requests a second. */
export const ms = (x) => `${x.toFixed(1)} ms`;
export const us = (x) => `${x.toFixed(2)} µs`;
export const rate = (x) => `${x.toFixed(0)} / s`;

/** Rows for the terminal, the first of which is the head. */
export function plainTable(table) {
  const rows = table.map((cells) => cells.map((cell) => cell.replaceAll('**', '')));
  const widths = rows[0].map((_, column) => Math.max(...rows.map((cells) => cells[column].length)));
  return rows.map((cells) => cells.map((cell, column) => cell.padEnd(widths[column])).join('  ').trimEnd()).join('\n');
}

export function markdownTable([head, ...rows]) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

export class Report {
  #rows = [];

  /** `within` says whether a ratio reaches its bound, and is left out where there is none. */
  #row(what, ours, name, other, ratio, bound, within) {
    this.#rows.push([what, ours, name, other, ratio, bound ?? '', within === undefined ? '' : within ? 'yes' : '**no**']);
  }

  figure(what, ours, unit, atMost) {
    this.#row(what, unit(ours), '', '', '', atMost && `≤ ${unit(atMost)}`, atMost && ours <= atMost);
  }

  /** What may take `bound` times as long as another. */
  slower(what, ours, name, other, unit, bound) {
    const ratio = ours / other;
    this.#row(what, unit(ours), name, unit(other), `${ratio.toFixed(2)} ×`, bound && `≤ ${bound} ×`, bound && ratio <= bound);
  }

  /** What must be `bound` times as fast as another. */
  faster(what, ours, name, other, unit, bound) {
    const ratio = other / ours;
    this.#row(what, unit(ours), name, unit(other), `${ratio.toFixed(1)} × faster`, bound && `≥ ${bound} × faster`, bound && ratio >= bound);
  }

  /** What must keep `bound` of another's rate. `ratio` comes from pairs that were measured side by side. */
  reaches(what, ours, name, other, ratio, bound) {
    this.#row(what, rate(ours), name, rate(other), `${ratio.toFixed(2)} ×`, bound && `≥ ${bound} ×`, bound && ratio >= bound);
  }

  text() {
    return plainTable([HEAD, ...this.#rows]);
  }

  markdown() {
    return markdownTable([HEAD, ...this.#rows]);
  }
}

/** A file in three parts: what is before the two comments of that name, between them, and after. */
export function sectionOf(file, name) {
  const text = readFileSync(file, 'utf8');
  const [start, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`];
  const [from, to] = [text.indexOf(start), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${file} has no place for ${name}`);
  return [text.slice(0, from + start.length), text.slice(from + start.length, to), text.slice(to)];
}

/** Puts `text` there. */
export function replaceSection(file, name, text) {
  const [before, , after] = sectionOf(file, name);
  writeFileSync(file, `${before}\n${text}\n${after}`);
}
