// E4: is an architecture that was searched on a domain the better one there? The best that each domain's searches found, finetuned on
// each, always with the weights of the domain's own adapted supernet: the diagonal should win.
const DOMAINS = ['emoji', 'mnist'];

export async function experiment(lab, seeds) {
  const parts = [];
  for (const set of DOMAINS)
    for (const searched of DOMAINS) {
      const results = [];
      for (const seed of seeds) {
        const { supernet: tensors, passes, mixing, transferPasses } = await lab.job(seed, { set });
        const { found: genotype } = await lab.job(seed, { set: searched });
        const weights = { of: `job ${seed}`, tensors };
        results.push(
          await lab.trained(genotype, { seed, set, weights, passes: passes - transferPasses, mixing }),
        );
      }
      const about = `on ${set}, the architecture that was searched on ${searched}`;
      parts.push({ name: `${set}-from-${searched}`, about, own: set === searched, results });
    }
  const together = (own) => parts.filter((part) => part.own === own).flatMap(({ results }) => results);
  return {
    title: 'E4: architectures across domains',
    arms: [
      { name: 'own', about: 'searched on the domain itself', results: together(true) },
      { name: 'other', about: 'searched on the other domain', results: together(false) },
    ],
    parts,
    reference: 'own',
    primary: 'other',
    extra: DOMAINS.map((set) => {
      const other = DOMAINS.find((name) => name !== set);
      return [`${set}-from-${set}`, `${set}-from-${other}`, `on ${set}`];
    }),
  };
}
