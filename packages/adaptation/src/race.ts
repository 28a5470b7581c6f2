/**
 * The race of the finalists, which other workers may take part in: each trains one from the first step to the last.
 *
 * Where a clock bounds the job, finalists that are raced here alone get the same seconds. Others' seconds are not ours, so in
 * a race that is shared all get the same image passes (`State.equalPasses`): as many as were planned to fit had we trained
 * all of them here. Who waits for others waits no longer than one finalist takes here, in the whole race; then it
 * trains what they have not done itself, and what the clock cuts short is out.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Genotype, SearchSpace } from '@ntaa/contracts';
import { cost, frozenSpace, RACE } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { readSafetensors, Supernet, writeSafetensors, type NamedTensors } from '@ntaa/supernet';
import { evaluateCandidate, fullExam, type Evaluation } from './evaluate.js';
import { encodeSubject, RACE_MACS, type Raced, type Subject } from './pieces.js';
import type { Elsewhere, ObjectRef } from './ports.js';
import { finetune } from './finetune.js';
import { ASKING, PATIENCE } from './fan-out.js';
import type { Run } from './run.js';

/** What a training leaves beside the weights, by the end of its role. */
const PARTS = ['', '.ema', '.momentum'];

/** Under which name a finalist's weights are kept. */
export const finalist = (i: number): string => `finalist${i}`;

interface Network {
  space: SearchSpace;
  outputs: number;
}

/**
 * Finetunes every finalist for the first part of the schedule, on training images, and judges it. `deadlineAfter`: this share
 * of the time that is left for finetuning, from the start of a finalist's own.
 */
export async function raceFinalists(
  run: Run,
  network: Network,
  deadlineAfter: (share: number) => number | null,
): Promise<void> {
  const { state } = run;
  const { finalists, finetuneSteps, raced } = state;
  const shared = await SharedRace.offer(run, network);
  const macs = (i: number): number => cost(network.space, finalists[i]!, network.outputs).macs;
  for (let i = raced.length; i < finalists.length; i++) {
    const left = finalists.length - i - 1;
    // Where passes are what ends a training the time of all that are left, and half of one's more, is there for it.
    const turns = state.equalPasses ? left + 1.5 : 1;
    const deadline = (): number | null => deadlineAfter((RACE.share * turns) / (1 + RACE.share * left));
    const found = await shared?.found(i, deadline());
    const { evaluation, seconds } = found
      ? { ...found, seconds: (raced[i - 1]!.seconds * macs(i)) / macs(i - 1) }
      : await raceHere(run, network, i, deadline());
    run.best = Math.max(run.best ?? 0, evaluation.quality);
    raced.push({
      ...{ ...evaluation, seconds },
      out: state.equalPasses && state.step / finetuneSteps < RACE.share,
    });
    state.passes += state.step * state.plan.batchSize.finetune;
    state.step = 0;
    state.phaseStarted = run.ports.now();
    await run.save();
  }
}

async function raceHere(run: Run, { space, outputs }: Network, i: number, deadline: number | null) {
  const { finalists, finetuneSteps: steps } = run.state;
  const [role, genotype] = [finalist(i), finalists[i]!];
  const frozen = frozenSpace(space, genotype);
  const net = Supernet.load(frozen, run.weights.get(role)!, outputs, new Rng(run.seed, 'head'));
  const message = `finetuning finalist ${i + 1} of ${finalists.length}`;
  const judged = await raceOne(run, net, { role, genotype, steps, deadline, message });
  net.dispose();
  return judged;
}

interface RaceEntry {
  role: string;
  genotype: Genotype;
  /** Of the whole schedule. */
  steps: number;
  deadline: number | null;
  message: string;
}

/** Finetunes finalist `i` for its part of the schedule, from `run.state.step` on, and judges it. `seconds`: of training, an image. */
async function raceOne(
  run: Run,
  net: Supernet,
  { role, genotype, steps, deadline, message }: RaceEntry,
): Promise<{ evaluation: Evaluation; seconds: number }> {
  const { state, data, task } = run;
  const [began, from] = [run.ports.now(), state.step];
  const averaged = await finetune(run, net, {
    ...{ role, steps, deadline, message },
    part: [0, RACE.share],
    images: data.splits.train,
  });
  const took = (run.ports.now() - began) / 1000;
  const evaluation = evaluateCandidate(averaged, genotype, data, task, fullExam(data, run.seed));
  averaged.dispose();
  const images = Math.max(1, state.step - from) * state.plan.batchSize.finetune;
  return { evaluation, seconds: took / images };
}

interface Offered {
  id: string;
  /** Multiply-accumulates of its training. */
  macs: number;
}

/** The finalists that other workers may finetune: all but the next, which is ours in any case. */
class SharedRace {
  readonly #run: Run;
  readonly #elsewhere: Elsewhere;
  /** By place among the finalists. */
  readonly #offered: ReadonlyMap<number, Offered>;
  /** Milliseconds that one took here, and for which others were waited for. */
  #longest = 0;
  #waited = 0;
  #began: number;

  private constructor(run: Run, elsewhere: Elsewhere, offered: ReadonlyMap<number, Offered>) {
    this.#run = run;
    this.#elsewhere = elsewhere;
    this.#offered = offered;
    this.#began = run.ports.now();
  }

