// E5: without training a weight. Linear evaluation (a frozen supernet, a closed-form probe for every candidate) from the
// built-in supernet and from one pretrained on the target's own training images without their labels, beside the supervised
// job. What it saves in time depends on the clock and is measured by `npm run bench -- linear`.
import { collectArms } from './arms.mjs';

/** Of the pretraining without labels. */
const UNLABELLED_EPOCHS = 20;

export async function experiment(lab, seeds) {
  const { add, list } = collectArms();
  for (const seed of seeds) {
    const supervised = await lab.job(seed);
    add('supervised', 'the supervised job', supervised);
    const builtin = await lab.probed(seed, { of: 'source', tensors: lab.builtin.tensors });
    add('linear', 'linear evaluation of the built-in supernet', builtin);
    const own = await lab.unlabelled(seed, UNLABELLED_EPOCHS);
    add(
      'self-supervised',
      'linear evaluation of a supernet from unlabelled images',
      await lab.probed(seed, own),
    );
    add('random', 'linear evaluation of random weights', await lab.probed(seed, lab.random(seed)));
  }
  return {
    title: 'E5: linear evaluation and pretraining without labels',
    arms: list(),
    reference: 'supervised',
    primary: 'linear',
    extra: [
      ['self-supervised', 'random', 'pretraining without labels, on the target itself'],
      ['linear', 'self-supervised', 'formula-driven images with labels against the target without'],
    ],
    notes: ['What linear evaluation saves in time is measured by `npm run bench -- linear` (docs/tasks.md).'],
  };
}
