// Entry of a crew's helping thread: an engine of its own, and replicas of what the main thread trains or judges.
import { workerData, type MessagePort } from 'node:worker_threads';
import { initEngine } from '@ntaa/engine';
import { Rng } from '@ntaa/random';
import { Supernet } from '@ntaa/supernet';
import { taskFor } from '@ntaa/tasks';
import type { FromThread, Judging, Subject, ToThread, Training } from './crew-messages.js';
import { evaluateCandidate } from './evaluate.js';
import { Exchange } from './exchange.js';
import { Replica } from './replica.js';
import { attachData, TrainingBatches, type DataHandle, type TargetData } from './target-data.js';

interface Session {
  net: Supernet;
  replica: Replica;
  exchange: Exchange;
  member: number;
  end(): void;
}

const { port } = workerData as { port: MessagePort };
let session: Session | undefined;
const say = (message: FromThread): void => port.postMessage(message);

await initEngine('wasm');
port.on('message', (message: ToThread) => {
  try {
    handle(message);
  } catch (error) {
    say({ type: 'failed', message: error instanceof Error ? error.message : String(error) });
    session?.exchange.fail(session.member);
  }
});

function handle(message: ToThread): void {
  switch (message.type) {
    case 'train':
      session = begin(message.training);
      return say({ type: 'training' });
    case 'step':
      session!.exchange.takePart(session!.member, session!.replica, message.step);
      return;
    case 'settle':
      session!.replica.settle(message.statistics);
      return;
    case 'end-training':
      session?.end();
      session = undefined;
      return;
    case 'judge':
      judge(message.judging);
      return say({ type: 'all-judged' });
  }
}

function begin(training: Training): Session {
  const { subject, momentum, batches, hyperparameters, exchanged, member } = training;
  const net = load(subject);
  const data = attachData(subject.data);
  const { indices, batchSize, path } = batches;
  const task = taskFor(subject.task);
  const source = new TrainingBatches(data, indices, batchSize, path, task);
  const replica = new Replica(net, task, source, hyperparameters);
  if (momentum) replica.loadMomentum(momentum);
  const end = (): void => {
    replica.dispose();
    net.dispose();
    close(data);
  };
  return { net, replica, exchange: new Exchange(exchanged), member, end };
}

function judge({ subject, genotypes, exam, abandon }: Judging): void {
  const abandoned = new Int32Array(abandon);
  const net = load(subject);
  const data = attachData(subject.data as DataHandle);
  try {
    genotypes.forEach((genotype, index) => {
      if (Atomics.load(abandoned, 0) === 1) return;
      const evaluation = evaluateCandidate(net, genotype, data, taskFor(subject.task), exam);
      say({ type: 'judged', index, evaluation });
    });
  } finally {
    net.dispose();
    close(data);
  }
}

const load = ({ space, tensors, outputs }: Subject): Supernet =>
  Supernet.load(space, tensors, outputs, new Rng('unused'));

const close = (data: TargetData): void => data.packs.forEach((packed) => packed.close());
