import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { ingest, RefusedDataset } from '@ntaa/data';
import { openStore } from '@ntaa/storage';
import type { DatasetLink } from './link.js';
import type { DatasetAssignment, DatasetPack } from './protocol.js';
import { putFile } from './put-file.js';

/** Unpacks and checks an uploaded archive; what is accepted goes to the store as `datasets/{id}/`. */
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
    const pack: DatasetPack = {
      images: await putFile(store, `${prefix}/images.bin`, join(out, 'images.bin')),
      index: await putFile(store, `${prefix}/index.json`, join(out, 'index.json')),
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
