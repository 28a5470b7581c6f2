// What bench/engine.mjs measures and compares. A task is {work, space, steps of genotypes, batch, resolution, sgd, ...}.
import { Distribution, largest, restrictResolutions, smallest, tinySpace, units } from '@ntaa/nas';
import { Rng } from '@ntaa/random';

const stage = (width, stride, ...kernels) => ({
  ...{ width, stride, activation: 'relu', minDepth: kernels.length },
  blocks: kernels.map((kernel) => ({ kernels: [kernel], expands: [4] })),
});
/** The reference network as a space of one architecture: 7 MBConv blocks, no head convolution, 9.6 MMACs at 32 px. */
const referenceSpace = {
  name: 'reference',
  resolutions: [28, 32, 64],
  stem: { width: 16, stride: 1, activation: 'relu' },
  stages: [stage(16, 1, 3), stage(24, 2, 5, 3), stage(40, 2, 5, 5), stage(64, 2, 3, 3)],
  head: { width: 64 },
};
const common = { outputs: 10, threads: 1, rate: 0.01 };

function reference(work, [batch, resolution], more) {
  const steps = [[{ ...largest(referenceSpace), resolution }]];
  const sgd = { momentum: 0.9, nesterov: false, weightDecay: 0, headRate: 1 };
  return { ...common, work, space: referenceSpace, steps, batch, resolution, sgd, ...more };
}

function tiny(work, steps, more) {
  const sgd = { momentum: 0.9, nesterov: true, clipNorm: 5, weightDecay: 1e-4, headRate: 2 };
  const evaluation = { calibration: 500, validation: 400 };
  const size = { batch: 64, resolution: 32 };
  return { ...common, work, space: tiny32, steps, ...size, ...evaluation, sgd, ...more };
}
const tiny32 = restrictResolutions(tinySpace, [32]);
const uniform = Distribution.uniform(tiny32);
const drawn = Array.from({ length: 8 }, (_, i) => uniform.sample(new Rng('bench engine', i)));
const sandwiches = [0, 2, 4, 6].map((i) => [largest(tiny32), smallest(tiny32), drawn[i], drawn[i + 1]]);
const frozen = {
  name: 'PyTorch folded, TorchScript frozen',
  layout: 'channels_last',
  work: 'folded',
  aside: true,
};

/** What is measured. `also`: further ways of ours to do it, which do not count; `aside`: of PyTorch. */
export const rows = [
  [64, 32],
  [16, 64],
  [32, 28],
].flatMap((size) => {
  const title = (what) => `${what}, batch ${size[0]}, ${size[1]} px`;
  const crew = size[0] === 64 ? [{ name: 'ours in two parts (Crew)', work: 'crew' }] : [];
  return [
    { name: title('train reference'), task: reference('train', size), memory: true, also: crew },
    { name: title('forward reference'), task: reference('forward', size), memory: true, aside: [frozen] },
  ];
});
rows.push(
  {
    name: 'train reference on 2 threads, batch 64, 32 px',
    // Ours clips and makes its batches from packed images besides; PyTorch is spared that.
    task: reference('train', [64, 32], { threads: 2 }),
    ours: { work: 'crew' },
    memory: true,
  },
  { name: 'tiny sandwich step, batch 64, 32 px', task: tiny('train', sandwiches), memory: true },
  {
    name: 'tiny candidate, 500 + 400 images, 32 px',
    task: tiny('candidates', [drawn.slice(0, 4)]),
    memory: true,
    unitImages: 4 * 900,
  },
);

/**
 * Tasks of torch_verify.py. Once as networks are; rounding then decides the sign of some inputs of ReLU, and so whether a
 * gradient is there at all. And once shifted so far from zero (in standard deviations) that it decides nothing. At such
 * a rate an update does not drown in the rounding of its weight.
 */
export const exact = [0, 4].flatMap((shift) => {
  const sizes = { batch: 32, calibration: 200, validation: 100, rate: 1000, work: 'verify' };
  const told = {
    ...sizes,
    shift,
    limits: { logits: 1e-4, updates: shift > 0 ? 1e-4 : 0.1, candidates: 1e-4 },
  };
  const whole = { ...largest(referenceSpace), resolution: 32 };
  const singles = [largest(tiny32), smallest(tiny32), drawn[0], drawn[1]];
  const steps = [...singles.map((genotype) => [genotype]), sandwiches[0]];
  const name = (network) => (shift > 0 ? `${network}, shifted` : network);
  return [
    [name('reference'), reference('', [64, 32], { ...told, candidates: [whole] })],
    [name('tiny'), tiny('', steps, { ...told, candidates: singles })],
  ];
});

/** The same for PyTorch, which is told layers instead of genotypes. */
export function forTorch(task) {
  const list = (genotype) => units(task.space, genotype);
  const { space, candidates } = task;
  const steps = task.steps.map((step) => step.map(list));
  return {
    ...task,
    full: list(largest(space)),
    steps,
    ...(candidates && { candidates: candidates.map(list) }),
  };
}
