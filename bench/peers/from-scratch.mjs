// A network of a job's architecture trained in PyTorch from random weights (torch_tasks.py), judged by the task's own metrics.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { headOutputs, inputSize, taskSpace, tinySpace, units } from '../../packages/nas/lib/index.js';

const candidates = [process.env.NTAA_BENCH_PYTHON, 'python3', '/usr/bin/python3'].filter(Boolean);
const hasTorch = (python) =>
  spawnSync(python, ['-c', 'import torch, numpy'], { stdio: 'ignore' }).status === 0;

/** A Python with PyTorch, or nothing. */
export const findPython = () => candidates.find(hasTorch);

/**
 * @param peer what torch_tasks.py wants and is not known from `data`: {recipe, train, test: images, passes or seconds, rate?, threads}.
 * @returns {recipe, answers [n * outputs], epochs, seconds, version}.
 */
export function fromScratch({ python, name, data, genotype, seed, scratch }, { recipe = name, ...peer }) {
  const space = taskSpace(name, tinySpace, data.aspect);
  const out = join(scratch, 'answers.bin');
  const input = {
    ...{ task: recipe, seed, outputs: headOutputs(name, data.labels.length), out },
    ...{ units: units(space, genotype), ...inputSize(space, genotype) },
    ...{ packed: data.packs.get(genotype.resolution).handle.file, labels: [...data.labelOf] },
    ...{ mean: [...data.preprocessing.mean], std: [...data.preprocessing.std] },
    ...peer,
  };
  const program = fileURLToPath(new URL('./torch_tasks.py', import.meta.url));
  const { status, stdout, stderr } = spawnSync(python, [program], {
    ...{ input: `${JSON.stringify(input)}\n`, encoding: 'utf8', maxBuffer: 2 ** 26 },
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', OMP_NUM_THREADS: String(peer.threads) },
  });
  if (status !== 0) throw new Error(`PyTorch failed: ${stderr}`);
  const bytes = readFileSync(out);
  const answers = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  return { recipe, answers, ...JSON.parse(stdout.trim().split('\n').at(-1)) };
}