  /** null: nobody is there, or it is not worth it; or the number of image passes was not planned to fit the clock. */
  static async offer(run: Run, { space, outputs }: Network): Promise<SharedRace | null> {
    const { elsewhere } = run.ports;
    const { state, weights, task } = run;
    const { plan, speed, finalists, finetuneSteps, raced, cut } = state;
    const clock = plan.deadline !== null;
    // An earlier attempt has begun the race alone.
    const bySeconds = clock && (speed === null || (raced.length > 0 && !state.equalPasses));
    // In the order in which they are taken: while we go up, helpers come down.
    const rest = finalists
      .map((_, i) => i)
      .slice(raced.length + 1)
      .reverse();
    if (!elsewhere || rest.length === 0 || bySeconds || cut === 'user') return null;
    const images = RACE.share * finetuneSteps * plan.batchSize.finetune;
    const work = (i: number): number => 3 * images * cost(space, finalists[i]!, outputs).macs;
    if (rest.every((i) => work(i) < RACE_MACS) || (await elsewhere.helpers()) === 0) return null;
    const pieces = [];
    for (const i of rest) {
      const role = finalist(i);
      const frozen = frozenSpace(space, finalists[i]!);
      const subject: Subject = {
        work: { kind: 'race', role, plan, steps: finetuneSteps },
        ...{ task: task.name, space: frozen, outputs },
      };
      const object = await elsewhere.put(encodeSubject(subject, weights.get(role)!));
      pieces.push({ subject: object, genotypes: [finalists[i]!] });
    }
    // A finalist is worth a helper's start.
    const ids = await elsewhere.offer(pieces, pieces.length);
    state.equalPasses = clock;
    return new SharedRace(run, elsewhere, new Map(rest.map((i, at) => [i, { id: ids[at]!, macs: work(i) }])));
  }

  /**
   * What another worker has made of finalist `i`; null: it is ours to finetune, from now on. Waits while another is at it,
   * until `deadline` at the latest.
   */
  async found(i: number, deadline: number | null): Promise<Raced | null> {
    const run = this.#run;
    const offered = this.#offered.get(i);
    const began = run.ports.now();
    this.#longest = Math.max(this.#longest, began - this.#began);
    const raced = offered ? await this.#waitFor(offered.id, deadline) : null;
    this.#began = run.ports.now();
    this.#waited += this.#began - began;
    if (!offered) return null;
    if (!raced) {
      run.state.phaseStarted = this.#began;
      return null;
    }
    run.worked('finetune', offered.macs, 0, `finalist ${i + 1} was finetuned by another worker`);
    return this.#adopted(i, raced);
  }

  async #waitFor(id: string, deadline: number | null): Promise<Raced | null> {
    const run = this.#run;
    const began = run.ports.now();
    const patience = Math.max(PATIENCE, this.#longest) - this.#waited;
    for (;;) {
      const impatient = run.ports.now() - began > patience || run.secondsLeft(deadline) <= 0;
      const { taken, done } = await this.#elsewhere.next({ wanted: [id], finished: [], impatient });
      if (done[0]) return done[0].result as Raced;
      if (taken !== null) return null;
      // Stopped: the rest trains no further, here or elsewhere.
      if (await run.breathe()) return null;
      if (run.pausing) await run.save();
      await sleep(ASKING);
    }
  }

  /** Puts everything where it would be, had the finalist been finetuned here. */
  async #adopted(i: number, raced: Raced): Promise<Raced> {
    const { state, weights } = this.#run;
    const { tensors } = readSafetensors(await this.#elsewhere.get(raced.weights));
    for (const part of PARTS) {
      const own: NamedTensors = new Map();
      for (const [path, tensor] of tensors)
        if (path.startsWith(`${part}/`)) own.set(path.slice(part.length + 1), tensor);
      weights.set(`${finalist(i)}${part}`, own);
    }
    state.curves.loss[finalist(i)] = [...raced.curve];
    state.step = raced.steps;
    return raced;
  }
}

/** A finalist as a helper finetunes it. `run`: a fresh one, whose state has the job's plan. */
export async function raceElsewhere(
  run: Run,
  { subject, tensors, genotype }: { subject: Subject; tensors: NamedTensors; genotype: Genotype },
  put: (bytes: Uint8Array) => Promise<ObjectRef>,
): Promise<Raced> {
  const { work, space, outputs } = subject;
  if (work.kind !== 'race') throw new Error(`not a race: ${work.kind}`);
  const { role, steps } = work;
  const net = Supernet.load(space, tensors, outputs, new Rng('unused'));
  const { evaluation } = await raceOne(run, net, {
    ...{ role, genotype, steps, deadline: null, message: 'finetuning a finalist' },
  });
  net.dispose();
  const kept: NamedTensors = new Map();
  for (const part of PARTS)
    for (const [name, tensor] of run.weights.get(`${role}${part}`) ?? []) kept.set(`${part}/${name}`, tensor);
  const weights = await put(writeSafetensors(kept, {}));
  return { evaluation, steps: run.state.step, curve: run.state.curves.loss[role] ?? [], weights };
}
