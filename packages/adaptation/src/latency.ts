import type { Genotype } from '@ntaa/contracts';
import { tf } from '@ntaa/engine';
import { cost, Distribution, inputSize, largest, ridgeSolve, smallest } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { calibrate, extract, type Supernet } from '@ntaa/supernet';

/** Milliseconds of one image on this machine's engine: base, per million MACs, per block; and the least time measured. */
export type LatencyModel = readonly [number, number, number, number];

const SAMPLES = 12;
const REPEATS = 7;

/** Times extracted networks of all sizes on one image each and fits the model to the medians. */
export function measureLatency(net: Supernet, seed: number): LatencyModel {
  const uniform = Distribution.uniform(net.space);
  const genotypes = [largest(net.space), smallest(net.space)];
  for (let i = 0; i < SAMPLES; i++) genotypes.push(uniform.sample(new Rng(seed, 'latency', i)));
  const gram = new Float64Array(9);
  const cross = new Float64Array(3);
  let least = Infinity;
  for (const genotype of genotypes) {
    const x = featuresOf(net, genotype);
    const y = timeOf(net, genotype);
    least = Math.min(least, y);
    x.forEach((a, i) => {
      cross[i]! += a * y;
      x.forEach((b, j) => (gram[3 * i + j]! += a * b));
    });
  }
  const [base = 0, perMac = 0, perBlock = 0] = ridgeSolve(gram, cross, 1e-6);
  return [base, perMac, perBlock, least];
}

/** Predicted milliseconds for one image. A noisy fit may dip below what the fastest network really took: it did not. */
export function latencyOf(
  [base, perMac, perBlock, least]: LatencyModel,
  net: Pick<Supernet, 'space' | 'outputs'>,
  genotype: Genotype,
): number {
  const [, macs = 0, blocks = 0] = featuresOf(net, genotype);
  return Math.max(least, base + perMac * macs + perBlock * blocks);
}

function featuresOf(net: Pick<Supernet, 'space' | 'outputs'>, genotype: Genotype): number[] {
  const blocks = genotype.stages.reduce((sum, stage) => sum + stage.length, 0);
  return [1, cost(net.space, genotype, net.outputs).macs / 1e6, blocks];
}

function timeOf(net: Supernet, genotype: Genotype): number {
  const single = extract(net, genotype);
  const { width, height } = inputSize(net.space, genotype);
  const image = tf.zeros([1, height, width, 3]) as tf.Tensor4D;
  const bn = calibrate(single, genotype, [image]);
  const times: number[] = [];
  for (let i = 0; i < REPEATS; i++) {
    const began = performance.now();
    const logits = tf.tidy(() => single.forward(image, genotype, bn).logits);
    logits.dataSync();
    times.push(performance.now() - began);
    logits.dispose();
  }
  tf.dispose(image);
  bn.dispose();
  single.dispose();
  return times.sort((a, b) => a - b)[REPEATS >> 1]!;
}
