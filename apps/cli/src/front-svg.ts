import { scales, type Front, type Measured, type Point } from './front.js';
import { percent, short } from './terminal.js';

const W = 720;
const H = 440;
const EDGE = { left: 72, right: 24, top: 64, bottom: 92 };

/** Colours for light and dark pages: distinguishable without seeing colour, too, by their shapes. */
const STYLE = `
  svg { color-scheme: light dark; background: #ffffff; font: 13px system-ui, sans-serif }
  text { fill: #24292f } .quiet { fill: #57606a } .grid { stroke: #d0d7de } .dot { fill: #8c959f }
  .front { stroke: #0969da; fill: none; stroke-width: 2 } .pareto { fill: #0969da }
  .ntaa { fill: #bc4c00; stroke: #bc4c00 } .baseline { fill: #1a7f37; stroke: #1a7f37 }
  .largest { fill: #8250df; stroke: #8250df } .title { font-size: 16px; font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117 } text { fill: #e6edf3 } .quiet { fill: #9198a1 } .grid { stroke: #30363d }
    .dot { fill: #6e7681 } .front { stroke: #58a6ff } .pareto { fill: #58a6ff }
    .ntaa { fill: #ffa657; stroke: #ffa657 } .baseline { fill: #3fb950; stroke: #3fb950 }
    .largest { fill: #bc8cff; stroke: #bc8cff }
  }`;

const escape = (text: string): string =>
  text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/"/g, '&quot;');
const n = (value: number): string => value.toFixed(1);

/** Shapes of about the same area around (x, y). */
function shape(mark: Measured['mark'], x: number, y: number): string {
  if (mark === 'baseline')
    return `<rect class="${mark}" x="${n(x - 6)}" y="${n(y - 6)}" width="12" height="12"/>`;
  const corners = mark === 'ntaa' ? [0, -9, 9, 0, 0, 9, -9, 0] : [0, -8, 8, 7, -8, 7];
  const points = corners.map((c, i) => n(c + (i % 2 ? y : x))).join(' ');
  return `<polygon class="${mark}" points="${points}"/>`;
}

/** The Pareto front as a picture of its own. */
export function frontSvg(front: Front, title: string): string {
  const { x, y } = scales(front, 6, 5);
  const px = (macs: number): number =>
    EDGE.left + ((macs - x.min) / (x.max - x.min)) * (W - EDGE.left - EDGE.right);
  const py = (a: number): number =>
    H - EDGE.bottom - ((a - y.min) / (y.max - y.min)) * (H - EDGE.top - EDGE.bottom);
  const circle = (kind: string, r: number) => (p: Point) =>
    `<circle class="${kind}" cx="${n(px(p.macs))}" cy="${n(py(p.accuracy))}" r="${r}"/>`;

  const parts = [
    `<text class="title" x="${EDGE.left}" y="28">${escape(title)}</text>`,
    `<text class="quiet" x="${EDGE.left}" y="48">each dot is one architecture of the supernet</text>`,
    ...y.ticks.map(
      (tick) =>
        `<line class="grid" x1="${EDGE.left}" x2="${W - EDGE.right}" y1="${n(py(tick))}" y2="${n(py(tick))}"/>` +
        `<text class="quiet" x="${EDGE.left - 8}" y="${n(py(tick) + 4)}" text-anchor="end">${percent(tick)}</text>`,
    ),
    ...x.ticks.map(
      (tick) =>
        `<text class="quiet" x="${n(px(tick))}" y="${H - EDGE.bottom + 20}" text-anchor="middle">${short(tick)}</text>`,
    ),
    `<text x="${(W + EDGE.left - EDGE.right) / 2}" y="${H - EDGE.bottom + 42}" text-anchor="middle">multiply-accumulates for one image</text>`,
    `<text transform="translate(18 ${(H + EDGE.top - EDGE.bottom) / 2}) rotate(-90)" text-anchor="middle">accuracy</text>`,
    ...front.evaluated.map(circle('dot', 3)),
    `<polyline class="front" points="${front.pareto.map((p) => `${n(px(p.macs))},${n(py(p.accuracy))}`).join(' ')}"/>`,
    ...front.pareto.map(circle('pareto', 4)),
    ...front.measured.map(
      (m) =>
        `<line class="${m.mark}" x1="${n(px(m.macs))}" x2="${n(px(m.macs))}" y1="${n(py(m.interval[0]))}" y2="${n(py(m.interval[1]))}"/>` +
        shape(m.mark, px(m.macs), py(m.accuracy)),
    ),
    ...legend(front),
  ];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${W} ${H}" width="${W}" height="${H}" role="img">`,
    `<title>${escape(title)}</title>`,
    `<style>${STYLE}\n</style>`,
    ...parts,
    '</svg>\n',
  ].join('\n');
}

function legend(front: Front): string[] {
  const y = H - 20;
  let x = EDGE.left;
  const entry = (symbol: (x: number) => string, text: string): string => {
    const drawn = `${symbol(x)}<text x="${n(x + 14)}" y="${y + 4}">${escape(text)}</text>`;
    x += 40 + 7 * text.length;
    return drawn;
  };
  return [
    entry((at) => `<circle class="pareto" cx="${n(at)}" cy="${y}" r="4"/>`, 'Pareto front (validation)'),
    ...front.measured.map((m, i) =>
      entry((at) => shape(m.mark, at, y), i === front.measured.length - 1 ? `${m.name} (test, 95%)` : m.name),
    ),
  ];
}
