import type { Budget } from '@ntaa/contracts';
import { DEFAULT_CANDIDATES, defaultEpochs, EPOCHS, FINETUNE_RATIO, FIRST_PART } from '@ntaa/nas';

/**
 * How long each part of a job trains. Training is planned in steps, so that a job bounded by candidates is a function
 * of its seed. A job bounded by the clock sizes those steps from measured speed and has a deadline for every part;
 * schedules anneal by whichever runs out first.
 */
export interface Plan {
  batchSize: { transfer: number; finetune: number };
  transferSteps: number;
  finetuneSteps: number;
  /** Rounds of evaluating candidates and moving the sampling distribution, after the uniform warm-up. */
  rounds: number;
  perRound: number;
  searchCandidates: number;
  /** Milliseconds since the epoch; null when no clock bounds the job. */
  transferDeadline: number | null;
  /** Of the chosen network's training; null until its first part is over. */
  finetuneDeadline: number | null;
  deadline: number | null;
  /** Probability that training mixes images with each other: 0 until the first candidates are judged. */
  mixing: number;
  /** The clock, not the schedule's own ceiling, decided how long training lasts. */
  bounded: boolean;
}

/** Seconds measured or derived for one image. `train` figures are forward and backward. */
export interface Speeds {
  sandwich: number;
  fixed: number;
  /** One candidate's recalibration and validation, whole. */
  evaluation: number;
}

const ROUNDS = 3;
/** Kept for recalibration, test, export and upload: seconds, and share of the whole. */
const RESERVE = { seconds: 4, share: 0.03 } as const;
/** Planned times are estimates; fill this much of the clock. */
const FILL = 0.97;
/** Room in a schedule for a machine that becomes faster. */
const FASTER = 1.5;

export interface PlanInput {
  budget: Budget;
  train: number;
  trainAndValidation: number;
  baseline: boolean;
  now: number;
  startedAt: number;
  /** Null for jobs without a clock, whose plan must not depend on the machine. */
  speeds: Speeds | null;
  /** Batches of half the size, because memory was short. */
  halved?: boolean;
  /** See Task. */
  leastBatch?: number | undefined;
}

export function makePlan(input: PlanInput): Plan {
  const { budget, train, trainAndValidation } = input;
  const batchSize = {
    transfer: batchFor(train, input.halved, input.leastBatch),
    finetune: batchFor(trainAndValidation, input.halved, input.leastBatch),
  };
  const candidates = budget.max_candidates ?? DEFAULT_CANDIDATES;
  const epochs = defaultEpochs(budget.max_candidates ?? null, train);
  const seconds = budget.max_seconds ?? null;
  const deadline =
    seconds === null ? null : input.startedAt + 1000 * seconds * (1 - RESERVE.share) - 1000 * RESERVE.seconds;

  if (deadline === null || input.speeds === null || budget.max_candidates != null) {
    return {
      batchSize,
      ...evaluations(candidates),
      transferSteps: stepsFor(epochs.transfer, train, batchSize.transfer, 40),
      finetuneSteps: stepsFor(epochs.finetune, trainAndValidation, batchSize.finetune, 80),
      transferDeadline: deadline === null ? null : input.now + 0.45 * Math.max(0, deadline - input.now),
      finetuneDeadline: null,
      deadline,
      bounded: false,
      mixing: 0,
    };
  }

  const room = (FILL * Math.max(0, deadline - input.now)) / 1000;
  const affordable = Math.floor((0.18 * room) / input.speeds.evaluation);
  const evaluated = Math.max(6, Math.min(candidates, affordable));
  const training = Math.max(0, room - evaluated * input.speeds.evaluation);
  const single = input.speeds.fixed * trainAndValidation;
  const perTransferEpoch =
    input.speeds.sandwich * train +
    single * FINETUNE_RATIO +
    (input.baseline ? single * (1 + FINETUNE_RATIO) : 0);
  const transfer = Math.min(EPOCHS.maxTransfer, training / perTransferEpoch);
  return {
    batchSize,
    ...evaluations(evaluated),
    transferSteps: stepsFor(transfer, train, batchSize.transfer, 10),
    finetuneSteps: stepsFor(transfer * FINETUNE_RATIO, trainAndValidation, batchSize.finetune, 10),
    transferDeadline:
      input.now +
      1000 * (1.15 * transfer * input.speeds.sandwich * train + evaluated * input.speeds.evaluation),
    finetuneDeadline: null,
    deadline,
    bounded: transfer < EPOCHS.maxTransfer,
    mixing: 0,
  };
}

/**
 * Finetuning steps of a clock-bound job, once the architecture and so its cost are known: what is left of the clock,
 * less the baseline, which repeats all of the job's image passes on its own architecture.
 */
