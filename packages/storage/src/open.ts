import type { ObjectStore } from './store.js';

/** What the S3 adapter needs; null credentials: the SDK's own chain. */
export interface S3Settings {
  readonly bucket: string;
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
  throw new Error(`not there yet ${config.dataDir}`);
}
