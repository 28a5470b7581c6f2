/** How the model card says that a model is run. */
import type { Manifest } from '@ntaa/contracts';

/** What the program does with the output. */
const ANSWERS: Readonly<Record<string, string>> = {
  logits: `const { data } = outputs.logits;
console.log(labels[data.indexOf(Math.max(...data))]);`,
  age: `console.log(outputs.age.data[0].toFixed(1), 'years');`,
  embedding: `console.log(JSON.stringify([...outputs.embedding.data])); // of length 1: dot products are cosines`,
};

/** A line of the card's table. */
export function answerOf({ outputs, labels }: Pick<Manifest, 'outputs' | 'labels'>): string {
  const { name, shape } = outputs[0]!;
  if (name === 'age') return 'age in years';
  if (name === 'embedding')
    return `an embedding of ${shape.at(-1)} values and length 1; images of the same identity have a large dot product`;
  return `${labels.length} logits, one a class; softmax turns them into probabilities`;
}

/** Reads everything from manifest.json, so it holds for every bundle. The bundle's test runs it. */
export const usage = (output: string) => `## Running it

In the unpacked folder, after \`npm install onnxruntime-node sharp\`, save as \`predict.mjs\` and run \`node predict.mjs photo.jpg\`:

\`\`\`js
import { readFileSync } from 'node:fs';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import sharp from 'sharp';

const { labels, preprocessing: p } = JSON.parse(readFileSync('manifest.json', 'utf8'));
const { fit, kernel, background } = p;
const pixels = await sharp(process.argv[2]).autoOrient().flatten({ background }).toColourspace('srgb')
  .resize(p.width, p.height, { fit, kernel, background }).raw().toBuffer();
const area = p.width * p.height;
const image = Float32Array.from({ length: 3 * area }, (_, i) => {
  const c = Math.floor(i / area);
  return (pixels[(i % area) * 3 + c] * p.scale - p.mean[c]) / p.std[c];
});
const session = await InferenceSession.create('model.onnx');
const outputs = await session.run({ image: new Tensor('float32', image, [1, 3, p.height, p.width]) });
${ANSWERS[output]}
\`\`\`

\`tfjs/model.json\` is a TensorFlow.js GraphModel for browsers: \`tf.loadGraphModel\`, the same values as [N, H, W, 3]. \`model.safetensors\` holds the weights as trained, with the batch-norm statistics not yet folded into them.`;
