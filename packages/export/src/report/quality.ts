/** The number by which the networks of a job are compared in pictures: one a task. */
import type { Metrics } from '@ntaa/contracts';
import { percent } from '../markdown.js';

interface Quality {
  /** Its name among the metrics of candidates. */
  key: string;
  name: string;
  reversed: boolean;
  show(value: number): string;
  /** Images that finished networks are measured on. */
  split: 'test' | 'source validation';
  of(metrics: Metrics): { value: number; interval?: readonly [number, number] } | null;
}

const share = { reversed: false, show: percent, split: 'test' } as const;

export function qualityOf(metrics: Metrics): Quality {
  if ('top1' in metrics)
    return {
      ...{ key: 'top1', name: 'accuracy', ...share },
      of: (m) => ('top1' in m ? { value: m.top1, interval: m.top1_interval } : null),
    };
  if ('mae' in metrics)
    return {
      ...{ key: 'mae', name: 'mean absolute error, years', ...share, reversed: true },
      show: (value) => value.toFixed(1),
      of: (m) => ('mae' in m ? { value: m.mae, interval: m.mae_interval } : null),
    };
  if ('map' in metrics)
    return {
      ...{ key: 'map', name: 'mean average precision', ...share },
      of: (m) => ('map' in m ? { value: m.map, interval: m.map_interval } : null),
    };
  return {
    ...{ key: 'source_top1', name: 'accuracy on the labelled source', ...share },
    split: 'source validation',
    of: (m) => ('source_top1' in m ? { value: m.source_top1 } : null),
  };
}

/** Names of what a gain is measured in. */
export const QUALITY_NAMES: Readonly<Record<string, string>> = {
  top1: 'accuracy',
  balanced_accuracy: 'balanced accuracy',
  cs5: 'share of ages within five years, CS(5)',
  map: 'mean average precision',
  source_top1: 'accuracy on the labelled source',
};