export function finetuneStepsLeft(input: {
  plan: Plan;
  /** Training and validation images. */
  images: number;
  secondsLeft: number;
  /** Training seconds an image of the chosen network, and of the baseline (0 without one). */
  chosen: number;
  baseline: number;
  /** Image passes of the transfer, which the baseline will make too. */
  passes: number;
}): number {
  const { plan, images, chosen, baseline } = input;
  const room = FILL * input.secondsLeft - input.passes * baseline;
  const epochs = Math.min(EPOCHS.maxFinetune, room / (images * (chosen + baseline)));
  return stepsFor(Math.max(0, epochs), images, plan.batchSize.finetune, 10);
}

/**
 * The same once the first part is over, by its speed. The clock ends the chosen network's training where the baseline's
 * repetition of it and of all image passes so far (`passes`) fills the rest; steps are a ceiling, reached when training
 * is faster than the first part was. `chosen`, `baseline`: training seconds an image.
 */
export function restAfterFirstPart(input: Parameters<typeof finetuneStepsLeft>[0]): {
  steps: number;
  seconds: number;
} {
  const { plan, images, chosen, baseline } = input;
  const room = Math.max(0, input.secondsLeft - input.passes * baseline);
  const seconds = (room * chosen) / (chosen + baseline);
  const epochs = (FASTER * seconds) / (images * chosen) / (1 - FIRST_PART);
  const steps = stepsFor(Math.min(EPOCHS.maxFinetune, epochs), images, plan.batchSize.finetune, 10);
  return { steps, seconds };
}

/** Rounds of a search that trains nothing, at most so many candidates each: a pause or a checkpoint waits for one round. */
const PROBE_ROUNDS = { count: 6, most: 64 } as const;

/** Plan of linear evaluation: candidates in equal rounds, the first half of them drawn at random. */
export function makeProbePlan(input: { budget: Budget; startedAt: number }): Plan {
  const { max_seconds, max_candidates } = input.budget;
  const total = max_candidates ?? DEFAULT_CANDIDATES;
  const perRound = Math.min(PROBE_ROUNDS.most, Math.ceil(total / PROBE_ROUNDS.count));
  const rounds = Math.max(1, Math.floor(total / perRound / 2));
  return {
    ...makePretrainPlan({ startedAt: input.startedAt, budget: { max_seconds: max_seconds ?? null } }, 1),
    rounds,
    perRound,
    searchCandidates: total - rounds * perRound,
    transferSteps: 0,
    transferDeadline: null,
  };
}

export const searchRounds = ({ rounds, perRound, searchCandidates }: Plan): number =>
  rounds + Math.ceil(searchCandidates / Math.max(1, perRound));

/** Plan of a pretraining: epochs over the source, cut by the clock where there is one. */
export function makePretrainPlan(
  input: { startedAt: number; budget: { max_seconds?: number | null; max_epochs?: number | null } },
  images: number,
  transfer = batchFor(images),
): Plan {
  const { max_seconds, max_epochs } = input.budget;
  const deadline =
    max_seconds == null
      ? null
      : input.startedAt + 1000 * (max_seconds * (1 - RESERVE.share) - RESERVE.seconds);
  return {
    batchSize: { transfer, finetune: transfer },
    rounds: 0,
    perRound: 0,
    searchCandidates: 0,
    transferSteps: stepsFor(max_epochs ?? EPOCHS.pretrain, images, transfer, 1),
    finetuneSteps: 0,
    transferDeadline: deadline,
    finetuneDeadline: null,
    deadline,
    bounded: false,
    mixing: 0,
  };
}

/** Small sets need many steps an epoch more than they need large batches. */
export function batchFor(images: number, halved = false, least = 0): number {
  const batch = Math.max(least, images < 2000 ? 32 : 64);
  return halved ? half(batch) : batch;
}

export const half = (batch: number): number => Math.max(1, batch >> 1);

function stepsFor(epochs: number, images: number, batch: number, least: number): number {
  return Math.max(least, Math.round((epochs * images) / Math.min(batch, images)));
}

/** Half of the evaluations steer the sampling during transfer, half are the search's own. */
function evaluations(total: number): { rounds: number; perRound: number; searchCandidates: number } {
  const rounds = Math.min(ROUNDS, total);
  const perRound = Math.max(1, Math.floor(total / 2 / rounds));
  return { rounds, perRound, searchCandidates: Math.max(0, total - rounds * perRound) };
}

/**
 * Where a training stands, 0..1: steps done of steps planned, or time gone of time given, whichever is further. A part
 * of a schedule (`from` to `to`) has its own start and deadline.
 */
export class Pace {
  readonly #steps: number;
  readonly #start: number;
  readonly #deadline: number | null;
  readonly #part: readonly [number, number];
  constructor(
    steps: number,
    start: number,
    deadline: number | null,
    part: readonly [number, number] = [0, 1],
  ) {
    this.#steps = steps;
    this.#start = start;
    this.#deadline = deadline;
    this.#part = part;
  }
  fraction(step: number, now: number): number {
    const bySteps = step / this.#steps;
    if (this.#deadline === null) return Math.min(1, bySteps);
    const given = this.#deadline - this.#start;
    const gone = given > 0 ? (now - this.#start) / given : 1;
    const [from, to] = this.#part;
    return Math.min(1, Math.max(bySteps, from + (to - from) * gone));
  }
}
