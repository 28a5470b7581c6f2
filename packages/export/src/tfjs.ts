/**
 * Writes a static graph as a TensorFlow.js GraphModel: model.json and weight shards, NHWC.
 *
 * A GraphModel and not a LayersModel, because Keras layers have neither h-swish nor explicit padding of a convolution,
 * while a graph has both as plain operators; it also needs tfjs-converter alone, and its fused operators (convolution,
 * bias and ReLU in one kernel) are what the browser backends run fastest.
 */
import { LEAST_LENGTH, type PlainTensor, type StaticGraph, type StaticNode } from '@ntaa/supernet';
import { bytesOf, valueNames } from './layout.js';
import { safeJson } from './text.js';

/** The shard size of TensorFlow's own converter, bytes. */
const SHARD_BYTES = 4 * 1024 * 1024;

type Attribute =
  | { s: string }
  | { i: string }
  | { b: boolean }
  | { type: string }
  | { shape: unknown }
  | { list: { i?: string[]; s?: string[] } };

interface GraphNode {
  name: string;
  op: string;
  input: string[];
  attr: Record<string, Attribute>;
}

interface Weight {
  name: string;
  shape: number[];
  dtype: 'float32' | 'int32';
  data: Float32Array | Int32Array;
}

interface Fragment {
  nodes: GraphNode[];
  weights: Weight[];
}

/**
 * File name to bytes: model.json, then the shards it names. Input `image` float32 [N, H, W, 3] with any N, output
 * `output` [N, K]. `metadata` is stored as userDefinedMetadata. Equal arguments give equal bytes.
 */
export function encodeTfjs(
  graph: StaticGraph,
  output: string,
  metadata: Readonly<Record<string, unknown>>,
): Map<string, Uint8Array> {
  const { width, height, channels } = graph.input;
  const imageShape = dims([-1, height, width, channels]);
  const names = valueNames(graph, output);
  const fragments = [constants(graph), ...graph.nodes.map((node) => convert(node, names))];
  const weights = fragments.flatMap((fragment) => fragment.weights);
  const shards = split(weights);
  const model = {
    format: 'graph-model',
    generatedBy: 'ntaa',
    convertedBy: null,
    signature: {
      inputs: { image: { name: 'image:0', dtype: 'DT_FLOAT', tensorShape: imageShape } },
      outputs: {
        [output]: { name: `${output}:0`, dtype: 'DT_FLOAT', tensorShape: dims([-1, graph.outputs]) },
      },
    },
    userDefinedMetadata: metadata,
    modelTopology: {
      node: [
        { name: 'image', op: 'Placeholder', input: [], attr: { ...FLOAT, shape: { shape: imageShape } } },
        ...weights.map(constantNode),
        ...fragments.flatMap((fragment) => fragment.nodes),
      ],
      library: {},
      versions: {},
    },
    weightsManifest: [
      {
        paths: [...shards.keys()],
        weights: weights.map(({ name, shape, dtype }) => ({ name, shape, dtype })),
      },
    ],
  };
  return new Map([['model.json', Buffer.from(safeJson(model))], ...shards]);
}

const FLOAT = { dtype: { type: 'DT_FLOAT' } } as const;
const T = { T: { type: 'DT_FLOAT' } } as const;

function convert(node: StaticNode, names: ReadonlyMap<string, string>): Fragment {
  const inputs = node.inputs.map((name) => names.get(name)!);
  const result = names.get(node.name)!;
  switch (node.op) {
    case 'add':
      return { nodes: [operator('AddV2', inputs, result)], weights: [] };
    case 'global-average-pool':
      return {
        nodes: [operator('Mean', [inputs[0]!, 'const/axes'], result, { keep_dims: { b: false } })],
        weights: [],
      };
    case 'softmax':
      return { nodes: [operator('Softmax', inputs, result)], weights: [] };
    case 'affine': {
      const weights = [weight(`${node.name}/scale`, node.scale), weight(`${node.name}/shift`, node.shift)];
      const scaled = `${result}/scaled`;
      const nodes = [
        operator('Mul', [inputs[0]!, weights[0]!.name], scaled),
        operator('AddV2', [scaled, weights[1]!.name], result),
      ];
      return { nodes, weights };
    }
    case 'l2-normalise': {
      const [square, sum, root, length] = ['square', 'sum', 'root', 'length'].map(
        (part) => `${result}/${part}`,
      ) as [...[string, string, string, string]];
      const nodes = [
        operator('Mul', [inputs[0]!, inputs[0]!], square),
        operator('Sum', [square, 'const/last'], sum, { keep_dims: { b: true } }),
        operator('Sqrt', [sum], root),
        operator('Maximum', [root, 'const/least'], length),
        operator('RealDiv', [inputs[0]!, length], result),
      ];
      return { nodes, weights: [] };
    }
    case 'linear': {
      const weights = [weight(`${node.name}/weight`, node.weight), weight(`${node.name}/bias`, node.bias)];
      const attr = {
        transpose_a: { b: false },
        transpose_b: { b: false },
        num_args: { i: '1' },
        fused_ops: text('BiasAdd'),
      };
      const nodes = [
        operator('_FusedMatMul', [inputs[0]!, ...weights.map(({ name }) => name)], result, attr),
      ];
      return { nodes, weights };
    }
    case 'conv':
    case 'depthwise':
      return convolution(node, inputs[0]!, result);
  }
}

