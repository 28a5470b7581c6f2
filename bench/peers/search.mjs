// A process of bench/fanout.mjs --ceiling: a search by linear evaluation without any service, on one thread. It says when it is
// ready, is told to go, and tells how long the search took, s.
import { readFileSync } from 'node:fs';
import { adapt, prepareTarget } from '../../packages/adaptation/lib/index.js';
import { decodeCheckpoint } from '../../packages/adaptation/lib/checkpoint.js';
import { initEngine } from '../../packages/engine/lib/index.js';
import { builtinSupernet } from '../../packages/supernet/lib/index.js';

const { folder, scratch, packed, probes } = JSON.parse(process.argv[2]);
await initEngine('wasm');
const { card, tensors } = builtinSupernet();
const data = await prepareTarget({
  images: async () => `${folder}/images.bin`,
  index: JSON.parse(readFileSync(`${folder}/index.json`, 'utf8')),
  ...{ seed: 1, space: card.space, scratch, packed: new Map(packed) },
});
const ignored = () => undefined;
const told = new Promise((done) => process.once('message', done));
process.send('ready');
await told;
let search;
await adapt({
  request: {
    ...{ kind: 'adapt', task: 'classification', paradigm: 'linear-evaluation', dataset: 'ds_0', seed: 1 },
    ...{ baseline: false, budget: { max_candidates: probes } },
  },
  ...{ startedAt: Date.now(), data, space: card.space, source: tensors, threads: 1 },
  ports: {
    ...{ progress: ignored, events: ignored, candidates: ignored, now: () => Date.now() },
    // What comes after the search is not wanted.
    wanted: () => (search === undefined ? 'run' : 'cancel'),
    checkpoint: {
      load: async () => null,
      async save(bytes) {
        const { phase, seconds } = decodeCheckpoint(bytes).state;
        if (phase !== 'search') search ??= seconds.search;
      },
    },
  },
}).catch((error) => {
  if (search === undefined) throw error;
});
process.send({ search });
