import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { JobError } from '@ntaa/contracts';
import { tinySpace } from '@ntaa/nas';
import { ingest, RefusedDataset } from '@ntaa/data';
import { ObjectMissing } from '@ntaa/storage';
import type { DatasetLink } from './link.js';
import type { DatasetAssignment, DatasetPack, StoredObjectRef } from './protocol.js';
import { WorkStore } from './work-store.js';

/** Unpacks and checks an uploaded archive; what is accepted goes to the store, decoded too, as `datasets/{id}/`. */
export async function ingestDataset(assignment: DatasetAssignment, link: DatasetLink): Promise<void> {
  const store = await WorkStore.open(assignment.store);
  try {
    const archive = join(assignment.scratch, 'archive');
    const out = join(assignment.scratch, 'out');
    const work = join(assignment.scratch, 'work');
    await Promise.all([mkdir(out), mkdir(work)]);
    const sha256 = await store.fetch(assignment.uploadKey, archive, assignment.sha256);
    const result = await ingest({
      archive,
      out,
      scratch: work,
      ...(assignment.format !== null && { format: assignment.format }),
    });
    // Only for what was accepted: with it comes the engine.
    const { packAt, resolutionsToPack } = await import('@ntaa/adaptation');
    const prefix = `datasets/${assignment.datasetId}`;
    const packed: Record<string, StoredObjectRef> = {};
    for (const resolution of resolutionsToPack(tinySpace, result.index)) {
      const images = join(out, 'images.bin');
      const file = await packAt({ images, index: result.index }, resolution, work);
      packed[resolution] = await store.putFile(`${prefix}/packed-${resolution}.bin`, file);
    }
    const pack: DatasetPack = {
      images: await store.putFile(`${prefix}/images.bin`, join(out, 'images.bin')),
      index: await store.putFile(`${prefix}/index.json`, join(out, 'index.json')),
      packed,
    };
    const { counts, labels, report, index } = result;
    await link.done({
      status: 'ready',
      ready: { format: index.format, counts, labels, report, pack: { ...pack }, sha256 },
    });
  } catch (error) {
    if (error instanceof ObjectMissing)
      throw new JobError('dataset-unavailable', 'The uploaded archive is not in the object store');
    if (!(error instanceof RefusedDataset)) throw error;
    await link.done({ status: 'invalid', report: error.report });
  } finally {
    await store.close();
  }
}
