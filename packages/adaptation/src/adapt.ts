import type { Genotype, Metrics, SearchSpace, StopReason } from '@ntaa/contracts';
import {
  cost,
  FIRST_PART,
  fixedArchitecture,
  frozenSpace,
  headOutputs,
  largest,
  restrictResolutions,
  smallest,
  taskSpace,
} from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { extract, Supernet, type BnStatistics } from '@ntaa/supernet';
import { begin, resume, type AdaptInput } from './begin.js';
import type { Phase } from './checkpoint.js';
import { Crew } from './crew.js';
import { evaluateCandidate, fullExam } from './evaluate.js';
import { baselineNet, finetune, finetuningImages, test } from './finetune.js';
import { evidenceOf, measureGain, type Evidence } from './gain.js';
import { isLinear, linearPhases, probeWork, type Phases } from './linear-evaluation.js';
import { finetuneStepsLeft, restAfterFirstPart, searchRounds } from './plan.js';
import type { Run } from './run.js';
import { choose, frontOf, search } from './search.js';
import { finetuningSpeed } from './speed.js';
import { reportCandidates, transfer } from './transfer.js';

export interface Outcome {
  metrics: Metrics;
  genotype: Genotype;
  macs: number;
  params: number;
}

export interface AdaptOutcome extends Outcome, Evidence {
  /** The finished network over its frozen space, and the statistics of its batch norms. The caller disposes both. */
  net: Supernet;
  bn: BnStatistics;
  /** Answers of `net` for the test images, in the order of the split; for two domains, those of the target. */
  predictions: Float32Array;
  baseline: (Outcome & { seconds: number }) | null;
  largest: Outcome | null;
  search: { evaluated: number; pareto_size: number; rank_correlation: number | null };
  stopReason: StopReason;
  seconds: Record<string, number>;
}

/**
 * Adapts architecture and weights of a supernet to a target, resuming from the last checkpoint if there is one.
 * @throws JobError `constraint-infeasible`, `training-diverged`; Interrupted when cancelled or paused.
 */
export async function adapt(given: AdaptInput): Promise<AdaptOutcome> {
  const input = { ...given, space: taskSpace(given.request.task, given.space, given.data.aspect) };
  const crew = await Crew.start(input.threads);
  try {
    const saved = await input.ports.checkpoint.load();
    const run = saved ? resume(input, crew, saved) : await begin(input, crew);
    const job = new Adaptation(input, run);
    if (!saved && run.state.phase === 'transfer')
      run.enter('transfer', 'adapting the supernet to the target');
    await job.train();
    return job.finish();
  } finally {
    await crew.close();
  }
}

/** The phases of an adaptation in order; each leaves its result in the run's weights and state, so any can be resumed into. */
class Adaptation {
  readonly #input: AdaptInput;
  readonly #run: Run;
  readonly #space: SearchSpace;
  readonly #outputs: number;

  constructor(input: AdaptInput, run: Run) {
    this.#input = input;
    this.#run = run;
    this.#space = restrictResolutions(input.space, run.state.resolutions);
    this.#outputs = headOutputs(input.request.task, run.data.labels.length);
    this.#expect();
  }

