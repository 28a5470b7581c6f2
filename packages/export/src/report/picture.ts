/** Pictures as SVG: drawn once, shown alone and inside the page, on light paper, dark screens and in print. */
import { xmlText } from '../text.js';

export interface Picture {
  title: string;
  /** What somebody who does not see it should know. */
  description: string;
  width: number;
  height: number;
  /** Markup made by the functions below. */
  body: string;
}

/** On light and on dark; every colour has its own shape or dash beside it. */
const COLOURS = {
  ink: ['#1f2328', '#e6edf3'],
  quiet: ['#59636e', '#9198a1'],
  line: ['#d1d9e0', '#3d444d'],
  paper: ['#ffffff', '#0d1117'],
  panel: ['#f3f5f7', '#171d26'],
  dot: ['#818b98', '#7d8590'],
  front: ['#0969da', '#58a6ff'],
  chosen: ['#bc4c00', '#ffa657'],
  baseline: ['#1a7f37', '#3fb950'],
  largest: ['#8250df', '#bc8cff'],
} as const;
export type Colour = keyof typeof COLOURS;

/** Rules that need a colour, for one of the two. */
function coloured(scheme: 0 | 1): string {
  const rules = Object.entries(COLOURS).map(
    ([name, colours]) => `.f-${name}{fill:${colours[scheme]}}.s-${name}{stroke:${colours[scheme]}}`,
  );
  return [`svg text{fill:${COLOURS.ink[scheme]}}svg .quiet{fill:${COLOURS.quiet[scheme]}}`, ...rules].join(
    '',
  );
}
const FONT = `system-ui,-apple-system,"Segoe UI",sans-serif`;

/** Of pictures; print is always light. */
export const PICTURE_STYLE =
  `svg{font:13px ${FONT}}svg .small{font-size:11px}svg .title{font-size:16px;font-weight:600}svg .strong{font-weight:600}` +
  `${coloured(0)}@media screen and (prefers-color-scheme:dark){${coloured(1)}}`;
export { COLOURS, FONT };

/** A file of its own. */
export function standalone({ title, description, width, height, body }: Picture): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="title description">`,
    `<title id="title">${xmlText(title, 300)}</title>`,
    `<desc id="description">${xmlText(description, 2000)}</desc>`,
    `<style>${PICTURE_STYLE}</style>`,
    `<rect class="f-paper" width="${width}" height="${height}"/>`,
    body,
    '</svg>\n',
  ].join('\n');
}

/** Part of a page that has the style; `id`: unique in it. */
export function inline({ title, description, width, height, body }: Picture, id: string): string {
  return [
    `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="${id}-t ${id}-d">`,
    `<title id="${id}-t">${xmlText(title, 300)}</title><desc id="${id}-d">${xmlText(description, 2000)}</desc>`,
    `${body}</svg>`,
  ].join('\n');
}

/** Coordinates to a tenth of a pixel. */
export const n = (value: number): string => String(Math.round(10 * value) / 10);

interface TextOptions {
  class?: string;
  anchor?: 'middle' | 'end';
  /** Px, where it differs from the style's. */
  size?: number;
  longest?: number;
}
export function text(x: number, y: number, value: string, options: TextOptions = {}): string {
  const { anchor, size, longest = 100 } = options;
  const attributes = [
    options.class && ` class="${options.class}"`,
    anchor && ` text-anchor="${anchor}"`,
    size !== undefined && ` font-size="${n(size)}"`,
  ].filter(Boolean);
  return `<text x="${n(x)}" y="${n(y)}"${attributes.join('')}>${xmlText(value, longest)}</text>`;
}

export const line = (
  name: string,
  from: readonly [number, number],
  to: readonly [number, number],
  dash = '',
) =>
  `<line class="${name}" x1="${n(from[0])}" y1="${n(from[1])}" x2="${n(to[0])}" y2="${n(to[1])}"${
    dash && ` stroke-dasharray="${dash}"`
  }/>`;

export const rect = (name: string, x: number, y: number, width: number, height: number, more = '') =>
  `<rect class="${name}" x="${n(x)}" y="${n(y)}" width="${n(width)}" height="${n(height)}"${more && ` ${more}`}/>`;

export const circle = (name: string, x: number, y: number, r: number, more = '') =>
  `<circle class="${name}" cx="${n(x)}" cy="${n(y)}" r="${n(r)}"${more && ` ${more}`}/>`;

export const polyline = (name: string, points: readonly (readonly [number, number])[], dash = '') =>
  `<polyline class="${name}" fill="none" stroke-width="2" stroke-linejoin="round"${dash && ` stroke-dasharray="${dash}"`} points="${points
    .map(([x, y]) => `${n(x)},${n(y)}`)
    .join(' ')}"/>`;

/** About how wide text of 13 px is: pictures are laid out without a font at hand. */
export const widthOf = (value: string): number => 7 * value.length;
