// E2: does an architecture's score inside the adapted supernet say how well it will do once its weights are its own?
// Beside recalibrated batch norms: statistics that are not its own, and multiply-accumulates alone as the null.
import { answers, calibrationSubset, predictAll, recalibrate } from '../packages/adaptation/lib/evaluate.js';
import { truthOf } from '../packages/adaptation/lib/target-data.js';
import { kendallTau, largest, meanOf, units } from '../packages/nas/lib/index.js';
import { Rng } from '../packages/random/lib/index.js';
import { BnStatistics, Supernet } from '../packages/supernet/lib/index.js';

const ARCHITECTURES = 12;
/** Share of a job's finetuning passes that each gets: a ranking needs less than a result. */
const SHARE = 0.4;

export async function experiment(lab, seeds) {
  const genotypes = lab.draw(ARCHITECTURES, [0, Infinity], 'ranking');
  const rows = [];
  for (const seed of seeds) {
    const { supernet: tensors, passes, mixing, transferPasses } = await lab.job(seed);
    const given = { seed, mixing, weights: { of: `job ${seed}`, tensors } };
    const tuned = [];
    for (const genotype of genotypes)
      tuned.push(
        await lab.trained(genotype, { ...given, passes: Math.round(SHARE * (passes - transferPasses)) }),
      );
    const scores = await lab.cached({ what: 'scores', seed, genotypes }, () =>
      scored(lab, seed, tensors, genotypes),
    );
    rows.push({ seed, scores, tuned: tuned.map(({ loss, top1, macs }) => ({ loss, top1, macs })) });
  }
  const finetuned = ({ tuned }) => tuned.map(({ loss }) => -loss);
  const against = (of) => rows.map((row) => kendallTau(of(row), finetuned(row)));
  const taus = {
    'supernet loss, batch norms recalibrated': against(({ scores }) => scores.map(({ on }) => -on.loss)),
    "supernet loss, the largest network's statistics": against(({ scores }) =>
      scores.map(({ off }) => -off.loss),
    ),
    'multiply-accumulates (the null)': against(({ tuned }) => tuned.map(({ macs }) => macs)),
    'finetuned quality of the other seeds (the ceiling)': rows.map((row) => {
      const others = rows.filter((other) => other !== row);
      const mean = genotypes.map((_, i) => meanOf(others.map((other) => finetuned(other)[i])));
      return kendallTau(mean, finetuned(row));
    }),
  };
  return {
    title: 'E2: ranking inside the supernet',
    kind: 'ranking',
    architectures: ARCHITECTURES,
    taus,
    rows,
  };
}

/** Loss and top-1 on validation images, which finetuning sees later but the test images of the comparison are not among. */
async function scored(lab, seed, tensors, genotypes) {
  const data = await lab.target(seed);
  const { train, validation } = data.splits;
  const calibration = calibrationSubset(train, seed);
  const net = Supernet.load(lab.space, tensors, data.labels.length, new Rng(seed, 'head'));
  const whole = recalibrate(net, largest(lab.space), data, calibration);
  const all = whole.tensors();
  whole.dispose();
  const truth = truthOf(data, validation);
  const judged = (predictions) => {
    const { summary } = lab.task.judge(predictions, truth);
    return { loss: summary.loss, top1: summary.top1 };
  };
  const result = genotypes.map((genotype) => {
    const own = answers(net, genotype, data, 'logits', validation, calibration);
    own.bn.dispose();
    const borrowed = BnStatistics.load(sliced(all, lab.space, genotype));
    const others = predictAll(net, genotype, borrowed, data, validation);
    borrowed.dispose();
    return { on: judged(own.predictions), off: judged(others) };
  });
  net.dispose();
  return result;
}

/** The first channels of each batch norm's statistics: what shared running statistics would be like at their best. */
function sliced(all, space, genotype) {
  const tensors = new Map();
  for (const { name, channelsOut } of units(space, genotype).flatMap(({ layers }) => layers))
    for (const key of ['mean', 'variance']) {
      const { data } = all.get(`${name}.bn.${key}`);
      tensors.set(`${name}.bn.${key}`, { shape: [channelsOut], data: data.slice(0, channelsOut) });
    }
  return tensors;
}
