/** Numbers and tables of the model card. */
import { wilsonInterval } from '@ntaa/nas';

export const count = (value: number) => value.toLocaleString('en-US');
export const percent = (value: number) => `${(100 * value).toFixed(1)}%`;
export const years = (value: number) => `${value.toFixed(2)} years`;
export const millions = (value: number) => `${(value / 1e6).toFixed(2)} M`;

/** 4,812,300 -> "4.81M". */
export function short(value: number): string {
  if (value >= 1e9) return `${(value / 1e9).toFixed(2)}G`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)}M`;
  return value >= 1e3 ? `${(value / 1e3).toFixed(1)}k` : String(Math.round(value));
}

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
