/** A frozen network with batch norm folded into its convolutions, as plain data: what the exporters read. */
import { tf } from '@ntaa/engine';
import { countArchitectures, inputSize, largest, units, type ConvLayer } from '@ntaa/nas';
import { BN_EPSILON, type BnStatistics } from './batch-norm.js';
import { NECK } from './neck.js';
import type { Supernet } from './supernet.js';
import type { PlainTensor } from './tensors.js';

interface NodeBase {
  /** Unique in the graph; also the name of the node's output. */
  name: string;
  /** Names of nodes, or of the graph's input. */
  inputs: string[];
}

interface ConvNode extends NodeBase {
  /** Weight HWIO; HWC1 for depthwise. Every side is padded by `pad` zeros. */
  op: 'conv' | 'depthwise';
  weight: PlainTensor;
  bias: PlainTensor;
  stride: number;
  pad: number;
  activation: ConvLayer['activation'];
}

interface LinearNode extends NodeBase {
  op: 'linear';
  /** IO. */
  weight: PlainTensor;
  bias: PlainTensor;
}

/** x * scale + shift, [C] each. */
interface AffineNode extends NodeBase {
  op: 'affine';
  scale: PlainTensor;
  shift: PlainTensor;
}

interface PlainNode extends NodeBase {
  /** Softmax and normalisation to length 1 are over the last axis. */
  op: 'add' | 'global-average-pool' | 'softmax' | 'l2-normalise';
}

export type StaticNode = ConvNode | LinearNode | AffineNode | PlainNode;

/** What a delivered network gives: logits; an embedding of length 1; or the expectation over bins 0, 1, 2, ... */
export type Delivery = 'logits' | 'embedding' | 'expectation';

/** Vectors shorter than this are not stretched to length 1. */
export const LEAST_LENGTH = 1e-12;

export interface StaticGraph {
  /** One image batch [N, height, width, channels], normalised. */
  input: { name: string; width: number; height: number; channels: 3 };
  /** In an order in which they can be run. */
  nodes: StaticNode[];
  /** Name of the node whose output [N, K] is the network's, and K. */
  output: string;
  outputs: number;
}

/**
 * The static graph of a frozen network (see `extract`) with its calibrated statistics. Throws Error when the network's
 * space holds more than one architecture or the statistics are of another.
 */
export function fold(net: Supernet, bn: BnStatistics, delivery: Delivery = 'logits'): StaticGraph {
  if (countArchitectures(net.space) !== 1)
    throw new Error('only a frozen network has one static graph: extract one first');
  const weights = net.tensors();
  const moments = bn.tensors();
  const genotype = largest(net.space);
  const nodes: StaticNode[] = [];
  let at = 'image';
  const push = (node: StaticNode) => {
    nodes.push(node);
    at = node.name;
  };
  for (const { layers, residual } of units(net.space, genotype)) {
    const entry = at;
    for (const layer of layers) {
      bn.get(`${layer.name}.bn`, layer.channelsOut);
      const value = (key: string) => (weights.get(key) ?? moments.get(key))!.data;
      push({ ...foldedConv(layer, weights.get(`${layer.name}.weight`)!, value), inputs: [at] });
    }
    if (residual) push({ op: 'add', name: at.replace('project', 'add'), inputs: [at, entry] });
  }
  push({ op: 'global-average-pool', name: 'pool', inputs: [at] });
  for (const node of ending(net, bn, delivery)) push({ ...node, inputs: [at] });
  const outputs = { logits: net.outputs, embedding: net.space.head.width, expectation: 1 }[delivery];
  const input = { name: 'image', ...inputSize(net.space, genotype), channels: 3 as const };
  return { input, nodes, output: at, outputs };
}

/** What follows the pooling, in a row. */
function ending(net: Supernet, bn: BnStatistics, delivery: Delivery): StaticNode[] {
  const weights = net.tensors();
  const node = { inputs: [] };
  const result: StaticNode[] = net.space.head.neck ? [{ ...node, ...foldedNeck(net, bn) }] : [];
  if (delivery === 'embedding') return [...result, { ...node, op: 'l2-normalise', name: 'length-one' }];
  const weight = weights.get('classifier.weight')!;
  result.push({ ...node, op: 'linear', name: 'classifier', weight, bias: weights.get('classifier.bias')! });
  if (delivery === 'logits') return result;
  const bins = { shape: [net.outputs, 1], data: Float32Array.from({ length: net.outputs }, (_, k) => k) };
  const none = { shape: [1], data: new Float32Array(1) };
  result.push({ ...node, op: 'softmax', name: 'probabilities' });
  result.push({ ...node, op: 'linear', name: 'expectation', weight: bins, bias: none });
  return result;
}

