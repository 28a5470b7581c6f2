/** What a job recorded of its own learning, for people: nothing is decided by it. */
import { Type, type Static } from 'typebox';
import { Genotype } from './genotype.js';

/** Mean training loss over parts of a schedule of about equal length. */
export const LossCurve = Type.Object({
  network: Type.Union(
    [Type.Literal('supernet'), Type.Literal('finalist'), Type.Literal('chosen'), Type.Literal('baseline')],
    {
      description:
        'The largest network of the supernet during transfer; the chosen one; weights-only adaptation. In jobs of older versions: a finalist that was not chosen',
    },
  ),
  images: Type.Array(Type.Number(), { description: 'Image passes of this training at the end of each part' }),
  loss: Type.Array(Type.Number(), { description: "The task's training objective, mean over each part" }),
});
export type LossCurve = Static<typeof LossCurve>;

export const LearningCurves = Type.Object({
  loss: Type.Array(LossCurve),
  /** Architectures judged together, with the shared weights as they were then. */
  judged: Type.Array(
    Type.Object({
      images: Type.Number({ description: 'Image passes of the transfer until then' }),
      count: Type.Integer(),
      best: Type.Number({ description: 'Greatest quality on validation images among them' }),
      mean: Type.Number(),
    }),
  ),
});
export type LearningCurves = Static<typeof LearningCurves>;

const Quality = (description: string) =>
  Type.Union([Type.Number(), Type.Null()], { description: `${description}; null: not measured` });
const Pair = (weights: string) =>
  Type.Object({
    reference: Quality(`The reference architecture with ${weights}`),
    chosen: Quality(`The chosen architecture with ${weights}`),
  });

/** The search's best architecture beside that of weights-only adaptation, both with the transferred weights. */
export const Choice = Type.Object({
  genotype: Genotype,
  macs: Type.Number(),
  less: Type.Number({
    description:
      "Its validation loss less the reference's: the mean over images. For domain adaptation: ranks",
  }),
  error: Type.Union([Type.Number(), Type.Null()], {
    description: 'Standard error of that difference, image by image; null: of a single image there is none',
  }),
  taken: Type.Boolean({ description: 'Whether the difference was enough to prefer it to the reference' }),
});
export type Choice = Static<typeof Choice>;

/**
 * Where the gain came from: two architectures under the weights of the source and under those of the joint transfer,
 * and the chosen one after the first part of its finetuning. All on the same validation images, which no network
 * measured here was trained on; the chosen architecture was selected on them.
 */
export const Gain = Type.Object({
  metric: Type.String({ description: 'What is measured: top1, balanced_accuracy, cs5, map or source_top1' }),
  images: Type.Integer({ description: 'Validation images' }),
  reference: Type.Object({ genotype: Genotype, macs: Type.Number() }),
  source_weights: Pair('source weights and a fitted classifier'),
  transferred_weights: Pair('the weights inherited from the transferred supernet'),
  finetuned: Quality('The chosen architecture after a part of its finetuning'),
  finetuned_share: Type.Number({ description: 'That part, of the whole schedule, 0..1' }),
  choice: Type.Optional(
    Type.Union([Choice, Type.Null()], {
      description: "null: the search's best is the reference itself. Absent: they were not compared",
    }),
  ),
});
export type Gain = Static<typeof Gain>;
