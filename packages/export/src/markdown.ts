/** Numbers and tables of the model card. */
import { wilsonInterval } from '@ntaa/nas';

export const count = (value: number) => value.toLocaleString('en-US');
export const percent = (value: number) => `${(100 * value).toFixed(1)}%`;
export const years = (value: number) => `${value.toFixed(2)} years`;
export const millions = (value: number) => `${(value / 1e6).toFixed(2)} M`;

export const interval = ([low, high]: readonly [number, number], show = percent) =>
  `${show(low)} to ${show(high)}`;

export function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/** A share of n images with its Wilson interval. */
export function fraction(share: number, n: number): string {
  return withInterval(share, wilsonInterval(Math.round(share * n), n));
}

export const withInterval = (value: number, range: readonly [number, number], show = percent) =>
  `${show(value)} (95% interval ${interval(range, show)})`;