type Convolution = Extract<StaticNode, { op: 'conv' | 'depthwise' }>;

function convolution(node: Convolution, input: string, result: string): Fragment {
  const { pad, stride, activation } = node;
  const weights = [weight(`${node.name}/weight`, node.weight), weight(`${node.name}/bias`, node.bias)];
  const linear = activation === 'hswish' ? `${result}/linear` : result;
  const op = node.op === 'conv' ? '_FusedConv2D' : 'FusedDepthwiseConv2dNative';
  const attr = {
    strides: integers([1, stride, stride, 1]),
    dilations: integers([1, 1, 1, 1]),
    data_format: string('NHWC'),
    padding: string(pad === 0 ? 'VALID' : 'EXPLICIT'),
    explicit_paddings: integers(pad === 0 ? [] : [0, 0, pad, pad, pad, pad, 0, 0]),
    num_args: { i: '1' },
    fused_ops: activation === 'relu' ? text('BiasAdd', 'Relu') : text('BiasAdd'),
  };
  const nodes = [operator(op, [input, ...weights.map(({ name }) => name)], linear, attr)];
  if (activation === 'hswish')
    // x * relu6(x + 3) / 6
    nodes.push(
      operator('AddV2', [linear, 'const/three'], `${result}/shifted`),
      operator('Relu6', [`${result}/shifted`], `${result}/gate`),
      operator('Mul', [linear, `${result}/gate`], `${result}/gated`),
      operator('Mul', [`${result}/gated`, 'const/sixth'], result),
    );
  return { nodes, weights };
}

/** What several nodes read. */
function constants({ nodes }: StaticGraph): Fragment {
  const normalised: Weight[] = nodes.some(({ op }) => op === 'l2-normalise')
    ? [
        { name: 'const/last', shape: [1], dtype: 'int32', data: Int32Array.of(1) },
        { name: 'const/least', shape: [], dtype: 'float32', data: Float32Array.of(LEAST_LENGTH) },
      ]
    : [];
  return {
    nodes: [],
    weights: [
      ...normalised,
      { name: 'const/axes', shape: [2], dtype: 'int32', data: Int32Array.of(1, 2) },
      { name: 'const/three', shape: [], dtype: 'float32', data: Float32Array.of(3) },
      { name: 'const/sixth', shape: [], dtype: 'float32', data: Float32Array.of(1 / 6) },
    ],
  };
}

function operator(
  op: string,
  input: string[],
  name: string,
  attr: Record<string, Attribute> = {},
): GraphNode {
  return { name, op, input, attr: { ...T, ...attr } };
}

function weight(name: string, { shape, data }: PlainTensor): Weight {
  return { name, shape, dtype: 'float32', data };
}

function constantNode({ name, shape, dtype }: Weight): GraphNode {
  const type = dtype === 'float32' ? 'DT_FLOAT' : 'DT_INT32';
  return { name, op: 'Const', input: [], attr: { dtype: { type }, shape: { shape: dims(shape) } } };
}

// Protobuf's JSON: 64-bit integers are strings, byte strings are base64.
const dims = (shape: readonly number[]) => ({ dim: shape.map((size) => ({ size: String(size) })) });
const base64 = (value: string) => Buffer.from(value).toString('base64');
const string = (value: string): Attribute => ({ s: base64(value) });
const text = (...values: string[]): Attribute => ({ list: { s: values.map(base64) } });
const integers = (values: number[]): Attribute => ({ list: { i: values.map(String) } });

/** All values one after another, cut into shards named as TensorFlow's converter names them. */
function split(weights: readonly Weight[]): Map<string, Uint8Array> {
  const bytes = Buffer.concat(weights.map(({ data }) => bytesOf(data)));
  const count = Math.ceil(bytes.length / SHARD_BYTES);
  return new Map(
    Array.from({ length: count }, (_, i) => [
      `group1-shard${i + 1}of${count}.bin`,
      bytes.subarray(i * SHARD_BYTES, (i + 1) * SHARD_BYTES),
    ]),
  );
}
