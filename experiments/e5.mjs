// E5: without training a weight. Linear evaluation (a frozen supernet, a closed-form probe for every candidate) from the
// built-in supernet and from one pretrained on the target's own training images without their labels, beside the supervised
// job: quality, and seconds of the search.

/** Epochs of the pretraining without labels: image passes cost it about what they cost the supervised transfer. */
const UNLABELLED_EPOCHS = 20;

export async function experiment(lab, seeds) {
  const arms = new Map();
  const add = (name, about, result) => {
    if (!arms.has(name)) arms.set(name, { name, about, results: [] });
    arms.get(name).results.push(result);
  };
  const times = [];
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
    times.push({ seed, supervised: supervised.seconds, linear: builtin.seconds, pretraining: own.seconds });
  }
  return {
    title: 'E5: linear evaluation and pretraining without labels',
    arms: [...arms.values()],
    reference: 'supervised',
    primary: 'linear',
    extra: [
      ['self-supervised', 'random', 'pretraining without labels, on the target itself'],
      ['linear', 'self-supervised', 'formula-driven images with labels against the target without'],
    ],
    notes: seconds(times),
  };
}

/** Search: what comes before finetuning, transfer and candidates; of linear evaluation, candidates and the finalists' probes. */
function seconds(times) {
  const row = ({ seed, supervised, linear, pretraining }) => {
    const searched = (supervised.transfer ?? 0) + (supervised.search ?? 0);
    const probed = (linear.search ?? 0) + (linear.race ?? 0);
    const shown = [searched, probed, searched / probed, pretraining].map((value) => value.toFixed(1));
    return `| ${seed} | ${shown.join(' | ')} |`;
  };
  return [
    'Seconds of one run each, on a machine that may have done other work beside it:',
    '',
    '| seed | supervised search | linear evaluation | times as fast | pretraining without labels |',
    '|---|---|---|---|---|',
    ...times.map(row),
  ];
}
