// For tune.mjs --vary: age estimation under other losses. Options: spread of the distribution (years), weights mean and variance of
// those terms, far (error beyond which the mean term is linear). The peer's loss (torch_tasks.py), nearly:
// spread=0.4+mean=0.2+variance=0.05+far=1000.
export default (task, options) => {
  const { spread, mean, variance, far } = {
    ...{ spread: 2, mean: 0.1, variance: 0.02, far: 5 },
    ...Object.fromEntries(Object.entries(options).map(([key, value]) => [key, Number(value)])),
  };
  const lossOf = (p, age, years, gradient) => {
    const target = shares(years.map((k) => -((k - age) ** 2) / (2 * spread ** 2)));
    const expected = years.reduce((sum, k) => sum + k * p[k], 0);
    const width = years.reduce((sum, k) => sum + (k - expected) ** 2 * p[k], 0);
    const miss = expected - age;
    const pull = mean * Math.max(-far, Math.min(far, miss));
    let loss =
      mean * (Math.abs(miss) > far ? far * (Math.abs(miss) - far / 2) : miss ** 2 / 2) + variance * width;
    for (const k of years) {
      if (target[k] > 0) loss += target[k] * Math.log(target[k] / Math.max(p[k], 1e-30));
      const away = k - expected;
      gradient[k] = p[k] - target[k] + p[k] * (pull * away + variance * (away ** 2 - width));
    }
    return loss;
  };
  const objective = ({ labels, outputs }) => {
    const years = Array.from({ length: outputs }, (_, k) => k);
    return ({ n, logits }) => {
      const gradients = new Float32Array(logits.length);
      let loss = 0;
      for (let i = 0; i < n; i++) {
        const row = gradients.subarray(i * outputs, (i + 1) * outputs);
        const p = shares(Array.from(logits.subarray(i * outputs, (i + 1) * outputs)));
        loss += lossOf(p, Math.min(labels[i], outputs - 1), years, row) / n;
        row.forEach((value, k) => (row[k] = value / n));
      }
      return { loss, logits: gradients };
    };
  };
  return { ...task, objective };
};

/** Softmax. */
function shares(logits) {
  const most = Math.max(...logits);
  const raised = logits.map((z) => Math.exp(z - most));
  const sum = raised.reduce((a, b) => a + b, 0);
  return raised.map((value) => value / sum);
}
