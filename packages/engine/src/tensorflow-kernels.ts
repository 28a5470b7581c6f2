/**
 * What tfjs-node 4.22 leaves out of TensorFlow: batch norm in training as one operation, and convolutions and their
 * gradients with padding in numbers, which TensorFlow takes and tfjs-node refuses.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Activation } from './ops.js';

const NORM = 'NtaaFusedBatchNorm';

interface Attr {
  name: string;
  type: number;
  value: number | boolean | string | number[];
}

/** tfjs-node's backend: it runs any TensorFlow operation on tensors that stay where they are. */
interface NodeBackend extends tf.KernelBackend {
  binding: Record<'TF_FLOAT' | `TF_ATTR_${'TYPE' | 'INT' | 'FLOAT' | 'BOOL' | 'STRING'}`, number>;
  executeSingleOutput(name: string, attrs: Attr[], inputs: tf.TensorInfo[]): tf.Tensor;
  executeMultipleOutputs(name: string, attrs: Attr[], inputs: tf.TensorInfo[], outputs: number): tf.Tensor[];
}

const isFloat = ({ binding }: NodeBackend, name: string): Attr => ({
  name,
  type: binding.TF_ATTR_TYPE,
  value: binding.TF_FLOAT,
});

function normAttrs(backend: NodeBackend, epsilon: number): Attr[] {
  const { binding } = backend;
  return [
    isFloat(backend, 'T'),
    isFloat(backend, 'U'),
    { name: 'epsilon', type: binding.TF_ATTR_FLOAT, value: epsilon },
    { name: 'data_format', type: binding.TF_ATTR_STRING, value: 'NHWC' },
    { name: 'is_training', type: binding.TF_ATTR_BOOL, value: true },
  ];
}

/** [y, mean, variance (biased)] and three tensors that only the gradient understands. */
function norm(backend: NodeBackend, inputs: tf.NamedTensorInfoMap, epsilon: number): tf.Tensor[] {
  const { x, gamma, beta } = inputs as Record<'x' | 'gamma' | 'beta', tf.TensorInfo>;
  return tf.tidy(() => {
    // No running statistics go in.
    const none = tf.tensor1d([]);
    const given = [x, gamma, beta, none, none];
    const attrs = normAttrs(backend, epsilon);
    const [y, mean, unbiased, ...reserved] = backend.executeMultipleOutputs(
      'FusedBatchNormV3',
      attrs,
      given,
      6,
    );
    const count = tf.util.sizeFromShape(x.shape) / gamma.shape[0]!;
    return [y!, mean!, tf.mul(unbiased!, Math.max(1, count - 1) / count), ...reserved];
  });
}

function normGradient(backend: NodeBackend, saved: tf.Tensor[], dy: tf.Tensor, epsilon: number): tf.Tensor[] {
  const [x, gamma, ...reserved] = saved as [tf.Tensor, tf.Tensor, ...tf.Tensor[]];
  const attrs = normAttrs(backend, epsilon);
  const given = [dy, x, gamma, ...reserved];
  const [dx, dgamma, dbeta, ...rest] = backend.executeMultipleOutputs(
    'FusedBatchNormGradV3',
    attrs,
    given,
    5,
  );
  tf.dispose(rest);
  return [dx!, dgamma!, dbeta!];
}

const nodeBackend = () => tf.backend() as unknown as NodeBackend;

/** relu with TensorFlow's own gradient: the stock one makes a mask first. */
const relu = tf.customGrad((x, save) => {
  const y = tf.relu(x as tf.Tensor);
  (save as tf.GradSaveFunc)([y]);
  return {
    value: y,
    gradFunc: (dy: tf.Tensor, [y]: tf.Tensor[]) => {
      const backend = nodeBackend();
      return backend.executeSingleOutput('ReluGrad', [isFloat(backend, 'T')], [dy, y!]);
    },
  };
});

/** x * relu6(x + 3) / 6, keeping x alone for the gradient. */
const hswish = tf.customGrad((x, save) => {
  (save as tf.GradSaveFunc)([x as tf.Tensor]);
  return {
    value: tf.mul(x as tf.Tensor, gate(x as tf.Tensor)),
    gradFunc: (dy: tf.Tensor, [x]: tf.Tensor[]) =>
      tf.tidy(() => {
        const backend = nodeBackend();
        const throughGate = tf.mul(tf.mul(dy, x!), 1 / 6);
        const inside = [throughGate, tf.add(x!, 3)];
        const slope = backend.executeSingleOutput('Relu6Grad', [isFloat(backend, 'T')], inside);
        return tf.add(tf.mul(dy, gate(x!)), slope);
      }),
  };
});

const gate = (x: tf.Tensor) => tf.mul(tf.relu6(tf.add(x, 3)), 1 / 6);

const ACTIVATIONS = { linear: (x: tf.Tensor) => x, relu, hswish };

/** batchNorm of ops.ts on a native engine. */
export function batchNorm(
  x: tf.Tensor4D,
  gamma: tf.Tensor1D,
  beta: tf.Tensor1D,
  { epsilon, activation }: { epsilon: number; activation: Activation },
): { y: tf.Tensor4D; mean: tf.Tensor1D; variance: tf.Tensor1D } {
  const outputs = tf.engine().runKernel(NORM, { x, gamma, beta }, { epsilon }) as unknown as tf.Tensor[];
  const [z, mean, variance, ...reserved] = outputs;
  tf.dispose(reserved);
  const y = ACTIVATIONS[activation](z!);
  if (y !== z) z!.dispose();
  return { y: y as tf.Tensor4D, mean: mean as tf.Tensor1D, variance: variance as tf.Tensor1D };
}