function foldedNeck(net: Supernet, bn: BnStatistics): Omit<AffineNode, 'inputs'> {
  const { width } = net.space.head;
  bn.get(NECK, width);
  const [moments, gamma] = [bn.tensors(), net.tensors().get(`${NECK}.gamma`)!.data];
  const [mean, variance] = ['mean', 'variance'].map((key) => moments.get(`${NECK}.${key}`)!.data) as [
    Float32Array,
    Float32Array,
  ];
  const scale = gamma.map((value, c) => value / Math.sqrt(variance[c]! + BN_EPSILON));
  const shift = scale.map((value, c) => -value * mean[c]!);
  return {
    op: 'affine',
    name: 'neck',
    scale: { shape: [width], data: scale },
    shift: { shape: [width], data: shift },
  };
}

/** gamma (W x - mean) / sqrt(variance + eps) + beta as W' x + b', computed in double precision. */
function foldedConv(layer: ConvLayer, weight: PlainTensor, value: (key: string) => Float32Array): ConvNode {
  const { name, channelsOut, kernel, stride, activation } = layer;
  const bn = (key: string) => value(`${name}.bn.${key}`);
  const variance = bn('variance');
  const scale = Array.from(bn('gamma'), (gamma, c) => gamma / Math.sqrt(variance[c]! + BN_EPSILON));
  const mean = bn('mean');
  // The output channel is the last axis of HWIO, and of HWC1 up to an axis of one.
  const data = weight.data.map((w, i) => w * scale[i % channelsOut]!);
  const bias = bn('beta').map((beta, c) => beta - mean[c]! * scale[c]!);
  return {
    op: layer.depthwise ? 'depthwise' : 'conv',
    name,
    inputs: [],
    weight: { shape: weight.shape, data },
    bias: { shape: [channelsOut], data: bias },
    stride,
    pad: kernel >> 1,
    activation,
  };
}

/** Reference execution: images [N,R,R,3] to the output [N, outputs], which the caller disposes of. */
export function runStatic(graph: StaticGraph, x: tf.Tensor4D): tf.Tensor2D {
  return tf.tidy(() => {
    const values = new Map<string, tf.Tensor>([[graph.input.name, x]]);
    for (const node of graph.nodes)
      values.set(
        node.name,
        runNode(
          node,
          node.inputs.map((name) => values.get(name)!),
        ),
      );
    return values.get(graph.output) as tf.Tensor2D;
  });
}

function runNode(node: StaticNode, inputs: tf.Tensor[]): tf.Tensor {
  const x = inputs[0] as tf.Tensor4D;
  switch (node.op) {
    case 'add':
      return tf.add(x, inputs[1]!);
    case 'global-average-pool':
      return tf.mean(x, [1, 2]);
    case 'softmax':
      return tf.softmax(x as tf.Tensor);
    case 'l2-normalise':
      return tf.div(x, tf.maximum(tf.sqrt(tf.sum(tf.square(x), -1, true)), LEAST_LENGTH));
    case 'affine':
      return tf.add(tf.mul(x, tensor(node.scale)), tensor(node.shift));
    case 'linear':
      return tf.add(tf.matMul(x, tensor(node.weight)), tensor(node.bias));
    case 'conv':
    case 'depthwise': {
      const convolve = node.op === 'conv' ? tf.conv2d : tf.depthwiseConv2d;
      const weight = tensor(node.weight) as tf.Tensor4D;
      const y = tf.add(convolve(x, weight, node.stride, node.pad, 'NHWC', 1, 'floor'), tensor(node.bias));
      if (node.activation === 'relu') return tf.relu(y);
      return node.activation === 'hswish' ? tf.mul(y, tf.div(tf.relu6(tf.add(y, 3)), 6)) : y;
    }
  }
}

function tensor({ data, shape }: PlainTensor): tf.Tensor {
  return tf.tensor(data, shape);
}
