import { Type, type Static } from 'typebox';

/** Inverted-bottleneck block: depthwise kernel size and expansion ratio. */
export const Block = Type.Object(
  { kernel: Type.Integer({ minimum: 1 }), expand: Type.Integer({ minimum: 1 }) },
  { additionalProperties: false },
);
export type Block = Static<typeof Block>;

/** An architecture of a search space: its input's width (px; see SearchSpace.aspect) and, per stage, its active blocks in order. */
export const Genotype = Type.Object(
  {
    space: Type.String(),
    resolution: Type.Integer({ minimum: 1 }),
    stages: Type.Array(Type.Array(Block, { minItems: 1 })),
  },
  { additionalProperties: false },
);
export type Genotype = Static<typeof Genotype>;

export const Activation = Type.Union([Type.Literal('relu'), Type.Literal('hswish')]);
export type Activation = Static<typeof Activation>;

/** One stage: its first block has `stride`, the others 1. Blocks past `minDepth` may be left out, from the tail. */
export const StageSpace = Type.Object({
  width: Type.Integer({ minimum: 1 }),
  stride: Type.Integer({ minimum: 1, maximum: 2 }),
  activation: Activation,
  minDepth: Type.Integer({ minimum: 1 }),
  /** Choices of each block position; the array's length is the greatest depth. Ascending lists. */
  blocks: Type.Array(
    Type.Object({
      kernels: Type.Array(Type.Integer(), { minItems: 1 }),
      expands: Type.Array(Type.Integer(), { minItems: 1 }),
    }),
    { minItems: 1 },
  ),
});
export type StageSpace = Static<typeof StageSpace>;

/**
 * A search space as data: 3x3 stem, MBConv stages, 1x1 head convolution (or none), global average pooling, linear
 * classifier.
 * A space with exactly one choice everywhere is a plain static architecture.
 */
export const SearchSpace = Type.Object({
  name: Type.String(),
  resolutions: Type.Array(Type.Integer({ minimum: 8 }), { minItems: 1 }),
  /** Height of the input over its width, which is the resolution. Without it inputs are square. */
  aspect: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
  stem: Type.Object({ width: Type.Integer(), stride: Type.Integer(), activation: Activation }),
  stages: Type.Array(StageSpace, { minItems: 1 }),
  head: Type.Object({
    width: Type.Integer(),
    /** Of the head convolution. Without it there is none, and `width` is the last stage's. */
    activation: Type.Optional(Activation),
    /** Batch norm between pooled features and classifier (BNNeck); such a network is delivered without its classifier. */
    neck: Type.Optional(Type.Boolean()),
  }),
});
export type SearchSpace = Static<typeof SearchSpace>;

/** What an architecture costs: multiply-accumulates for one image, trainable parameters, float32 bytes. */
export const Cost = Type.Object({ macs: Type.Number(), params: Type.Integer(), size_bytes: Type.Integer() });
export type Cost = Static<typeof Cost>;
