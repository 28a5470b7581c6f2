import { join } from 'node:path';
import { fileStore } from './files.js';
import type { ObjectStore } from './store.js';

/** What the S3 adapter needs; null credentials: the SDK's own chain. */
export interface S3Settings {
  readonly bucket: string;
  /** null: AWS itself; otherwise a server addressed path-style. */
  readonly endpoint: string | null;
  readonly region: string;
  readonly credentials: {
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
    readonly sessionToken?: string;
  } | null;
}
/** The part of the service's configuration that storage reads: S3 when `s3` is set, else files in DATADIR/objects. */
export interface StoreConfig {
  readonly dataDir: string;
  readonly s3: S3Settings | null;
}

/** Opens the configured object store and checks that it can be used. */
export async function openStore(config: StoreConfig): Promise<ObjectStore> {
  // Its SDK is loaded only where it is used: a worker forks a child for every archive and job.
  const store = config.s3
    ? (await import('./s3.js')).s3Store(config.s3)
    : await fileStore(join(config.dataDir, 'objects'));
  try {
    await store.ping();
    return store;
  } catch (error) {
    await store.close();
    const remedy = config.s3
      ? `S3 bucket ${config.s3.bucket}${config.s3.endpoint ? ` at ${config.s3.endpoint}` : ''} cannot be used; ` +
        'check S3_BUCKET, S3_ENDPOINT, S3_REGION and the AWS_ keys'
      : `${config.dataDir} cannot be used for objects; check NTAA_DATA_DIR and its permissions`;
    throw new Error(`${remedy}: ${(error as Error).message}`, { cause: error });
  }
}
