/**
 * The Market-1501 protocol (Zheng et al., ICCV 2015): every query ranks the gallery; images of its own identity by its
 * own camera are dropped, and queries without any other image of their identity are skipped. Average precision is the
 * mean, over the matches, of the precision at their place.
 */
export interface Boxes {
  /** Of length 1 each, [n * width]. */
  embeddings: Float32Array;
  identities: ArrayLike<number>;
  cameras: ArrayLike<number>;
  /** 0 none, 1 query, 2 gallery. Without any query every image is asked against all others. */
  roles?: ArrayLike<number> | undefined;
}

export interface Ranking {
  /** Of each query that is not skipped. */
  precisions: Float32Array;
  /** Place of its first match, from 0. */
  places: Int32Array;
  skipped: number;
  gallery: number;
  protocol: 'given' | 'all-to-all';
}

/** Memory grows with the gallery, time with queries times gallery. Ties count against us. */
export function rankGallery({ embeddings, identities, cameras, roles }: Boxes): Ranking {
  const n = identities.length;
  const width = embeddings.length / n;
  const all = Array.from({ length: n }, (_, i) => i);
  const given = roles !== undefined && all.some((i) => roles[i] === 1);
  const queries = given ? all.filter((i) => roles[i] === 1) : all;
  const gallery = given ? all.filter((i) => roles[i] === 2) : all;
  const precisions: number[] = [];
  const places: number[] = [];
  const likeness = new Float64Array(n);
  for (const query of queries) {
    const same = (i: number) => identities[i] === identities[query];
    const ranked = gallery.filter((i) => !(same(i) && cameras[i] === cameras[query]));
    if (!ranked.some(same)) continue;
    for (const i of ranked) {
      let dot = 0;
      for (let c = 0; c < width; c++) dot += embeddings[query * width + c]! * embeddings[i * width + c]!;
      likeness[i] = Number.isNaN(dot) ? -Infinity : dot;
    }
    ranked.sort((a, b) => likeness[b]! - likeness[a]! || Number(same(a)) - Number(same(b)) || a - b);
    let [matches, sum] = [0, 0];
    ranked.forEach((i, place) => {
      if (!same(i)) return;
      matches += 1;
      sum += matches / (place + 1);
      if (matches === 1) places.push(place);
    });
    precisions.push(sum / matches);
  }
  return {
    precisions: Float32Array.from(precisions),
    places: Int32Array.from(places),
    skipped: queries.length - precisions.length,
    gallery: gallery.length,
    protocol: given ? 'given' : 'all-to-all',
  };
}

/** Rows of length 1; broken ones and those of length 0 stay as they are. */
export function unitRows(features: Float32Array, width: number): Float32Array {
  const out = features.slice();
  for (let row = 0; row < out.length; row += width) {
    let squares = 0;
    for (let c = row; c < row + width; c++) squares += out[c]! ** 2;
    const length = Math.sqrt(squares);
    if (length > 0) for (let c = row; c < row + width; c++) out[c]! /= length;
  }
  return out;
}
