/** Architectures side by side, block by block, with what differs from the first marked. */
import type { Genotype, SearchSpace } from '@ntaa/contracts';
import { canonical, cost, inputSize, isMember, units, type Unit } from '@ntaa/nas';
import { millions, percent, short } from '../markdown.js';
import type { Subject } from './input.js';
import { rect, text, type Picture } from './picture.js';

interface Column {
  name: string;
  note: string;
  macs: number;
  params: number;
  /** By row; null: left out. */
  parts: (Part | null)[];
  /** `32 px`, or `32x64 px`. */
  input: string;
}
interface Part {
  /** `5x5, x3`: what can be chosen. */
  choice: string;
  /** Channels in, expanded, out. */
  channels: number[];
  /** Of its output. */
  size: string;
  macs: number;
}

interface Comparison {
  rows: string[];
  /** The first is what the others are compared with. */
  columns: Column[];
}

/** The source's best where it is known, weights-only adaptation's where there was one, the chosen. */
export function compareArchitectures({ manifest, card, job }: Subject): Comparison {
  const { space, source } = job;
  const depths = space.stages.map(({ blocks }) => blocks.length);
  const outputs = outputsOf(manifest.params, space, manifest.genotype);
  const column = (name: string, note: string, genotype: Genotype): Column => ({
    ...{ name, note, input: px(inputSize(space, genotype)) },
    ...cost(space, genotype, outputs),
    parts: partsOf(space, genotype, depths),
  });
  const { baseline } = card;
  const found = [
    ...(source && isMember(space, source.genotype)
      ? [
          column(
            "Source's best",
            `${percent(source.top1)} on the source, as far as it was measured there`,
            source.genotype,
          ),
        ]
      : []),
    ...(baseline && isMember(space, baseline.genotype)
      ? [column('WP&F', 'fixed before the job', baseline.genotype)]
      : []),
    column('Chosen', 'found by the search', manifest.genotype),
  ];
  const rows = depths.flatMap((depth, stage) =>
    Array.from({ length: depth }, (_, block) => `stage ${stage + 1}, block ${block + 1}`),
  );
  return { rows: ['stem', ...rows, 'head'], columns: found };
}

/** Outputs of the classifier, which the costs of other architectures need and the manifest of an age model does not tell. */
function outputsOf(params: number, space: SearchSpace, genotype: Genotype): number {
  const none = cost(space, genotype, 0).params;
  return Math.max(0, Math.round((params - none) / (cost(space, genotype, 1).params - none || 1)));
}

function partsOf(space: SearchSpace, genotype: Genotype, depths: readonly number[]): (Part | null)[] {
  const list = units(space, genotype);
  const blocks = list.slice(1, -1);
  let at = 0;
  return [
    part(list[0]!, '3x3'),
    ...depths.flatMap((depth, stage) =>
      Array.from({ length: depth }, (_, position) => {
        const block = genotype.stages[stage]![position];
        return block ? part(blocks[at++]!, `${block.kernel}x${block.kernel}, x${block.expand}`) : null;
      }),
    ),
    part(list.at(-1)!, '1x1'),
  ];
}

const px = ({ width, height }: { width: number; height: number }): string =>
  width === height ? `${width} px` : `${width}x${height} px`;

function part({ layers }: Unit, choice: string): Part {
  const channels = [layers[0]!.channelsIn, ...layers.map(({ channelsOut }) => channelsOut)];
  return {
    choice,
    // The depthwise convolution keeps the channels.
    channels: channels.filter((count, i) => i === 0 || count !== channels[i - 1]),
    size: px(layers.at(-1)!),
    macs: layers.reduce(
      (sum, { kernel, depthwise, channelsIn, channelsOut, height, width }) =>
        sum + kernel ** 2 * (depthwise ? 1 : channelsIn) * channelsOut * height * width,
      0,
    ),
  };
}

/** What became of a row between two architectures; empty: nothing. */
function change(from: Part | null, to: Part | null): string {
  if (from === null) return to === null ? '' : 'added';
  if (to === null) return `left out (was ${from.choice})`;
  return from.choice === to.choice ? '' : `was ${from.choice}`;
}

/** One sentence a decision. */
export function changes({ rows, columns }: Comparison): string[] {
  const [from, to] = [columns[0]!, columns.at(-1)!];
  if (from === to) return [];
  const count = ({ parts }: Column) => parts.filter((p) => p !== null).length - 2;
  const differing = rows.filter((_, i) => from.parts[i] && to.parts[i] && change(from.parts[i], to.parts[i]));
  const dearer = to.macs / from.macs - 1;
  return [
    from.input === to.input
      ? `Resolution stays ${to.input}.`
      : `Resolution ${from.input} becomes ${to.input}.`,
    count(from) === count(to)
      ? `Depth stays ${count(to)} blocks.`
      : `Depth ${count(from)} blocks becomes ${count(to)}.`,
    `${differing.length} of the blocks that both have differ in kernel or expansion.`,
    `${percent(Math.abs(dearer))} ${dearer < 0 ? 'fewer' : 'more'} multiply-accumulates (${millions(from.macs)} to ${millions(to.macs)}).`,
  ];
}

