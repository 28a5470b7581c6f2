/** Linear least squares with an L2 penalty. */

/**
 * Solves (XtX + lambda I) B = XtY by Cholesky. XtX is d x d, symmetric, XtY is d x k, both row-major; returns B,
 * d x k. Throws RangeError when the matrix is not positive definite: raise lambda.
 */
export function ridgeSolve(
  XtX: Float64Array | Float32Array,
  XtY: Float64Array | Float32Array,
  lambda: number,
): Float64Array {
  const d = Math.round(Math.sqrt(XtX.length));
  const k = XtY.length / d;
  if (d * d !== XtX.length || !Number.isInteger(k))
    throw new RangeError(`ridgeSolve: ${XtX.length} and ${XtY.length} values are not d x d and d x k`);
  const L = cholesky(XtX, lambda, d);
  const B = Float64Array.from(XtY);
  for (let i = 0; i < d; i++) {
    for (let j = 0; j < i; j++) subtractRow(B, i, j, L[i * d + j]!, k);
    divideRow(B, i, L[i * d + i]!, k);
  }
  for (let i = d - 1; i >= 0; i--) {
    for (let j = i + 1; j < d; j++) subtractRow(B, i, j, L[j * d + i]!, k);
    divideRow(B, i, L[i * d + i]!, k);
  }
  return B;
}

/** The lower triangle L with L Lt = A + lambda I. */
function cholesky(A: Float64Array | Float32Array, lambda: number, d: number): Float64Array {
  const L = new Float64Array(d * d);
  for (let i = 0; i < d; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = A[i * d + j]! + (i === j ? lambda : 0);
      for (let m = 0; m < j; m++) sum -= L[i * d + m]! * L[j * d + m]!;
      if (i !== j) L[i * d + j] = sum / L[j * d + j]!;
      else if (sum > 0) L[i * d + i] = Math.sqrt(sum);
      else throw new RangeError(`ridgeSolve: not positive definite with lambda ${lambda}; raise it`);
    }
  }
  return L;
}

function subtractRow(B: Float64Array, to: number, from: number, factor: number, k: number): void {
  for (let c = 0; c < k; c++) B[to * k + c]! -= factor * B[from * k + c]!;
}

function divideRow(B: Float64Array, row: number, divisor: number, k: number): void {
  for (let c = 0; c < k; c++) B[row * k + c]! /= divisor;
}
