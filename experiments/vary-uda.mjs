// For tune.mjs --vary: domain adaptation with one weight of the class confusion after its ramp, as it was before it fell. Option: weight.
const RAMP = 0.2;

export default (task, { weight }) => {
  if (weight === undefined) return task;
  const objective = (batch) => {
    if (!batch.unlabelled) return task.objective(batch);
    const share = Number(weight) * Math.min(1, batch.progress / RAMP);
    // Where the ramp ends the task's own weight is 1.
    const whole = task.objective({ ...batch, progress: RAMP });
    return (outputs) => {
      const { loss, logits } = whole(outputs);
      return { loss: share * loss, logits: logits.map((value) => share * value) };
    };
  };
  return { ...task, objective };
};
