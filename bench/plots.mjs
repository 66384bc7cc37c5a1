// Cost curves as SVG, drawn by Vega-Lite from what was measured.
import { writeFileSync } from 'node:fs';
import { parse, View } from 'vega';
import { compile } from 'vega-lite';

/**
 * Draws one line a series of `points`, `{ series, x, y }`, both axes logarithmic. The subtitle says what it was
 * measured on.
 */
export async function drawCurves(file, { title, subtitle, x, y, points }) {
  const { spec } = compile({
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title: { text: title, subtitle, anchor: 'start', fontSize: 15, subtitleFontSize: 11, subtitleColor: '#555', offset: 12 },
    width: 520,
    height: 300,
    background: 'white',
    data: { values: points },
    mark: { type: 'line', point: { filled: true, size: 50 }, strokeWidth: 2 },
    encoding: {
      x: { field: 'x', type: 'quantitative', title: x, scale: { type: 'log' }, axis: { format: '~s', tickCount: 5, grid: false } },
      y: { field: 'y', type: 'quantitative', title: y, scale: { type: 'log' }, axis: { format: '~r', tickCount: 5 } },
      // The order of the points, and colours that differ in brightness too.
      color: {
        field: 'series', type: 'nominal', title: null, sort: null, legend: { orient: 'bottom', columns: 2, labelLimit: 0 },
        scale: { range: ['#0b6e4f', '#888888', '#c0392b', '#e0a030', '#2b6cb0', '#7b4397', '#111111'] },
      },
    },
    config: { font: 'sans-serif', view: { stroke: null } },
  });
  const view = new View(parse(spec), { renderer: 'none' });
  writeFileSync(file, `${await view.toSVG()}\n`);
  view.finalize();
}
