/** Linear least squares with an L2 penalty. */

/**
 * Solves (XtX + lambda I) B = XtY by Cholesky. XtX is d x d, symmetric (its lower triangle is read), XtY is d x k, both
 * row-major; returns B, d x k. Throws RangeError when the matrix is not positive definite: raise lambda.
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

/** Rows at a time: so many sums that do not wait for each other's additions. */
const ROWS = 4;

/** The lower triangle L with L Lt = A + lambda I. */
function cholesky(A: Float64Array | Float32Array, lambda: number, d: number): Float64Array {
  const L = new Float64Array(d * d);
  const entry = (i: number, j: number, sum: number): void => {
    for (let m = 0; m < j; m++) sum -= L[i * d + m]! * L[j * d + m]!;
    if (i !== j) L[i * d + j] = sum / L[j * d + j]!;
    else if (sum > 0) L[i * d + i] = Math.sqrt(sum);
    else throw new RangeError(`ridgeSolve: not positive definite with lambda ${lambda}; raise it`);
  };
  for (let first = 0; first < d; first += ROWS) {
    const end = Math.min(d, first + ROWS);
    const whole = end - first === ROWS ? first : 0;
    for (let j = 0; j < whole; j++) fourEntries(L, A, d, first, j);
    for (let i = first; i < end; i++)
      for (let j = whole; j <= i; j++) entry(i, j, A[i * d + j]! + (i === j ? lambda : 0));
  }
  return L;
}

/** Column j of four rows below it; every sum in the order in which one row's would be made. */
function fourEntries(L: Float64Array, A: Float64Array | Float32Array, d: number, i: number, j: number): void {
  const [r0, r1, r2, r3, row] = [i * d, (i + 1) * d, (i + 2) * d, (i + 3) * d, j * d];
  let [s0, s1, s2, s3] = [A[r0 + j]!, A[r1 + j]!, A[r2 + j]!, A[r3 + j]!];
  for (let m = 0; m < j; m++) {
    const value = L[row + m]!;
    s0 -= L[r0 + m]! * value;
    s1 -= L[r1 + m]! * value;
    s2 -= L[r2 + m]! * value;
    s3 -= L[r3 + m]! * value;
  }
  const pivot = L[row + j]!;
  L[r0 + j] = s0 / pivot;
  L[r1 + j] = s1 / pivot;
  L[r2 + j] = s2 / pivot;
  L[r3 + j] = s3 / pivot;
}

function subtractRow(B: Float64Array, to: number, from: number, factor: number, k: number): void {
  for (let c = 0; c < k; c++) B[to * k + c]! -= factor * B[from * k + c]!;
}

function divideRow(B: Float64Array, row: number, divisor: number, k: number): void {
  for (let c = 0; c < k; c++) B[row * k + c]! /= divisor;
}
