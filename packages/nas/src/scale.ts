/** Axes of plots, in terminals and pictures. */
export interface Scale {
  readonly min: number;
  readonly max: number;
  readonly ticks: readonly number[];
}

/** A range with about `count` round ticks that covers all values. */
export function scaleOf(values: readonly number[], count: number): Scale {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const raw = (high - low || Math.abs(high) || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5].find((s) => s * power >= raw) ?? 10);
  const min = Math.floor(low / step) * step;
  const steps = Math.max(1, Math.ceil((high - min) / step - 1e-9));
  const ticks = Array.from({ length: steps + 1 }, (_, i) => min + i * step);
  return { min, max: min + steps * step, ticks };
}
