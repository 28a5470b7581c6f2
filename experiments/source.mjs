// The architecture that does best in the source domain, for "WP&F with the source-best architecture": of 48 drawn within
// the hand-designed one's multiply-accumulates, and that one, the least loss of a closed-form probe on source images.
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { evaluateCandidate } from '../packages/adaptation/lib/evaluate.js';
import { channelStatistics, FormulaSource, PackedImages } from '../packages/data/lib/index.js';
import { Rng } from '../packages/random/lib/index.js';
import { Supernet } from '../packages/supernet/lib/index.js';

/** Classes and images of each: classes that the built-in supernet was trained on, in instances it has not seen. */
const SOURCE = { classes: 40, images: 60, firstInstance: 100_000, drawn: 48 };

/** The same for all seeds: it knows nothing of a target. */
export function sourceBest(lab) {
  return lab.cached({ what: 'source-best', ...SOURCE }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ntaa-source-'));
    const { data, exam } = drawSource(folder, lab.settings.resolution);
    const net = Supernet.load(lab.space, lab.builtin.tensors, SOURCE.classes, new Rng(0, 'head'));
    const judged = [lab.hand, ...lab.draw(SOURCE.drawn, [0, 1], 'source')].map((genotype) => ({
      genotype,
      ...evaluateCandidate(net, genotype, data, lab.task, exam),
    }));
    net.dispose();
    data.packs.get(lab.settings.resolution).close();
    rmSync(folder, { recursive: true });
    const best = judged.reduce((a, b) => (b.loss < a.loss ? b : a));
    return { genotype: best.genotype, loss: best.loss, quality: best.quality, hand: judged[0].quality };
  });
}

function drawSource(folder, size) {
  const { classes, images, firstInstance } = SOURCE;
  const count = classes * images;
  const source = new FormulaSource({ classes, size, seed: 0 });
  const file = join(folder, 'source.bin');
  const out = openSync(file, 'w');
  const image = new Uint8Array(size * size * 3);
  for (let i = 0; i < count; i++) {
    source.render(i % classes, firstInstance + Math.floor(i / classes), image);
    writeSync(out, image);
  }
  closeSync(out);
  const packed = new PackedImages(file, count, size, size);
  const all = Array.from({ length: count }, (_, i) => i);
  const [train, validation] = [all.slice(0, count / 2), all.slice(count / 2)];
  const labels = Array.from({ length: classes }, (_, k) => `formula ${k}`);
  const { mean, std } = channelStatistics(packed, train);
  const data = {
    ...{ labels, labelOf: Float32Array.from(all, (i) => i % classes), packs: new Map([[size, packed]]) },
    ...{ splits: { train, validation, test: [] }, preprocessing: { scale: 1 / 255, mean, std } },
  };
  return { data, exam: { calibration: train.slice(0, 500), validation, probe: train } };
}
