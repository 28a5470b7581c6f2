/** Writes a static graph as ONNX (opset 17, IR 8): NCHW, explicit pads, one float32 input and one output. */
import { LEAST_LENGTH, type StaticGraph, type StaticNode } from '@ntaa/supernet';
import onnxProto from 'onnx-proto';
import { bytesOf, transpose, valueNames } from './layout.js';

const { onnx } = onnxProto;
const { AttributeProto, ModelProto, TensorProto } = onnx;

const OPSET = 17;
const IR_VERSION = 8;

/** A part of the ONNX graph: the operators of one node, in order, and the constants they read. */
interface Fragment {
  nodes: onnxProto.onnx.INodeProto[];
  constants: onnxProto.onnx.ITensorProto[];
}

/**
 * The bytes of model.onnx: input `image` float32 [N, 3, H, W] with any N, output `output` [N, K]. `metadata` becomes
 * the model's metadata_props, in the order given. Equal arguments give equal bytes.
 */
export function encodeOnnx(
  graph: StaticGraph,
  output: string,
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const names = valueNames(graph, output);
  const fragments = graph.nodes.map((node) => convert(node, names));
  const { width, height, channels } = graph.input;
  return ModelProto.encode({
    irVersion: IR_VERSION,
    producerName: 'ntaa',
    opsetImport: [{ domain: '', version: OPSET }],
    metadataProps: Object.entries(metadata).map(([key, value]) => ({ key, value })),
    graph: {
      name: 'ntaa',
      node: fragments.flatMap((fragment) => fragment.nodes),
      initializer: fragments.flatMap((fragment) => fragment.constants),
      input: [describe('image', ['N', channels, height, width])],
      output: [describe(output, ['N', graph.outputs])],
    },
  }).finish();
}

function convert(node: StaticNode, names: ReadonlyMap<string, string>): Fragment {
  const inputs = node.inputs.map((name) => names.get(name)!);
  const result = names.get(node.name)!;
  switch (node.op) {
    case 'add':
      return { nodes: [operator('Add', inputs, result)], constants: [] };
    case 'global-average-pool': {
      const pooled = `${result}/pooled`;
      return {
        nodes: [operator('GlobalAveragePool', inputs, pooled), operator('Flatten', [pooled], result)],
        constants: [],
      };
    }
    case 'softmax':
      return { nodes: [operator('Softmax', inputs, result, [int('axis', -1)])], constants: [] };
    case 'affine': {
      const { scale, shift } = node;
      const constants = [
        constant(`${node.name}/scale`, scale.shape, scale.data),
        constant(`${node.name}/shift`, shift.shape, shift.data),
      ];
      const scaled = `${result}/scaled`;
      const nodes = [
        operator('Mul', [inputs[0]!, constants[0]!.name!], scaled),
        operator('Add', [scaled, constants[1]!.name!], result),
      ];
      return { nodes, constants };
    }
    case 'l2-normalise': {
      const least = constant(`${node.name}/least`, [], Float32Array.of(LEAST_LENGTH));
      const [length, divisor] = [`${result}/length`, `${result}/divisor`];
      const nodes = [
        operator('ReduceL2', inputs, length, [ints('axes', [-1]), int('keepdims', 1)]),
        operator('Max', [length, least.name!], divisor),
        operator('Div', [inputs[0]!, divisor], result),
      ];
      return { nodes, constants: [least] };
    }
    case 'linear': {
      const constants = [
        constant(`${node.name}/weight`, node.weight.shape, node.weight.data),
        constant(`${node.name}/bias`, node.bias.shape, node.bias.data),
      ];
      return { nodes: [operator('Gemm', [inputs[0]!, ...constants.map((c) => c.name!)], result)], constants };
    }
    case 'conv':
    case 'depthwise':
      return convolution(node, inputs[0]!, result);
  }
}

type Convolution = Extract<StaticNode, { op: 'conv' | 'depthwise' }>;

function convolution(node: Convolution, input: string, result: string): Fragment {
  const { weight, bias, stride, pad, activation } = node;
  const [height, width] = weight.shape as [number, number];
  // HWIO to OIHW; a depthwise HWC1 becomes C1HW, one group a channel.
  const order = node.op === 'conv' ? [3, 2, 0, 1] : [2, 3, 0, 1];
  const turned = transpose(weight, order);
  const constants = [
    constant(`${node.name}/weight`, turned.shape, turned.data),
    constant(`${node.name}/bias`, bias.shape, bias.data),
  ];
  const linear = activation === 'linear' ? result : `${result}/linear`;
  const nodes = [
    operator('Conv', [input, ...constants.map((c) => c.name!)], linear, [
      ints('dilations', [1, 1]),
      int('group', node.op === 'conv' ? 1 : turned.shape[0]!),
      ints('kernel_shape', [height, width]),
      ints('pads', [pad, pad, pad, pad]),
      ints('strides', [stride, stride]),
    ]),
  ];
  if (activation !== 'linear')
    nodes.push(operator(activation === 'relu' ? 'Relu' : 'HardSwish', [linear], result));
  return { nodes, constants };
}

function operator(
  opType: string,
  input: string[],
  output: string,
  attribute: onnxProto.onnx.IAttributeProto[] = [],
): onnxProto.onnx.INodeProto {
  return { opType, name: output, input, output: [output], attribute };
}

function int(name: string, value: number): onnxProto.onnx.IAttributeProto {
  return { name, type: AttributeProto.AttributeType.INT, i: value };
}

function ints(name: string, values: number[]): onnxProto.onnx.IAttributeProto {
  return { name, type: AttributeProto.AttributeType.INTS, ints: values };
}

function constant(name: string, dims: number[], data: Float32Array): onnxProto.onnx.ITensorProto {
  return { name, dims, dataType: TensorProto.DataType.FLOAT, rawData: bytesOf(data) };
}

function describe(name: string, shape: readonly (string | number)[]): onnxProto.onnx.IValueInfoProto {
  const dim = shape.map((size) => (typeof size === 'string' ? { dimParam: size } : { dimValue: size }));
  return { name, type: { tensorType: { elemType: TensorProto.DataType.FLOAT, shape: { dim } } } };
}
