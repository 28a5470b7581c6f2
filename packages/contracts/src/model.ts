import { Type, type Static } from 'typebox';
import { Genotype, SearchSpace } from './genotype.js';
import { Id, Timestamp } from './ids.js';
import { Metrics } from './metrics.js';

/**
 * How an image file becomes the network's input, in sharp's vocabulary: auto-orient, flatten alpha on `background`,
 * sRGB, `resize(width, height, {fit, kernel, background})`, 8 bit; then `(x * scale - mean) / std` per channel.
 */
export const Preprocessing = Type.Object({
  width: Type.Integer(),
  height: Type.Integer(),
  channels: Type.Literal('RGB'),
  fit: Type.Union([Type.Literal('contain'), Type.Literal('cover'), Type.Literal('fill')]),
  kernel: Type.Union([
    Type.Literal('nearest'),
    Type.Literal('linear'),
    Type.Literal('cubic'),
    Type.Literal('lanczos3'),
  ]),
  background: Type.Object({ r: Type.Integer(), g: Type.Integer(), b: Type.Integer() }),
  scale: Type.Number(),
  mean: Type.Tuple([Type.Number(), Type.Number(), Type.Number()]),
  std: Type.Tuple([Type.Number(), Type.Number(), Type.Number()]),
});
export type Preprocessing = Static<typeof Preprocessing>;

export const Lineage = Type.Object({
  job: Type.String(),
  supernet: Type.String(),
  supernet_sha256: Type.String(),
  dataset: Type.String(),
  dataset_sha256: Type.String(),
  seed: Type.Integer(),
  engine: Type.String(),
  engine_reason: Type.Optional(Type.String({ description: 'Why this engine was chosen' })),
  version: Type.String(),
});
export type Lineage = Static<typeof Lineage>;

export const FileEntry = Type.Object({ path: Type.String(), sha256: Type.String(), size: Type.Integer() });
export type FileEntry = Static<typeof FileEntry>;

/** manifest.json of the downloaded bundle. */
export const Manifest = Type.Object({
  schema_version: Type.Literal(1),
  task: Type.String(),
  labels: Type.Array(Type.String()),
  preprocessing: Preprocessing,
  outputs: Type.Array(
    Type.Object({ name: Type.String(), shape: Type.Array(Type.Union([Type.String(), Type.Integer()])) }),
  ),
  genotype: Genotype,
  macs: Type.Number(),
  params: Type.Integer(),
  metrics: Metrics,
  lineage: Lineage,
  files: Type.Array(FileEntry),
});
export type Manifest = Static<typeof Manifest>;

export const Model = Type.Object(
  {
    id: Id('mdl'),
    object: Type.Literal('model'),
    task: Type.String(),
    labels: Type.Array(Type.String()),
    genotype: Genotype,
    macs: Type.Number(),
    params: Type.Integer(),
    metrics: Metrics,
    lineage: Lineage,
    preprocessing: Preprocessing,
    files: Type.Array(FileEntry),
    created_at: Timestamp,
  },
  { $id: 'Model' },
);
export type Model = Static<typeof Model>;

export const DOWNLOAD_FORMATS = ['onnx', 'tfjs', 'safetensors', 'bundle'] as const;
export type DownloadFormat = (typeof DOWNLOAD_FORMATS)[number];
/** What is kept of a model to be served. */
export type ModelFile = DownloadFormat | 'report';

export const Supernet = Type.Object(
  {
    id: Id('sn'),
    object: Type.Literal('supernet'),
    name: Type.String(),
    source: Type.String({ description: 'What it was pretrained on' }),
    paradigm: Type.String(),
    search_space: SearchSpace,
    architectures: Type.Number(),
    params: Type.Integer(),
    size_bytes: Type.Integer(),
    sha256: Type.String(),
    metrics: Type.Record(Type.String(), Type.Unknown()),
    builtin: Type.Boolean(),
    created_at: Timestamp,
  },
  { $id: 'Supernet' },
);
export type Supernet = Static<typeof Supernet>;

const Named = { filename: Type.String() };
const ClassPrediction = Type.Object({
  ...Named,
  label: Type.String(),
  confidence: Type.Number(),
  /** Probability of every class, in the order of the model's labels. */
  probabilities: Type.Array(Type.Object({ label: Type.String(), probability: Type.Number() })),
});
const AgePrediction = Type.Object({ ...Named, age: Type.Number({ description: 'Years' }) });
const EmbeddingPrediction = Type.Object({
  ...Named,
  embedding: Type.Array(Type.Number(), {
    description: 'Of length 1: the dot product of two is the cosine of their angle',
  }),
});
/** By the model's task. */
export const Prediction = Type.Union([ClassPrediction, AgePrediction, EmbeddingPrediction]);
export type Prediction = Static<typeof Prediction>;
