import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { packAt, resolutionsToPack } from '@ntaa/adaptation';
import { tinySpace } from '@ntaa/nas';
import { ingest, RefusedDataset } from '@ntaa/data';
import { openStore } from '@ntaa/storage';
import type { DatasetLink } from './link.js';
import type { DatasetAssignment, DatasetPack, StoredObjectRef } from './protocol.js';
import { putFile } from './put-file.js';

/** Unpacks and checks an uploaded archive; what is accepted goes to the store, decoded too, as `datasets/{id}/`. */
export async function ingestDataset(assignment: DatasetAssignment, link: DatasetLink): Promise<void> {
  const store = await openStore(assignment.store);
  try {
    const archive = join(assignment.scratch, 'archive');
    const out = join(assignment.scratch, 'out');
    const work = join(assignment.scratch, 'work');
    await Promise.all([mkdir(out), mkdir(work)]);
    await pipeline(await store.get(assignment.uploadKey), createWriteStream(archive));
    const result = await ingest({
      archive,
      out,
      scratch: work,
      ...(assignment.format !== null && { format: assignment.format }),
    });
    const prefix = `datasets/${assignment.datasetId}`;
    const packed: Record<string, StoredObjectRef> = {};
    for (const resolution of resolutionsToPack(tinySpace, result.index)) {
      const images = join(out, 'images.bin');
      const file = await packAt({ images, index: result.index }, resolution, work);
      packed[resolution] = await putFile(store, `${prefix}/packed-${resolution}.bin`, file);
    }
    const pack: DatasetPack = {
      images: await putFile(store, `${prefix}/images.bin`, join(out, 'images.bin')),
      index: await putFile(store, `${prefix}/index.json`, join(out, 'index.json')),
      packed,
    };
    const { counts, labels, report, index } = result;
    await link.done({
      status: 'ready',
      ready: { format: index.format, counts, labels, report, pack: { ...pack } },
    });
  } catch (error) {
    if (!(error instanceof RefusedDataset)) throw error;
    await link.done({ status: 'invalid', report: error.report });
  } finally {
    await store.close();
  }
}