  /** Work of the whole job by its plan, MACs of training passes; evaluations are small beside it. */
  #work(): Record<Exclude<Phase, 'evaluate'>, number> {
    const { state } = this.#run;
    const { plan } = state;
    const space = this.#space;
    if (isLinear(this.#input.request)) return probeWork(this.#run, space, (genotype) => this.#macs(genotype));
    const typical = 3 * (1.6 * this.#macs(largest(space)) + 1.6 * this.#macs(smallest(space)));
    const fixed = this.#macs(this.#fixed);
    const chosen = state.selected ? this.#macs(state.selected) : fixed;
    const finetuneSteps = state.finetuneSteps || plan.finetuneSteps;
    const images = plan.transferSteps * plan.batchSize.transfer;
    const evaluated = plan.rounds * plan.perRound;
    const judged = this.#macs(largest(space)) * 0.5 * (500 + this.#run.data.splits.validation.length);
    return {
      transfer: images * typical + evaluated * judged,
      search: plan.searchCandidates * judged,
      finetune: 3 * finetuneSteps * plan.batchSize.finetune * chosen,
      baseline: this.#withBaseline ? 3 * (finetuneSteps * plan.batchSize.finetune + images) * fixed : 0,
    };
  }

  #macs(genotype: Genotype): number {
    return cost(this.#space, genotype, this.#outputs).macs;
  }

  get #withBaseline(): boolean {
    return this.#input.request.baseline ?? true;
  }

  /** Tells the run where it stands: everything of the phases before, and this phase's share of steps. */
  #expect(): void {
    const { state } = this.#run;
    const work = this.#work();
    const order = ['transfer', 'search', 'finetune', 'baseline'] as const;
    const at = order.indexOf(state.phase as (typeof order)[number]);
    const done = order.slice(0, at < 0 ? order.length : at).reduce((sum, phase) => sum + work[phase], 0);
    const steps = {
      transfer: state.plan.transferSteps,
      search: searchRounds(state.plan),
      finetune: state.finetuneSteps,
      baseline: state.baselineSteps,
    };
    const inside =
      state.phase in steps ? state.step / Math.max(1, steps[state.phase as keyof typeof steps]) : 0;
    const current = at < 0 ? 0 : inside * work[order[at]!];
    this.#run.expectWork(
      order.reduce((sum, phase) => sum + work[phase], 0),
      done + current,
    );
  }

  async train(): Promise<void> {
    const { state } = this.#run;
    const phases: Phases = isLinear(this.#input.request)
      ? linearPhases(this.#run, {
          supernet: this.#supernet,
          fixed: this.#fixed,
          baseline: this.#withBaseline,
        })
      : {
          transfer: () => this.#transfer(),
          search: () => this.#search(),
          finetune: () => this.#finetune(),
          baseline: () => this.#baseline(),
        };
    while (state.phase !== 'evaluate') {
      const phase = state.phase;
      const began = this.#run.ports.now();
      await phases[phase]!();
      state.seconds[phase] = (state.seconds[phase] ?? 0) + (this.#run.ports.now() - began) / 1000;
      state.step = 0;
      state.phaseStarted = this.#run.ports.now();
      this.#expect();
      await this.#run.save();
    }
  }

  #load(role: string, space: SearchSpace): Supernet {
    return Supernet.load(space, this.#run.weights.get(role)!, this.#outputs, new Rng(this.#run.seed, 'head'));
  }

  #supernet = (): Supernet => this.#load('supernet', this.#space);

  async #transfer(): Promise<void> {
    const net = this.#supernet();
    try {
      await transfer(this.#run, net);
    } finally {
      net.dispose();
    }
    this.#run.state.phase = 'search';
    this.#run.enter('search', 'searching architectures');
  }

  async #search(): Promise<void> {
    const run = this.#run;
    const { state } = run;
    const net = this.#supernet();
    try {
      if (state.cut !== 'user') await search(run, net);
      state.selected = choose(run, net, this.#fixed);
      const chosen = extract(net, state.selected);
      run.weights.set('net', chosen.tensors());
      const seconds = await this.#timed(chosen);
      this.#planFinetuning(seconds, this.#withBaseline ? await this.#timed(extract(net, this.#fixed)) : 0);
    } finally {
      net.dispose();
    }
    reportCandidates(run);
    state.phase = 'finetune';
    run.enter('finetune', 'finetuning the chosen architecture');
  }

  /** The architecture of weights-only adaptation. */
  get #fixed(): Genotype {
    return fixedArchitecture(this.#space, this.#outputs, this.#run.constraints);
  }

  /** Training seconds an image, measured only where a clock bounds the job. Disposes the network. */
  async #timed(net: Supernet): Promise<number> {
    const seconds = this.#run.state.speed === null ? 0 : await finetuningSpeed(this.#run, net);
    net.dispose();
    return seconds;
  }

  /** `chosen`, `baseline`: their training seconds an image. */
  #planFinetuning(chosen: number, baseline: number): void {
    const { state } = this.#run;
    const left = this.#secondsLeft();
    state.finetuneSteps = left ? finetuneStepsLeft({ ...left, chosen, baseline }) : state.plan.finetuneSteps;
  }

  /**
   * Plans the rest of a clock-bound schedule anew, by the speed of its first part: machines change speed, and what is
   * left of the clock is for training. `chosen`: seconds of an image.
   */
  #planRest(chosen: number): void {
    const { state, ports } = this.#run;
    const left = this.#secondsLeft();
    if (!left) return;
    const ratio = this.#macs(this.#fixed) / this.#macs(state.selected!);
    const baseline = this.#withBaseline ? chosen * ratio : 0;
    const rest = restAfterFirstPart({ ...left, chosen, baseline });
    state.finetuneSteps = rest.steps;
    state.plan.finetuneDeadline = ports.now() + 1000 * rest.seconds;
  }

  /** What the clock leaves to be planned; null where none bounds the job. */
  #secondsLeft() {
    const { plan, speed, passes } = this.#run.state;
    if (plan.deadline === null || speed === null) return null;
    const images = finetuningImages(this.#run).length;
    return { plan, images, passes, secondsLeft: this.#run.secondsLeft(plan.deadline) };
  }

  /** A deadline that leaves the baseline its time: this share of the time left for NTAA's own finetuning. */
  #share(share: number): number | null {
    const { plan, phaseStarted } = this.#run.state;
    if (plan.deadline === null) return null;
    const own = this.#withBaseline ? 0.65 : 1;
    return phaseStarted + share * own * (plan.deadline - phaseStarted);
  }

  async #finetune(): Promise<void> {
    const run = this.#run;
    const { state } = run;
    const net = this.#load('net', this.#frozen(state.selected!));
    if (state.gain === null) await this.#firstPart(net);
    const before = Math.round(FIRST_PART * state.finetuneSteps);
    state.step = Math.max(state.step, before);
    this.#expect();
    const done = await finetune(run, net, {
      ...this.#finetuning,
      part: [FIRST_PART, 1],
      deadline: state.plan.finetuneDeadline ?? this.#share(1),
      images: finetuningImages(run),
    });
    run.weights.set('net', done.tensors());
    done.dispose();
    net.dispose();
    state.passes += (state.step - before) * state.plan.batchSize.finetune;
    state.phase = this.#withBaseline && state.cut !== 'user' ? 'baseline' : 'evaluate';
    if (state.phase !== 'baseline') return;
    state.baselineSteps = Math.max(1, Math.round(state.passes / state.plan.batchSize.finetune));
    const start = baselineNet(run, this.#space, this.#input.source, this.#outputs, run.seed);
    run.weights.set('baseline', start.tensors());
    start.dispose();
  }

  get #finetuning() {
    const message = 'finetuning the chosen architecture';
    return { role: 'net', steps: this.#run.state.finetuneSteps, message };
  }

  /** Finetunes on training images alone, measures on validation images for the report, and plans the rest. */
  async #firstPart(net: Supernet): Promise<void> {
    const run = this.#run;
    const { state, data, task } = run;
    const { train } = data.splits;
    const [began, from] = [run.ports.now(), state.step];
    const part = [0, FIRST_PART] as const;
    const deadline = this.#share(FIRST_PART);
    const averaged = await finetune(run, net, { ...this.#finetuning, part, deadline, images: train });
    const took = (run.ports.now() - began) / 1000;
    const trained = Math.max(1, state.step - from) * state.plan.batchSize.finetune;
    const { quality } = evaluateCandidate(averaged, largest(net.space), data, task, fullExam(data, run.seed));
    averaged.dispose();
    run.best = Math.max(run.best ?? 0, quality);
    state.gain = await measureGain(run, {
      ...{ space: this.#space, outputs: this.#outputs, source: this.#input.source },
      ...{ reference: this.#fixed, finetuned: quality },
    });
    state.passes += state.step * state.plan.batchSize.finetune;
    state.step = 0;
    state.phaseStarted = run.ports.now();
    this.#planRest(took / trained);
    await run.save();
  }

  async #baseline(): Promise<void> {
    const run = this.#run;
    const { state } = run;
    const net = this.#load('baseline', this.#frozen(this.#fixed));
    const done = await finetune(run, net, {
      role: 'baseline',
      steps: state.baselineSteps,
      part: [0, 1],
      deadline: state.plan.deadline,
      message: 'training the weights-only baseline',
      images: finetuningImages(run),
    });
    run.weights.set('baseline', done.tensors());
    done.dispose();
    net.dispose();
    state.phase = 'evaluate';
  }

  #frozen(genotype: Genotype): SearchSpace {
    return frozenSpace(this.#space, genotype);
  }

  finish(): AdaptOutcome {
    const run = this.#run;
    const { state } = run;
    run.enter('evaluate', 'measuring on the test split');
    const began = run.ports.now();
    const net = this.#load('net', this.#frozen(state.selected!));
    const { heldOut } = this.#input;
    const final = test(run, { net, genotype: state.selected!, role: 'net' }, heldOut);
    const baseline = run.weights.has('baseline') ? this.#testBaseline() : null;
    const supernet = this.#supernet();
    const top = largest(this.#space);
    const whole = test(run, { net: supernet, genotype: top }, heldOut);
    whole.bn.dispose();
    const outcome: AdaptOutcome = {
      ...this.#outcome(state.selected!, final.metrics),
      net,
      bn: final.bn,
      predictions: final.predictions,
      baseline,
      largest: this.#outcome(top, whole.metrics),
      search: {
        evaluated: state.archive.length,
        pareto_size: frontOf(state.archive, run.axis).length,
        rank_correlation: state.tau,
      },
      stopReason: this.#stopReason(),
      seconds: { ...state.seconds, evaluate: (run.ports.now() - began) / 1000 },
      ...evidenceOf(run),
    };
    supernet.dispose();
    return outcome;
  }

  #testBaseline(): Outcome & { seconds: number } {
    const genotype = this.#fixed;
    const net = this.#load('baseline', this.#frozen(genotype));
    const { metrics, bn } = test(this.#run, { net, genotype, role: 'baseline' }, this.#input.heldOut);
    bn.dispose();
    net.dispose();
    return { ...this.#outcome(genotype, metrics), seconds: this.#run.state.seconds['baseline'] ?? 0 };
  }

  #outcome(genotype: Genotype, metrics: Metrics): Outcome {
    const { macs, params } = cost(this.#space, genotype, this.#outputs);
    return { genotype, metrics, macs, params };
  }

  #stopReason(): StopReason {
    const { cut, plan, archive } = this.#run.state;
    if (cut === 'user') return 'user_stopped';
    const spent = archive.length >= (this.#input.request.budget?.max_candidates ?? Infinity);
    return cut === 'clock' || plan.bounded || spent ? 'budget_exhausted' : 'completed';
  }
}