interface ConvAttrs {
  strides: number | [number, number];
  pad: number | 'same' | 'valid' | tf.backend_util.ExplicitPadding;
  dilations?: number | [number, number];
  dimRoundingMode?: 'floor' | 'round' | 'ceil';
  dataFormat?: 'NHWC' | 'NCHW';
  inputShape?: Shape4D;
  filterShape?: Shape4D;
}

type Shape4D = [number, number, number, number];

const CONVOLUTIONS = ['Conv2D', 'DepthwiseConv2dNative'].flatMap((name) =>
  (['', 'BackpropInput', 'BackpropFilter'] as const).map((part) => ({ name: `${name}${part}`, part })),
);
type Part = (typeof CONVOLUTIONS)[number]['part'];

/** Shapes of the input and of the filter, one of which a gradient only has as an attribute. */
function shapes(part: Part, inputs: tf.NamedTensorInfoMap, attrs: ConvAttrs): [Shape4D, Shape4D] {
  const of = (name: string) => inputs[name]!.shape as Shape4D;
  if (part === 'BackpropInput') return [attrs.inputShape!, of('filter')];
  return [of('x'), part === 'BackpropFilter' ? attrs.filterShape! : of('filter')];
}

/** A convolution or a gradient of one with padding in numbers; undefined for other padding, which tfjs-node can do. */
function convolution(
  { name, part }: (typeof CONVOLUTIONS)[number],
  { inputs, attrs, backend }: { inputs: tf.NamedTensorInfoMap; attrs: ConvAttrs; backend: NodeBackend },
): tf.Tensor | undefined {
  if (attrs.dataFormat === 'NCHW' || attrs.pad === 'same' || attrs.pad === 'valid' || attrs.pad === 0)
    return undefined;
  const [inputShape, filterShape] = shapes(part, inputs, attrs);
  const { strides, pad, dilations, dimRoundingMode } = attrs;
  const info = tf.backend_util.computeConv2DInfo(
    ...([inputShape, filterShape, strides, dilations ?? 1, pad, dimRoundingMode] as const),
    name.startsWith('Depthwise'),
  );
  const { top, bottom, left, right } = info.padInfo;
  const { TF_ATTR_INT, TF_ATTR_STRING } = backend.binding;
  const opAttrs: Attr[] = [
    isFloat(backend, 'T'),
    { name: 'strides', type: TF_ATTR_INT, value: [1, info.strideHeight, info.strideWidth, 1] },
    { name: 'padding', type: TF_ATTR_STRING, value: 'EXPLICIT' },
    { name: 'explicit_paddings', type: TF_ATTR_INT, value: [0, 0, top, bottom, left, right, 0, 0] },
    { name: 'data_format', type: TF_ATTR_STRING, value: 'NHWC' },
    { name: 'dilations', type: TF_ATTR_INT, value: [1, info.dilationHeight, info.dilationWidth, 1] },
  ];
  const run = (...given: tf.TensorInfo[]) => backend.executeSingleOutput(name, opAttrs, given);
  const { x, filter, dy } = inputs as Record<'x' | 'filter' | 'dy', tf.TensorInfo>;
  if (part === '') return run(x, filter);
  return tf.tidy(() =>
    part === 'BackpropInput'
      ? run(tf.tensor1d(inputShape, 'int32'), filter, dy)
      : run(x, tf.tensor1d(filterShape, 'int32'), dy),
  );
}

/** Registers all this, once tfjs-node's own kernels are there; twice does no harm. */
export function registerNativeKernels(): void {
  if (tf.getKernel(NORM, 'tensorflow')) return;
  tf.registerKernel({
    kernelName: NORM,
    backendName: 'tensorflow',
    kernelFunc: ({ inputs, attrs, backend }) =>
      norm(backend as NodeBackend, inputs, (attrs as unknown as { epsilon: number }).epsilon),
  });
  tf.registerGradient({
    kernelName: NORM,
    inputsToSave: ['x', 'gamma'],
    outputsToSave: [false, false, false, true, true, true],
    // At once: TensorFlow.js runs the closure of each input in a scope of its own.
    gradFunc: (dys, saved, attrs) => {
      const dy = (dys as tf.Tensor[])[0]!;
      const { epsilon } = attrs as unknown as { epsilon: number };
      const [dx, dgamma, dbeta] = normGradient(nodeBackend(), saved, dy, epsilon) as [
        tf.Tensor,
        tf.Tensor,
        tf.Tensor,
      ];
      return { x: () => dx, gamma: () => dgamma, beta: () => dbeta };
    },
  });
  for (const kind of CONVOLUTIONS) {
    const stock = tf.getKernel(kind.name, 'tensorflow');
    tf.unregisterKernel(kind.name, 'tensorflow');
    tf.registerKernel({
      ...stock,
      kernelFunc: ({ inputs, attrs, backend }) =>
        convolution(kind, {
          inputs,
          attrs: attrs as unknown as ConvAttrs,
          backend: backend as NodeBackend,
        }) ?? stock.kernelFunc({ inputs, attrs: attrs ?? {}, backend }),
    });
  }
}
