/** Who does what of a search that is shared; the database's part is in packages/db/src/pieces.test.ts. */
import { createHash } from 'node:crypto';
import type { SearchSpace } from '@ntaa/contracts';
import { Rng } from '@ntaa/random';
import { Supernet } from '@ntaa/supernet';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startTestEngine } from '../../../test/setup/engine.js';
import { adapt } from './adapt.js';
import { drawnTarget, TEST_SPACE, type DrawnTarget } from './fixtures.js';
import { Helper } from './helper.js';
import type { Elsewhere, ObjectRef, PieceSpec, Ports } from './ports.js';

/** So dear that a candidate or two are a piece. */
const space: SearchSpace = {
  ...TEST_SPACE,
  stem: { width: 24, stride: 1, activation: 'relu' },
  stages: TEST_SPACE.stages.map((stage, i) => ({ ...stage, width: [24, 48][i]! })),
};

let target: DrawnTarget;
let alone: ReturnType<typeof search> | undefined;
beforeAll(async () => {
  await startTestEngine();
  target = drawnTarget();
});
afterAll(() => target.close());

/** Another worker: takes a piece whenever the job's own asks for the next, and is done when it has asked so often again. */
class SlowHelper implements Elsewhere {
  /** What was taken, in order, and by whom. */
  readonly log: { id: string; by: 'own' | 'helper' }[] = [];
  readonly #objects = new Map<string, Uint8Array>();
  readonly #pieces = new Map<string, { spec: PieceSpec; result?: unknown; taken: boolean }>();
  #held: { id: string; left: number } | null = null;

  constructor(
    readonly helper: Helper,
    readonly turns: number,
  ) {}

  static async start(turns: number): Promise<SlowHelper> {
    let made: SlowHelper | undefined;
    const get = (object: ObjectRef) => made!.get(object);
    made = new SlowHelper(await Helper.start({ data: target.data, seed: 1, threads: 1, get }), turns);
    return made;
  }

  helpers = () => Promise.resolve(1);
  put(bytes: Uint8Array): Promise<ObjectRef> {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    this.#objects.set(sha256, bytes);
    return Promise.resolve({ key: sha256, sha256, size: bytes.length });
  }
  get({ key }: ObjectRef): Promise<Uint8Array> {
    return Promise.resolve(this.#objects.get(key)!);
  }
  offer(specs: readonly PieceSpec[]): Promise<readonly string[]> {
    const ids = specs.map((spec) => JSON.stringify(spec.genotypes));
    ids.forEach((id, i) => {
      if (!this.#pieces.has(id)) this.#pieces.set(id, { spec: specs[i]!, taken: false });
    });
    return Promise.resolve(ids);
  }
  async next({ wanted, finished }: Parameters<Elsewhere['next']>[0]) {
    for (const { id, result } of finished) this.#pieces.get(id)!.result = result;
    if (this.#held && --this.#held.left === 0) {
      const piece = this.#pieces.get(this.#held.id)!;
      piece.result = JSON.parse(JSON.stringify(await this.helper.work(piece.spec)));
      this.#held = null;
    }
    const open = () => [...this.#pieces].find(([, { taken }]) => !taken)?.[0] ?? null;
    if (!this.#held) {
      const id = open();
      if (id !== null) this.#held = { id, left: this.turns };
      this.#take(id, 'helper');
    }
    const own = [...this.#pieces.keys()].find((id) => wanted.includes(id) && !this.#pieces.get(id)!.taken);
    const taken = this.#take(own ?? null, 'own');
    const done = wanted.flatMap((id) => {
      const { result } = this.#pieces.get(id)!;
      return result === undefined ? [] : [{ id, result }];
    });
    return { taken, done };
  }
  #take(id: string | null, by: 'own' | 'helper'): string | null {
    if (id === null) return null;
    this.#pieces.get(id)!.taken = true;
    this.log.push({ id, by });
    return id;
  }
  withdraw = () => Promise.resolve();
}

async function search(elsewhere?: Elsewhere) {
  const told: string[] = [];
  const ports: Ports = {
    progress: (stage, { message }) => stage === 'search' && told.push(message ?? ''),
    events: () => undefined,
    candidates: () => undefined,
    wanted: () => 'run',
    now: () => Date.now(),
    checkpoint: { load: () => Promise.resolve(null), save: () => Promise.resolve() },
    ...(elsewhere && { elsewhere }),
  };
  const source = Supernet.initialise(space, 3, new Rng('source')).tensors();
  const {
    net,
    bn,
    search: found,
  } = await adapt({
    request: {
      ...{ kind: 'adapt', task: 'classification', dataset: 'ds_test', seed: 1, baseline: false },
      ...{ paradigm: 'linear-evaluation', budget: { max_candidates: 48 } },
    },
    ...{ startedAt: Date.now(), threads: 1, data: target.data, space, source, ports },
  });
  const hash = createHash('sha256').update(JSON.stringify(found));
  for (const [name, { data }] of net.tensors()) hash.update(name).update(data);
  net.dispose();
  bn.dispose();
  return { digest: hash.digest('hex'), found };
}

it.each([1, 8])(
  'does every piece once, and to the same bytes, with a helper that is asked %d times a piece',
  async (turns) => {
    alone ??= search();
    await alone;
    const elsewhere = await SlowHelper.start(turns);
    const shared = await search(elsewhere);
    await elsewhere.helper.close();
    expect(shared).toEqual(await alone);
    expect(shared.found.evaluated).toBe(48);
    const { log } = elsewhere;
    expect(new Set(log.map(({ id }) => id)).size).toBe(log.length);
    expect(new Set(log.map(({ by }) => by)).size).toBe(2);
    // Rounds of four pieces. While the helper is at one of the first, nobody waits for it: the next are known.
    if (turns === 8) expect(log.slice(1, 8).every(({ by }) => by === 'own')).toBe(true);
  },
  60_000,
);
