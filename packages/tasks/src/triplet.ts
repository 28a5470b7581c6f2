/** Batch-hard triplet loss (Hermans et al., 2017). */

/**
 * For every image of a batch the farthest one of its class and the nearest of another must differ by `margin` in
 * Euclidean distance. Mean over the images that have both, and its gradient in the features [n * width].
 */
export function batchHardTriplet(
  features: Float32Array,
  labels: ArrayLike<number>,
  margin: number,
): { loss: number; gradient: Float32Array } {
  const n = labels.length;
  const width = features.length / n;
  const distance = distances(features, n, width);
  const gradient = new Float32Array(features.length);
  const triplets: [number, number, number][] = [];
  let loss = 0;
  let anchors = 0;
  for (let a = 0; a < n; a++) {
    let [p, q] = [-1, -1];
    for (let i = 0; i < n; i++) {
      if (i === a) continue;
      if (labels[i] === labels[a]) {
        if (p < 0 || distance[a * n + i]! > distance[a * n + p]!) p = i;
      } else if (q < 0 || distance[a * n + i]! < distance[a * n + q]!) q = i;
    }
    if (p < 0 || q < 0) continue;
    anchors += 1;
    const excess = distance[a * n + p]! - distance[a * n + q]! + margin;
    if (!(excess > 0)) continue;
    loss += excess;
    triplets.push([a, p, q]);
  }
  if (anchors === 0) return { loss: 0, gradient };
  const pull = (a: number, b: number, sign: number) => {
    const scale = sign / anchors / Math.max(distance[a * n + b]!, 1e-6);
    for (let c = 0; c < width; c++) {
      const step = scale * (features[a * width + c]! - features[b * width + c]!);
      gradient[a * width + c]! += step;
      gradient[b * width + c]! -= step;
    }
  };
  for (const [a, p, q] of triplets) {
    pull(a, p, 1);
    pull(a, q, -1);
  }
  return { loss: loss / anchors, gradient };
}

function distances(features: Float32Array, n: number, width: number): Float64Array {
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < i; j++) {
      let squares = 0;
      for (let c = 0; c < width; c++) squares += (features[i * width + c]! - features[j * width + c]!) ** 2;
      out[i * n + j] = out[j * n + i] = Math.sqrt(squares);
    }
  return out;
}
