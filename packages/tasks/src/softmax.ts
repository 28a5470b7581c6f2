/** Softmax and cross-entropies of rows [n * outputs], in plain JavaScript: outputs are few. */

/** log(sum(exp(row))), safe for large logits. */
export function logSumExp(row: Float32Array): number {
  const max = row.reduce((a, b) => Math.max(a, b), -Infinity);
  return max + Math.log(row.reduce((sum, value) => sum + Math.exp(value - max), 0));
}

/** Row by row, of logits divided by the temperature. */
export function softmaxRows(logits: Float32Array, outputs: number, temperature = 1): Float32Array {
  const out = new Float32Array(logits.length);
  for (let row = 0; row < logits.length; row += outputs) {
    let [max, sum] = [-Infinity, 0];
    for (let k = row; k < row + outputs; k++) max = Math.max(max, logits[k]!);
    for (let k = row; k < row + outputs; k++) sum += out[k] = Math.exp((logits[k]! - max) / temperature);
    for (let k = row; k < row + outputs; k++) out[k]! /= sum;
  }
  return out;
}

/** Mean cross entropy against soft targets [n * outputs], and its gradient in the logits. */
export function crossEntropy(
  logits: Float32Array,
  targets: Float32Array,
  outputs: number,
): { loss: number; gradient: Float32Array } {
  const n = logits.length / outputs;
  const p = softmaxRows(logits, outputs);
  let loss = 0;
  const gradient = p.map((value, i) => {
    if (targets[i]! > 0) loss -= targets[i]! * Math.log(Math.max(value, 1e-30));
    return (value - targets[i]!) / n;
  });
  return { loss: loss / n, gradient };
}

/** Entropy of a row of probabilities, nats. */
export const entropy = (p: Float32Array): number =>
  p.reduce((sum, value) => (value > 0 ? sum - value * Math.log(value) : sum), 0);

/** Position of the largest value. */
export const argmax = (row: ArrayLike<number>): number => {
  let best = 0;
  for (let k = 1; k < row.length; k++) if (row[k]! > row[best]!) best = k;
  return best;
};