const ROW = 40;
const TOP = 112;
const GUTTER = 118;
const GAP = 18;

export function architecturePicture(comparison: Comparison): Picture {
  const { rows, columns } = comparison;
  // Two sizes are longer to tell than one.
  const each = columns.some(({ input }) => input.includes('x')) ? 250 : 210;
  const width = Math.max(720, GUTTER + columns.length * each);
  const column = (width - GUTTER) / columns.length - GAP;
  const widest = Math.max(
    ...columns.flatMap(({ parts }) => parts.map((p) => Math.max(0, ...(p?.channels ?? [])))),
  );
  const first = columns[0]!;
  const title =
    columns.length > 1 ? `Architectures: ${first.name} and what was chosen` : 'The chosen architecture';
  const body = [
    text(16, 28, title, { class: 'title' }),
    text(
      16,
      47,
      'length of a bar: channels inside the block; framed, with a rhomb: not as in the first column',
      {
        class: 'quiet',
      },
    ),
    ...rows.map((name, i) => text(16, TOP + i * ROW + 20, name, { class: 'quiet small' })),
    ...columns.map((c, k) => {
      const x = GUTTER + k * (column + GAP);
      const resized = k > 0 && c.input !== first.input;
      return [
        text(x, 76, c.name, { class: 'strong' }),
        (resized ? rhomb(x + column - 9, 72) : '') +
          text(x, 94, `${c.input}, ${short(c.macs)} MACs, ${short(c.params)} params`, {
            class: 'small',
          }),
        ...c.parts.map((p, i) =>
          drawn(p, { x, y: TOP + i * ROW, width: column, widest }, k === 0 ? '' : change(first.parts[i]!, p)),
        ),
      ].join('\n');
    }),
  ];
  const told = columns.map(
    ({ name, input, parts }) =>
      `${name}: ${input}; ${rows.map((row, i) => `${row} ${parts[i]?.choice ?? 'left out'}`).join(', ')}`,
  );
  return {
    title,
    description: `${told.join('. ')}. ${changes(comparison).join(' ')}`,
    width,
    height: TOP + rows.length * ROW + 12,
    body: body.join('\n'),
  };
}

const rhomb = (x: number, y: number) =>
  `<polygon class="f-chosen" points="${[x, y - 6, x + 6, y, x, y + 6, x - 6, y].join(' ')}"/>`;

function drawn(
  part: Part | null,
  at: { x: number; y: number; width: number; widest: number },
  changed: string,
): string {
  const { x, y, width } = at;
  const height = ROW - 6;
  const frame = changed
    ? rect('s-chosen', x + 1, y + 1, width - 2, height - 2, 'fill="none" stroke-width="2"') +
      rhomb(x + width - 12, y + 11)
    : '';
  if (part === null)
    return (
      (frame ||
        rect('s-line', x + 0.5, y + 0.5, width - 1, height - 1, 'fill="none" stroke-dasharray="4 4"')) +
      text(x + 8, y + 21, changed || 'left out', { class: 'quiet small' })
    );
  const bar = (width * Math.max(...part.channels)) / at.widest;
  const middle = y + (changed ? 14 : 21);
  return [
    rect('f-panel', x, y, width, height),
    rect(changed ? 'f-chosen' : 'f-front', x, y, bar, height, 'fill-opacity="0.25"'),
    text(x + 8, middle, part.choice, { class: 'strong small' }),
    text(x + 62, middle, `${part.channels.join('-')} ch, ${part.size}`, { class: 'small' }),
    changed && text(x + 8, y + 28, changed, { class: 'small' }),
    frame,
  ].join('');
}

/** Head and rows of the table beside the picture. */
export function architectureTable(
  { rows, columns }: Comparison,
  { genotype }: Pick<Subject['manifest'], 'genotype'>,
): { head: string[]; rows: string[][] } {
  const last = columns.at(-1)!;
  const cell = (p: Part | null | undefined): string =>
    p ? `${p.choice}; ${p.channels.join('-')}` : 'left out';
  return {
    head: [
      'Part',
      ...columns.map(({ name }) => name),
      ...(columns.length > 1 ? ['Change'] : []),
      'MACs of the chosen',
    ],
    rows: [
      ...rows.map((name, i) => [
        name,
        ...columns.map(({ parts }) => cell(parts[i])),
        ...(columns.length > 1 ? [change(columns[0]!.parts[i]!, last.parts[i]!) || 'none'] : []),
        last.parts[i] ? short(last.parts[i].macs) : '0',
      ]),
      [
        'as text',
        ...columns.map((_, k) => (k === columns.length - 1 ? canonical(genotype) : '')),
        ...(columns.length > 1 ? [''] : []),
        '',
      ],
    ],
  };
}
