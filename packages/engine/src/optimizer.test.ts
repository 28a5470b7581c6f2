import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Rng } from '@ntaa/random';
import { ON_WASM, startTestEngine } from '../../../test/setup/engine.js';
import { emaUpdate, Gradients, memory, Sgd, tf, type Param } from './index.js';
import { uninstall } from './install.js';
import { native } from './native.js';
import { random } from './probe.js';

beforeAll(startTestEngine);

const SHAPES = [[3, 5], [7], [1, 1, 2, 3]];

function setup(rng: Rng): { params: Param[]; dispose: () => void } {
  const params = SHAPES.map((shape, i): Param => {
    const init = tf.tensor(random(rng, tf.util.sizeFromShape(shape)), shape);
    const variable = tf.variable(init);
    init.dispose();
    return { name: `p${i}`, variable, weightDecay: i === 0 ? 0.01 : 0, lrScale: i === 1 ? 5 : 1 };
  });
  return { params, dispose: () => params.forEach((p) => p.variable.dispose()) };
}

const gradients = (rng: Rng) =>
  Object.fromEntries(
    SHAPES.map((shape, i) => [`p${i}`, tf.tensor(random(rng, tf.util.sizeFromShape(shape)), shape)]),
  );

function summed(params: Param[], grads: Record<string, tf.Tensor>): Gradients {
  const sums = new Gradients(params);
  for (const [name, grad] of Object.entries(grads)) sums.add(name, grad);
  return sums;
}

function update(sgd: Sgd, params: Param[], grads: Record<string, tf.Tensor>, rate: number): void {
  const sums = summed(params, grads);
  sgd.step(params, sums, rate);
  sums.dispose();
}

/** The update rule in float64. */
function expected(params: Param[], steps: Record<string, tf.Tensor>[], nesterov: boolean, clip: number) {
  return params.map((p) => {
    const w = Float64Array.from(p.variable.dataSync());
    const v = new Float64Array(w.length);
    for (const grads of steps) {
      const norm = Math.hypot(...Object.values(grads).flatMap((g) => [...g.dataSync()]));
      const scale = Math.min(1, clip / norm);
      (grads[p.name] as tf.Tensor).dataSync().forEach((raw, i) => {
        const g = raw * scale + p.weightDecay * (w[i] as number);
        v[i] = 0.9 * (v[i] as number) + g;
        w[i] =
          (w[i] as number) - 0.1 * p.lrScale * (nesterov ? g + 0.9 * (v[i] as number) : (v[i] as number));
      });
    }
    return w;
  });
}

const close = (actual: ArrayLike<number>, wanted: ArrayLike<number>) =>
  Array.from(actual).forEach((v, i) => expect(v).toBeCloseTo(wanted[i] as number, 4));

describe.each(ON_WASM ? ['own kernels', 'stock kernels'] : ['stock kernels'])('%s', (mode) => {
  beforeAll(() => {
    if (mode === 'stock kernels') uninstall();
    expect(native() === undefined).toBe(mode === 'stock kernels');
  });

  test.each([
    [true, 1.5],
    [false, Infinity],
  ])('SGD, Nesterov %s, clip %s, equals float64 and leaks nothing', (nesterov, clipNorm) => {
    const before = memory().tensors;
    const rng = new Rng('sgd');
    const { params, dispose } = setup(rng);
    const steps = [gradients(rng), gradients(rng), gradients(rng)];
    const wanted = expected(params, steps, nesterov, clipNorm);
    const sgd = new Sgd({ momentum: 0.9, nesterov, clipNorm });
    for (const grads of steps) update(sgd, params, grads, 0.1);
    params.forEach((p, i) => close(p.variable.dataSync(), wanted[i] as Float64Array));
    sgd.dispose();
    dispose();
    steps.forEach((grads) => tf.dispose(grads));
    expect(memory().tensors).toBe(before);
  });

  test('saved momentum continues to the bit', () => {
    const run = (resume: boolean) => {
      const rng = new Rng('resume');
      const { params, dispose } = setup(rng);
      const opts = { momentum: 0.9, nesterov: true, clipNorm: 2 };
      let sgd = new Sgd(opts);
      for (let i = 0; i < 4; i++) {
        if (resume && i === 2) {
          const state = sgd.state();
          sgd.dispose();
          sgd = new Sgd(opts);
          sgd.load(state);
        }
        const grads = gradients(rng);
        update(sgd, params, grads, 0.1);
        tf.dispose(grads);
      }
      const weights = params.map((p) => [...p.variable.dataSync()]);
      sgd.dispose();
      dispose();
      return weights;
    };
    expect(run(true)).toEqual(run(false));
  });

  test('an update does not reach tensors that share the values', () => {
    const init = tf.tensor1d([1, 2, 3]);
    const variable = tf.variable(init);
    const clone = tf.clone(variable);
    const sgd = new Sgd({ momentum: 0, nesterov: false });
    const grads = { w: tf.ones([3]) };
    update(sgd, [{ name: 'w', variable, weightDecay: 0, lrScale: 1 }], grads, 0.5);
    expect([...variable.dataSync()]).toEqual([0.5, 1.5, 2.5]);
    expect([...init.dataSync()]).toEqual([1, 2, 3]);
    expect([...clone.dataSync()]).toEqual([1, 2, 3]);
    sgd.dispose();
    tf.dispose([init, variable, clone, grads.w]);
  });

  test('a parameter without gradient stays as it is; a wrong gradient is refused', () => {
    const variable = tf.variable(tf.tensor1d([1, 2]));
    const sgd = new Sgd({ momentum: 0.9, nesterov: true });
    const param = { name: 'w', variable, weightDecay: 0.1, lrScale: 1 };
    update(sgd, [param], {}, 1);
    expect([...variable.dataSync()]).toEqual([1, 2]);
    expect(() => summed([param], { w: tf.ones([3]) })).toThrow(/gradient of w/);
    expect(() => summed([param], { v: tf.ones([2]) })).toThrow(/no parameter is called v/);
    sgd.dispose();
  });

  test('gradients add up, are exchanged in one piece, and are forgotten', () => {
    const { params, dispose } = setup(new Rng('sums'));
    const before = memory().tensors;
    const grads = gradients(new Rng('grads'));
    const sums = summed(params, grads);
    sums.add('p1', grads['p1']!);
    const copy = new Float32Array(sums.size);
    sums.copyTo(copy);
    expect([...copy.slice(0, 15)]).toEqual([...grads['p0']!.dataSync()]);
    expect(copy[16]).toBe(2 * grads['p1']!.dataSync()[0]!);
    sums.assign(copy.map((v) => v / 2));
    const halved = new Float32Array(sums.size);
    sums.copyTo(halved);
    expect([...halved]).toEqual([...copy].map((v) => v / 2));
    sums.clear();
    expect(sums.has('p1')).toBe(false);
    sums.dispose();
    tf.dispose(grads);
    expect(memory().tensors).toBe(before);
    dispose();
  });

  test('moving average', () => {
    const [average, value] = [tf.variable(tf.tensor1d([0, 10])), tf.variable(tf.tensor1d([1, 20]))];
    emaUpdate([average], [value], 0.9);
    close(average.dataSync(), [0.1, 11]);
    expect(() => emaUpdate([average], [], 0.9)).toThrow(RangeError);
    tf.dispose([average, value]);
  });
});

afterAll(() => tf.disposeVariables());
