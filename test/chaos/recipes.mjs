/** What the jobs of a run are asked for. Jobs of one recipe must give equal bytes. */

/**
 * Pictures of the test split that make the measurements of a pretraining worth a helper's start (STARTING_MACS in
 * packages/adaptation/src/pieces.ts: 1,200 would do), and long enough to be struck. None of them is trained on.
 */
const MEASURED = 3000;

/**
 * @param needs names of recipes that faults aim at.
 * @param upload makes a dataset of pictures; resolves with its id.
 * @returns `{ name, request }`
 */
export async function makeRecipes({ seed, jobs, needs, upload }) {
  const dataset = await upload({ count: 90 });
  const adapt = { kind: 'adapt', task: 'classification', dataset, baseline: false };
  const recipes = Array.from({ length: Math.max(1, Math.min(3, jobs >> 2)) }, (_, i) => ({
    name: 'plain',
    request: { ...adapt, baseline: i === 2, budget: { max_candidates: 3 + i }, seed: seed + i },
  }));
  if (needs.has('search')) {
    const more = { ...adapt, dataset: await upload({ count: 300 }), budget: { max_candidates: 40 }, seed };
    recipes.push({ name: 'search', request: { ...more, paradigm: 'linear-evaluation' } });
  }
  const pretrain = { kind: 'pretrain', dataset, budget: { max_epochs: 1 }, seed };
  if (needs.has('measure')) {
    const larger = await upload({ count: 90, tested: MEASURED });
    recipes.push({ name: 'measure', request: { ...pretrain, dataset: larger } });
  }
  return [...recipes, { name: 'pretrain', request: pretrain }];
}
