import { Type, type Static } from 'typebox';

const Share = (description: string) => Type.Number({ minimum: 0, maximum: 1, description });
const Interval = (description = '95% Wilson interval') =>
  Type.Tuple([Type.Number(), Type.Number()], { description });

/** How a model does on the test images that share a value of another column of the dataset. */
export const Slice = Type.Object({
  column: Type.String({ description: 'age_band, gender, camera, domain, or a further column of labels.csv' }),
  value: Type.String(),
  images: Type.Integer(),
  accuracy: Share('Images of the slice answered correctly; for ages: within five years'),
  accuracy_interval: Interval(),
  mae: Type.Optional(Type.Number({ description: 'Years, for ages' })),
});
export type Slice = Static<typeof Slice>;
const Slices = Type.Optional(Type.Array(Slice));

const classified = {
  top1: Type.Number({ description: 'Accuracy, 0..1' }),
  top1_interval: Interval(),
  top5: Type.Number(),
  balanced_accuracy: Type.Number({ description: 'Mean over the classes of the share classified correctly' }),
  loss: Type.Number({ description: 'Mean cross-entropy, nats' }),
  ece: Type.Optional(
    Share('Expected calibration error: mean distance of confidence and accuracy over 15 bins of confidence'),
  ),
  calibration: Type.Optional(
    Type.Array(
      Type.Object({
        images: Type.Integer(),
        confidence: Share('Mean confidence of the answers'),
        accuracy: Share('Answers that were right'),
      }),
      { description: 'Those bins of confidence that hold images, least confident first' },
    ),
  ),
  confusion: Type.Optional(
    Type.Array(Type.Array(Type.Integer()), {
      description: 'Images of class i (row) classified as j (column); up to 100 classes',
    }),
  ),
  slices: Slices,
  images: Type.Integer(),
};
export const ClassificationMetrics = Type.Object(classified);
export type ClassificationMetrics = Static<typeof ClassificationMetrics>;

export const AgeMetrics = Type.Object({
  mae: Type.Number({ description: 'Mean absolute error, years' }),
  mae_interval: Interval('95% interval of the mean, normal approximation'),
  cs5: Share('Cumulative score: images whose age is estimated to within five years'),
  cs5_interval: Interval(),
  constant_mae: Type.Number({
    description: 'Error of always answering the median age of the training images',
  }),
  slices: Slices,
  images: Type.Integer(),
});
export type AgeMetrics = Static<typeof AgeMetrics>;

export const ReidMetrics = Type.Object({
  map: Share('Mean average precision over the queries, by the Market-1501 protocol'),
  map_interval: Interval('95% interval of the mean over queries, normal approximation'),
  rank1: Share('Queries whose first answer is right (CMC)'),
  rank1_interval: Interval(),
  rank5: Share('CMC'),
  rank10: Share('CMC'),
  queries: Type.Integer({ description: 'With a match by another camera; the others are skipped' }),
  skipped_queries: Type.Integer(),
  gallery: Type.Integer(),
  identities: Type.Integer(),
  protocol: Type.Union([Type.Literal('given'), Type.Literal('all-to-all')], {
    description: 'Queries and gallery as the dataset names them, or every image asked against all others',
  }),
  images: Type.Integer(),
});
export type ReidMetrics = Static<typeof ReidMetrics>;

/** Of domain adaptation: what can be known without labels, and what held-out labels say afterwards. */
export const AdaptationMetrics = Type.Object({
  source_top1: Share('Accuracy on validation images of the labelled source'),
  confidence: Share('Mean probability of the answer on test images of the target'),
  information: Type.Number({
    description: 'Information maximisation on the target, nats: entropy of the mean answer less mean entropy',
  }),
  oracle: Type.Union([ClassificationMetrics, Type.Null()], {
    description:
      'On test images of the target whose labels are known, computed once after everything was decided; null when none is',
  }),
  images: Type.Integer(),
});
export type AdaptationMetrics = Static<typeof AdaptationMetrics>;

/** By task: `classification` and `gender-recognition`, `age-estimation`, `re-identification`, `domain-adaptation`. */
export const Metrics = Type.Union([ClassificationMetrics, AgeMetrics, ReidMetrics, AdaptationMetrics]);
export type Metrics = Static<typeof Metrics>;
