/** The race of the finalists, which other workers may take part in: each trains one from the first step to the last. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Genotype, SearchSpace } from '@ntaa/contracts';
import { cost, frozenSpace, RACE } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { readSafetensors, Supernet, writeSafetensors, type NamedTensors } from '@ntaa/supernet';
import { evaluateCandidate, fullExam } from './evaluate.js';
import { encodeSubject, RACE_MACS, type Raced, type Subject } from './pieces.js';
import type { Elsewhere, ObjectRef } from './ports.js';
import { finetune } from './finetune.js';
import { ASKING, PATIENCE } from './fan-out.js';
import type { Run } from './run.js';

/** What a training leaves beside the weights, by the end of its role. */
const PARTS = ['', '.ema', '.momentum'];

/** Under which name a finalist's weights are kept. */
export const finalist = (i: number): string => `finalist${i}`;

/** Finetunes finalist `i` for its part of the schedule, from `run.state.step` on, and judges it. */
export async function raceOne(
  run: Run,
  net: Supernet,
  { role, genotype, steps, deadline, message }: RaceEntry,
): Promise<Pick<Raced, 'evaluation' | 'seconds'>> {
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

interface RaceEntry {
  role: string;
  genotype: Genotype;
  /** Of the whole schedule. */
  steps: number;
  deadline: number | null;
  message: string;
}

interface Offered {
  id: string;
  /** Multiply-accumulates of its training. */
  macs: number;
}

/** The finalists that other workers may finetune: all but the next, which is ours in any case. */
export class SharedRace {
  readonly #run: Run;
  readonly #elsewhere: Elsewhere;
  /** By place among the finalists. */
  readonly #offered: ReadonlyMap<number, Offered>;
  #longest = 0;
  #began: number;

  private constructor(run: Run, elsewhere: Elsewhere, offered: ReadonlyMap<number, Offered>) {
    this.#run = run;
    this.#elsewhere = elsewhere;
    this.#offered = offered;
    this.#began = run.ports.now();
  }

  /**
   * null: nobody is there, or it is not worth it; or a clock bounds the job, whose deadlines are shared out one after the
   * other by what the ones before have left.
   */
  static async offer(run: Run, space: SearchSpace, outputs: number): Promise<SharedRace | null> {
    const { elsewhere } = run.ports;
    const { state, weights, task } = run;
    const { plan, finalists, finetuneSteps, raced, cut } = state;
    // In the order in which they are taken: while we go up, helpers come down.
    const rest = finalists
      .map((_, i) => i)
      .slice(raced.length + 1)
      .reverse();
    if (!elsewhere || rest.length === 0 || plan.deadline !== null || cut === 'user') return null;
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
    const ids = await elsewhere.offer(pieces);
    return new SharedRace(run, elsewhere, new Map(rest.map((i, at) => [i, { id: ids[at]!, macs: work(i) }])));
  }

  /** What another worker has made of finalist `i`; null: it is ours to finetune. Waits while another is at it. */
  async found(i: number): Promise<Raced | null> {
    const offered = this.#offered.get(i);
    const run = this.#run;
    const now = run.ports.now();
    this.#longest = Math.max(this.#longest, now - this.#began);
    this.#began = now;
    if (!offered) return null;
    const { id, macs } = offered;
    const patience = Math.max(PATIENCE, this.#longest);
    for (;;) {
      const impatient = run.ports.now() - now > patience;
      const { taken, done } = await this.#elsewhere.next({ wanted: [id], finished: [], impatient });
      if (done[0]) {
        run.worked('finetune', macs, 0, `finalist ${i + 1} was finetuned by another worker`);
        return this.#adopted(i, done[0].result as Raced);
      }
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
  const { evaluation, seconds } = await raceOne(run, net, {
    ...{ role, genotype, steps, deadline: null, message: 'finetuning a finalist' },
  });
  net.dispose();
  const kept: NamedTensors = new Map();
  for (const part of PARTS)
    for (const [name, tensor] of run.weights.get(`${role}${part}`) ?? []) kept.set(`${part}/${name}`, tensor);
  const weights = await put(writeSafetensors(kept, {}));
  return { evaluation, seconds, steps: run.state.step, curve: run.state.curves.loss[role] ?? [], weights };
}
