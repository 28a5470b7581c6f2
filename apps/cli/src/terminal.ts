import type { Progress } from '@ntaa/contracts';

/** Least time between two plain lines of progress, where the terminal cannot redraw one; ms. */
const PLAIN_INTERVAL = 5000;
const BAR = 24;

export const percent = (x: number): string => `${(100 * x).toFixed(1)}%`;
/** 4,812,300 -> "4.81M". */
export function short(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)}G`;
  if (count >= 1e6) return `${(count / 1e6).toFixed(2)}M`;
  return count >= 1e3 ? `${(count / 1e3).toFixed(1)}k` : String(Math.round(count));
}
export function duration(seconds: number): string {
  const s = Math.round(seconds);
  return s < 60 ? `${s}s` : `${Math.floor(s / 60)}m${String(s % 60).padStart(2, '0')}s`;
}

/** A filled bar of `width` characters, to an eighth of one. */
export function bar(fraction: number, width = BAR): string {
  const eighths = Math.round(Math.min(1, Math.max(0, fraction)) * width * 8);
  const rest = eighths % 8;
  const filled = '█'.repeat(Math.floor(eighths / 8)) + (rest ? '▏▎▍▌▋▊▉'[rest - 1] : '');
  return filled.padEnd(width, '·');
}

function progressText(stage: string, progress: Progress): string {
  const parts = [
    stage.padEnd(9),
    bar(progress.fraction),
    `${Math.floor(100 * progress.fraction)}%`.padStart(4),
  ];
  if (progress.images_per_second) parts.push(`${Math.round(progress.images_per_second)} images/s`);
  if (progress.best !== undefined) parts.push(`best ${percent(progress.best)}`);
  if (progress.eta_seconds !== null) parts.push(`ETA ${duration(progress.eta_seconds)}`);
  parts.push(progress.message);
  return parts.join('  ');
}

/** Live progress: one line drawn again and again on a terminal, a plain line now and then elsewhere. */
export class ProgressLine {
  readonly #out: NodeJS.WriteStream;
  #drawn = false;
  #stage = '';
  #printedAt = 0;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  show(stage: string, progress: Progress): void {
    const text = progressText(stage, progress);
    if (this.#out.isTTY) {
      this.#out.write(`\r\x1b[2K  ${text.slice(0, (this.#out.columns || 100) - 3)}`);
      this.#drawn = true;
    } else if (stage !== this.#stage || Date.now() - this.#printedAt >= PLAIN_INTERVAL) {
      this.#out.write(`  ${text}\n`);
      this.#printedAt = Date.now();
    }
    this.#stage = stage;
  }

  /** Prints a line that stays. */
  say(text: string): void {
    this.clear();
    this.#out.write(`${text}\n`);
  }

  clear(): void {
    if (this.#drawn) this.#out.write('\r\x1b[2K');
    this.#drawn = false;
  }
}

/** Columns as wide as they need to be; the first aligned left, the others right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows.reduce<number[]>(
    (all, row) => row.map((cell, i) => Math.max(cell.length, all[i] ?? 0)),
    [],
  );
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('   ');
  const rule = widths.map((width) => '─'.repeat(width)).join('───');
  const [head, ...body] = rows;
  return [line(head ?? []), rule, ...body.map(line)].map((text) => `  ${text}`).join('\n');
}
