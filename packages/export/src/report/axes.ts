/** The frame of a plot: round ticks, grid, labels, and where values lie. */
import type { Scale } from '@ntaa/nas';
import { line, n, text, widthOf } from './picture.js';

export interface Place {
  left: number;
  top: number;
  width: number;
  height: number;
}

interface Axis {
  scale: Scale;
  label: string;
  show(value: number): string;
  /** Larger values lie further down, or left: what is better lies up. */
  reversed?: boolean;
}

interface Plot {
  x(value: number): number;
  y(value: number): number;
  /** To be drawn first. */
  frame: string;
}

export function plot(place: Place, x: Axis, y: Axis): Plot {
  const { left, top, width, height } = place;
  const share = ({ scale, reversed }: Axis, value: number): number => {
    const at = (value - scale.min) / (scale.max - scale.min);
    return reversed ? 1 - at : at;
  };
  const px = (value: number): number => left + share(x, value) * width;
  const py = (value: number): number => top + (1 - share(y, value)) * height;
  const bottom = top + height;
  const middle = top + height / 2;
  return {
    x: px,
    y: py,
    frame: [
      ...y.scale.ticks.map(
        (tick) =>
          line('s-line', [left, py(tick)], [left + width, py(tick)]) +
          text(left - 8, py(tick) + 4, y.show(tick), { class: 'quiet', anchor: 'end' }),
      ),
      ...x.scale.ticks.map((tick) =>
        text(px(tick), bottom + 20, x.show(tick), { class: 'quiet', anchor: 'middle' }),
      ),
      text(left + width / 2, bottom + 42, x.label, { anchor: 'middle' }),
      `<g transform="translate(${n(left - 56)} ${n(middle)}) rotate(-90)">${text(0, 0, y.label, { anchor: 'middle' })}</g>`,
    ].join('\n'),
  };
}

/** A key to symbols, broken into lines of `width`. `symbol`: drawn around a point. */
export function legend(
  entries: readonly { symbol(x: number, y: number): string; name: string }[],
  { left, top, width }: Omit<Place, 'height'>,
): string {
  let [x, y] = [left, top];
  return entries
    .map(({ symbol, name }) => {
      const needed = 30 + widthOf(name);
      if (x > left && x + needed > left + width) [x, y] = [left, y + 22];
      const drawn = symbol(x + 6, y) + text(x + 20, y + 4, name);
      x += needed + 8;
      return drawn;
    })
    .join('\n');
}
