/** Parts of the page. Whatever is given as text comes out as text. */
import { xmlText } from '../text.js';
import { COLOURS, FONT, inline, PICTURE_STYLE, type Picture } from './picture.js';

const rules = (scheme: 0 | 1): string => {
  const { ink, quiet, line, paper, panel, chosen } = COLOURS;
  return [
    `body{color:${ink[scheme]};background:${paper[scheme]}}`,
    `th,td{border-color:${line[scheme]}}figure,.cards div{background:${panel[scheme]}}`,
    `figure svg{background:${paper[scheme]}}caption,.quiet,dt{color:${quiet[scheme]}}h1{border-color:${chosen[scheme]}}`,
  ].join('');
};

export const PAGE_STYLE = [
  ':root{color-scheme:light dark}*{box-sizing:border-box}',
  `body{margin:0 auto;max-width:62rem;padding:1.5rem;font:16px/1.5 ${FONT};overflow-wrap:anywhere}`,
  'h1{font-size:1.8rem;border-left:.4rem solid;padding-left:.8rem;line-height:1.2}h2{margin:2.5rem 0 .5rem}h3{margin:1.5rem 0 .5rem}',
  'figure{margin:1rem 0;padding:.75rem;border-radius:8px}figure svg{display:block;max-width:100%;height:auto;margin:auto}',
  'table{border-collapse:collapse;margin:1rem 0;font-size:.9rem;font-variant-numeric:tabular-nums}',
  'caption{text-align:left;padding:.3rem 0}th,td{border-bottom:1px solid;padding:.3rem .9rem .3rem 0;text-align:left;vertical-align:top}',
  '.scroll{overflow-x:auto}.cards{display:flex;flex-wrap:wrap;gap:.75rem;margin:1rem 0}.cards div{flex:1 1 12rem;padding:.75rem 1rem;border-radius:8px}',
  'dt{font-size:.85rem}dd{margin:0;font-size:1.15rem;font-weight:600}code{font-size:.9em}',
  rules(0),
  `@media screen and (prefers-color-scheme:dark){${rules(1)}}`,
  '@media print{body{max-width:none;padding:0;font-size:11pt}figure,tr,.cards{break-inside:avoid}h2,h3{break-after:avoid}.scroll{overflow:visible}}',
  PICTURE_STYLE,
].join('\n');

export const p = (value: string): string => `<p>${xmlText(value, 2000)}</p>`;

/** Names of any direction do not turn their surroundings. */
const words = (value: string): string => `<bdi>${xmlText(value, 160)}</bdi>`;

/** The first cell of a row names it. Empty tables are left out. */
export function table(
  caption: string,
  head: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  if (rows.length === 0) return '';
  const title = xmlText(caption, 500);
  const body = rows.map(
    ([first = '', ...rest]) =>
      `<tr><th scope="row">${words(first)}</th>${rest.map((value) => `<td>${words(value)}</td>`).join('')}</tr>`,
  );
  return [
    `<div class="scroll" role="region" aria-label="${title}" tabindex="0"><table><caption>${title}</caption>`,
    `<thead><tr>${head.map((name) => `<th scope="col">${words(name)}</th>`).join('')}</tr></thead>`,
    `<tbody>${body.join('\n')}</tbody></table></div>`,
  ].join('\n');
}

export const figure = (picture: Picture | null, id: string): string =>
  picture ? `<figure>${inline(picture, id)}</figure>` : '';

export const cards = (facts: readonly (readonly [string, string])[]): string =>
  `<dl class="cards">${facts.map(([name, value]) => `<div><dt>${xmlText(name)}</dt><dd>${xmlText(value)}</dd></div>`).join('')}</dl>`;

export const list = (sentences: readonly string[]): string =>
  sentences.length === 0 ? '' : `<ul>${sentences.map((s) => `<li>${xmlText(s, 2000)}</li>`).join('\n')}</ul>`;

/** `parts`: markup; the section is left out where all are empty. */
export function section(title: string, ...parts: string[]): string {
  const content = parts.filter((part) => part !== '');
  return content.length === 0 ? '' : `<section><h2>${xmlText(title)}</h2>\n${content.join('\n')}</section>`;
}
