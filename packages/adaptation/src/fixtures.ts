/** For tests: an image set of 240 drawings for every task, and a search space that trains in seconds. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SearchSpace } from '@ntaa/contracts';
import { PackedImages } from '@ntaa/data';
import { Rng } from '@ntaa/random';
import type { TargetData } from './target-data.js';

const SIDE = 16;
const blocks = [1, 2].map(() => ({ kernels: [3, 5], expands: [2, 3] }));
export const TEST_SPACE: SearchSpace = {
  name: 'test',
  resolutions: [SIDE],
  stem: { width: 8, stride: 2, activation: 'relu' },
  stages: [8, 16].map((width) => ({ width, stride: 2, activation: 'relu', minDepth: 1, blocks })),
  head: { width: 24, activation: 'relu' },
};
/** Stripes across, stripes along, or a checkerboard, with noise. */
function draw(kind: number, rng: Rng): Uint8Array {
  const phase = rng.int(4);
  return Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) => {
    const [x, y] = [Math.floor(i / 3) % SIDE, Math.floor(i / 3 / SIDE)];
    const on = [(x + phase) & 2, (y + phase) & 2, ((x + phase) & 2) ^ ((y + phase) & 2)][kind]!;
    return Math.max(0, Math.min(255, (on ? 170 : 90) + 45 * rng.normal()));
  });
}

export interface DrawnTarget {
  data: TargetData;
  close(): void;
}

/** Three classes of drawings, 120 to train on, 60 for validation, 60 for the test. */
export function drawnTarget(): DrawnTarget {
  const scratch = mkdtempSync(join(tmpdir(), 'ntaa-adapt-'));
  const n = 240;
  const labelOf = Float32Array.from({ length: n }, (_, i) => i % 3);
  const file = join(scratch, 'packed.bin');
  writeFileSync(file, Buffer.concat([...labelOf].map((label, i) => draw(label, new Rng('stripes', i)))));
  const all = Array.from({ length: n }, (_, i) => i);
  const data: TargetData = {
    labels: ['across', 'along', 'checks'],
    labelOf,
    splits: { train: all.slice(0, 120), validation: all.slice(120, 180), test: all.slice(180) },
    packs: new Map([[SIDE, new PackedImages(file, n, SIDE, SIDE)]]),
    preprocessing: {
      channels: 'RGB',
      fit: 'contain',
      kernel: 'lanczos3',
      background: { r: 255, g: 255, b: 255 },
      scale: 1 / 255,
      mean: [0.5, 0.5, 0.5],
      std: [0.25, 0.25, 0.25],
    },
    policy: { flip: false, rotate: 0, scale: 0, translate: 0.1, color: 0.1, erase: 0, fill: 'edge' },
  };
  const close = (): void => {
    for (const packed of data.packs.values()) packed.close();
    rmSync(scratch, { recursive: true, force: true });
  };
  return { data, close };
}

/** The same images for another task: 24 identities by two cameras; years; a source of 90 images and a target of 150. */
export const TASK_TARGETS: Record<string, (drawn: TargetData) => Partial<TargetData>> = {
  're-identification': () => ({
    labels: Array.from({ length: 18 }, (_, k) => `p${k}`),
    labelOf: Float32Array.from({ length: 240 }, (_, i) => Math.floor(i / 10)),
    cameraOf: Int32Array.from({ length: 240 }, (_, i) => i % 2),
    roleOf: new Uint8Array(240),
  }),
  'age-estimation': (data) => ({
    labels: [],
    labelOf: data.labelOf.map((label) => 10 + 30 * label),
    guess: 40,
  }),
  'domain-adaptation': (data) => {
    const all = Array.from({ length: 240 }, (_, i) => i);
    return {
      labelOf: data.labelOf.map((label, i) => (i < 90 ? label : NaN)),
      unlabelled: Uint8Array.from(all, (i) => Number(i >= 90)),
      splits: {
        train: all.filter((i) => i % 5 < 3),
        validation: all.filter((i) => i % 5 === 3),
        test: all.filter((i) => i % 5 === 4 && i >= 90),
      },
    };
  },
};
