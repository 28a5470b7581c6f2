/** A frozen network with batch norm folded into its convolutions, as plain data: what the exporters read. */
import { tf } from '@ntaa/engine';
import { countArchitectures, largest, units, type ConvLayer } from '@ntaa/nas';
import { BN_EPSILON, type BnStatistics } from './batch-norm.js';
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

interface PlainNode extends NodeBase {
  op: 'add' | 'global-average-pool';
}

export type StaticNode = ConvNode | LinearNode | PlainNode;

export interface StaticGraph {
  /** One image batch [N, resolution, resolution, channels], normalised. */
  input: { name: string; resolution: number; channels: 3 };
  /** In an order in which they can be run. */
  nodes: StaticNode[];
  /** Name of the node whose output [N, outputs] are the logits. */
  output: string;
}

/**
 * The static graph of a frozen network (see `extract`) with its calibrated statistics. Throws Error when the network's
 * space holds more than one architecture or the statistics are of another.
 */
export function fold(net: Supernet, bn: BnStatistics): StaticGraph {
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
  const weight = weights.get('classifier.weight')!;
  const bias = weights.get('classifier.bias')!;
  push({ op: 'linear', name: 'classifier', inputs: [at], weight, bias });
  return { input: { name: 'image', resolution: genotype.resolution, channels: 3 }, nodes, output: at };
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

/** Reference execution: images [N,R,R,3] to logits [N, outputs], which the caller disposes of. */
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
