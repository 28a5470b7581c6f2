/** What a worker does for another's job: pieces, one after the other, on the same images. */
import { Rng } from '@ntaa/random';
import { Supernet } from '@ntaa/supernet';
import { taskFor } from '@ntaa/tasks';
import { Crew } from './crew.js';
import { decodeSubject, type Subject } from './pieces.js';
import { measureSubnet } from './measure-subnet.js';
import type { ObjectRef, PieceSpec } from './ports.js';
import type { TargetData } from './target-data.js';

interface HelperInput {
  /** Prepared as the job's own worker prepares it. */
  data: TargetData;
  /** Of the job. */
  seed: number;
  threads?: number | undefined;
  get(object: ObjectRef): Promise<Uint8Array>;
}

export class Helper {
  readonly #input: HelperInput;
  readonly #crew: Crew;
  /** Of the last piece: those of a batch share it. */
  #loaded: { key: string; subject: Subject; net: Supernet } | undefined;

  private constructor(input: HelperInput, crew: Crew) {
    this.#input = input;
    this.#crew = crew;
  }

  static async start(input: HelperInput): Promise<Helper> {
    return new Helper(input, await Crew.start(input.threads));
  }

  /** The piece's result: JSON. */
  async work(spec: PieceSpec): Promise<unknown> {
    const result = await this.#work(spec);
    // JSON has no other numbers: what is not one is for the job's own worker to see.
    JSON.stringify(result, (key, value: unknown) => {
      if (typeof value === 'number' && !Number.isFinite(value)) throw new Error(`${key} became ${value}`);
      return value;
    });
    return result;
  }

  async #work({ subject: object, genotypes }: PieceSpec): Promise<unknown> {
    if (!object) return null;
    const { subject, net } = await this.#load(object);
    const task = taskFor(subject.task);
    const { data } = this.#input;
    switch (subject.work.kind) {
      case 'judge': {
        const { exam } = subject.work;
        const breathe = () => Promise.resolve(false);
        return this.#crew.judge({ net, genotypes, data, task, exam, breathe, judged: () => undefined });
      }
      case 'measure': {
        const { seed } = this.#input;
        return measureSubnet({ net, data, task, seed }, genotypes[0]!);
      }
    }
  }

  async #load(object: ObjectRef) {
    if (this.#loaded?.key === object.key) return this.#loaded;
    this.#unload();
    const { subject, tensors } = decodeSubject(await this.#input.get(object));
    const net = Supernet.load(subject.space, tensors, subject.outputs, new Rng('unused'));
    return (this.#loaded = { key: object.key, subject, net });
  }

  #unload(): void {
    this.#loaded?.net.dispose();
    this.#loaded = undefined;
  }

  async close(): Promise<void> {
    this.#unload();
    await this.#crew.close();
  }
}
