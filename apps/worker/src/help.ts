import { Helper } from '@ntaa/adaptation';
import { initEngine } from '@ntaa/engine';
import { tinySpace } from '@ntaa/nas';
import { pieceObjects } from './elsewhere.js';
import { fetchData, loadSupernet } from './fetch-data.js';
import type { IpcLink } from './link.js';
import type { HelpAssignment } from './protocol.js';
import { WorkStore } from './work-store.js';

/** Does pieces of another worker's job in this process until it is ended; rejects with the first that fails. */
export async function help(assignment: HelpAssignment, link: IpcLink): Promise<never> {
  const store = await WorkStore.open(assignment.store);
  await initEngine(assignment.engine);
  const space = assignment.supernet ? (await loadSupernet(assignment, store)).space : tinySpace;
  const { data } = await fetchData(assignment, store, space, () => undefined);
  const { jobId, request, threads } = assignment;
  const { get } = pieceObjects(jobId, store);
  const helper = await Helper.start({ data, seed: request.seed ?? 0, threads, get });
  for (;;) link.answer(await helper.work(await link.piece()));
}
